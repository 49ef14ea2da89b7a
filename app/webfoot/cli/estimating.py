"""`webfoot estimate`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from webfoot.access.principal import ANONYMOUS
from webfoot.assembly import assemble
from webfoot.billing import PRICES, PRICES_OF
from webfoot.cli.display import count, print_table
from webfoot.cli.options import FOLDER_OPTION, RUNNER, STORE, pairs_of, settings_of, with_folder
from webfoot.estimates import LEAST_MIB, MOST_MIB, calls_among, estimate
from webfoot.quantities import write_seconds, write_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from webfoot.runs import Run
    from webfoot.settings import Settings

_USUAL_MIB = (512, 1024, 1769, 3538)
_MILLION = 1_000_000


@click.command("estimate")
@click.argument("name")
@click.argument("parameters", nargs=-1, metavar="[KEY=VALUE]...")
@FOLDER_OPTION
@click.option(
    "--memory",
    type=click.IntRange(LEAST_MIB, MOST_MIB),
    multiple=True,
    default=_USUAL_MIB,
    help="A function's memory in MiB; may be repeated.",
)
@click.option("--rerun", is_flag=True, help="Measure a run even if there are records of some.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@STORE
@RUNNER
def estimate_cost(
    name: str,
    parameters: Sequence[str],
    memory: Sequence[int],
    rerun: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Tell what a call of the UDF NAME would cost on AWS Lambda, from the records of its runs.

    Of all its calls, or, with KEY=VALUE, of this one. If there are no records, it is run.
    """
    settings = with_folder(settings_of(**options))
    calls = asyncio.run(_measured(settings, name, pairs_of(parameters), rerun=rerun))
    estimates = [estimate(calls, mib) for mib in memory]
    if as_json:
        click.echo(json.dumps([asdict(item) for item in estimates], indent=2))
        return
    table = Table(
        "Memory", "Billed time", *(f"US$ per million, {kind}" for kind in PRICES.gb_second), ""
    )
    for column in table.columns[:-1]:
        column.justify = "right"
    for item in estimates:
        table.add_row(
            f"{item.mib:,} MiB",
            write_seconds(round(item.billed_ms / 1000, 3)),
            *(f"{item.usd[kind] * _MILLION:,.2f}" for kind in PRICES.gb_second),
            "" if item.fits else "too small",
        )
    print_table(table)
    click.echo(_source(calls), err=True)


def _source(calls: Sequence[Sequence[Run]]) -> str:
    """What the figures come from."""
    runs = sum(map(len, calls))
    led_to = f", which led to {count(runs, 'run')}" if runs > len(calls) else ""
    used = max(run.memory_bytes or 0 for call in calls for run in call)
    return (
        f"from {count(len(calls), 'call')} on this machine{led_to}, with at most"
        f" {write_size(used)} of memory; prices of {PRICES_OF} in us-east-1, of time, requests and"
        " a bucket; results that are stored cost no run"
    )


async def _measured(
    settings: Settings, name: str, pairs: Sequence[tuple[str, str]], *, rerun: bool
) -> list[list[Run]]:
    """The runs of calls that there are records of; if there are none, those of one made now."""
    parts = assemble(settings)
    engine = parts.engine
    try:
        udf = engine.registry.find(name)
        call = engine.call(udf, pairs, ANONYMOUS) if pairs else None
        arguments = None if call is None else call.arguments
        known = calls_among(engine.runs.all(), udf.name, arguments)
        if known and not rerun:
            return known
        call = call or engine.call(udf, (), ANONYMOUS)
        await parts.start()
        made = (await engine.result(udf, call, rerun=True)).result.run
        again = calls_among(engine.runs.all(), udf.name, call.arguments)
        return [found for found in again if found[0].id == made]
    finally:
        await parts.close()
