"""Stock DuckDB, a spreadsheet and the SDK at a server that asks for keys: in, or told why not."""

from __future__ import annotations

import contextlib
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import httpx
import pandas as pd
import polars as pl
import pytest
from tests.access.granting import bearer, give_key, give_link, revoke
from tests.server_process import COUNT, GATE, INLINE, connect, eventually, serve, write_udfs

from webfoot import Client, errors
from webfoot.access.keys import id_of
from webfoot.access.throttling import Limits, read_rate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server_process import Server

UDFS = """
from webfoot import udf

@udf
def numbers(n: int = 3, gate: str = ""):
    "Numbers."
    if gate:
        count(gate)
        wait_at(gate)
    return [{"n": i} for i in range(n)]

@udf
def covert(n: int = 3):
    return [{"n": n}]
"""


@dataclass(frozen=True)
class Closed:
    """A server that asks for keys."""

    server: Server
    place: Path
    key: str

    @property
    def url(self) -> str:
        return self.server.url


@contextlib.contextmanager
def closed_in(parent: Path, **environment: str) -> Iterator[Closed]:
    place = parent / "store/access"
    key = give_key(place, "analyst", udfs=("numbers",), formats=("parquet", "csv", "arrow"))
    folder = write_udfs(parent, tables=COUNT + GATE + UDFS)
    with serve(folder, *INLINE, environment={**os.environ, **environment}) as server:
        yield Closed(server, place, key)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    with closed_in(tmp_path_factory.mktemp("readers")) as running:
        yield running


@pytest.fixture(scope="module")
def closed_and_hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    """It sends who asks on to a job after a second."""
    with closed_in(tmp_path_factory.mktemp("hasty"), WEBFOOT_HOLD="1") as running:
        yield running


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def show_key(con: duckdb.DuckDBPyConnection, closed: Closed, key: str) -> None:
    con.execute(
        f"CREATE OR REPLACE SECRET webfoot (TYPE http, BEARER_TOKEN '{key}', SCOPE '{closed.url}/')"
    )


def message(con: duckdb.DuckDBPyConnection, sql: str) -> str:
    with pytest.raises(duckdb.Error) as raised:
        con.execute(sql).fetchall()
    return str(raised.value)


def test_at_a_prompt_duckdb_says_that_a_key_is_needed_and_how_to_show_it(
    closed: Closed, con: duckdb.DuckDBPyConnection
) -> None:
    sql = f"FROM '{closed.url}/udfs/numbers.parquet?n=4'"
    before = len(closed.server.requests("numbers.parquet?n=4"))
    told = message(con, sql)
    assert "a key is needed" in told
    assert closed.server.requests("numbers.parquet?n=4")[before:] == [("HEAD", 200), ("GET", 200)]
    # What it says works: the secret, and then the same query again in the same session.
    (cure,) = re.findall(r"CREATE SECRET .*?/'\)", told)
    con.execute(cure.replace("KEY", closed.key))
    assert con.execute(sql).fetchall() == [(0,), (1,), (2,), (3,)]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("numbers.csv", "HTTP 401 Unauthorized"),
        ("covert.parquet", "a key is needed"),
        ("nosuch.parquet", "a key is needed"),
    ],
)
def test_without_a_key_every_table_is_alike(
    closed: Closed, con: duckdb.DuckDBPyConnection, path: str, said: str
) -> None:
    assert said in message(con, f"FROM '{closed.url}/udfs/{path}'")


def test_at_a_prompt_duckdb_says_why_a_key_is_refused(
    closed: Closed, con: duckdb.DuckDBPyConnection
) -> None:
    sql = f"FROM '{closed.url}/udfs/numbers.parquet'"
    gone = give_key(closed.place, "viewer")
    show_key(con, closed, gone)
    assert con.execute(sql).fetchall()
    revoke(closed.place, "key", id_of(gone))
    time.sleep(1)
    revoked = message(con, sql)
    assert f"the key {id_of(gone)} was revoked; ask for a new one" in revoked
    # How a key is shown is known to who has shown one.
    assert "send it as" not in revoked
    show_key(con, closed, "wf_nonsense")
    assert "the key is not known here" in message(con, sql)
    show_key(con, closed, give_key(closed.place, "viewer", formats=("csv",)))
    assert "numbers is not for you as .parquet; you may read it as .csv" in message(con, sql)
    records = f"FROM '{closed.url}/_system/requests.parquet'"
    assert "this needs the right 'admin', which the role viewer does not give" in message(
        con, records
    )
    assert con.execute(f"FROM '{closed.url}/udfs/numbers.csv'").fetchall() == [(0,), (1,), (2,)]
    assert "404" in message(con, f"FROM '{closed.url}/udfs/covert2.csv'")


def test_a_catalog_is_attached_with_a_key_and_says_so_without(
    closed: Closed, con: duckdb.DuckDBPyConnection
) -> None:
    attach = f"ATTACH '{closed.url}/catalog.duckdb' AS udfs"
    told = message(con, attach)
    assert "a key is needed" in told
    (cure,) = re.findall(r"CREATE SECRET .*?/'\)", told)
    con.execute(cure.replace("KEY", closed.key))
    con.execute(attach)
    assert con.execute("FROM udfs.numbers(n := 2)").fetchall() == [(0,), (1,)]
    assert con.execute("SELECT name FROM udfs.udfs").fetchall() == [("numbers",)]
    assert len(con.execute("FROM udfs.numbers_each(n := [1, 2])").fetchall()) == 3


@pytest.mark.parametrize("header", ["X-API-Key", "x-api-key"])
def test_a_key_in_a_header_of_its_own(
    closed: Closed, con: duckdb.DuckDBPyConnection, header: str
) -> None:
    con.execute(
        f"CREATE SECRET (TYPE http, EXTRA_HTTP_HEADERS MAP {{'{header}': '{closed.key}'}},"
        f" SCOPE '{closed.url}/')"
    )
    assert len(con.execute(f"FROM '{closed.url}/udfs/numbers.parquet'").fetchall()) == 3


def test_a_key_as_a_password_in_the_address(closed: Closed, con: duckdb.DuckDBPyConnection) -> None:
    url = closed.url.replace("http://", f"http://me:{closed.key}@")
    assert len(con.execute(f"FROM '{url}/udfs/numbers.parquet'").fetchall()) == 3


def test_a_link_needs_nothing_else(closed: Closed, con: duckdb.DuckDBPyConnection) -> None:
    link = give_link(closed.place, "numbers", fixed={"n": ("5",)}, free=("gate",))
    url = f"{closed.url}/udfs/numbers.parquet?_share={link}"
    assert len(con.execute(f"FROM '{url}'").fetchall()) == 5
    assert len(con.execute(f"SELECT count(*) FROM '{url}&n=5'").fetchall()) == 1
    assert "this link is for n=5, got 6" in message(con, f"FROM '{url}&n=6'")
    assert pl.read_parquet(url).height == 5
    assert pd.read_csv(url.replace(".parquet", ".csv"))["n"].tolist() == [0, 1, 2, 3, 4]
    for other in ("covert.parquet", "nosuch.parquet"):
        told = message(con, f"FROM '{url.replace('numbers.parquet', other)}'")
        assert "404" in told


def read_for_long(con: duckdb.DuckDBPyConnection, url: str, server: Server, gate: str) -> int:
    """How many rows there are; the run ends once who asked was sent on."""
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(lambda: con.execute(f"FROM '{url}'").fetchall())
        eventually(lambda: ("GET", 303) in server.requests(f"gate={gate}"))
        server.open(gate)
        return len(reading.result())


def test_a_link_is_good_while_it_waits_for_a_long_run(
    closed_and_hasty: Closed, con: duckdb.DuckDBPyConnection
) -> None:
    link = give_link(closed_and_hasty.place, "numbers", fixed={"n": ("6",)}, free=("gate",))
    url = f"{closed_and_hasty.url}/udfs/numbers.parquet?_share={link}&gate=link"
    assert read_for_long(con, url, closed_and_hasty.server, "link") == 6


def test_a_key_is_good_while_it_waits_for_a_long_run(
    closed_and_hasty: Closed, con: duckdb.DuckDBPyConnection
) -> None:
    show_key(con, closed_and_hasty, closed_and_hasty.key)
    url = f"{closed_and_hasty.url}/udfs/numbers.parquet?n=7&gate=key"
    assert read_for_long(con, url, closed_and_hasty.server, "key") == 7


def test_a_spreadsheet_is_told_in_a_cell(closed: Closed) -> None:
    url = f"{closed.url}/udfs/numbers.csv?_for=sheets"
    told = httpx.get(url)
    assert told.status_code == 200
    assert told.headers["x-webfoot-status"] == "401"
    assert "in a spreadsheet, use a share link" in told.text
    link = give_link(closed.place, "numbers", formats=("csv",), free=("n",))
    assert httpx.get(f"{url}&_share={link}&n=2").text.split() == ["n", "0", "1"]
    assert "does not let you choose gate" in httpx.get(f"{url}&_share={link}&gate=x").text
    assert (
        "expired" in httpx.get(f"{url}&_share={give_link(closed.place, 'numbers', expires=1)}").text
    )


def test_the_sdk_shows_its_token_and_raises_what_the_server_does(closed: Closed) -> None:
    with Client(closed.url, token=closed.key) as client, connect() as con:
        assert client.run("numbers", n=2).df()["n"].tolist() == [0, 1]
        assert [udf.name for udf in client.udfs()] == ["numbers"]
        assert len(client.map("numbers", [1, 2], over="n", progress=False).df()) == 3
        with pytest.raises(errors.UdfNotFound):
            client.run("covert")
        client.attach(con)
        assert len(con.execute("FROM udfs.numbers()").fetchall()) == 3
        ((scope,),) = con.execute("SELECT scope FROM duckdb_secrets()").fetchall()
        assert scope == [f"{closed.url}/"]
    with Client(closed.url) as client, pytest.raises(errors.Unauthorized) as refused:
        client.run("numbers")
    assert "send it as `Authorization: Bearer KEY`" in str(refused.value)
    assert refused.value.__notes__ == ['show a key with webfoot.Client(url, token="wf_…")']
    narrow = give_key(closed.place, "viewer", formats=("csv",))
    with Client(closed.url, token=narrow) as client, pytest.raises(errors.Forbidden):
        client.run("numbers")
    few = give_key(closed.place, "viewer", limits=Limits(read_rate("1/h")))
    with Client(closed.url, token=few, retries=0) as client:
        client.run("numbers")
        with pytest.raises(errors.TooManyRequests) as raised:
            client.run("numbers")
    assert raised.value.retry_after_s > 3000


def test_duckdb_gets_through_a_rate_by_waiting_and_asking_again(
    closed: Closed, con: duckdb.DuckDBPyConnection
) -> None:
    show_key(con, closed, give_key(closed.place, "viewer", limits=Limits(read_rate("4/s"))))
    for number in range(1, 13):
        sql = f"FROM '{closed.url}/udfs/numbers.parquet?n={number}'"
        assert len(con.execute(sql).fetchall()) == number
    con.execute("SET threads = 9")
    told: list[int] = []
    # Of nine at once four are answered at once, four wait, and one has to ask again: unless the
    # machine has so much to do that they are not at once.
    for burst in range(10):
        time.sleep(1.1)
        path = f"{closed.url}/udfs/numbers.parquet?_cb={burst}&n="
        urls = ", ".join(f"'{path}{n}'" for n in range(1, 10))
        sql = f"SELECT count(*) FROM read_parquet([{urls}], union_by_name = true)"
        assert con.execute(sql).fetchall() == [(45,)]
        told = [status for _, status in closed.server.requests(f"_cb={burst}&")]
        if 429 in told:
            break
    assert 429 in told


def test_at_a_prompt_duckdb_says_why_it_has_to_wait_for_long(
    closed: Closed, con: duckdb.DuckDBPyConnection
) -> None:
    url = f"{closed.url}/udfs/numbers.parquet"
    # Newer ones wait for ten seconds if they are told to.
    for rate, said in ("2/h", "2 requests are answered in 1h"), ("2/18s", "HTTP 429"):
        show_key(con, closed, give_key(closed.place, "viewer", limits=Limits(read_rate(rate))))
        for n in (21, 22):
            assert len(con.execute(f"FROM '{url}?n={n}'").fetchall()) == n
        assert said in message(con, f"FROM '{url}?n=23'")


def test_duckdb_gets_through_when_there_is_room_again(
    closed: Closed, con: duckdb.DuckDBPyConnection
) -> None:
    key = give_key(closed.place, "viewer", limits=Limits(concurrency=1))
    show_key(con, closed, key)
    # By itself it gives up after 0.6 s, in which there may be no room yet.
    con.execute("SET http_retries = 100")
    con.execute("SET http_retry_backoff = 1")
    tables = f"{closed.url}/udfs/numbers.parquet"
    with httpx.Client(headers=bearer(key)) as slow, ThreadPoolExecutor(2) as threads:
        asking = threads.submit(slow.get, f"{tables}?n=9&gate=room")
        eventually(lambda: closed.server.executions("room"))
        reading = threads.submit(lambda: con.execute(f"FROM '{tables}?n=33'").fetchall())
        eventually(lambda: 429 in [s for _, s in closed.server.requests("parquet?n=33")])
        closed.server.open("room")
        assert len(reading.result()) == 33
        assert asking.result().is_success


def test_no_key_and_no_link_is_in_the_log(closed: Closed) -> None:
    link = give_link(closed.place, "numbers")
    httpx.get(f"{closed.url}/udfs/numbers.csv?n=1&_share={link}")
    httpx.get(f"{closed.url}/udfs/numbers.csv?_share={link}&key={closed.key}")
    httpx.get(f"{closed.url}/udfs/{closed.key}.csv", headers=bearer(closed.key))
    printed = closed.server.printed()
    assert "numbers.csv?n=1&_share=… HTTP" in printed
    assert "_share=ey" not in printed
    assert not re.search(r"wf_[0-9a-f]{12}_\w{5}", printed)
