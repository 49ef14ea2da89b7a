"""What a run that is given up has DuckDB do ends with it: Python alone cannot stop a query."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb


class Queries:
    """The connections that a run has open, on the thread that it began on."""

    def __init__(self) -> None:
        self._open: list[duckdb.DuckDBPyConnection] = []

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Take note of the connections that are opened inside the block."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def add(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Note that a connection is open."""
        self._open.append(connection)

    def remove(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Note that it is closed."""
        self._open.remove(connection)

    def close(self) -> None:
        """Interrupt what the connections do; from any thread."""
        for connection in list(self._open):
            with contextlib.suppress(Exception):  # It was closed this moment.
                connection.interrupt()


# Of the run that this thread belongs to.
_CURRENT: ContextVar[Queries] = ContextVar("webfoot_queries")


@contextlib.contextmanager
def interruptible(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Have the queries of `connection` interrupted if the run is given up that opened it."""
    queries = _CURRENT.get(None)
    if queries is None:
        yield
        return
    queries.add(connection)
    try:
        yield
    finally:
        queries.remove(connection)
