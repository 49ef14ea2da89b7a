"""What is billed, and what it costs."""

from __future__ import annotations

import os

import pytest

from webfoot.billing import PRICES, architecture, billed_ms, function_bytes, gb_seconds
from webfoot.results import Usage


@pytest.mark.parametrize(
    ("seconds", "ms"), [(0, 1), (0.0001, 1), (0.001, 1), (0.0011, 2), (0.25, 250), (61.2341, 61235)]
)
def test_each_begun_millisecond_is_billed(seconds: float, ms: int) -> None:
    assert billed_ms(Usage(seconds)) == ms


def test_a_gigabyte_is_amazons() -> None:
    assert gb_seconds(1500, 2 * 1024**3) == 3.0
    assert gb_seconds(1000, 1769 << 20) == pytest.approx(1.7275, rel=1e-4)


@pytest.mark.parametrize(
    ("environment", "mib"),
    [
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769"}, 1769),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "much"}, None),
        ({}, None),
    ],
)
def test_a_function_knows_its_memory(environment: dict[str, str], mib: int | None) -> None:
    assert function_bytes(environment) == (None if mib is None else mib << 20)


@pytest.mark.parametrize(
    ("machine", "name"), [("x86_64", "x86_64"), ("aarch64", "arm64"), ("arm64", "arm64")]
)
def test_processors_have_amazons_names(
    machine: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = os.uname_result(("Linux", "host", "6", "1", machine))
    monkeypatch.setattr(os, "uname", lambda: named)
    assert architecture() == name
    assert name in PRICES.gb_second
