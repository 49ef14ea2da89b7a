"""`webfoot extensions bake`: DuckDB's extensions for an image that downloads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from webfoot.cli.display import print_table
from webfoot.cli.options import settings_of
from webfoot.database.extensions import ExtensionUnavailable
from webfoot.database.extensions import bake as bake_extensions
from webfoot.quantities import write_size

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group()
def extensions() -> None:
    """DuckDB's extensions, for images."""


@extensions.command()
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--target",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder; default: WEBFOOT_EXTENSIONS.",
)
def bake(names: Sequence[str], target: Path | None) -> None:
    """Copy the extensions NAMES from the installed packages, and check that they load there."""
    folder = settings_of().extensions if target is None else target.absolute()
    try:
        baked = bake_extensions(names, folder)
    except ExtensionUnavailable as error:
        raise click.ClickException(str(error)) from error
    table = Table("Extension", "File", "Size")
    for extension in baked:
        table.add_row(extension.name, str(extension.path), write_size(extension.size))
    print_table(table)
    click.echo("they load")
