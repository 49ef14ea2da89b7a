"""The `@udf` decorator and the frozen record that it attaches to a function.

It registers nothing: the registry collects, so that importing a UDF file has no effect.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from webfoot import quantities
from webfoot.docstrings import document
from webfoot.errors import DefinitionError
from webfoot.parameters import Parameters, check_partitions, read_signature

if TYPE_CHECKING:
    from webfoot.sources import Code

# Where a function carries its record.
ATTRIBUTE = "__webfoot__"
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Options:
    """What an author asks for; None means the server's setting.

    Args:
        cache_s: How long a result stays fresh, in seconds; 0 means never stored for another query.
        timeout_s: How long a run may take, in seconds.
        memory_bytes: How much memory a run may use.
        version: Any text; changing it makes every stored result stale.
        tags: Words to group UDFs by.
        waits: Whether it mostly waits, for a network say, and so runs beside many others.
        partitions: Parameters that a hive-shaped path gives, outermost first.
        stale_s: How long after its freshness a result may still answer a spreadsheet, in seconds,
            while a new one takes its time.
    """

    cache_s: float | None = None
    timeout_s: float | None = None
    memory_bytes: int | None = None
    version: str = ""
    tags: tuple[str, ...] = ()
    waits: bool = False
    partitions: tuple[str, ...] = ()
    stale_s: float = 0.0


@dataclass(frozen=True)
class Udf:
    """A decorated function and everything that is known of it.

    Args:
        name: Its name in URLs: the function's.
        title: The first line of its docstring.
        description: The rest of the docstring, Markdown.
        returns: What the docstring says of the result.
        parameters: Its query parameters.
        options: What its author asked for.
        function: The function itself.
        file: Where it is written.
        line: The line it begins on.
        version: The hash of its code, filled in by the registry.
        code: The snapshot it was loaded from, likewise.
    """

    name: str
    title: str
    description: str
    returns: str
    parameters: Parameters
    options: Options
    function: Callable[..., Any] = field(repr=False)
    file: Path
    line: int
    version: str = ""
    code: Code | None = field(default=None, repr=False)


@overload
def udf(function: _Function, /) -> _Function: ...


@overload
def udf(
    *,
    cache: str | float | None = None,
    timeout: str | float | None = None,
    memory: str | int | None = None,
    version: str = "",
    tags: Sequence[str] = (),
    waits: bool = False,
    partitions: Sequence[str] = (),
    stale: str | float = 0,
) -> Callable[[_Function], _Function]: ...


def udf(  # noqa: PLR0913  # each is an option that an author writes by name
    function: _Function | None = None,
    /,
    *,
    cache: str | float | None = None,
    timeout: str | float | None = None,
    memory: str | int | None = None,
    version: str = "",
    tags: Sequence[str] = (),
    waits: bool = False,
    partitions: Sequence[str] = (),
    stale: str | float = 0,
) -> _Function | Callable[[_Function], _Function]:
    """Make a function a table at a URL. The function comes back unchanged.

    Args:
        function: The function, when the decorator is used bare.
        cache: How long a result stays fresh: "10m", "1h", seconds, 0 or "forever".
        timeout: How long a run may take: "30s" or seconds.
        memory: How much memory a run may use: "2GB" or bytes.
        version: Any text; change it to make every stored result stale.
        tags: Words to group UDFs by.
        waits: Whether it mostly waits, for a network say, and does not compute: many such runs then
            share a process, each on a thread of its own. If that process ends, through one of
            them, those that ran there run again, each alone.
        partitions: Parameters with few values, which can then be given as folders
            (`/udfs/sales/region=c/data.parquet`): filters on them decide which calls DuckDB makes.
        stale: How long after it stopped being fresh a result may still answer a spreadsheet, "1d"
            say, while a new one takes longer than a spreadsheet waits.

    Raises:
        DefinitionError: If the signature or an option cannot be served; it names the cure.
    """
    try:
        options = Options(
            cache_s=None if cache is None else quantities.seconds(cache),
            timeout_s=None if timeout is None else quantities.timeout(timeout),
            memory_bytes=None if memory is None else quantities.size(memory),
            version=str(version),
            tags=_words(tags),
            waits=bool(waits),
            partitions=_words(partitions),
            stale_s=quantities.seconds(stale),
        )
    except ValueError as error:
        raise DefinitionError(f"@udf: {error}") from error

    def attach(target: _Function) -> _Function:
        setattr(target, ATTRIBUTE, _define(target, options))
        return target

    return attach if function is None else attach(function)


def definition_of(value: object) -> Udf | None:
    """The record that `@udf` attached to `value`, if it did."""
    record = getattr(value, ATTRIBUTE, None) if inspect.isfunction(value) else None
    # `functools.wraps` copies the record to a function that is another one.
    return record if isinstance(record, Udf) and record.function is value else None


def _define(function: Callable[..., Any], options: Options) -> Udf:
    if not inspect.isfunction(function):
        raise DefinitionError(
            f"@udf takes a plain function, got {type(function).__name__}; put it above `def`, and"
            " below decorators that replace the function"
        )
    if function.__name__.startswith("_") or not function.__name__.isidentifier():
        raise DefinitionError(
            f"a UDF's name is its URL and cannot be {function.__name__!r}; name the function"
        )
    # Below @udf there may be decorators; what the author wrote is behind them.
    written = inspect.unwrap(function)
    texts = document(function)
    try:
        parameters = read_signature(function, texts.parameters)
        check_partitions(parameters, options.partitions)
    except DefinitionError as error:
        raise DefinitionError(f"{function.__name__}: {error}") from error
    return Udf(
        name=function.__name__,
        title=texts.title,
        description=texts.description,
        returns=texts.returns,
        parameters=parameters,
        options=options,
        function=function,
        file=Path(written.__code__.co_filename),
        line=written.__code__.co_firstlineno,
    )


def _words(given: Sequence[str]) -> tuple[str, ...]:
    """Several words; a text is one, not its letters."""
    return (given,) if isinstance(given, str) else tuple(given)
