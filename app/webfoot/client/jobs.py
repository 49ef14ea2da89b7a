"""A call that runs while its caller does something else."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from webfoot.errors import RunCancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from webfoot.tables.table import Table


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Args:
        elapsed_s: How long it has run, or ran, in seconds.
    """

    elapsed_s: float


class Job:
    """A call under way; see `Client.submit`.

    Args:
        call: What it is, as a person would write it.
        run: Makes the call.
        cut_off: Ends `run` from another thread, which then raises.
    """

    def __init__(self, call: str, run: Callable[[], Table], cut_off: Callable[[], None]) -> None:
        self._call = call
        self._cut_off = cut_off
        self._future: Future[Table] = Future()
        self._started = time.monotonic()
        self._ended: float | None = None
        self._future.add_done_callback(self._end)
        # A daemon: a script that ends does not wait for what nobody asked for.
        threading.Thread(target=self._run, args=(run,), name=f"webfoot {call}", daemon=True).start()

    @property
    def status(self) -> Literal["running", "done", "failed", "cancelled"]:
        """How it stands."""
        if not self._future.done():
            return "running"
        if self._future.cancelled():
            return "cancelled"
        return "done" if self._future.exception() is None else "failed"

    @property
    def progress(self) -> Progress:
        """How far it is."""
        until = time.monotonic() if self._ended is None else self._ended
        return Progress(until - self._started)

    def result(self, timeout: float | None = None) -> Table:
        """The table; waits for it.

        Args:
            timeout: How long to wait at most, in seconds.

        Raises:
            TimeoutError: If it still runs then.
            RunCancelled: If it was cancelled.
            Error: Why there is none.
        """
        try:
            return self._future.result(timeout)
        except CancelledError:
            raise RunCancelled(f"{self._call} was cancelled") from None
        except TimeoutError:
            raise TimeoutError(f"{self._call} still runs after {timeout:g} s") from None

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until it has ended, one way or another, or for `timeout` seconds."""
        with contextlib.suppress(TimeoutError, CancelledError):
            self._future.exception(timeout)
        return self

    def cancel(self) -> bool:
        """Stop it; False if it had ended already."""
        cancelled = self._future.cancel()
        if cancelled:
            self._cut_off()
        return cancelled

    def __repr__(self) -> str:
        return f"<Job {self._call}: {self.status}, {self.progress.elapsed_s:.1f} s>"

    def _run(self, run: Callable[[], Table]) -> None:
        # Until it has an answer, the future is kept in the state in which it can be cancelled.
        table, failure = None, None
        try:
            table = run()
        except BaseException as error:  # noqa: BLE001  # told to who asks for the result
            failure = error
        if not self._future.set_running_or_notify_cancel():
            return
        if failure is not None:
            self._future.set_exception(failure)
        elif table is not None:
            self._future.set_result(table)

    def _end(self, _: Future[Table]) -> None:
        self._ended = time.monotonic()
