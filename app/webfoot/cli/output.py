"""Where a command's rows go when they are not shown: a file, or the standard output."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path


def extension_of(output: Path, known: Collection[str]) -> str:
    """The format that a file's ending names.

    Raises:
        click.UsageError: If it names none of the `known` ones.
    """
    extension = output.suffix.removeprefix(".")
    if extension not in known:
        raise click.UsageError(
            f"{output} has no ending that names a format; use one of {', '.join(known)},"
            " or --format"
        )
    return extension


def check_target(output: Path | None, extension: str, *, is_text: bool) -> None:
    """Refuse what cannot be written, before anything runs.

    Raises:
        click.UsageError: If bytes would go to a terminal, or a file into no folder.
    """
    if output is None and not is_text and sys.stdout.isatty():
        raise click.UsageError(f"{extension} is not for a terminal; add --output FILE")
    if output is not None and not output.parent.is_dir():
        raise click.UsageError(f"there is no folder {output.parent} to write {output.name} to")


@contextlib.contextmanager
def beside(output: Path) -> Iterator[Path]:
    """A file beside `output` that takes its place at the end: nobody reads half of it."""
    draft = output.with_name(f".{output.name}.tmp")
    try:
        yield draft
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
