"""What several commands take, and how it becomes settings."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = click.argument("folder", required=False, type=click.Path(path_type=Path))
FOLDER_OPTION = click.option("--folder", type=click.Path(path_type=Path), help="Default: udfs.")
STORE = click.option("--store", help="Where results are kept.")
RUNNER = click.option("--runner", help="`processes`, or `inline` to debug a UDF with a breakpoint.")


def settings_of(**given: Any) -> Settings:
    """Settings from the environment, with what the command line says; texts are read like those."""
    readers = {item.name: item.metadata["read"] for item in fields(Settings)}
    values: dict[str, Any] = {}
    for name, value in given.items():
        try:
            values[name] = readers[name](value) if isinstance(value, str) else value
        except ValueError as error:
            raise click.BadParameter(
                str(error), param_hint=f"--{name.replace('_', '-')}"
            ) from error
    return Settings.from_environment(**values)


def pairs_of(parameters: Sequence[str]) -> list[tuple[str, str]]:
    """A call's parameters, as the command line has them.

    Raises:
        click.UsageError: If one is not `key=value`.
    """
    return [_read_pair(text) for text in parameters]


def with_folder(settings: Settings) -> Settings:
    """The settings, if their folder is there.

    Raises:
        click.UsageError: If it is not.
    """
    if not settings.folder.exists():
        raise click.UsageError(
            f"there is no folder {settings.folder}/; name another, or begin one with"
            " `webfoot new NAME`"
        )
    return settings


def _read_pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"parameters are written key=value, got {text!r}")
    return key, value
