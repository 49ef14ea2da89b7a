"""Runs wait their turn, and a run that waits for others keeps nobody waiting."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from webfoot.errors import ServerBusy
from webfoot.runners.slots import Queue, Slots

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def test_no_more_run_at_once_than_there_are_slots() -> None:
    under_way = most = 0

    async def work(slots: Slots, depth: int) -> None:
        nonlocal under_way, most
        async with slots.hold(depth):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.001)
            under_way -= 1

    async def crowd() -> None:
        slots = Slots(3, Queue(1000))
        await asyncio.gather(*(work(slots, number % 4) for number in range(100)))

    asyncio.run(crowd())
    assert most == 3


def test_a_request_too_many_is_told_so_and_a_call_of_a_run_is_not() -> None:
    async def crowd() -> None:
        slots = Slots(1, Queue(2))
        done = asyncio.Event()

        async def work(depth: int) -> None:
            async with slots.hold(depth):
                await done.wait()

        tasks = [asyncio.create_task(work(0)) for _ in range(3)]
        await asyncio.sleep(0)
        below = asyncio.create_task(work(1))
        with pytest.raises(ServerBusy, match="1 calls run and 2 wait"):
            await work(0)
        done.set()
        await asyncio.gather(*tasks, below)

    asyncio.run(crowd())


def test_a_request_that_would_wait_too_long_is_told_for_how_long() -> None:
    now = 100.0

    async def crowd() -> None:
        nonlocal now
        slots = Slots(1, Queue(1000, most_s=30), lambda: now)
        done = asyncio.Event()

        async def work() -> None:
            async with slots.hold(0):
                await done.wait()

        tasks = [asyncio.create_task(work()) for _ in range(4)]
        await asyncio.sleep(0)
        now += 10.0  # So far nobody can tell: three wait for one that has run for 10 s.
        tasks.append(asyncio.create_task(work()))
        await asyncio.sleep(0)
        now += 2.5
        with pytest.raises(ServerBusy, match="4 wait: one more would wait about 50s") as refused:
            await work()
        assert refused.value.retry_after_s == 20
        done.set()
        await asyncio.gather(*tasks)
        await work()

    asyncio.run(crowd())


def test_the_pace_of_a_queue_is_that_of_its_turns() -> None:
    now = 100.0

    async def crowd() -> None:
        nonlocal now
        slots, ends = Slots(1, Queue(1000, most_s=30), lambda: now), asyncio.Queue[None]()

        async def work() -> None:
            async with slots.hold(0):
                await ends.get()

        tasks = [asyncio.create_task(work()) for _ in range(61)]
        for _ in range(50):
            await asyncio.sleep(0)
            now += 5.0
            ends.put_nowait(None)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(ServerBusy, match="10 wait: one more would wait about 50s"):
            await work()
        for _ in range(11):
            ends.put_nowait(None)
        await asyncio.gather(*tasks)
        now += 3600.0  # Nobody has come for an hour, which says nothing of the pace.
        tasks = []
        for _ in range(4):
            tasks.append(asyncio.create_task(work()))
            await asyncio.sleep(0)
        for _ in tasks:
            ends.put_nowait(None)
        await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(crowd(), 20))


def test_a_client_that_has_gone_takes_no_place_in_the_queue() -> None:
    async def crowd() -> None:
        slots, done = Slots(1, Queue(2)), asyncio.Event()

        async def work() -> None:
            async with slots.hold(0):
                await done.wait()

        tasks = [asyncio.create_task(work()) for _ in range(3)]
        await asyncio.sleep(0)
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks[1:], return_exceptions=True)
        others = [asyncio.create_task(work()) for _ in range(2)]
        await asyncio.sleep(0)
        done.set()
        await asyncio.gather(tasks[0], *others)

    asyncio.run(crowd())


async def nest(slots: Slots, depth: int, deepest: int, width: int) -> None:
    """A run that waits for `width` others, each of which does so too, down to `deepest`."""
    async with slots.hold(depth) as slot:
        await asyncio.sleep(0)
        if depth < deepest:
            async with slot.waiting():
                below = (nest(slots, depth + 1, deepest, width) for _ in range(width))
                await asyncio.gather(*below)
        await asyncio.sleep(0)


@pytest.mark.parametrize(("count", "roots", "deepest", "width"), [(1, 1, 5, 1), (2, 60, 2, 5)])
def test_runs_that_wait_for_runs_all_finish(
    count: int, roots: int, deepest: int, width: int
) -> None:
    async def crowd() -> None:
        slots = Slots(count, Queue(1000))
        await asyncio.gather(*(nest(slots, 0, deepest, width) for _ in range(roots)))

    asyncio.run(asyncio.wait_for(crowd(), 20))


def test_few_runs_wait_for_others_at_once_however_many_requests_there_are() -> None:
    begun = most = 0

    async def parent(slots: Slots, release: asyncio.Event) -> None:
        nonlocal begun, most
        async with slots.hold(0) as slot:
            begun += 1
            most = max(most, begun)
            async with slot.waiting():
                await release.wait()
            begun -= 1

    async def crowd() -> int:
        slots, release = Slots(2, Queue(1000)), asyncio.Event()
        tasks = [asyncio.create_task(parent(slots, release)) for _ in range(60)]
        # What the waiting runs wait for runs, and so nothing has to begin for them.
        async with slots.hold(1):
            for _ in range(200):
                await asyncio.sleep(0)
            held = begun
        release.set()
        await asyncio.gather(*tasks)
        return held

    assert asyncio.run(asyncio.wait_for(crowd(), 20)) == 8


def test_when_nothing_runs_a_request_begins_whatever_waits() -> None:
    """What the waiting runs wait for may be that very request, asked for by another client."""

    async def crowd() -> None:
        slots, asked = Slots(1, Queue(1000)), asyncio.Event()

        async def parent() -> None:
            async with slots.hold(0) as slot, slot.waiting():
                await asked.wait()

        async def request() -> None:
            async with slots.hold(0):
                asked.set()

        await asyncio.gather(*(parent() for _ in range(20)), request())

    asyncio.run(asyncio.wait_for(crowd(), 20))


def order_of(
    turns: Callable[[Slots, Callable[[str, int], Awaitable[None]]], Awaitable[None]],
) -> str:
    """The order in which things run that wait for the only slot."""
    ran = ""

    async def watch() -> None:
        slots = Slots(1, Queue(1000))

        async def work(name: str, depth: int) -> None:
            nonlocal ran
            async with slots.hold(depth):
                ran += name

        async with slots.hold(0):
            waiting = asyncio.ensure_future(turns(slots, work))
            await asyncio.sleep(0.01)
        await waiting

    asyncio.run(watch())
    return ran


def test_deeper_calls_go_first_and_requests_every_other_time() -> None:
    async def turns(_: Slots, work: Callable[[str, int], Awaitable[None]]) -> None:
        waiting = [work("r", 0), work("s", 0), work("a", 1), work("b", 1), work("c", 2)]
        await asyncio.gather(*waiting)

    assert order_of(turns) == "rcsab"


def test_one_that_stops_waiting_takes_nobodys_turn() -> None:
    async def crowd() -> None:
        slots = Slots(1, Queue(1000))
        async with slots.hold(0):
            given_up = [asyncio.create_task(nest(slots, depth, 9, 1)) for depth in (0, 1, 0, 1)]
            await asyncio.sleep(0)
            for task in given_up:
                task.cancel()
            await asyncio.gather(*given_up, return_exceptions=True)
        async with slots.hold(0):
            pass

    asyncio.run(asyncio.wait_for(crowd(), 20))


@pytest.mark.parametrize("cancel_at", range(12))
def test_whenever_a_run_is_cancelled_its_slot_is_free_afterwards(cancel_at: int) -> None:
    async def crowd() -> None:
        slots = Slots(1, Queue(1000))
        task = asyncio.create_task(nest(slots, 0, 3, 2))
        for _ in range(cancel_at):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        for _ in range(20):
            await asyncio.sleep(0)
        assert (slots._free, slots._lent) == (1, 0)

    asyncio.run(asyncio.wait_for(crowd(), 20))
