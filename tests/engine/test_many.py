"""Many calls at once are bounded, and given as they complete."""

from __future__ import annotations

import asyncio

import pytest

from webfoot.engine.many import as_completed


def test_items_come_in_the_order_in_which_they_complete() -> None:
    ended = [asyncio.Event() for _ in range(4)]
    ended[3].set()

    async def ask(number: int) -> int:
        await ended[number + 1].wait()
        ended[number].set()
        return number * 10

    async def collect() -> list[tuple[int, int]]:
        async with asyncio.timeout(30):
            return [item async for item in as_completed(ask, 3, 3)]

    assert asyncio.run(collect()) == [(2, 20), (1, 10), (0, 0)]


def test_no_more_are_under_way_than_asked_for() -> None:
    under_way = most = 0

    async def ask(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return number

    async def collect() -> set[int]:
        return {number async for number, _ in as_completed(ask, 1000, 7)}

    assert asyncio.run(collect()) == set(range(1000))
    assert most == 7


def test_leaving_in_the_middle_cancels_the_others() -> None:
    cancelled = []

    async def ask(number: int) -> int:
        try:
            await asyncio.sleep(number * 10)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    async def leave() -> None:
        items = as_completed(ask, 100, 3)
        assert await anext(items) == (0, 0)
        await items.aclose()

    asyncio.run(leave())
    assert sorted(cancelled) == [1, 2, 3]


def test_what_asking_raises_ends_them_all() -> None:
    async def ask(number: int) -> int:
        raise ValueError(number)

    async def collect() -> None:
        async for _ in as_completed(ask, 5, 2):
            pass

    with pytest.raises(ValueError, match="0"):
        asyncio.run(collect())


def test_no_items_are_no_items() -> None:
    async def collect() -> list[tuple[int, None]]:
        return [item async for item in as_completed(lambda _: asyncio.sleep(0), 0, 5)]

    assert asyncio.run(collect()) == []
