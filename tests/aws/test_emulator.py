"""The same requests through Lambda's own runtime interface emulator, which AWS ships."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.aws.events import KINDS, Answered, Asked, answer_of, event_of
from tests.aws.runtime_api import variables
from tests.aws.test_golden import CASES, STATUS, UDFS, by_uvicorn, request_of, settled
from tests.aws.test_invocations import UDFS as HEAVY
from tests.server_process import serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
_NAMES = {"x86_64": "aws-lambda-rie-x86_64", "aarch64": "aws-lambda-rie-arm64"}
_INVOKE = "/2015-03-31/functions/function/invocations"


def emulator() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "webfoot" / "lambda" / _NAMES.get(platform.machine(), "none")
    if not path.exists():
        pytest.fail("there is no emulator; run tests/aws/install-emulator")
    return path


def free_ports() -> tuple[int, int]:
    """Two of them; both are held until both are picked, so that they differ."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@contextmanager
def emulated(folder: Path, udfs: Path, timeout_s: int) -> Iterator[httpx.Client]:
    """A function in the emulator; one request at a time, or it breaks."""
    folder.mkdir()
    front, runtime = free_ports()
    addresses = (
        f"--runtime-interface-emulator-address=127.0.0.1:{front}",
        f"--runtime-api-address=127.0.0.1:{runtime}",
    )
    handler = (sys.executable, "-m", "awslambdaric", "webfoot.aws.handler")
    given = variables(
        WEBFOOT_FOLDER=str(udfs), TMPDIR=str(folder), AWS_LAMBDA_FUNCTION_TIMEOUT=str(timeout_s)
    )
    with (
        (folder / "emulator.log").open("wb") as output,
        subprocess.Popen(
            [str(emulator()), *addresses, *handler],
            cwd=folder,
            env=given,
            stdout=output,
            stderr=output,
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{front}", timeout=60) as client,
    ):
        try:
            _wait_for(front)
            yield client
        finally:
            process.kill()


def _wait_for(port: int) -> None:
    patient_until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < patient_until
            time.sleep(0.02)
        else:
            return


def by_emulator(client: httpx.Client, kind: str, asked: Asked) -> Answered:
    response = client.post(_INVOKE, content=json.dumps(event_of(kind, asked)))
    assert response.status_code == 200, response.text
    return answer_of(response.json())


def test_the_emulator_gives_the_golden_answers(tmp_path: Path) -> None:
    udfs = write_udfs(tmp_path, some=UDFS)
    with serve(udfs) as server, emulated(tmp_path / "function", udfs, 30) as client:
        for name, kind in CASES:
            asked = request_of(name, kind)
            ours, theirs = by_emulator(client, kind, asked), by_uvicorn(server, kind, asked)
            assert theirs.status == STATUS.get(name, 200), name
            assert settled(ours) == settled(theirs), (name, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_emulator_never_has_to_end_a_call(tmp_path: Path, kind: str) -> None:
    udfs = write_udfs(tmp_path, some=HEAVY)
    # Its start counts: seconds, where other tests run beside this one.
    with emulated(tmp_path / "function", udfs, 12) as client:
        assert by_emulator(client, kind, Asked("GET", "/healthz")).status == 200
        late = by_emulator(client, kind, Asked("GET", "/udfs/sleeps.json?seconds=30"))
        large = by_emulator(client, kind, Asked("GET", "/udfs/noise.parquet?pieces=15000"))
        assert (late.status, large.status) == (504, 413)
