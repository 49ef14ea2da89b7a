"""`python -m webfoot.conformance URL`: check a Parquet URL on any server."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
import httpx
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from webfoot.conformance import CLIENTS, Finding, UnusableUrlError, check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from webfoot.conformance.exchanges import Outcome

STYLES: dict[Outcome, str] = {"pass": "green", "fail": "bold red", "warn": "yellow", "skip": "dim"}  # nosec B105  # a colour


class _NothingToCheckError(click.ClickException):
    exit_code = 2


@click.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable report.")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Send this too."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)
def main(url: str, headers: Sequence[str], timeout_s: float, *, as_json: bool) -> None:
    """Check that the Parquet file at URL suits DuckDB, Polars, fsspec and browsers.

    The file is downloaded about twelve times: take a small one. If pages of certain origins only
    may read it, name one: -H 'Origin: https://my.page'.

    Exits with 0 if every required check passes, 1 if one fails, 2 if there is nothing to check.
    """
    sent = {"User-Agent": "webfoot-conformance"} | dict(map(_header, headers))
    waiting = Console(stderr=True).status(f"Asking {url}")
    try:
        with httpx.Client(headers=sent, timeout=timeout_s) as client, waiting:
            findings = check(url, client)
    except UnusableUrlError as exc:
        raise _NothingToCheckError(str(exc)) from exc
    if as_json:
        click.echo(json.dumps(_report(url, findings), indent=2))
    else:
        _print(url, findings)
    if any(finding.outcome == "fail" for finding in findings):
        raise SystemExit(1)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (name and colon and text.isascii() and text.isprintable()):
        raise click.UsageError(f"{text!r} is no header: write 'NAME: VALUE'.")
    return name.strip(), value.strip()


def _report(url: str, findings: Sequence[Finding]) -> dict[str, object]:
    return {
        "url": url,
        "ok": not any(finding.outcome == "fail" for finding in findings),
        "clients": {client: not faults for client, faults in _faults(findings).items()},
        "findings": [asdict(finding) for finding in findings],
    }


def _faults(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """For each client, the checks that fail for it."""
    return {
        client: [one.name for one in findings if one.outcome == "fail" and client in one.clients]
        for client in CLIENTS
    }


def _print(url: str, findings: Sequence[Finding]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        # A log has no width of its own, and 80 columns would break every sentence in four.
        console.width = max(console.width, 140)
    table = Table(title=Text(url), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("", "check", "needed by", "what was seen, and the cure"):
        table.add_column(heading)
    for one in findings:
        everyone = one.clients == CLIENTS
        needed = ("" if one.required else "better for ") + (
            "everyone" if everyone else ", ".join(one.clients)
        )
        table.add_row(
            Text(one.outcome, STYLES[one.outcome]),
            Text(one.name, no_wrap=True),
            needed,
            Text(one.detail, overflow="fold"),
        )
    console.print(table)
    counts = Counter(finding.outcome for finding in findings)
    console.print(Text(", ".join(f"{counts[outcome]} {outcome}" for outcome in STYLES)))
    for client, faults in _faults(findings).items():
        said = f"unmet: {', '.join(faults)}" if faults else "suits"
        console.print(Text(f"  {client:<12} {said}", "red" if faults else "green"), soft_wrap=True)


if __name__ == "__main__":
    main()
