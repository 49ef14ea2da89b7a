"""How long an answer may take and how large it may be."""

from __future__ import annotations

import asyncio
import math

import pytest

from webfoot.errors import DeadlineReached, ResultTooLarge
from webfoot.server.limits import Limits, limits_of, with_limits, within


def test_a_request_has_no_limits_unless_a_platform_sets_them() -> None:
    limits = Limits("Lambda", "Lambda", 3, 100, 10)
    scope = {"type": "http", "path": "/"}
    assert limits_of(scope).ends_at == math.inf
    assert limits_of(with_limits(scope, limits)) == limits
    assert limits_of(scope).ends_at == math.inf


def test_what_fits_is_carried() -> None:
    Limits(carrier="Lambda", most_bytes=10).check(10)
    Limits().check(10**12)


def test_what_does_not_fit_is_told_with_both_sizes() -> None:
    with pytest.raises(
        ResultTooLarge, match=r"has 5 MB, and Lambda carries at most 4 MB"
    ) as caught:
        Limits(carrier="Lambda", most_bytes=4_000_000).check(5_000_000)
    assert caught.value.limit_bytes == 4_000_000


def test_work_that_takes_too_long_is_cancelled_and_told() -> None:
    cancelled = False

    async def wait() -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        finally:
            cancelled = True

    async def ask() -> None:
        limits = Limits("API Gateway", seconds=29, ends_at=asyncio.get_running_loop().time())
        await within(limits, wait())

    with pytest.raises(
        DeadlineReached, match="the 29 s that API Gateway allows; try again"
    ) as caught:
        asyncio.run(ask())
    assert cancelled
    assert caught.value.limit_s == 29


def test_a_timeout_of_the_work_itself_is_its_own() -> None:
    async def fail() -> None:
        raise TimeoutError("mine")

    async def ask() -> None:
        limits = Limits("Lambda", seconds=30, ends_at=asyncio.get_running_loop().time() + 30)
        await within(limits, fail())

    with pytest.raises(TimeoutError, match="mine"):
        asyncio.run(ask())
