"""Conditions and ranges decide as RFC 9110 says (sections 13 and 14)."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webfoot.server.conditions import ByteRange, Decision, decide, http_date, read_range

if TYPE_CHECKING:
    from collections.abc import Iterator

TAG = '"abc"'
MODIFIED = 784111777.6  # Sun, 06 Nov 1994 08:49:37 GMT, and a bit.
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"
WHOLE = Decision(200, 0, 100)
PART = Decision(206, 10, 10)
SAME = Decision(304)
FAILED = Decision(412)


@pytest.fixture(params=["UTC", "Asia/Tokyo"], autouse=True)
def zone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Dates mean the same wherever the server stands."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


RANGES: list[tuple[str | None, ByteRange | None]] = [
    ("bytes=0-1", ByteRange(0, 1)),
    ("bytes=5-", ByteRange(5, None)),
    ("bytes=-5", ByteRange(None, 5)),
    ("bytes=-0", ByteRange(None, 0)),
    ("bytes=7-7", ByteRange(7, 7)),
    ("BYTES = 0 - 1 ", ByteRange(0, 1)),
    ("  bytes=0-1", ByteRange(0, 1)),
    ("bytes=000-001", ByteRange(0, 1)),
    ("bytes=0-9999999999999999999", ByteRange(0, 9999999999999999999)),
    # Ignored: nothing, malformed, several, other units, longer than any file.
    (None, None),
    ("", None),
    ("bytes", None),
    ("bytes=", None),
    ("bytes=-", None),
    ("bytes=a-b", None),
    ("bytes=2-1", None),
    ("bytes=1", None),
    ("bytes=--1", None),
    ("bytes=-1-", None),
    ("bytes=+1-2", None),
    ("bytes=0x0-0x1", None),
    ("bytes=1.0-2", None),
    ("bytes=0-1,4-5", None),
    ("bytes=0-1,", None),
    ("items=0-1", None),
    ("bytes:0-1", None),
    ("bytes=\u0660-\u0661", None),
    ("bytes=" + "9" * 20 + "-", None),
    ("bytes=0-" + "9" * 10_000, None),
]


@pytest.mark.parametrize(("header", "wanted"), RANGES)
def test_a_range_header_is_one_range_or_ignored(
    header: str | None, wanted: ByteRange | None
) -> None:
    assert read_range(header) == wanted


WITHIN: list[tuple[ByteRange, int, Decision]] = [
    (ByteRange(0, 0), 100, Decision(206, 0, 1)),
    (ByteRange(0, 99), 100, Decision(206, 0, 100)),
    (ByteRange(0, 100), 100, Decision(206, 0, 100)),
    (ByteRange(0, 10**18), 100, Decision(206, 0, 100)),
    (ByteRange(99, None), 100, Decision(206, 99, 1)),
    (ByteRange(99, 99), 100, Decision(206, 99, 1)),
    (ByteRange(100, None), 100, Decision(416)),
    (ByteRange(100, 200), 100, Decision(416)),
    (ByteRange(None, 1), 100, Decision(206, 99, 1)),
    (ByteRange(None, 100), 100, Decision(206, 0, 100)),
    (ByteRange(None, 10**18), 100, Decision(206, 0, 100)),
    (ByteRange(None, 0), 100, Decision(416)),
    (ByteRange(0, None), 0, Decision(416)),
    (ByteRange(None, 5), 0, Decision(416)),
]


@pytest.mark.parametrize(("wanted", "size", "decision"), WITHIN)
def test_a_range_is_cut_to_the_file(wanted: ByteRange, size: int, decision: Decision) -> None:
    assert decide({}, TAG, MODIFIED, size, wanted) == decision


CONDITIONS: list[tuple[dict[str, str], Decision]] = [
    ({}, PART),
    # If-None-Match compares weakly, and hides If-Modified-Since.
    ({"if-none-match": TAG}, SAME),
    ({"if-none-match": f"W/{TAG}"}, SAME),
    ({"if-none-match": "*"}, SAME),
    ({"if-none-match": " * "}, SAME),
    ({"if-none-match": f'"x", {TAG}'}, SAME),
    ({"if-none-match": f'W/"x",W/{TAG},"y"'}, SAME),
    ({"if-none-match": '"x"'}, PART),
    ({"if-none-match": "abc"}, PART),
    ({"if-none-match": ""}, PART),
    ({"if-none-match": "abc*"}, PART),
    ({"if-none-match": '"*"'}, PART),
    ({"if-none-match": '"ABC"'}, PART),
    ({"if-none-match": '"a, b"'}, PART),
    ({"if-none-match": '"x"', "if-modified-since": AFTER}, PART),
    ({"if-none-match": TAG, "if-modified-since": BEFORE}, SAME),
    # If-Modified-Since has whole seconds.
    ({"if-modified-since": DATE}, SAME),
    ({"if-modified-since": AFTER}, SAME),
    ({"if-modified-since": BEFORE}, PART),
    ({"if-modified-since": "Sunday, 06-Nov-94 08:49:37 GMT"}, SAME),
    ({"if-modified-since": "Sun Nov  6 08:49:37 1994"}, SAME),
    ({"if-modified-since": "Sun Nov  6 08:49:36 1994"}, PART),
    ({"if-modified-since": "yesterday"}, PART),
    ({"if-modified-since": ""}, PART),
    ({"if-modified-since": "Sun, 06 Nov 99999 08:49:37 GMT"}, PART),
    ({"if-modified-since": "Sun, 99 Nov 1994 08:49:37 GMT"}, PART),
    # If-Match compares strongly, and hides If-Unmodified-Since.
    ({"if-match": TAG}, PART),
    ({"if-match": "*"}, PART),
    ({"if-match": f'"x", {TAG}'}, PART),
    ({"if-match": f"W/{TAG}"}, FAILED),
    ({"if-match": '"x"'}, FAILED),
    ({"if-match": ""}, FAILED),
    ({"if-match": TAG, "if-unmodified-since": BEFORE}, PART),
    ({"if-match": '"x"', "if-unmodified-since": AFTER}, FAILED),
    ({"if-unmodified-since": DATE}, PART),
    ({"if-unmodified-since": AFTER}, PART),
    ({"if-unmodified-since": BEFORE}, FAILED),
    ({"if-unmodified-since": "never"}, PART),
    # Preconditions come first.
    ({"if-match": '"x"', "if-none-match": TAG}, FAILED),
    ({"if-match": TAG, "if-none-match": TAG}, SAME),
    ({"if-unmodified-since": BEFORE, "if-modified-since": DATE}, FAILED),
    # If-Range: the same strong tag or the same date, or the whole.
    ({"if-range": TAG}, PART),
    ({"if-range": f" {TAG} "}, PART),
    ({"if-range": f"W/{TAG}"}, WHOLE),
    ({"if-range": '"x"'}, WHOLE),
    ({"if-range": "abc"}, WHOLE),
    ({"if-range": ""}, WHOLE),
    ({"if-range": DATE}, PART),
    ({"if-range": "Sun Nov  6 08:49:37 1994"}, PART),
    ({"if-range": BEFORE}, WHOLE),
    ({"if-range": AFTER}, WHOLE),
    ({"if-range": '"x"', "if-none-match": TAG}, SAME),
]


@pytest.mark.parametrize(("headers", "decision"), CONDITIONS)
def test_conditions_decide(headers: dict[str, str], decision: Decision) -> None:
    assert decide(headers, TAG, MODIFIED, 100, ByteRange(10, 19)) == decision


def test_if_range_means_nothing_without_a_range() -> None:
    assert decide({"if-range": '"x"'}, TAG, MODIFIED, 100, None) == WHOLE


def test_an_unsatisfiable_range_of_another_version_is_the_whole() -> None:
    assert decide({"if-range": '"x"'}, TAG, MODIFIED, 100, ByteRange(500, None)) == WHOLE


def test_dates_are_written_as_http_does() -> None:
    assert http_date(MODIFIED) == DATE
    assert decide({"if-modified-since": http_date(MODIFIED)}, TAG, MODIFIED, 100, None) == SAME


NAMES = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range")


@given(st.dictionaries(st.sampled_from(NAMES), st.text()), st.text(), st.integers(0, 10**12))
def test_no_header_can_break_it(headers: dict[str, str], wanted: str, size: int) -> None:
    decision = decide(headers, TAG, MODIFIED, size, read_range(wanted))
    assert decision.status in {200, 206, 304, 412, 416}
    assert 0 <= decision.start <= decision.start + decision.length <= size


@given(st.integers(0, 200) | st.none(), st.integers(0, 200) | st.none(), st.integers(0, 100))
def test_a_range_is_what_a_slice_is(first: int | None, last: int | None, size: int) -> None:
    wanted = read_range(f"bytes={'' if first is None else first}-{'' if last is None else last}")
    decision = decide({}, TAG, MODIFIED, size, wanted)
    data = bytes(size)
    if wanted is None:
        assert decision == Decision(200, 0, size)
        return
    if first is None:
        expected = data[-(last or 0) :] if last else b""
    else:
        expected = data[first : None if last is None else last + 1]
    assert decision.length == len(expected)
    assert decision.status == (206 if expected else 416)
