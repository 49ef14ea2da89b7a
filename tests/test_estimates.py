"""What calls would cost on Lambda, from the records of their runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from webfoot.billing import PRICES
from webfoot.estimates import S3_READS, S3_WRITES, calls_among, estimate
from webfoot.runs import Run

MB = 1 << 20
# What each run costs beside its time.
EACH = PRICES.request + S3_WRITES * PRICES.s3_write + S3_READS * PRICES.s3_read
COMPUTES = Run(
    "a", "u", '{"n":1}', 0.0, 1.2, billed_ms=1000, memory_bytes=300 * MB, cpu_s=1.0, trace="t"
)
WAITS = replace(COMPUTES, cpu_s=0.0)


def test_the_prices_are_amazons() -> None:
    found = estimate([[WAITS]], 1024)
    assert found.billed_ms == 1000
    assert found.usd["x86_64"] == pytest.approx(0.0000166667 + EACH)
    assert found.usd["arm64"] == pytest.approx(0.0000133334 + EACH)
    assert pytest.approx(0.0000002 + 3 * 0.000005 + 2 * 0.0000004) == EACH


@pytest.mark.parametrize(
    ("run", "mib", "ms"),
    [
        (COMPUTES, 1769, 1000),
        (COMPUTES, 3538, 1000),  # One thread has no use for two processors.
        (COMPUTES, 885, 1999),
        (WAITS, 128, 1000),
        (replace(COMPUTES, cpu_s=0.5), 885, 1500),
        (replace(COMPUTES, cpu_s=2.0), 1769, 2000),  # It had two processors.
        (replace(COMPUTES, cpu_s=2.0), 3538, 1000),
        (replace(COMPUTES, cpu_s=None), 885, 1999),
        (replace(COMPUTES, billed_ms=0), 885, 0),
    ],
)
def test_what_is_computed_takes_longer_where_there_is_less_of_a_processor(
    run: Run, mib: int, ms: int
) -> None:
    assert estimate([[run]], mib).billed_ms == ms


def test_calls_are_averaged_and_their_runs_summed() -> None:
    found = estimate([[WAITS, WAITS, WAITS], [WAITS]], 1024)
    assert found.billed_ms == 2000
    assert found.usd["x86_64"] == pytest.approx(2 * (0.0000166667 + EACH))


def test_a_function_with_less_memory_than_a_run_had_is_too_small() -> None:
    assert [estimate([[WAITS, COMPUTES]], mib).fits for mib in (299, 300)] == [False, True]
    assert estimate([[replace(WAITS, memory_bytes=None)]], 128).fits


def test_a_call_is_found_with_all_that_it_led_to() -> None:
    child = replace(COMPUTES, id="b", udf="v", parent="a")
    grandchild = replace(child, id="c", parent="b")
    other = replace(COMPUTES, id="d", arguments='{"n":2}')
    failed = replace(COMPUTES, id="e", problem={"code": "udf-failed"})
    view = replace(COMPUTES, id="f", kind="view")
    runs = [grandchild, child, COMPUTES, other, failed, view]
    assert calls_among(runs, "u", None) == [[COMPUTES, child, grandchild], [other]]
    assert calls_among(runs, "u", '{"n":2}') == [[other]]
    assert calls_among(runs, "v", None) == [[grandchild], [child, grandchild]]
    assert calls_among(runs, "w", None) == []
