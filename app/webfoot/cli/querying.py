"""`webfoot query`: SQL in the terminal, over the UDFs of a folder or of a server."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from rich.console import Console

from webfoot.access.opening import open_access
from webfoot.cli.display import count, show_problems, show_rows
from webfoot.cli.options import FOLDER_OPTION, RUNNER, STORE, settings_of, with_folder
from webfoot.cli.output import beside, check_target, extension_of
from webfoot.cli.serving import listen
from webfoot.errors import Error, QueryFailed
from webfoot.quantities import write_seconds
from webfoot.querying.attached import FORMATS, Catalog, Rows
from webfoot.settings import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from webfoot.runs import Runs
    from webfoot.settings import Settings

_ROWS_SHOWN = 40
_FILE_FORMATS = (*FORMATS, "markdown")
_FORMATS = ("table", *_FILE_FORMATS)
_HOST = "127.0.0.1"
_LOOK_AGAIN_S = 0.005


@dataclass(frozen=True)
class _Source:
    """Whose UDFs are asked.

    Args:
        base_url: The server's address.
        token: What it is shown; None for nothing.
        runs: The records of its runs, if it is in this process.
    """

    base_url: str
    token: str | None = None
    runs: Runs | None = None


@dataclass(frozen=True)
class _Wanted:
    """What is asked, and in which form.

    Args:
        sql: The query.
        extension: One of `_FORMATS`.
        output: The file it goes to; None for the standard output.
        limit: Most rows; None for all, or as many as a terminal shows.
    """

    sql: str
    extension: str
    output: Path | None
    limit: int | None


@click.command()
@click.argument("sql")
@FOLDER_OPTION
@click.option("--url", help="A server whose UDFs to ask, instead of a folder's.")
@click.option(
    "--token", envvar=TOKEN_VARIABLE, show_envvar=True, help="A key that this server is shown."
)
@click.option("--format", "extension", type=click.Choice(_FORMATS), help="Print as this.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file.")
@click.option("--limit", type=click.IntRange(0), help="At most this many rows.")
@STORE
@RUNNER
def query(
    sql: str,
    url: str | None,
    token: str | None,
    extension: str | None,
    output: Path | None,
    limit: int | None,
    **options: Any,
) -> None:
    """Ask SQL of the UDFs, each of which is a table function; `-` reads it from standard input."""
    if extension is None:
        extension = extension_of(output, _FILE_FORMATS) if output else "table"
    check_target(output, extension, is_text=extension != "parquet")
    text = sys.stdin.read() if sql == "-" else sql
    wanted = _Wanted(text, extension, output, limit)
    with _source(url, token, options) as source:
        try:
            _ask(source, wanted)
        except QueryFailed as failure:
            raise _explain(failure, source) from failure


def _source(
    url: str | None, token: str | None, options: Mapping[str, Any]
) -> AbstractContextManager[_Source]:
    if url is None:
        return _serving(with_folder(settings_of(**options)))
    if options["folder"] is not None:
        raise click.UsageError("--url asks a server and --folder a folder; give one of them")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.UsageError(f"--url is written like https://host/prefix, got {url!r}")
    return contextlib.nullcontext(_Source(url.rstrip("/"), token))


@contextlib.contextmanager
def _serving(settings: Settings) -> Iterator[_Source]:
    """Serve a folder to this process, for as long as the block takes."""
    import uvicorn  # noqa: PLC0415  # 70 ms that the other commands do not need

    from webfoot.server import create_app  # noqa: PLC0415  # likewise: FastAPI

    # What fails is told by the command itself.
    logging.getLogger("webfoot").addHandler(logging.NullHandler())
    with contextlib.closing(listen(_HOST, 0)) as listening:
        own = replace(settings, base_url="", duckdb_errors=True, reload=False)
        app = create_app(own, open_access(), resume_jobs=False)
        show_problems(app.engine.registry)
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, log_level="critical", timeout_graceful_shutdown=0)
        )
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while thread.is_alive() and not server.started:
                time.sleep(_LOOK_AGAIN_S)
            address = f"http://{_HOST}:{listening.getsockname()[1]}"
            yield _Source(address, runs=app.engine.runs)
        finally:
            server.should_exit = True
            thread.join()


def _ask(source: _Source, wanted: _Wanted) -> None:
    """Ask, write or show the rows, and say what it took."""
    console = Console(stderr=True)
    began = time.monotonic()
    waits = console.is_terminal
    # Over when the rows are there: what turns must not be in the way of what is printed.
    with console.status("the UDFs run…") if waits else contextlib.nullcontext():
        answer = _answer(source, wanted)
    seconds = time.monotonic() - began
    if isinstance(answer, Rows):
        _show(answer, wanted)
        number, more = len(answer.rows), not answer.complete and wanted.limit is None
    else:
        number, more = answer, False
    written = f", written to {wanted.output}" if wanted.output else ""
    took = write_seconds(round(seconds, 3))
    console.print(
        f"{count(number, 'row')} in {took}{written}", style="dim", highlight=False, soft_wrap=True
    )
    if more:
        click.echo(
            f"{_ROWS_SHOWN} rows shown; --limit N shows more, --output FILE keeps all", err=True
        )


def _answer(source: _Source, wanted: _Wanted) -> Rows | int:
    """The rows to show, or the number of those that were written."""
    with Catalog(source.base_url, source.token) as catalog:
        if wanted.extension == "table":
            most = _ROWS_SHOWN if wanted.limit is None else wanted.limit
            return catalog.rows(wanted.sql, most)
        if wanted.extension == "markdown":
            return catalog.rows(wanted.sql, wanted.limit)
        if wanted.output is not None:
            with beside(wanted.output) as draft:
                return catalog.write(wanted.sql, draft, wanted.extension, wanted.limit)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows"
            number = catalog.write(wanted.sql, path, wanted.extension, wanted.limit)
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return number


def _show(answer: Rows, wanted: _Wanted) -> None:
    if wanted.extension == "table":
        if answer.columns:
            show_rows(answer.columns, answer.rows)
        return
    text = _markdown(answer)
    if wanted.output is None:
        click.echo(text, nl=False)
    else:
        with beside(wanted.output) as draft:
            draft.write_text(text, encoding="utf-8")


def _markdown(answer: Rows) -> str:
    def line(cells: Sequence[str | None]) -> str:
        texts = ("" if cell is None else " ".join(cell.split()) for cell in cells)
        return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |\n"

    head = line([name for name, _ in answer.columns]) + line(["---"] * len(answer.columns))
    return head + "".join(map(line, answer.rows))


def _explain(failure: QueryFailed, source: _Source) -> Error:
    """The failure with what is known of the run, if it was one in this process."""
    record = source.runs.find(failure.run) if source.runs and failure.run else None
    if record is not None and record.problem:
        log = source.runs.log(record.id) if source.runs else ""
        if log:
            click.echo(log, err=True)
        error = Error.from_problem(record.problem)
        error.detail = failure.detail
        return error
    return failure
