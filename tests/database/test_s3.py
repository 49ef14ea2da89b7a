"""S3 by DuckDB: credentials from the environment, and new ones when they are rotated."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import duckdb
import pytest
from tests.s3_server import moto_server

import webfoot

if TYPE_CHECKING:
    from collections.abc import Iterator

RCLONE = Path(sys.executable).parent / "rclone"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with moto_server() as server:
        yield server.endpoint


def use(monkeypatch: pytest.MonkeyPatch, address: str, key: str, secret: str) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_S3": address,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)


def test_an_s3_path_is_read_and_runs_the_s3_step_only(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, address, "key", "hidden-secret")
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="bucket")
    with webfoot.session() as con:
        con.execute("SELECT 1")
        assert con.steps() == ()
        con.execute("COPY (SELECT 7 AS n) TO 's3://bucket/x.parquet'")
        assert con.execute("FROM read_parquet(?)", ["s3://bucket/*.parquet"]).fetchall() == [(7,)]
        assert con.read_parquet("s3://bucket/x.parquet").fetchall() == [(7,)]
        assert [(run.name, run.skipped) for run in con.steps()] == [("s3", None)]
        shown = con.execute("FROM duckdb_secrets()").fetchall()
    assert "webfoot_s3" in str(shown)
    assert "hidden-secret" not in str(shown)


def test_a_path_that_a_statement_computes_needs_to_be_required(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, address, "key", "secret")
    s3 = boto3.client("s3", endpoint_url=address)
    s3.create_bucket(Bucket="computed")
    s3.put_object(Bucket="computed", Key="x.csv", Body=b"n\n7\n")
    with webfoot.session() as con:
        con.require("s3").execute("SET VARIABLE place = 's3' || '://computed/x.csv'")
        assert con.execute("FROM read_csv(getvariable('place'))").fetchall() == [(7,)]


@contextlib.contextmanager
def rclone(folder: Path, port: int, key: str, secret: str) -> Iterator[None]:
    """An S3 server that checks signatures, as AWS does."""
    server = subprocess.Popen(
        [
            *(str(RCLONE), "serve", "s3", "--addr", f"127.0.0.1:{port}"),
            *("--auth-key", f"{key},{secret}", str(folder)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": str(folder.parent)},
    )
    try:
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert server.poll() is None
            assert time.monotonic() < until
        yield
    finally:
        server.terminate()
        server.wait()


def test_rotated_credentials_are_used_by_the_next_statement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Lambda rotates them: the old ones are refused, in an instance that has used them."""
    bucket = tmp_path / "root" / "bucket"
    bucket.mkdir(parents=True)
    (bucket / "x.csv").write_text("n\n7\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, query = f"http://127.0.0.1:{port}", "FROM 's3://bucket/x.csv'"
    with webfoot.session() as con:
        for key in ("first", "second"):
            with rclone(bucket.parent, port, key, f"{key}-secret"):
                use(monkeypatch, address, "other", "other-secret")
                with pytest.raises(duckdb.HTTPException, match="403"):
                    con.execute(query)
                use(monkeypatch, address, key, f"{key}-secret")
                assert con.execute(query).fetchall() == [(7,)]
        assert [run.name for run in con.steps()] == ["s3"] * 4
