"""`webfoot run`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from webfoot.access.principal import ANONYMOUS
from webfoot.assembly import assemble
from webfoot.cli.display import count, show_rows
from webfoot.cli.options import FOLDER_OPTION, RUNNER, STORE, pairs_of, settings_of, with_folder
from webfoot.cli.output import beside, check_target, extension_of
from webfoot.errors import Error
from webfoot.lineage import Tally
from webfoot.quantities import write_seconds, write_size
from webfoot.views import MEDIA_TYPES, TEXTS, View, read_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from webfoot.assembly import Parts
    from webfoot.engine import Answer
    from webfoot.results import Result
    from webfoot.settings import Settings

_ROWS_SHOWN = 40
_PIECE = 1 << 20


@click.command()
@click.argument("name")
@click.argument("parameters", nargs=-1, metavar="[KEY=VALUE]...")
@FOLDER_OPTION
@click.option("--format", "extension", type=click.Choice(list(MEDIA_TYPES)), help="Print as this.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file.")
@click.option("--rerun", is_flag=True, help="Run even if a fresh result is stored.")
@STORE
@RUNNER
def run(
    name: str,
    parameters: Sequence[str],
    extension: str | None,
    output: Path | None,
    rerun: bool,
    **options: Any,
) -> None:
    """Call the UDF NAME and show its table, or write it with --format or --output."""
    pairs = pairs_of(parameters)
    extension = extension or (extension_of(output, MEDIA_TYPES) if output else None)
    if extension is not None:
        check_target(output, extension, is_text=extension in TEXTS)
    settings = with_folder(settings_of(workers=1, **options))
    asyncio.run(_run(settings, name, pairs, extension, output, rerun))


async def _run(
    settings: Settings,
    name: str,
    pairs: list[tuple[str, str]],
    extension: str | None,
    output: Path | None,
    rerun: bool,
) -> None:
    parts = assemble(settings)
    console, tally = Console(stderr=True), Tally()
    own = [pair for pair in pairs if pair[0].startswith("_")]
    try:
        udf = parts.engine.registry.find(name)
        call = parts.engine.call(udf, [p for p in pairs if p not in own], ANONYMOUS)
        view = read_view(extension or "ndjson", own)
        # A breakpoint needs the terminal for itself.
        quiet = settings.runner == "inline" or not console.is_terminal
        with contextlib.nullcontext() if quiet else console.status(f"{name} runs…"):
            await parts.start()
            lineage = parts.engine.request(tally)
            answer = await parts.engine.result(udf, call, rerun=rerun, lineage=lineage)
            wanted = _for_terminal(view) if extension is None else view
            derived = await parts.engine.view(udf, answer.result, wanted, call.audience, tally)
            shown = derived.result
        if extension is None:
            text = b"".join([piece async for piece in _pieces(parts, shown)])
            _show_result(answer.result, [json.loads(line) for line in text.splitlines()])
        elif output is None:
            async for piece in _pieces(parts, shown):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        else:
            with beside(output) as draft, draft.open("wb") as file:
                async for piece in _pieces(parts, shown):
                    file.write(piece)
        _show_summary(console, answer, tally, output)
    except Error as error:
        log = parts.engine.runs.log(error.run) if error.run else ""
        if log:
            click.echo(log, err=True)
        raise
    finally:
        await parts.close()


def _for_terminal(view: View) -> View:
    limit = _ROWS_SHOWN if view.limit is None else view.limit
    return replace(view, extension="ndjson", limit=limit)


async def _pieces(parts: Parts, shown: Result) -> AsyncIterator[bytes]:
    blob = await parts.store.open(shown)
    if blob is None:
        raise Error("the result was evicted while it was read; run it again")
    with contextlib.closing(blob):
        for start in range(0, blob.size, _PIECE):
            yield await blob.read(start, _PIECE)


def _show_result(result: Result, rows: list[dict[str, Any]]) -> None:
    types = {column.name: column.type for column in result.columns}
    names = list(rows[0]) if rows else list(types)
    columns = [(name, types.get(name, "")) for name in names]
    show_rows(columns, ([row[name] for name in names] for row in rows))
    if len(rows) == _ROWS_SHOWN < result.rows:
        click.echo(
            f"{_ROWS_SHOWN} rows shown; _limit=N shows others, --output FILE keeps all", err=True
        )


def _show_summary(console: Console, answer: Answer, tally: Tally, output: Path | None) -> None:
    result, how = answer.result, "stored earlier"
    if answer.ran:
        took = write_seconds(round(result.seconds, 3))
        # Another process' run has its own tally.
        had = f" with {write_size(tally.memory_bytes)} of memory" if tally.runs else ""
        how = f"ran in {took}{had}"
    where = f", written to {output}" if output else ""
    console.print(
        f"{count(result.rows, 'row')}, {write_size(result.size)} of Parquet, {how},"
        f" run {result.run}{where}",
        style="dim",
        highlight=False,
        # A path that is cut in two cannot be copied.
        soft_wrap=True,
    )
