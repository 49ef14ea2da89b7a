"""Webfoot and its peers, each a context manager that starts it, tells where it is, and stops it."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from bench.processes import (
    HOST,
    ROOT,
    UnavailableError,
    free_port,
    running,
    wait_for,
    wait_for_port,
)
from bench.udfs._data import readings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

VENV = ROOT / ".webfoot" / "bench-venv"
"""Where the peers' packages go: an environment of their own, made when first needed."""
UDFS = ROOT / "bench" / "udfs"
ROW_GROUP_ROWS = 122_880

NGINX = """
daemon off;
user {user};
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 75;
    keepalive_requests 1000000;
    types {{ application/vnd.apache.parquet parquet; }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen {host}:{port}; root {files}; }}
}}
"""


@dataclass(frozen=True)
class Peer:
    """A running server.

    Attributes:
        url: Its base URL, without a slash at the end.
        pid: The process that was started; what it started in turn are its children.
    """

    url: str
    pid: int


def write_readings(path: Path, rows: int) -> None:
    """Write readings in the layout Webfoot uses."""
    pq.write_table(readings(rows), path, compression="zstd", row_group_size=ROW_GROUP_ROWS)


def webfoot_command() -> list[str]:
    """What runs Webfoot; `BENCH_WEBFOOT` names another, such as that of an earlier version."""
    command = shlex.split(os.environ.get("BENCH_WEBFOOT", ""))
    program = Path(sys.executable).with_name("webfoot")
    if not command and not program.exists():
        raise UnavailableError("the webfoot command is not installed in this environment")
    return command or [str(program)]


@contextlib.contextmanager
def webfoot(
    store: Path | None = None,
    *,
    env: Mapping[str, str] | None = None,
    workers: int = 2,
    access_log: bool = False,
) -> Iterator[Peer]:
    """Run `webfoot serve` on the benchmarks' UDFs, with a store of its own.

    Without a line for each request, as its peers: none of them writes one.
    """
    command, port = webfoot_command(), free_port()
    with tempfile.TemporaryDirectory(prefix="bench-store-") as folder:
        command += ["serve", str(UDFS), "--host", HOST, "--port", str(port)]
        command += ["--store", str(store or folder), "--workers", str(workers)]
        command += ["--access-log" if access_log else "--no-access-log"]
        with running(command, env=env) as child:
            wait_for(child, f"http://{HOST}:{port}/readyz")
            yield Peer(f"http://{HOST}:{port}", child.pid)


@contextlib.contextmanager
def serving(
    app: str,
    *,
    env: Mapping[str, str] | None = None,
    log: Sequence[str] = ("--log-level", "error", "--no-access-log"),
) -> Iterator[Peer]:
    """Run an app factory under uvicorn, with the settings that make it fastest.

    What it logs is uvicorn's to say if `log` is empty.
    """
    port = free_port()
    command = [
        *(sys.executable, "-m", "uvicorn", "--factory", app),
        *("--host", HOST, "--port", str(port), "--timeout-keep-alive", "75"),
        *log,
    ]
    with running(command, env=env) as child:
        wait_for(child, f"http://{HOST}:{port}/")
        yield Peer(f"http://{HOST}:{port}", child.pid)


@contextlib.contextmanager
def webfoot_in_uvicorn() -> Iterator[Peer]:
    """Run the same under uvicorn alone, which writes a line for each request."""
    app = "webfoot.server.application:create_app"
    with tempfile.TemporaryDirectory(prefix="bench-store-") as folder:
        env = {"WEBFOOT_FOLDER": str(UDFS), "WEBFOOT_STORE": folder, "WEBFOOT_WORKERS": "2"}
        with serving(app, env=env, log=()) as peer:
            yield peer


@contextlib.contextmanager
def naive(*, env: Mapping[str, str] | None = None) -> Iterator[Peer]:
    """Run the benchmarks' UDFs as plain FastAPI routes: each GET computes."""
    with serving("bench.naive:app", env={"BENCH_RUNS": os.devnull, **(env or {})}) as peer:
        yield peer


@contextlib.contextmanager
def starlette(file: Path) -> Iterator[Peer]:
    """Serve one file's bytes from memory by a bare Starlette route."""
    with serving("bench.apps:bare", env={"BENCH_FILE": str(file)}) as peer:
        yield peer


@contextlib.contextmanager
def nginx(files: Path) -> Iterator[Peer]:
    """Serve a folder with nginx as a static file server: sendfile, keep-alive, one worker."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if not program:
        raise UnavailableError("nginx is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-nginx-") as folder:
        config = Path(folder, "nginx.conf")
        config.write_text(
            NGINX.format(user=getpass.getuser(), folder=folder, host=HOST, port=port, files=files)
        )
        with running([program, "-e", "stderr", "-p", folder, "-c", config]) as child:
            wait_for_port(child, port)
            yield Peer(f"http://{HOST}:{port}", child.pid)


def installed(program: str, *packages: str, home: Path = VENV) -> Path:
    """A program of a peers' environment; its packages are installed when it is missing."""
    path = home / "bin" / program
    if path.exists():
        return path
    if not (home / "bin" / "pip").exists():
        venv.create(home, with_pip=True)
    command: list[str | Path] = [home / "bin" / "pip", "install", "--quiet", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not path.exists():
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UnavailableError(f"pip could not install {packages[0]}: {reason}")
    return path


@contextlib.contextmanager
def roapi(file: Path) -> Iterator[Peer]:
    """Serve one Parquet file as the table `readings` by ROAPI, which queries it each time."""
    program = installed("roapi", "roapi")
    port, postgres, flight = free_port(), free_port(), free_port()
    command: list[str | Path] = [
        *(program, "--addr-http", f"{HOST}:{port}", "--addr-postgres", f"{HOST}:{postgres}"),
        *("--addr-flight-sql", f"{HOST}:{flight}", "--table", f"readings={file}"),
    ]
    with running(command) as child:
        wait_for(child, f"http://{HOST}:{port}/api/schema")
        yield Peer(f"http://{HOST}:{port}", child.pid)


@contextlib.contextmanager
def fused(*, env: Mapping[str, str], cache: str = "0s") -> Iterator[Peer]:
    """Serve `fused_counted.py` by Fused on this machine (`fused code serve`).

    Args:
        env: What the served code reads from the environment.
        cache: How long Fused keeps a result; its own default is not at all.
    """
    program = installed("fused", "fused==2.9.3b13", "botocore")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-fused-") as home:
        env = {**env, "HOME": home}
        create = [program, "env", "create", "bench", "--backend", "local"]
        done = subprocess.run(
            create, env={**os.environ, **env}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UnavailableError(f"fused env create: {done.stderr.strip().splitlines()[-1]}")
        command: list[str | Path] = [
            *(program, "--env", "bench", "code", "serve", ROOT / "bench" / "fused_counted.py"),
            *("--name", "counted.parquet", "--host", HOST, "--port", str(port)),
            *("--cache-max-age", cache),
        ]
        with running(command, env=env) as child:
            wait_for(child, f"http://{HOST}:{port}/health")
            # The first request makes an interpreter for the code, which is no part of a query.
            wait_for(child, f"http://{HOST}:{port}/counted.parquet?token=warm-up")
            yield Peer(f"http://{HOST}:{port}", child.pid)


def python_for(packages: Sequence[str]) -> Path:
    """The interpreter of an environment that has one peer, the first of `packages`.

    Args:
        packages: What to install when it is missing; the first, `NAME==VERSION`, comes with a
            program of that name. None: this very environment will do.
    """
    if not packages:
        return Path(sys.executable)
    name = packages[0].partition("==")[0]
    home = VENV.with_name(f"{VENV.name}-{name}")
    return installed(name, *packages, home=home).with_name("python")


@contextlib.contextmanager
def fanning_out(module: str, python: Path) -> Iterator[Peer]:
    """Run a module of `bench/fanout_peers` with an interpreter of its own."""
    port = free_port()
    # Theirs to fill; a short path, for Ray's sockets. What they leave running may still write.
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home:
        env = {
            "HOME": home,
            "TMPDIR": home,
            "PYTHONPATH": str(ROOT),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        command = [python, "-m", f"bench.fanout_peers.{module}", str(port)]
        with running(command, env=env) as child:
            wait_for(child, f"http://{HOST}:{port}/")
            yield Peer(f"http://{HOST}:{port}", child.pid)


FUNCTIONS: dict[str, tuple[Callable[[Mapping[str, str]], AbstractContextManager[Peer]], str]] = {
    "Webfoot": (lambda env: webfoot(env=env), "/udfs"),
    "naive FastAPI": (lambda env: naive(env=env), "/udfs"),
    "Fused": (lambda env: fused(env=env), ""),
    "Fused, cached": (lambda env: fused(env=env, cache="1h"), ""),
}
"""Servers that run functions: how to start each, and what stands before a function's name."""
