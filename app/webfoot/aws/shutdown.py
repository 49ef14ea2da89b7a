"""SIGTERM: Lambda sends it to a function with an extension, two seconds before the end."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)


def close_at_sigterm(close: Callable[[], None]) -> None:
    """Call `close` on a thread when SIGTERM comes, and end the process.

    The runtime waits for its next event inside a C library, where no handler of Python's would be
    called: only what Python writes to a file at once, in the signal's own handler, arrives there.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    # Any handler of Python's: without one the signal would end the process as it always does.
    signal.signal(signal.SIGTERM, lambda *_: None)
    threading.Thread(
        target=_await, args=(reading, close), name="webfoot-sigterm", daemon=True
    ).start()


def _await(reading: int, close: Callable[[], None]) -> None:
    while signal.SIGTERM not in os.read(reading, 64):
        pass
    try:
        close()
    except Exception:  # noqa: BLE001  # logged; the process ends in any case
        _log.exception("the function could not be closed in order")
    os._exit(0)
