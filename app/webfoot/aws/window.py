"""How many events other instances are given at a time: as many as there prove to be instances."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# When not one is to be had: at random around the first of these, then twice as long each time.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


class Window:
    """Widens while instances answer and narrows when there are none, as TCP's window does.

    Args:
        most: How wide it may be, which it is at first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._width = float(most)
        self._given = 0
        self._pause_s = _FIRST_PAUSE_S
        self._paused_until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self, has_room_here: Callable[[], bool]) -> bool:
        """Wait until an event may be given to another instance; whoever enters must `leave`.

        Args:
            has_room_here: Whether another is not needed, looked at when anything changes.

        Returns:
            Whether it may be; False if there is room here.
        """
        loop = asyncio.get_running_loop()
        while True:
            if has_room_here():
                # Perhaps for the next one, too, or a place elsewhere.
                self.look_again()
                return False
            if self._given < int(self._width) and loop.time() >= self._paused_until:
                self._given += 1
                self.look_again()
                return True
            turn = loop.create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.look_again()
                raise

    def look_again(self) -> None:
        """Have the first of those who wait see whether it is its turn."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def widen(self) -> None:
        """Note that an instance has answered."""
        self._width = min(self._most, self._width + 1 / self._width)
        self._pause_s = _FIRST_PAUSE_S

    def narrow(self) -> None:
        """Note that no instance was to be had for an event that has entered."""
        others = self._given - 1
        self._width = max(1, others)
        if others:
            return  # The next of them to end is an instance that is free.
        loop = asyncio.get_running_loop()
        pause_s = self._pause_s * random.uniform(0.5, 1)  # noqa: S311  # nosec B311  # no secret
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        self._paused_until = loop.time() + pause_s
        loop.call_later(pause_s, self.look_again)

    def leave(self) -> None:
        """Note that an event has its answer, or will have none."""
        self._given -= 1
        self.look_again()
