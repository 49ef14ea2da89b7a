"""What authors hold: a DuckDB connection that has made ready what a statement is about to use."""

from __future__ import annotations

import functools
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

import duckdb

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from webfoot.database.bootstrap import StepRun
    from webfoot.database.instances import Instance

    # To a type checker, and to all that calls its methods, it is one; `isinstance` says no.
    _Connection = duckdb.DuckDBPyConnection
else:
    _Connection = object

# What takes a text of SQL, or a path, or names, and what else may be said to it.
_STATEMENTS = frozenset(("execute", "executemany", "from_query", "get_table_names", "query", "sql"))
_PATHS = frozenset(("from_csv_auto", "from_parquet", "read_csv", "read_json", "read_parquet"))
_NAMES = frozenset(("table", "table_function", "view"))
# What another thread may do to it.
_FROM_ANYWHERE = frozenset(("close", "interrupt", "query_progress"))
_CALL = "__webfoot_call__"
_CALLED = compile(f"{_CALL}()", "<webfoot>", "eval")


class Connection(_Connection):
    """DuckDB's connection, with bootstrap steps that run when a statement names what they provide.

    It has all the methods of `duckdb.DuckDBPyConnection` and finds the variables of its caller as
    that does. It is used by the thread that has asked for it; `interrupt` and `close` by any.

    Args:
        native: The connection itself; for libraries that insist on one.
        instance: Where it leads.
    """

    def __init__(self, native: duckdb.DuckDBPyConnection, instance: Instance) -> None:
        self.native = native
        self._instance = instance
        self._thread = threading.get_ident()
        self._cursors: list[Connection] = []

    def require(self, *names: str) -> Self:
        """Run bootstrap steps now, for what no text of SQL tells, such as a path that it computes.

        Args:
            names: The steps' names.

        Raises:
            StepFailed: If one fails, is not configured, or is no step of this instance.
        """
        self._check_thread("require")
        self._instance.bootstrap.require(*names)
        return self

    def steps(self) -> tuple[StepRun, ...]:
        """The bootstrap steps that have run in this instance, with their times."""
        return self._instance.bootstrap.runs()

    def cursor(self) -> Connection:
        """Another connection to the same instance; it ends with this one."""
        made = Connection(self.native.cursor(), self._instance)
        self._cursors.append(made)
        return made

    duplicate = cursor

    def close(self) -> None:
        """Close it, and its cursors."""
        for cursor in self._cursors:
            cursor.close()
        self._cursors.clear()
        self.native.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """What DuckDB's connection has by that name."""
            found = getattr(self.native, name)
            if name in _FROM_ANYWHERE:
                return found
            self._check_thread(name)
            if name in _STATEMENTS:
                return functools.partial(_run, self, found, self._note_statement)
            if name in _PATHS:
                return functools.partial(_run, self, found, self._note_values)
            if name in _NAMES:
                return functools.partial(_run, self, found, self._note_names)
            return functools.partial(_again, self, found) if callable(found) else found

    def _note_statement(self, arguments: tuple[object, ...], named: dict[str, object]) -> None:
        first, *values = (*arguments, *named.values())
        sql = first.query if isinstance(first, duckdb.Statement) else first
        if isinstance(sql, str):  # Anything else is for DuckDB to refuse.
            self._instance.check(self.native, sql)
            self._instance.bootstrap.use(sql, values)

    def _note_values(self, arguments: tuple[object, ...], named: dict[str, object]) -> None:
        self._instance.bootstrap.use("", (*arguments, *named.values()))

    def _note_names(self, arguments: tuple[object, ...], named: dict[str, object]) -> None:
        first, *values = (*arguments, *named.values())
        self._instance.bootstrap.use(str(first), values)

    def _check_thread(self, what: str) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                f"{what} is called on another thread than the one that opened this connection;"
                " ask for a cursor in each thread: `with webfoot.cursor() as con`"
            )


def _run(
    connection: Connection,
    function: Callable[..., object],
    note: Callable[[tuple[object, ...], dict[str, object]], None],
    *arguments: Any,
    **named: Any,
) -> Any:
    note(arguments, named)
    call = functools.partial(function, *arguments, **named)
    return _own(connection, _call_for(sys._getframe(1), call))  # noqa: SLF001  # DuckDB does it, too


def _call_for(frame: FrameType, call: Callable[[], object]) -> object:
    """Call for the code of `frame`, in whose variables DuckDB then looks for `FROM df`."""
    return eval(_CALLED, frame.f_globals, {**frame.f_locals, _CALL: call})  # noqa: S307  # nosec B307  # a constant


def _again(
    connection: Connection, function: Callable[..., object], *arguments: Any, **named: Any
) -> Any:
    return _own(connection, function(*arguments, **named))


def _own(connection: Connection, answer: object) -> object:
    """What DuckDB answers; where that is the connection itself, as authors hold it."""
    return connection if answer is connection.native else answer
