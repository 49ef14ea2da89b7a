"""As many events are given at a time as there prove to be instances."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

from webfoot.aws.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable


def nowhere() -> bool:
    return False


class Instances:
    """Some instances, and what they were asked."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.busy = self.most = self.asked = self.throttled = 0

    async def ask(self, window: Window, here: Callable[[], bool] = nowhere) -> bool:
        """Have one answer; False if it was better here."""
        while await window.enter(here):
            self.asked += 1
            try:
                if self.busy >= self.count:
                    self.throttled += 1
                    window.narrow()
                    continue
                self.busy += 1
                self.most = max(self.most, self.busy)
                await asyncio.sleep(0.002)
                self.busy -= 1
                window.widen()
                return True
            finally:
                window.leave()
        return False


def test_no_more_are_given_than_allowed() -> None:
    async def many() -> Instances:
        instances, window = Instances(100), Window(7)
        await asyncio.gather(*(instances.ask(window) for _ in range(100)))
        return instances

    instances = asyncio.run(many())
    assert (instances.most, instances.throttled) == (7, 0)


def test_all_are_answered_by_few_instances_that_are_seldom_asked_in_vain() -> None:
    async def many() -> Instances:
        instances, window = Instances(5), Window(50)
        await asyncio.gather(*(instances.ask(window) for _ in range(300)))
        return instances

    instances = asyncio.run(many())
    assert instances.most == 5
    # 45 to learn how many there are, and one in some rounds to learn whether there are more.
    assert instances.throttled < 150


def test_new_instances_are_found() -> None:
    async def many() -> int:
        instances, window = Instances(2), Window(50)
        asked = [asyncio.ensure_future(instances.ask(window)) for _ in range(400)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        instances.count = 20
        await asyncio.gather(*asked)
        return instances.most

    assert asyncio.run(many()) > 10


def test_where_there_is_no_instance_it_waits_and_asks_again() -> None:
    async def one() -> Instances:
        instances, window = Instances(0), Window(50)
        asked = asyncio.ensure_future(instances.ask(window))
        await asyncio.sleep(0.3)
        assert not asked.done()
        instances.count = 1
        assert await asked
        return instances

    # With pauses that double, three or four times in the time that passed.
    assert 2 <= asyncio.run(one()).throttled <= 6


def test_room_here_is_taken_before_any_instance() -> None:
    async def some() -> list[bool]:
        room = iter([True, False, False])
        return [await Instances(9).ask(Window(5), lambda: next(room)) for _ in range(2)]

    assert asyncio.run(some()) == [False, True]


def test_who_waits_is_told_of_room_here() -> None:
    async def waiting() -> bool:
        room, window = itertools.count(), Window(1)
        assert await window.enter(nowhere)
        asked = asyncio.ensure_future(Instances(1).ask(window, lambda: next(room) > 0))
        await asyncio.sleep(0)
        assert not asked.done()
        window.look_again()
        return await asked

    assert asyncio.run(waiting()) is False


def test_who_stops_waiting_passes_its_turn_on() -> None:
    async def waiting() -> None:
        window = Window(1)
        assert await window.enter(nowhere)
        first, second = (asyncio.ensure_future(window.enter(nowhere)) for _ in range(2))
        await asyncio.sleep(0)
        window.leave()
        # Its turn has come, and it does not know yet.
        first.cancel()
        assert await second

    asyncio.run(waiting())
