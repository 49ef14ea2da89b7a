"""Processes a benchmark starts, and stops again whatever happens."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"


class UnavailableError(Exception):
    """A peer that cannot be measured here; the message is the reason shown in the table."""


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends, then stop it and all its children."""
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield child
        except UnavailableError as exc:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
            raise UnavailableError(f"{exc}: {lines[-1] if lines else 'it said nothing'}") from exc
        finally:
            stop(child)


def stop(child: subprocess.Popen[bytes], *, grace_s: float = 5) -> None:
    """Ask a process and its descendants to end; kill what has not after `grace_s`."""
    try:
        family = psutil.Process(child.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    child.terminate()
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for process in psutil.wait_procs(family, timeout=1)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def wait_for(child: subprocess.Popen[bytes], url: str, *, timeout_s: float = 60) -> None:
    """Wait until a URL answers with anything below 500."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise UnavailableError(f"ended with exit code {child.returncode}")
        try:
            if httpx.get(url, timeout=5).status_code < 500:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise UnavailableError(f"did not answer within {timeout_s:.0f} s")


def wait_for_port(child: subprocess.Popen[bytes], port: int, *, timeout_s: float = 20) -> None:
    """Wait until somebody listens on a port."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise UnavailableError(f"ended with exit code {child.returncode}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.02)
    raise UnavailableError(f"nobody listens on port {port} after {timeout_s:.0f} s")
