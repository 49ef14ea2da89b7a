"""Records come back from JSON as they were, and a torn one is refused."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webfoot.results import (
    Call,
    Column,
    Failure,
    Query,
    Reach,
    Result,
    digest,
    from_json,
    to_json,
)

RESULT = Result(
    key="k" * 64,
    run="0123",
    extension="parquet",
    etag="e" * 64,
    size=1234,
    rows=5,
    columns=(Column("größe", "double"), Column("when", "timestamp[us, tz=UTC]")),
    seconds=0.25,
    created=1_700_000_000.125,
    expires=1_700_000_600.125,
    executions=3,
)
FAILURE = Failure(
    key="k" * 64,
    problem={"code": "udf-failed", "detail": "'ü'", "traceback": "File …"},
    created=1.0,
    expires=2.0,
    executions=1,
)
ENTRIES = [
    RESULT,
    replace(RESULT, expires=math.inf),
    replace(RESULT, columns=(), rows=0),
    replace(RESULT, before=replace(RESULT, run="0000")),
    replace(RESULT, truncated=True),
    replace(RESULT, before=replace(RESULT, expires=math.inf)),
    FAILURE,
    replace(FAILURE, expires=math.inf),
]


def refused(text: str | bytes) -> bool:
    """Whether `from_json` raises the one error that it promises."""
    try:
        from_json(text)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_makes_the_round_trip(entry: Result | Failure) -> None:
    text = to_json(entry)
    assert from_json(text) == entry
    assert from_json(text.encode()) == entry
    json.loads(text, parse_constant=pytest.fail)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_torn_entry_is_a_value_error(entry: Result | Failure) -> None:
    text = to_json(entry).encode()
    assert all(refused(text[:length]) for length in range(len(text)))


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "1", '"problem"', "{}", '{"expires":1}', "\\0"),
        '{"expires":1,"problem":{}}',
        to_json(RESULT).replace('"run"', '"ran"'),
        to_json(RESULT).replace('"double"', "5,6"),
        to_json(RESULT).replace('[["', '["'),
    ],
)
def test_what_is_no_entry_is_a_value_error(text: str) -> None:
    assert refused(text)


@given(st.binary() | st.text())
def test_any_bytes_are_an_entry_or_a_value_error(content: str | bytes) -> None:
    assert refused(content)


@pytest.mark.parametrize("entry", [RESULT, FAILURE])
def test_an_entry_is_fresh_until_it_expires(entry: Result | Failure) -> None:
    assert entry.fresh(entry.expires - 0.001)
    assert not entry.fresh(entry.expires)
    assert replace(entry, expires=math.inf).fresh(1e300)


def test_a_call_s_key_is_of_everything_that_it_is() -> None:
    call = Call("contours", "v1", '{"a":1}')
    assert call == Call("contours", "v1", '{"a":1}')
    assert call.key == Call("contours", "v1", '{"a":1}').key
    assert len(call.key) == 64
    others = [Call("contour", "v1", '{"a":1}'), Call("contours", "v2", '{"a":1}')]
    others += [Call("contours", "v1", '{"a":2}'), Call("contoursv", "1", '{"a":1}')]
    assert len({call.key, *(other.key for other in others)}) == 5
    with pytest.raises(FrozenInstanceError):
        call.udf = "x"  # type: ignore[misc]  # what is refused


@given(st.lists(st.text(st.characters())), st.lists(st.text(st.characters())))
def test_a_digest_is_of_one_list_of_parts(one: list[str], other: list[str]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


def test_the_key_of_a_query_has_everything_that_its_rows_depend_on() -> None:
    query = Query("SELECT 1", "[]", None, Reach(), "code")
    others = [
        replace(query, sql="SELECT 2"),
        replace(query, parameters="[1]"),
        replace(query, limit=0),
        replace(query, version="other"),
        replace(query, reach=Reach(frozenset())),
        replace(query, reach=Reach(frozenset({"a", "b"}))),
        replace(query, reach=Reach(frozenset({"a,b"}))),
        replace(query, reach=Reach(datasets=frozenset({"a", "b"}))),
    ]
    assert len({other.key for other in [query, *others]}) == len(others) + 1
    assert Query("SELECT 1", "[]", None, Reach(frozenset("ba")), "code").key == (
        Query("SELECT 1", "[]", None, Reach(frozenset("ab")), "code").key
    )
