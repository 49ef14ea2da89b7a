"""A thousand inputs in a few requests at a time: outcomes as they complete."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from webfoot.client.arguments import to_plain_input
from webfoot.client.replies import foreign
from webfoot.errors import (
    Error,
    RunCancelled,
    ServerBusy,
    StorageFull,
    UdfNotFound,
    Unreachable,
)
from webfoot.outcomes import Outcome
from webfoot.tables.cutting import cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from webfoot.client.connection import Connection
    from webfoot.outcomes import Input
    from webfoot.tables.cutting import Piece

# A request is to take so long: much less, and its own cost counts; much more, and nothing comes in.
_REQUEST_S = 0.5
_MOST_INPUTS = 500
_MOST_GROWTH = 4.0
# Errors that a smaller request would meet, too.
_NOT_OF_AN_INPUT = (RunCancelled, ServerBusy, StorageFull, UdfNotFound, Unreachable)


class Fanout:
    """Calls of one UDF, sent in requests of many inputs; a `Source` of outcomes.

    Requests begin small and grow until one takes about half a second. One that fails as a whole is
    halved until the inputs are found that make it fail.

    Args:
        connection: Makes the requests; closed when all is done.
        path: Where the inputs are posted.
        inputs: The parameters of each call.
        concurrency: How many requests are under way at once.
        defaults: What is sent of each call that does not give it. A server answers with a column
            for every parameter that a request gives: so all requests have the same columns.

    Raises:
        TypeError: If a parameter cannot be sent; it names the input.
    """

    def __init__(
        self,
        connection: Connection,
        path: str,
        inputs: Sequence[Input],
        *,
        concurrency: int,
        defaults: Input | None = None,
    ) -> None:
        self._connection = connection
        self._path = path
        self._inputs = inputs
        self._bodies = [_write(index, given, defaults or {}) for index, given in enumerate(inputs)]
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._given = 0
        # What the threads share, under the lock.
        self._lock = threading.Lock()
        self._pending = deque(range(len(inputs)))
        self._size = 1.0
        self._cancelled = False
        # Whether the last request had no answer: what follows is then tried once, not five times.
        self._away = False
        self._threads = self._busy = min(concurrency, len(inputs))
        for number in range(self._threads):
            # Daemons: a script that ends does not wait for what nobody asked for.
            threading.Thread(target=self._work, name=f"webfoot map {number}", daemon=True).start()

    def __iter__(self) -> Fanout:
        return self

    def __next__(self) -> Outcome:
        if self._given == len(self._inputs):
            raise StopIteration
        outcome = self._outcomes.get()
        self._given += 1
        return outcome

    def ready(self) -> int:
        """How many outcomes can be had without waiting."""
        return self._outcomes.qsize()

    def cancel(self) -> None:
        """Stop: the server notices that nobody waits, and stops what runs."""
        with self._lock:
            self._cancelled = True
            left = list(self._pending)
            self._pending.clear()
        self._fail(left, _cancelled())
        self._connection.cut_off()

    def _work(self) -> None:
        while indexes := self._take():
            try:
                self._finish(indexes, self._post(indexes))
            except Error as error:
                self._settle(indexes, error)
            except Exception as bug:  # noqa: BLE001  # whoever waits for these inputs must be told
                self._fail(indexes, Error(f"the client failed: {type(bug).__name__}: {bug}"))
        with self._lock:
            self._busy -= 1
            last = self._busy == 0
        if last:
            self._connection.close()

    def _take(self) -> list[int]:
        """The inputs of the next request: as many as it is to have, and a share for each thread."""
        with self._lock:
            share = -(-len(self._pending) // self._threads)
            count = min(int(self._size), share)
            return [self._pending.popleft() for _ in range(count)]

    def _post(self, indexes: Sequence[int]) -> list[Piece]:
        body = f"[{','.join(self._bodies[index] for index in indexes)}]".encode()
        started = time.monotonic()
        response = self._connection.post(self._path, body, retry=not self._away)
        taken_s = time.monotonic() - started
        try:
            pieces = cut(response.content)
        except (ValueError, OSError) as error:
            raise foreign(response) from error
        if len(pieces) != len(indexes):
            raise foreign(response)
        with self._lock:
            self._away = False
            growth = min(_REQUEST_S / max(taken_s, 0.001), _MOST_GROWTH)
            self._size = min(max(len(indexes) * growth, 1.0), _MOST_INPUTS)
        return pieces

    def _finish(self, indexes: Sequence[int], pieces: Iterable[Piece]) -> None:
        for index, piece in zip(indexes, pieces, strict=True):
            given = self._inputs[index]
            if piece.problem is None:
                self._outcomes.put(Outcome(index, piece.values or given, table=piece.table))
            else:
                error = Error.from_problem(piece.problem)
                self._outcomes.put(Outcome(index, given, error=error))

    def _settle(self, indexes: Sequence[int], error: Error) -> None:
        """A request failed as a whole: find out whose fault it is, or give its inputs up."""
        with self._lock:
            self._away = isinstance(error, Unreachable)
            halves = not self._cancelled and len(indexes) > 1
            if halves and not isinstance(error, _NOT_OF_AN_INPUT):
                self._pending.extendleft(reversed(indexes))
                self._size = max(len(indexes) / 2, 1.0)
                return
        self._fail(indexes, _cancelled() if self._cancelled else error)

    def _fail(self, indexes: Iterable[int], error: Error) -> None:
        for index in indexes:
            own = Error.from_problem(error.problem() | {"traceback": error.traceback})
            self._outcomes.put(Outcome(index, self._inputs[index], error=own))


def _write(index: int, given: Input, defaults: Input) -> str:
    return json.dumps({**defaults, **to_plain_input(index, given)}, ensure_ascii=False)


def _cancelled() -> RunCancelled:
    return RunCancelled("it was cancelled before it had an answer")
