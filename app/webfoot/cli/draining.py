"""An end without lost requests: SIGTERM makes a server unready first, and then ends it."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_LAST = (b"connection", b"close")


class DrainingServer(uvicorn.Server):
    """Answers for a while after SIGTERM, until nobody sends it requests any more.

    Meanwhile each connection ends with its next answer. A second SIGTERM, and Ctrl-C, end the
    server at once.

    Args:
        config: Uvicorn's.
        begin: Tells the application that the end has begun.
        drain_s: For how long requests may still come, in seconds.
        finish_s: For how long those that are being answered then may still be, in seconds.
    """

    def __init__(
        self, config: uvicorn.Config, begin: Callable[[], None], drain_s: float, finish_s: float
    ) -> None:
        super().__init__(config)
        self._begin = begin
        self._drain_s = drain_s
        self._finish_s = finish_s
        self._stop_s = config.timeout_graceful_shutdown
        self._until: float | None = None
        # uvicorn replaces its list every second, and a request keeps the one that it began with:
        # here it stays one list, so that what is added reaches those under way, too.
        self._headers = self.server_state.default_headers

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the end, or end."""
        if sig != signal.SIGTERM or self._until is not None:
            self.config.timeout_graceful_shutdown = self._stop_s
            super().handle_exit(sig, frame)
            return
        self._captured_signals.append(sig)
        self._until = time.monotonic() + self._drain_s
        self.config.timeout_graceful_shutdown = int(self._finish_s)
        self._headers.append(_LAST)
        self._begin()

    async def on_tick(self, counter: int) -> bool:
        """Look whether it is time to end."""
        is_over = await super().on_tick(counter)
        fresh = self.server_state.default_headers
        if fresh is not self._headers:
            self._headers[:] = fresh
            self.server_state.default_headers = self._headers
        if self._until is None:
            return is_over
        if _LAST not in self._headers:
            self._headers.append(_LAST)
        return is_over or time.monotonic() >= self._until
