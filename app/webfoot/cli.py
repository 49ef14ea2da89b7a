"""The command line: `webfoot serve`, `run`, `list`, `check`, `new`.

Exit codes: 0 done; 1 the UDF, or a file, is at fault; 2 the command is.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import json
import keyword
import socket
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

import webfoot
from webfoot.assembly import assemble, load_folder
from webfoot.errors import Error, InvalidParameters, SettingsError, UdfNotFound
from webfoot.quantities import write_seconds, write_size
from webfoot.settings import Settings
from webfoot.views import MEDIA_TYPES, TEXTS, View, read_view

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from webfoot.assembly import Parts
    from webfoot.registry import Registry
    from webfoot.results import Result

_ROWS_SHOWN = 40
_PIECE = 1 << 20
# A UDF that runs goes on this long after Ctrl-C: its reader may yet get the answer.
_STOPPING_S = 3
# A file or a pipe has no width of its own, and cut values are worth nothing there.
_WIDTH_OF_A_FILE = 10_000
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


def main() -> None:
    """Run the command line; an error is one sentence, not a traceback."""
    try:
        commands(prog_name="webfoot")
    except Error as error:
        if isinstance(error, UdfNotFound | InvalidParameters):
            _fail(error.detail, 2)
        if error.traceback:
            click.echo(error.traceback, err=True)
        _fail(error.detail, 1)
    except (SettingsError, OSError) as error:
        _fail(str(error), 2)


def _fail(message: str, code: int) -> None:
    click.secho(message, fg="red", err=True)
    sys.exit(code)


def _settings(**given: Any) -> Settings:
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


def _with_folder(settings: Settings) -> Settings:
    if not settings.folder.exists():
        raise click.UsageError(
            f"there is no folder {settings.folder}/; name another, or begin one with"
            " `webfoot new NAME`"
        )
    return settings


_FOLDER = click.argument("folder", required=False, type=click.Path(path_type=Path))
_FOLDER_OPTION = click.option("--folder", type=click.Path(path_type=Path), help="Default: udfs.")
_STORE = click.option("--store", help="Where results are kept.")
_RUNNER = click.option(
    "--runner", help="`processes`, or `inline` to debug a UDF with a breakpoint."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(webfoot.__version__)
def commands() -> None:
    """Webfoot turns a Python function into a table that anything can query by URL."""


@commands.command()
@_FOLDER
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--reload", is_flag=True, default=None, help="Saved files go live at once.")
@click.option("--debug", is_flag=True, default=None, help="Errors show the author's traceback.")
@_STORE
@_RUNNER
@click.option("--workers", help="How many UDFs run at once.  [default: one per core]")
@click.option("--queue", help="How many calls may wait.  [default: 256]")
@click.option("--timeout", help="How long a run may take.  [default: 2m]")
@click.option("--memory", help="How much memory a run may use.  [default: 2GB]")
@click.option("--cache", help="How long a result is fresh.  [default: 10m]")
@click.option("--store-size", help="How large the store may grow.  [default: 10GB]")
@click.option("--access-log/--no-access-log", default=True, help="A line per request.")
def serve(host: str, port: int, access_log: bool, **options: Any) -> None:
    """Serve the UDFs of FOLDER (default: udfs) by URL."""
    import uvicorn  # noqa: PLC0415  # 70 ms that the other commands do not need
    from uvicorn.config import LOGGING_CONFIG  # noqa: PLC0415  # likewise

    from webfoot.server import create_app  # noqa: PLC0415  # likewise: FastAPI

    if options["reload"] and options["debug"] is None:
        options["debug"] = True
    settings = _with_folder(_settings(**options))
    with contextlib.closing(_listen(host, port)) as listening:
        app = create_app(settings)
        registry = app.engine.registry
        address = _address(host, listening.getsockname()[1])
        click.echo(
            f"Webfoot serves {_count(len(registry), 'UDF')} of {settings.folder}/ on {address}"
        )
        _show_problems(registry)
        for udf in list(registry.values())[:1]:
            click.echo(f"Try in DuckDB: FROM '{address}/udfs/{udf.name}.parquet';")
        loggers = {**LOGGING_CONFIG["loggers"], "webfoot": LOGGING_CONFIG["loggers"]["uvicorn"]}
        config = uvicorn.Config(
            app,
            log_config={**LOGGING_CONFIG, "loggers": loggers},
            # DuckDB and proxies keep connections; five seconds would close them between queries.
            timeout_keep_alive=75,
            access_log=access_log,
            log_level="info" if access_log else "warning",
            timeout_graceful_shutdown=_STOPPING_S,
        )
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _address(host: str, port: int) -> str:
    if host == "127.0.0.1":
        return f"http://localhost:{port}"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything else starts, so that a port in use costs no time and says so."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # Now, not when the server has started: two may bind a port that nobody listens on.
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise click.UsageError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port or"
            " --host"
        ) from error
    listening.set_inheritable(True)
    return listening


@commands.command()
@click.argument("name")
@click.argument("parameters", nargs=-1, metavar="[KEY=VALUE]...")
@_FOLDER_OPTION
@click.option("--format", "extension", type=click.Choice(list(MEDIA_TYPES)), help="Print as this.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file.")
@click.option("--rerun", is_flag=True, help="Run even if a fresh result is stored.")
@_STORE
@_RUNNER
def run(
    name: str,
    parameters: Sequence[str],
    extension: str | None,
    output: Path | None,
    rerun: bool,
    **options: Any,
) -> None:
    """Call the UDF NAME and show its table, or write it with --format or --output."""
    pairs = [_pair(text) for text in parameters]
    extension = extension or (_extension_of(output) if output else None)
    if output is None and extension is not None and extension not in TEXTS and sys.stdout.isatty():
        raise click.UsageError(f"{extension} is not for a terminal; add --output FILE")
    if output is not None and not output.parent.is_dir():
        raise click.UsageError(f"there is no folder {output.parent} to write {output.name} to")
    settings = _with_folder(_settings(workers=1, **options))
    asyncio.run(_run(settings, name, pairs, extension, output, rerun))


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"parameters are written key=value, got {text!r}")
    return key, value


def _extension_of(output: Path) -> str:
    extension = output.suffix.removeprefix(".")
    if extension not in MEDIA_TYPES:
        raise click.UsageError(
            f"{output} has no ending that names a format; use one of {', '.join(MEDIA_TYPES)},"
            " or --format"
        )
    return extension


async def _run(
    settings: Settings,
    name: str,
    pairs: list[tuple[str, str]],
    extension: str | None,
    output: Path | None,
    rerun: bool,
) -> None:
    parts = assemble(settings)
    console = Console(stderr=True)
    own = [pair for pair in pairs if pair[0].startswith("_")]
    try:
        udf = parts.engine.registry.find(name)
        call = parts.engine.call(udf, [pair for pair in pairs if pair not in own])
        view = read_view(extension or "ndjson", own)
        # A breakpoint needs the terminal for itself.
        quiet = settings.runner == "inline" or not console.is_terminal
        with contextlib.nullcontext() if quiet else console.status(f"{name} runs…"):
            answer = await parts.engine.result(udf, call, rerun=rerun)
            wanted = _for_terminal(view) if extension is None else view
            shown = (await parts.engine.view(udf, answer.result, wanted)).result
        pieces = await _pieces(parts, shown)
        if extension is None:
            _show_rows(answer.result, [json.loads(line) for line in b"".join(pieces).splitlines()])
        elif output is None:
            sys.stdout.buffer.writelines(pieces)
            sys.stdout.buffer.flush()
        else:
            _write(pieces, output)
        _show_summary(console, answer.result, answer.ran, output)
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


async def _pieces(parts: Parts, shown: Result) -> Iterator[bytes]:
    blob = await parts.store.open(shown)
    if blob is None:
        raise Error("the result was evicted while it was read; run it again")

    def pieces() -> Iterator[bytes]:
        with contextlib.closing(blob):
            for start in range(0, blob.size, _PIECE):
                yield blob.read(start, _PIECE)

    return pieces()


def _write(pieces: Iterator[bytes], output: Path) -> None:
    """Write beside, then rename: whoever reads the file never sees half of it."""
    draft = output.with_name(f".{output.name}.tmp")
    try:
        with draft.open("wb") as file:
            file.writelines(pieces)
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)


def _show_rows(result: Result, rows: list[dict[str, Any]]) -> None:
    table = Table(show_lines=False)
    types = {column.name: column.type for column in result.columns}
    names = list(rows[0]) if rows else list(types)
    for name in names:
        number = types.get(name, "").startswith(("int", "uint", "float", "double", "decimal"))
        header = Text.assemble(name, "\n", (types.get(name, ""), "dim"))
        table.add_column(header, justify="right" if number else "left", overflow="ellipsis")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in names))
    _print(table)
    if len(rows) == _ROWS_SHOWN < result.rows:
        click.echo(
            f"{_ROWS_SHOWN} rows shown; _limit=N shows others, --output FILE keeps all", err=True
        )


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    console.print(table)


def _cell(value: Any) -> Text:
    if value is None:
        return Text("null", style="dim")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Data must not steer the terminal.
    return Text("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text))


def _show_summary(console: Console, result: Result, ran: bool, output: Path | None) -> None:
    how = f"ran in {write_seconds(round(result.seconds, 3))}" if ran else "stored earlier"
    where = f", written to {output}" if output else ""
    console.print(
        f"{_count(result.rows, 'row')}, {write_size(result.size)} of Parquet, {how},"
        f" run {result.run}{where}",
        style="dim",
        highlight=False,
    )


@commands.command("list")
@_FOLDER
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def list_udfs(folder: Path | None, as_json: bool) -> None:
    """List the UDFs of FOLDER (default: udfs)."""
    registry = load_folder(_with_folder(_settings(folder=folder)))
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
        _print(table)
    elif not registry.problems:
        click.echo("there is no UDF yet; begin one with `webfoot new NAME`")
    _show_problems(registry)


@commands.command()
@_FOLDER
def check(folder: Path | None) -> None:
    """Load every file of FOLDER (default: udfs) and fail if one is not served."""
    registry = load_folder(_with_folder(_settings(folder=folder)))
    _show_problems(registry)
    if registry.problems:
        sys.exit(1)
    click.echo(f"{_count(len(registry), 'UDF')}, no problems")


def _show_problems(registry: Registry) -> None:
    for problem in registry.problems:
        click.secho(f"{problem.file}: {problem.message}", fg="red", err=True)
        if problem.traceback:
            click.echo(problem.traceback, err=True)


@commands.command()
@click.argument("name")
@_FOLDER_OPTION
def new(name: str, folder: Path | None) -> None:
    """Write a UDF called NAME that runs, to start from."""
    if not name.isidentifier() or name.startswith("_"):
        raise click.UsageError(
            f"a UDF's name is a Python name that does not begin with '_', got {name!r}"
        )
    if keyword.iskeyword(name) or name in dir(builtins) or name in _TEMPLATE_NAMES:
        raise click.UsageError(f"{name} means something else in Python; choose another name")
    settings = _settings(folder=folder)
    path = settings.folder / f"{name}.py"
    if path.exists():
        raise click.UsageError(f"{path} exists; choose another name")
    settings.folder.mkdir(parents=True, exist_ok=True)
    text = _TEMPLATE.format(name=name, title=name.replace("_", " ").capitalize())
    path.write_text(text, encoding="utf-8")
    where = "" if folder is None else f"--folder {folder} "
    click.echo(f"{path} is written; try: webfoot run {where}{name} rows=3")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
