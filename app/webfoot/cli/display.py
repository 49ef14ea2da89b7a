"""Tables and sentences in a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from webfoot.registry import Registry

# A file or a pipe has no width of its own, and cut values are worth nothing there.
_WIDTH_OF_A_FILE = 10_000
# How the names of types begin, Arrow's and DuckDB's, whose values stand flush right.
_NUMBERS = ("int", "uint", "float", "double", "decimal", "bigint", "hugeint", "smallint", "tinyint")


def print_table(table: Table) -> None:
    """Print a table, as wide as the terminal, or as it needs where there is none."""
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    console.print(table)


def show_rows(columns: Iterable[tuple[str, str]], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows below the names and types of their columns."""
    table = Table(show_lines=False)
    for name, kind in columns:
        number = kind.lower().startswith(_NUMBERS)
        header = Text.assemble(_printable(name), "\n", (kind, "dim"))
        table.add_column(header, justify="right" if number else "left", overflow="ellipsis")
    for row in rows:
        table.add_row(*map(_cell, row))
    print_table(table)


def _cell(value: Any) -> Text:
    if value is None:
        return Text("null", style="dim")
    return Text(
        _printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    )


def _printable(text: str) -> str:
    """The text without what would steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def show_problems(registry: Registry) -> None:
    """Tell which files are not served, and why."""
    for problem in registry.problems:
        click.secho(f"{problem.file}: {problem.message}", fg="red", err=True)
        if problem.traceback:
            click.echo(problem.traceback, err=True)


def count(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
