"""Calls that wait for each other: none may wait for itself by way of others."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from typing import TYPE_CHECKING

from webfoot.errors import FanoutLimit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Circles:
    """Who waits for whom, so that no call waits for itself by way of others."""

    def __init__(self) -> None:
        self._waits: dict[str, Counter[str]] = {}

    @contextlib.contextmanager
    def waiting(self, waiter: str | None, key: str, name: str) -> Iterator[None]:
        """Note that the call `waiter` waits for the call `key`.

        Args:
            waiter: Key of who waits; None for a request, for which nobody waits.
            key: Key of what is waited for.
            name: The UDF that is waited for.

        Raises:
            FanoutLimit: If that one, or what it waits for, waits for `waiter`.
        """
        if waiter is None:
            yield
            return
        if waiter == key or waiter in self._reached(key):
            raise FanoutLimit(
                f"{name!r} is called in a circle: it waits for its own result; call it with other"
                " parameters"
            )
        waits = self._waits.setdefault(waiter, Counter())
        waits[key] += 1
        try:
            yield
        finally:
            waits[key] -= 1
            if not waits[key]:
                del waits[key]
            if not waits:
                self._waits.pop(waiter, None)

    @contextlib.contextmanager
    def known(self, path: Sequence[str]) -> Iterator[None]:
        """Note that each call of `path` waits for the next, in another process."""
        with contextlib.ExitStack() as stack:
            for waiter, key in itertools.pairwise(path):
                stack.enter_context(self.waiting(waiter, key, ""))
            yield

    def _reached(self, key: str) -> set[str]:
        reached: set[str] = set()
        # Most calls wait for nothing.
        waiting = list(self._waits.get(key, ()))
        while waiting:
            current = waiting.pop()
            if current not in reached:
                reached.add(current)
                waiting.extend(itertools.chain(self._waits.get(current, ())))
        return reached
