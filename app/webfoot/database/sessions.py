"""`webfoot.cursor` and `webfoot.session`: DuckDB for UDFs and scripts, without plumbing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from webfoot.database.instances import Configuration, Instances
from webfoot.database.steps import DEFAULT_BOOTSTRAP, steps_of
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from webfoot.database.bootstrap import Step
    from webfoot.database.connection import Connection

# Of this process. What nobody asks for is not made.
_INSTANCES = Instances()
# Where a runner has its sessions write; the last one is in force.
_TEMPS: list[Path] = []
# How much memory the run may use that has this process for itself; likewise.
_MEMORY: list[int] = []


@contextlib.contextmanager
def cursor(
    name: str = "shared", *, bootstrap: Sequence[Step | str] = DEFAULT_BOOTSTRAP
) -> Iterator[Connection]:
    """A private cursor on an in-memory DuckDB that this process shares, for short work.

    The cursor ends with the `with`, and its temporary tables with it. What it makes in the instance
    (tables, attached databases, settings) is there for the next one: for such work, take `session`.
    A cursor is used by the thread that has asked for it; each thread asks for its own.

    Args:
        name: Which instance: one for each name and bootstrap, made when it is first asked for.
        bootstrap: Steps, or the names of those that Webfoot brings; each runs once in an instance,
            when a statement first names what it provides.

    Yields:
        A connection with all methods of `duckdb.DuckDBPyConnection`.

    Raises:
        ValueError: If the bootstrap names no step.
    """
    steps = steps_of(bootstrap)
    with _INSTANCES.shared(name, configuration(), steps).cursor() as connection:
        yield connection


@contextlib.contextmanager
def session(bootstrap: Sequence[Step | str] = DEFAULT_BOOTSTRAP) -> Iterator[Connection]:
    """A DuckDB of its own, in memory, which ends with the `with`.

    Nothing that is set, attached or made in it is seen outside, and nothing from outside in it.
    Files are attached from below the temporary folder only.

    Args:
        bootstrap: See `cursor`.

    Yields:
        A connection with all methods of `duckdb.DuckDBPyConnection`.

    Raises:
        ValueError: If the bootstrap names no step.
    """
    steps = steps_of(bootstrap)
    with _INSTANCES.private(configuration(), steps) as instance, instance.cursor() as connection:
        yield connection


def configuration() -> Configuration:
    """What instances are like here and now.

    Raises:
        SettingsError: If the settings cannot be read.
    """
    return Configuration.from_settings(
        Settings.from_environment(),
        _TEMPS[-1] if _TEMPS else None,
        _MEMORY[-1] if _MEMORY else None,
    )


@contextlib.contextmanager
def within_memory(memory_bytes: int) -> Iterator[None]:
    """Have instances that this process opens in the block spill before they use so much."""
    _MEMORY.append(memory_bytes)
    try:
        yield
    finally:
        _MEMORY.remove(memory_bytes)


@contextlib.contextmanager
def everywhere_in(temp: Path) -> Iterator[None]:
    """Have all instances of this process write below `temp`; they end with the `with`."""
    _TEMPS.append(temp)
    try:
        yield
    finally:
        _TEMPS.remove(temp)
        _INSTANCES.close(temp)
