"""A real Prometheus of its own, which scrapes one server, for the tests that need one."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSTALLER = Path(__file__).parent / "deploy" / "install-prometheus"
_CONFIGURATION = Path(__file__).parents[1] / "deploy" / "prometheus" / "prometheus.yml"
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Prometheus:
    """One that runs.

    Args:
        http: Asks it.
    """

    http: httpx.Client

    def ask(self, what: str, **parameters: str) -> Any:
        """What its API answers.

        Raises:
            httpx.HTTPStatusError: If it refuses, an expression that makes no sense, say.
        """
        answer = self.http.get(f"/api/v1/{what}", params=parameters)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def values(self, expression: str, at: float | None = None) -> list[float]:
        """What an expression comes to.

        Args:
            expression: What to work out.
            at: When, in seconds since 1970; now, unless it is given.
        """
        when = {} if at is None else {"time": str(at)}
        found = self.ask("query", query=expression, **when)["result"]
        return [float(it["value"][1]) for it in found]


def promtool(*arguments: str | Path, told: str = "") -> str:
    """What promtool says to a command that it must not complain of.

    Args:
        arguments: The command.
        told: What it reads.
    """
    command = [_folder() / "promtool", *arguments]
    ran = subprocess.run(command, input=told, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@contextlib.contextmanager
def watch(url: str, key: str, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus with the configuration that operators are given, until the block ends.

    Args:
        url: The server that it scrapes, every second.
        key: What it shows there.
        folder: Where it may keep things.
    """
    configuration = yaml.safe_load(_CONFIGURATION.read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(_CONFIGURATION.with_name("rules.yml"))]
    [job] = configuration["scrape_configs"]
    job["static_configs"] = [{"targets": [urlsplit(url).netloc]}]
    (folder / "key").write_text(key)
    job["authorization"] = {"credentials_file": str(folder / "key")}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(_folder() / "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        (folder / "prometheus.txt").open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        try:
            _wait_until_ready(http)
            yield Prometheus(http)
        finally:
            process.terminate()
            process.wait(_PATIENCE_S)


def _wait_until_ready(http: httpx.Client) -> None:
    patient_until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < patient_until:
        with contextlib.suppress(httpx.TransportError):
            if http.get("/-/ready").is_success:
                return
        time.sleep(0.1)
    raise RuntimeError("Prometheus did not start")


def _folder() -> Path:
    """Where its programs are, installed if need be."""
    ran = subprocess.run([_INSTALLER], capture_output=True, text=True, check=True)
    return Path(ran.stdout.strip())
