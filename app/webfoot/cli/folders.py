"""`webfoot list`, `check` and `new`: what is in a folder, and a file to begin with."""

from __future__ import annotations

import builtins
import json
import keyword
import sys
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from webfoot.assembly import load_folder
from webfoot.cli.display import count, print_table, show_problems
from webfoot.cli.options import FOLDER, FOLDER_OPTION, settings_of, with_folder

if TYPE_CHECKING:
    from pathlib import Path

_TEMPLATE_NAMES = ("Annotated", "Field", "udf")
_TEMPLATE = '''\
"""{title}."""

from typing import Annotated

from pydantic import Field
from webfoot import udf


@udf(cache="10m")
def {name}(
    rows: Annotated[int, Field(ge=0, le=1000)] = 5,
) -> list[dict[str, int]]:
    """{title}: the first square numbers.

    Args:
        rows: How many rows, at most 1,000.

    Returns:
        One row per number: `number`, `square`.
    """
    return [{{"number": number, "square": number**2}} for number in range(rows)]
'''


@click.command("list")
@FOLDER
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def list_udfs(folder: Path | None, as_json: bool) -> None:
    """List the UDFs of FOLDER (default: udfs)."""
    registry = load_folder(with_folder(settings_of(folder=folder)))
    if as_json:
        udfs = [
            {
                "name": u.name,
                "title": u.title,
                "version": u.version,
                "parameters": list(u.parameters),
            }
            for u in registry.values()
        ]
        click.echo(json.dumps(udfs, indent=2))
        return
    table = Table("Name", "Parameters", "Title")
    for udf in registry.values():
        signature = ", ".join(
            f"{p.name}: {p.type}" + ("" if p.required else f" = {json.dumps(p.default)}")
            for p in udf.parameters.values()
        )
        table.add_row(Text(udf.name), Text(signature), Text(udf.title))
    if registry:
        print_table(table)
    elif not registry.problems:
        click.echo("there is no UDF yet; begin one with `webfoot new NAME`")
    show_problems(registry)


@click.command()
@FOLDER
def check(folder: Path | None) -> None:
    """Load every file of FOLDER (default: udfs) and fail if one is not served."""
    registry = load_folder(with_folder(settings_of(folder=folder)))
    show_problems(registry)
    if registry.problems:
        sys.exit(1)
    click.echo(f"{count(len(registry), 'UDF')}, no problems")


@click.command()
@click.argument("name")
@FOLDER_OPTION
def new(name: str, folder: Path | None) -> None:
    """Write a UDF called NAME that runs, to start from."""
    if not name.isidentifier() or name.startswith("_"):
        raise click.UsageError(
            f"a UDF's name is a Python name that does not begin with '_', got {name!r}"
        )
    if keyword.iskeyword(name) or name in dir(builtins) or name in _TEMPLATE_NAMES:
        raise click.UsageError(f"{name} means something else in Python; choose another name")
    settings = settings_of(folder=folder)
    path = settings.folder / f"{name}.py"
    if path.exists():
        raise click.UsageError(f"{path} exists; choose another name")
    settings.folder.mkdir(parents=True, exist_ok=True)
    text = _TEMPLATE.format(name=name, title=name.replace("_", " ").capitalize())
    path.write_text(text, encoding="utf-8")
    where = "" if folder is None else f"--folder {folder} "
    click.echo(f"{path} is written; try: webfoot run {where}{name} rows=3")
