"""The store in a bucket: leases, links, and what readers make of redirects.

moto honours conditions (If-None-Match, If-Match) and checks no signatures; rclone checks signatures,
refuses HEAD on what is signed for GET as Amazon does, and ignores conditions.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.s3_server import KEYS, moto_server, rclone_server
from tests.server_process import COUNT, Server, connect, serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.s3_server import S3Server


UDFS = """
import time
import numpy as np
import pyarrow as pa
from webfoot import udf
from ._counting import count

@udf(cache="1h")
def large(rows: int = 1_000_000):
    count("large")
    # Nothing that compresses: 16 bytes a row.
    made = np.random.default_rng(0)
    return pa.table({"n": np.arange(rows), "a": made.random(rows), "b": made.random(rows)})

@udf(cache="1h")
def small(n: int = 1):
    count("small")
    return [{"n": n}]

@udf(cache="1h")
def slow(seconds: float = 2):
    count("slow")
    time.sleep(seconds)
    return [{"seconds": seconds}]
"""


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("rclone") / "buckets"
    folder.mkdir()
    with rclone_server(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["moto", "rclone"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose store is in a bucket."""
    s3: S3Server = request.getfixturevalue(request.param)
    folder = write_udfs(tmp_path_factory.mktemp("served"), udfs=UDFS, _counting=COUNT)
    environment = {**os.environ, **s3.environment}
    with serve(folder, store=s3.make_place(), environment=environment) as running:
        yield running


# Readers.


def test_duckdb_reads_50_mb_by_redirects_in_one_run(server: Server) -> None:
    url = f"{server.url}/udfs/large.parquet?rows=3200000"
    query = f"SELECT count(*), sum(n), max(a) < 1 FROM '{url}'"
    for _ in range(2):
        with connect() as con:
            assert con.execute(query).fetchone() == (3_200_000, 3_200_000 * 3_199_999 // 2, True)
    assert server.executions("large") == 1
    with httpx.Client() as http:
        assert int(http.head(url).headers["content-length"]) > 50_000_000
    statuses = {status for method, status in server.requests("large") if method == "GET"}
    assert statuses == {307}
