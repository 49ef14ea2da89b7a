"""Datasets: read by name, wherever they are; where that is, nobody is told."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
import time
from typing import TYPE_CHECKING

import duckdb
import pytest
from tests.s3_server import KEYS, moto_server

from webfoot.datasets import Dataset
from webfoot.errors import DatasetUnavailable
from webfoot.querying import lake
from webfoot.querying.calls import CallFiles
from webfoot.querying.sandbox import lock, open_instance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    (folder / "taxi/day=1").mkdir(parents=True)
    (folder / "taxi/day=2").mkdir()
    for day in (1, 2):
        duckdb.sql(f"SELECT {day}0 AS fare").write_parquet(f"{folder}/taxi/day={day}/a.parquet")
    (folder / "rates.csv").write_text("code,rate\na,1.5\nb,2.5\n")
    (folder / "many.csv.gz").write_bytes(b"")
    (folder / "items.ndjson").write_text('{"a": 1}\n{"a": 2}\n')
    (folder / "broken.csv").write_text("n\n" + "1\n" * 30_000 + "x\n")
    return folder


@contextlib.contextmanager
def reading(*datasets: Dataset) -> Iterator[duckdb.DuckDBPyConnection]:
    def find(*_: object) -> Path:
        raise AssertionError("no call is made")

    with contextlib.closing(open_instance(10**9)) as con:
        lock(con, CallFiles(find, time.monotonic() + 20), datasets)
        for dataset in datasets:
            lake.make_view(con, dataset.name, dataset)
        yield con


def rows(dataset: Dataset, sql: str) -> list[tuple[object, ...]]:
    with reading(dataset) as con:
        return con.execute(sql).fetchall()


@pytest.mark.parametrize("location", ["taxi/", "taxi/*/*.parquet", "taxi/**/a.parquet"])
def test_folders_and_patterns_are_one_table(folder: Path, location: str) -> None:
    taxi = Dataset("taxi", f"{folder}/{location}")
    assert rows(taxi, "SELECT day, fare FROM taxi ORDER BY day") == [(1, 10), (2, 20)]


def test_formats_go_by_the_ending(folder: Path) -> None:
    assert rows(Dataset("rates", f"{folder}/rates.csv"), "FROM lake.rates") == [
        *(("a", 1.5), ("b", 2.5))
    ]
    assert rows(Dataset("items", f"{folder}/items.ndjson"), "FROM items") == [(1,), (2,)]


def test_a_file_on_the_web_is_read_and_nothing_beside_it(folder: Path) -> None:
    handler = functools.partial(_Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            base = f"http://127.0.0.1:{server.server_port}"
            rates = Dataset("rates", f"{base}/rates.csv")
            with reading(rates) as con:
                assert con.execute("SELECT sum(rate) FROM rates").fetchall() == [(4.0,)]
                for sql in (
                    f"FROM '{base}/items.ndjson'",
                    f"FROM '{base}/rates.csv?a=b'",
                    f"FROM '{base}/rates.csv/../items.ndjson'",
                    f"FROM read_text('{folder}/rates.csv')",
                ):
                    with pytest.raises(duckdb.PermissionException):
                        con.execute(sql)
        finally:
            server.shutdown()


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def test_a_bucket_is_read_with_the_server_s_credentials_which_nobody_sees(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with moto_server() as server:
        place = server.make_place()
        for day in (1, 2):
            key, path = f"taxi/day={day}/a.parquet", f"{folder}/taxi/day={day}/a.parquet"
            server.client.upload_file(path, place.bucket, key)
        server.client.put_object(Bucket=place.bucket, Key="private/a.csv", Body=b"a\n1\n")
        for name, value in {**KEYS, "AWS_ENDPOINT_URL_S3": server.endpoint}.items():
            monkeypatch.setenv(name, value)
        taxi = Dataset("taxi", f"s3://{place.bucket}/taxi/")
        with reading(taxi) as con:
            assert con.execute("SELECT sum(fare), count(day) FROM taxi").fetchall() == [(30, 2)]
            for sql in (
                f"FROM 's3://{place.bucket}/private/a.csv'",
                f"FROM glob('s3://{place.bucket}/*')",
                f"FROM '{server.endpoint}/{place.bucket}/private/a.csv'",
            ):
                with pytest.raises(duckdb.PermissionException):
                    con.execute(sql)
            # What the gate refuses to show is not the key's secret either.
            told = str(con.execute("FROM duckdb_secrets()").fetchall())
            assert KEYS["AWS_SECRET_ACCESS_KEY"] not in told
        gone = Dataset("gone", f"s3://{place.bucket}/gone/")
        with pytest.raises(DatasetUnavailable, match=r"^the dataset gone cannot be read now$"):
            rows(gone, "FROM gone")


def test_messages_say_a_dataset_s_name_and_not_its_place(folder: Path) -> None:
    broken = Dataset("broken", f"{folder}/broken.csv")
    with pytest.raises(duckdb.Error) as caught:
        rows(broken, "SELECT sum(n) FROM broken")
    assert str(folder) in str(caught.value)
    told = lake.without_places(str(caught.value), [broken])
    assert str(folder) not in told
    assert "broken" in told
    remote = "HTTP 403 on 'https://bucket.s3.amazonaws.com/a/b.parquet', s3://bucket/a"
    assert lake.without_places(remote, []) == "HTTP 403 on '…', …"


def test_a_plan_does_not_show_a_dataset_s_place(folder: Path) -> None:
    taxi = Dataset("taxi", f"{folder}/taxi/")
    for sql in ("EXPLAIN FROM taxi WHERE day = 1", "DESCRIBE taxi", "SUMMARIZE taxi"):
        assert str(folder) not in str(rows(taxi, sql))
    with reading(taxi) as con, pytest.raises(duckdb.BinderException):
        con.execute("SELECT filename FROM taxi")
