"""`webfoot serve`."""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import logging
import socket
import sys
from typing import TYPE_CHECKING, Any

import click

from webfoot.access.opening import access_of
from webfoot.cli.display import count, show_problems
from webfoot.cli.options import FOLDER, RUNNER, STORE, settings_of, with_folder

if TYPE_CHECKING:
    from webfoot.access.opening import Access
    from webfoot.registry import Registry
    from webfoot.settings import Settings

# A UDF that runs goes on this long after Ctrl-C: its reader may yet get the answer.
_STOPPING_S = 3
_OBJECTS_A_COLLECTION = 20_000
_log = logging.getLogger(__name__)


@click.command()
@FOLDER
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--reload", is_flag=True, default=None, help="Saved files go live at once.")
@click.option("--debug", is_flag=True, default=None, help="Errors show the author's traceback.")
@STORE
@RUNNER
@click.option("--workers", help="How many UDFs run at once.  [default: one per core]")
@click.option("--queue", help="How many calls may wait.  [default: 256]")
@click.option("--queue-wait", help="How long a call may have to wait.  [default: 2m]")
@click.option("--calls", help="How many calls a request may lead to.  [default: 100,000]")
@click.option("--depth", help="How deep UDFs may call UDFs.  [default: 16]")
@click.option("--timeout", help="How long a run may take.  [default: 2m]")
@click.option("--hold", help="How long a request waits before it becomes a job.  [default: 25s]")
@click.option("--job-timeout", help="How long a run of a job may take.  [default: 1h]")
@click.option("--memory", help="How much memory a run may use.  [default: 2GB]")
@click.option("--cache", help="How long a result is fresh.  [default: 10m]")
@click.option("--store-size", help="How large the store may grow.  [default: 10GB]")
@click.option("--drain", help="How long to answer after SIGTERM, unready.  [default: 5s]")
@click.option("--request-log", help="How large the records of requests grow.  [default: 100MB]")
@click.option("--log", help="text, json, or emf for CloudWatch.  [default: text]")
@click.option("--base-url", help="The server's address as its clients write it.")
@click.option("--trusted-proxies", help="Whose X-Forwarded- headers count.  [default: loopback]")
@click.option("--open/--no-open", default=None, help="Without keys, let in others, too.")
@click.option("--access", help="The folder of keys and links.  [default: `access` in the store]")
@click.option("--roles", help="A TOML file of roles, and of limits of UDFs.")
@click.option("--requests", help="How many requests are answered at once.  [default: 1,000]")
@click.option("--access-log/--no-access-log", default=True, help="A line per request.")
def serve(host: str, port: int, access_log: bool, **options: Any) -> None:
    """Serve the UDFs of FOLDER (default: udfs) by URL."""
    import uvicorn  # noqa: PLC0415  # 70 ms that the other commands do not need

    from webfoot.assembly import log_problems  # noqa: PLC0415  # likewise
    from webfoot.cli.connections import BoundedProtocol  # noqa: PLC0415  # likewise
    from webfoot.cli.draining import DrainingServer  # noqa: PLC0415  # likewise
    from webfoot.server import create_app  # noqa: PLC0415  # likewise: FastAPI
    from webfoot.server.access_log import AccessLog, unstyled  # noqa: PLC0415  # likewise

    if options["reload"] and options["debug"] is None:
        options["debug"] = True
    settings = with_folder(settings_of(**options))
    with contextlib.closing(listen(host, port)) as listening:
        access = access_of(settings)
        _refuse_open(listening, access, settings)
        app = create_app(settings, access)
        registry = app.engine.registry
        address = _address(host, listening.getsockname()[1])
        said = _greeting(address, access, registry, settings)
        # As JSON, the records of requests take its place.
        has_lines = access_log and settings.log == "text"
        style = click.style if sys.stdout.isatty() else unstyled
        config = uvicorn.Config(
            AccessLog(app, sys.stdout, style) if has_lines else app,
            log_config=_log_config(settings.log),
            http=BoundedProtocol,
            ws="none",
            # DuckDB and proxies keep connections; five seconds would close them between queries.
            timeout_keep_alive=75,
            # Who may say what a client asked for, and what of it, is ours to decide.
            proxy_headers=False,
            access_log=False,
            log_level="info" if access_log else "warning",
            timeout_graceful_shutdown=_STOPPING_S,
        )
        # Imports it, which a Ctrl-C soon after the greeting would else find half done.
        config.get_loop_factory()
        # What start-up has made stays: to look at it after every few hundred objects that requests
        # make took an eighth of the server's time in a large fan-out. A Ctrl-C would be lost while
        # it is looked at: who is to send one has not read anything yet.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_OBJECTS_A_COLLECTION)
        with contextlib.suppress(KeyboardInterrupt):
            if settings.log == "text":
                click.echo("\n".join(said))
                show_problems(registry)
            else:
                # `config` has set how the log is written.
                for line in said:
                    _log.info(line)
                log_problems(registry)
            # Whoever is held is answered, or sent on, within that time.
            finish_s = settings.hold + _STOPPING_S
            server = DrainingServer(config, app.health.drain, settings.drain, finish_s)
            server.run(sockets=[listening])


def _greeting(address: str, access: Access, registry: Registry, settings: Settings) -> list[str]:
    """What is said when a server starts: what it serves, and to whom."""
    asks = access.guard.asks()
    return [
        f"Webfoot serves {count(len(registry), 'UDF')} of {settings.folder}/ on {address}",
        "It asks everybody for a key (webfoot keys list)."
        if asks
        else "It is open: who reaches it may call everything, until you make a key"
        " (webfoot keys create).",
        *(f"Try in DuckDB: FROM '{address}/udfs/{name}.parquet';" for name in list(registry)[:1]),
    ]


def _refuse_open(listening: socket.socket, access: Access, settings: Settings) -> None:
    """Refuse to let in whoever reaches this machine, unless told to.

    Raises:
        click.UsageError: If that would be so.
    """
    host = listening.getsockname()[0]
    if settings.open or ipaddress.ip_address(host).is_loopback or access.guard.asks():
        return
    raise click.UsageError(
        f"on {host} others than this machine could call everything, as nobody has a key; make one"
        " (webfoot keys create --role analyst), or say --open (WEBFOOT_OPEN=true) if all of them"
        " may"
    )


def _log_config(kind: str) -> dict[str, Any]:
    """How uvicorn's log and ours is written."""
    from uvicorn.config import LOGGING_CONFIG  # noqa: PLC0415  # likewise

    from webfoot.server.logs import JsonFormatter, MaskingFilter  # noqa: PLC0415  # likewise

    handlers, loggers = LOGGING_CONFIG["handlers"], LOGGING_CONFIG["loggers"]
    config = {
        **LOGGING_CONFIG,
        "filters": {"masking": {"()": MaskingFilter}},
        "handlers": {name: {**told, "filters": ["masking"]} for name, told in handlers.items()},
        "loggers": {**loggers, "webfoot": loggers["uvicorn"]},
    }
    if kind != "text":
        config["formatters"] = {name: {"()": JsonFormatter} for name in ("access", "default")}
    return config


def _address(host: str, port: int) -> str:
    if host == "127.0.0.1":
        return f"http://localhost:{port}"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
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
