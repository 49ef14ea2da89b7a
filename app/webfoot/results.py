"""The small records that travel where data does not: calls, drafts, results and failures."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from webfoot.access.principal import EVERYBODY, Principal

if TYPE_CHECKING:
    from webfoot.errors import InvalidParameters


@dataclass(frozen=True)
class Column:
    """A column of a result: its name and its Arrow type as text."""

    name: str
    type: str


@dataclass(frozen=True)
class Usage:
    """What a run took.

    Args:
        seconds: How long it ran, without the time that it waited for its turn.
        cpu_s: Processor time, in seconds: its process' and its children's, or only its thread's if
            the process is not its own. None if that could not be told.
        memory_bytes: The most memory that its process had at a time, or, if others ran there, too,
            has ever had; on Lambda, the function's. None if that could not be told.
    """

    seconds: float = 0.0
    cpu_s: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Draft:
    """A file that a run has written and nobody has published yet.

    Args:
        etag: The SHA-256 of its bytes, hexadecimal.
        size: Its length in bytes.
        rows: Rows in it.
        columns: Its schema.
        usage: What the run took.
        failed: How many inputs of a fan-out failed.
        stored: Whether the store has its bytes already, because another machine wrote them.
        truncated: Whether a query had more rows than were asked for.
    """

    etag: str
    size: int
    rows: int
    columns: tuple[Column, ...]
    usage: Usage = Usage()
    failed: int = 0
    stored: bool = False
    truncated: bool = False


@dataclass(frozen=True)
class Result:
    """A published, immutable file: what a call, or a view of a result, gave.

    Args:
        key: The call's key.
        run: The run that made it.
        extension: The kind of file: `parquet`, `csv`, …
        etag: The SHA-256 of its bytes, hexadecimal.
        size: Its length in bytes.
        rows: Rows in it.
        columns: Its schema.
        seconds: How long the run took.
        created: When it was published, in seconds since 1970.
        expires: When it stops being fresh, likewise; infinity for never.
        executions: How often this call has run, as far as the store remembers.
        before: The result that this one replaced, while somebody may still read ranges of it.
        failed: How many inputs of a fan-out failed.
        truncated: Whether a query had more rows than were asked for.
    """

    key: str
    run: str
    extension: str
    etag: str
    size: int
    rows: int
    columns: tuple[Column, ...]
    seconds: float
    created: float
    expires: float
    executions: int
    before: Result | None = None
    failed: int = 0
    truncated: bool = False

    def fresh(self, now: float) -> bool:
        """Whether the result may answer a new reader."""
        return now < self.expires


@dataclass(frozen=True)
class Failure:
    """A run that failed, remembered for a moment so that a client's retries do not run it again.

    Args:
        key: The call's key.
        problem: The error as a problem document, with the author's traceback.
        created: When it failed, in seconds since 1970.
        expires: When it is forgotten, likewise.
        executions: How often this call has run, as far as the store remembers.
    """

    key: str
    problem: dict[str, Any]
    created: float
    expires: float
    executions: int

    def fresh(self, now: float) -> bool:
        """Whether the failure still answers for the call."""
        return now < self.expires


@dataclass(frozen=True)
class Known:
    """What a store has of a call.

    Args:
        result: The newest result, fresh or not.
        failure: The newest failure, if it is newer than that.
    """

    result: Result | None = None
    failure: Failure | None = None

    @property
    def executions(self) -> int:
        """How often the call has run."""
        return max(entry.executions if entry else 0 for entry in (self.result, self.failure))


Entry = Result | Failure


@dataclass(frozen=True)
class Call:
    """One UDF, one version of its code, and canonical arguments.

    Args:
        udf: The UDF's name.
        version: The hash of its code.
        arguments: Canonical JSON: defaults filled in, typed, names sorted.
        audience: For whom its result is: all of a tenant; or one principal, if the UDF is told who
            asks. Nobody else is to learn that there is one.
    """

    udf: str
    version: str
    arguments: str
    audience: Principal = EVERYBODY
    key: str = field(init=False)

    def __post_init__(self) -> None:
        told = self.udf, self.version, self.arguments, *_apart(self.audience)
        object.__setattr__(self, "key", digest("call", *told))


@dataclass(frozen=True)
class Refused:
    """An input of a fan-out that makes no call.

    Args:
        error: Why not.
    """

    error: InvalidParameters

    @property
    def key(self) -> str:
        """What tells it from other inputs."""
        return digest("refused", self.error.detail)


@dataclass(frozen=True)
class Fanout:
    """Many calls of one UDF, answered with one table.

    Args:
        udf: The UDF's name.
        version: The hash of its code.
        inputs: The calls, in the order of the table; and inputs that make none.
        names: The parameters that are told beside the rows.
        partial: Whether inputs that fail are told in the table, and do not fail the whole.
        audience: For whom it is; see `Call`.
    """

    udf: str
    version: str
    inputs: tuple[Call | Refused, ...]
    names: tuple[str, ...]
    partial: bool = False
    audience: Principal = EVERYBODY
    key: str = field(init=False)

    def __post_init__(self) -> None:
        keys = [item.key for item in self.inputs]
        partial = "partial" if self.partial else ""
        told = self.udf, self.version, partial, repr(self.names), *_apart(self.audience), *keys
        object.__setattr__(self, "key", digest("fan-out", *told))

    @property
    def calls(self) -> list[Call]:
        """The inputs that make calls, in order."""
        return [item for item in self.inputs if isinstance(item, Call)]


@dataclass(frozen=True)
class Reach:
    """What a query may name; None for everything that there is.

    Args:
        udfs: The UDFs that it may call.
        datasets: The datasets of the lake that it may read.
    """

    udfs: frozenset[str] | None = None
    datasets: frozenset[str] | None = None

    def has_udf(self, name: str) -> bool:
        """Whether it may call this one."""
        return self.udfs is None or name in self.udfs

    def has_dataset(self, name: str) -> bool:
        """Whether it may read this one."""
        return self.datasets is None or name in self.datasets


@dataclass(frozen=True)
class Query:
    """A text of SQL, answered with one table.

    Args:
        sql: The text.
        parameters: What its placeholders stand for, as JSON: a list, or an object.
        limit: At most so many rows, and the result tells whether there were more. None for all;
            too many are then an error.
        reach: What it may name.
        version: The hash of what else its rows depend on: the code, and where the lake is.
        audience: For whom it is; see `Call`.
    """

    sql: str
    parameters: str
    limit: int | None
    reach: Reach
    version: str
    audience: Principal = EVERYBODY
    key: str = field(init=False)

    def __post_init__(self) -> None:
        named = [
            "all" if names is None else json.dumps(sorted(names))
            for names in (self.reach.udfs, self.reach.datasets)
        ]
        told = self.sql, self.parameters, str(self.limit), *named, self.version
        told += _apart(self.audience)
        object.__setattr__(self, "key", digest("query", *told))


Question = Call | Fanout


def _apart(audience: Principal) -> tuple[str, ...]:
    """What keeps the keys of an audience's results apart from those of all others."""
    return () if audience == EVERYBODY else (audience.text(),)


def is_whole(question: Question) -> bool:
    """Whether all inputs of a question make calls."""
    return isinstance(question, Call) or len(question.calls) == len(question.inputs)


def digest(*parts: str) -> str:
    """The SHA-256 of `parts`, hexadecimal, which no other list of parts shares."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def to_json(entry: Entry) -> str:
    """Write an entry as the store keeps it."""
    return json.dumps(_plain(entry), separators=(",", ":"))


def from_json(text: str | bytes) -> Entry:
    """Read an entry that `to_json` wrote.

    Raises:
        ValueError: If it is no such thing, say a file torn by a power cut.
    """
    try:
        return _entry(json.loads(text))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an entry of a store: {error!r}") from error


def _plain(entry: Entry) -> dict[str, Any]:
    plain = dict(vars(entry))
    plain["expires"] = None if math.isinf(entry.expires) else entry.expires
    if isinstance(entry, Result):
        plain["columns"] = [[column.name, column.type] for column in entry.columns]
        plain["before"] = None if entry.before is None else _plain(entry.before)
    return plain


def _entry(plain: dict[str, Any]) -> Entry:
    plain["expires"] = math.inf if plain["expires"] is None else plain["expires"]
    if "problem" in plain:
        return Failure(**plain)
    plain["columns"] = tuple(Column(*pair) for pair in plain["columns"])
    before = plain["before"]
    plain["before"] = None if before is None else _entry(before)
    return Result(**plain)
