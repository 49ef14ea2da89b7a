"""Durations and sizes, read as people write them."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webfoot import quantities


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (0, 0),
        (90, 90),
        (0.5, 0.5),
        (math.inf, math.inf),
        ("0", 0),
        ("90", 90),
        ("1.5", 1.5),
        ("250ms", 0.25),
        ("90s", 90),
        ("10m", 600),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d", 172_800),
        ("1w", 604_800),
        ("1m30s500ms", 90.5),
        (" 10M ", 600),
        ("forever", math.inf),
        ("Forever", math.inf),
    ],
)
def test_a_duration_is_read(text: str | float, value: float) -> None:
    assert quantities.seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "10x", "m", "1h30", "-5", "-5s", "1,5h", "nan", "inf", "1e3", "5 5", "1 0m"),
        *("1..5s", "forever and a day"),
        *(-1, -0.5, math.nan, True, False, None, timedelta(1)),
    ],
)
def test_what_is_no_duration_is_named(text: Any) -> None:
    with pytest.raises(ValueError, match="a duration ") as caught:
        quantities.seconds(text)
    assert repr(text) in str(caught.value)


def test_a_timeout_is_above_0() -> None:
    assert quantities.timeout("1ms") == 0.001
    with pytest.raises(ValueError, match="a timeout must be above 0, got '0s'"):
        quantities.timeout("0s")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (1, 1),
        ("1", 1),
        ("512MB", 512 * 10**6),
        ("512 mb", 512 * 10**6),
        ("2GB", 2 * 10**9),
        ("2GiB", 2 * 2**30),
        ("1.5GiB", 1536 * 2**20),
        ("1TB", 10**12),
        ("1TiB", 2**40),
        ("3KiB", 3072),
        ("7B", 7),
        # In binary fractions these would come out one byte short.
        ("1.005KB", 1005),
        ("4.35KB", 4350),
        ("1" + "0" * 400 + "GB", 10**409),
    ],
)
def test_a_size_is_read_to_the_byte(text: str | int, value: int) -> None:
    assert quantities.size(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "big", "MB", "-5MB", "1,5GB", "5PB", "0", "0MB", "0.1B", 0, -1, 1.5, True, None],
)
def test_what_is_no_size_is_named(text: Any) -> None:
    with pytest.raises(ValueError, match="a size ") as caught:
        quantities.size(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (0.001, "0.001s"),
        (1e-7, "0s"),
        (1.5, "1.5s"),
        (12.34567, "12.346s"),
        (90, "90s"),
        (600, "10m"),
        (5400, "90m"),
        (3600, "1h"),
        (172_800, "2d"),
        (1_234_567, "1234567s"),
        (math.inf, "forever"),
    ],
)
def test_a_duration_is_written_in_its_largest_whole_unit(value: float, text: str) -> None:
    assert quantities.write_seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (1234, "1.23 KB"),
        (999_499, "999 KB"),
        (999_999, "1 MB"),
        (1_234_567, "1.23 MB"),
        (2 * 10**9, "2 GB"),
        (999_999_999_999, "1 TB"),
        (1.5e12, "1.5 TB"),
        (12_345 * 10**12, "12345 TB"),
    ],
)
def test_a_size_is_written_with_three_digits(value: float, text: str) -> None:
    assert quantities.write_size(value) == text


@given(st.integers(0, 10**9))
def test_a_written_duration_reads_as_itself(value: int) -> None:
    assert quantities.seconds(quantities.write_seconds(value)) == value


@given(st.integers(1, 10**18))
def test_a_written_size_reads_within_three_digits(value: int) -> None:
    assert quantities.size(quantities.write_size(value)) == pytest.approx(value, rel=0.006)


@given(st.text() | st.text("0123456789.hmsdw kKMGTiB", max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (quantities.seconds, quantities.timeout, quantities.size):
        try:
            assert read(text) >= 0
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1234, "1,234 rows")]
)
def test_a_count_is_written_with_its_noun(number: int, text: str) -> None:
    assert quantities.write_count(number, "row") == text


def test_a_text_that_is_cut_says_so_with_its_last_letter() -> None:
    assert quantities.shorten("abcd", 4) == "abcd"
    assert quantities.shorten("abcde", 4) == "abc…"
