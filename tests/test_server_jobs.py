"""Jobs over HTTP: what goes on when nobody waits, and what plain requests become that wait long."""

from __future__ import annotations

import io
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import polars as pl
import pyarrow.parquet as pq
import pytest
from tests.s3_server import moto_server
from tests.server_process import COUNT, GATE, INLINE, connect, eventually, serve, write_udfs

from webfoot import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server_process import Server

    from webfoot.settings import S3Place

UDFS = (
    "from webfoot import udf\n"
    + COUNT
    + GATE
    + '''
@udf
def gated(name: str, n: int = 1):
    """A number, once a gate is open.

    Args:
        name: The gate.
        n: The number.
    """
    count(name)
    print("waiting for", name, flush=True)
    wait_at(name)
    return [{"n": n}]

@udf
def wrong(name: str):
    """Fails, once a gate is open.

    Args:
        name: The gate.
    """
    wait_at(name)
    raise ValueError("no such thing")

@udf
def double(n: int):
    """Twice a number; 3 is none.

    Args:
        n: The number.
    """
    if n == 3:
        raise ValueError("three")
    return [{"twice": 2 * n}]
'''
)
HOLD = {"WEBFOOT_HOLD": "0.3", "WEBFOOT_DEBUG": "true"}
# Polars follows ten redirects, and no more.
LONGER = HOLD | {"WEBFOOT_HOLD": "1.0"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_udfs(tmp_path_factory.mktemp("jobs"), jobs=UDFS)
    with serve(folder, environment={**os.environ, **LONGER}) as server:
        httpx.get(f"{server.url}/udfs/double.csv?n=0", follow_redirects=True).raise_for_status()
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30, max_redirects=1000) as http:
        yield http


def submit(http: httpx.Client, once: str | None = None, **body: Any) -> httpx.Response:
    headers = {} if once is None else {"idempotency-key": once}
    return http.post("/jobs", json=body, headers=headers)


def state(http: httpx.Client, url: str, *wanted: str) -> dict[str, Any]:
    """The job, once it is in a state."""

    def look() -> dict[str, Any] | None:
        job: dict[str, Any] = http.get(url).json()
        return job if job["state"] in wanted else None

    found: dict[str, Any] = eventually(look)
    return found


def sent_on(server: Server) -> int:
    """How many requests have been sent on."""
    return [status for _, status in server.requests()].count(303)


@contextmanager
def opening_when_sent_on(server: Server, name: str, times: int) -> Iterator[None]:
    """Opens the gate when so many requests of the block have been sent on."""
    before = sent_on(server)

    def open_it() -> None:
        eventually(lambda: sent_on(server) >= before + times)
        server.open(name)

    with ThreadPoolExecutor(1) as threads:
        opening = threads.submit(open_it)
        yield
        opening.result()


def test_duckdb_reads_a_run_that_takes_longer_than_a_request_may(server: Server) -> None:
    with connect() as con, opening_when_sent_on(server, "duckdb", 2):
        found = con.sql(f"FROM '{server.url}/udfs/gated.parquet?name=duckdb&n=7'").fetchall()
    assert found == [(7,)]
    assert server.executions("duckdb") == 1
    assert {status for _, status in server.requests("/jobs/")} == {200, 303}


def test_who_waits_long_is_sent_on_and_on(server: Server, http: httpx.Client) -> None:
    sent_on = http.get("/udfs/gated.parquet?name=on")
    assert sent_on.status_code == 303
    assert sent_on.headers["cache-control"] == "no-store"
    again = http.get(sent_on.headers["location"])
    assert again.status_code == 303
    assert "_hop=2" in again.headers["location"]
    server.open("on")


@pytest.mark.parametrize("reader", ["polars", "csv", "map", "sdk"])
def test_other_clients_are_sent_on_until_there_is_a_result(
    server: Server, http: httpx.Client, reader: str
) -> None:
    with opening_when_sent_on(server, reader, 1):
        if reader == "polars":
            url = f"{server.url}/udfs/gated.parquet?name={reader}"
            assert pl.read_parquet(url).rows() == [(1,)]
        elif reader == "csv":
            got = http.get(f"/udfs/gated.csv?name={reader}&_limit=1", follow_redirects=True)
            assert got.text.split() == ["n", "1"]
        elif reader == "map":
            got = http.post("/udfs/gated/map", json=[{"name": reader}], follow_redirects=True)
            assert pq.read_table(io.BytesIO(got.content)).to_pylist() == [{"name": reader, "n": 1}]
        else:
            with Client(server.url) as client:
                assert client.run("gated", name=reader).arrow().to_pylist() == [{"n": 1}]
    assert server.executions(reader) == 1


def test_a_job_is_told_by_its_states_and_ends_as_an_immutable_result(
    server: Server, http: httpx.Client
) -> None:
    made = submit(http, udf="gated", parameters={"name": "told", "n": 5})
    assert made.status_code == 202
    url = made.headers["location"]
    assert made.json()["url"] == url
    assert made.headers["retry-after"] == "1"
    running = state(http, url, "running")
    assert running["progress"] == {"done": 0, "total": 1}
    assert running["result"] is None
    assert running["elapsed"] >= 0
    eventually(lambda: http.get(url).json()["log"] == ["waiting for told"])
    assert http.head(f"{url}.parquet").status_code == 200
    server.open("told")
    done = state(http, url, "done")
    assert done["rows"] == 1
    assert done["ended"] >= done["started"] >= done["created"]
    assert done["elapsed"] == done["ended"] - done["started"]
    result = http.get(done["result"])
    assert result.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert pq.read_table(io.BytesIO(result.content)).to_pylist() == [{"n": 5}]
    assert http.get("/udfs/gated.parquet?name=told&n=5").content == result.content
    assert server.executions("told") == 1
    ranged = http.get(done["result"], headers={"range": "bytes=0-3"})
    assert (ranged.status_code, ranged.content) == (206, b"PAR1")
    known = http.get(done["result"], headers={"if-none-match": result.headers["etag"]})
    assert known.status_code == 304
    assert http.head(done["result"]).headers["etag"] == result.headers["etag"]
    assert http.get(f"{url}.csv").text.split() == ["n", "5"]
    assert http.get(f"{url}.json").json() == [{"n": 5}]


def test_the_same_idempotency_key_is_the_same_job(server: Server, http: httpx.Client) -> None:
    server.open("once")
    made = [submit(http, "k1", udf="gated", parameters={"name": "once"}) for _ in range(3)]
    assert len({job.json()["id"] for job in made}) == 1
    state(http, made[0].headers["location"], "done")
    assert server.executions("once") == 1
    other = submit(http, "k1", udf="gated", parameters={"name": "once", "n": 2})
    assert other.status_code == 409
    assert other.json()["code"] == "conflict"
    assert made[0].json()["id"] in other.json()["detail"]


def test_a_cancelled_job_runs_no_longer(server: Server, http: httpx.Client) -> None:
    url = submit(http, udf="gated", parameters={"name": "cancelled"}).headers["location"]
    eventually(lambda: server.executions("cancelled"))
    http.delete(url).raise_for_status()
    state(http, url, "cancelled")
    assert http.delete(url).json()["state"] == "cancelled"
    told = http.get(f"{url}.parquet")
    assert told.status_code == 503
    assert told.json()["detail"] == "the job was cancelled"
    # Both workers are free: two other runs begin.
    for name in ("free-1", "free-2"):
        submit(http, udf="gated", parameters={"name": name})
        eventually(lambda name=name: server.executions(name))  # type: ignore[misc]  # bound now
        server.open(name)


def test_a_failed_job_tells_why_wherever_it_is_asked_for(
    server: Server, http: httpx.Client
) -> None:
    url = submit(http, udf="wrong", parameters={"name": "fails"}).headers["location"]
    server.open("fails")
    failed = state(http, url, "failed")
    assert "no such thing" in failed["problem"]["detail"]
    assert 'raise ValueError("no such thing")' in failed["problem"]["traceback"]
    told = http.get(f"{url}.parquet")
    assert (told.status_code, told.json()["code"]) == (500, "udf-failed")
    with connect() as con, pytest.raises(Exception, match="no such thing"):
        con.sql(f"FROM '{url}.parquet'")


def test_many_inputs_are_one_job_with_progress(server: Server, http: httpx.Client) -> None:
    server.open("many-1")
    inputs = [{"name": "many-1"}, {"name": "many-2"}]
    url = submit(http, udf="gated", inputs=inputs).headers["location"]
    eventually(lambda: http.get(url).json()["progress"] == {"done": 1, "total": 2})
    server.open("many-2")
    done = state(http, url, "done")
    assert done["progress"] == {"done": 2, "total": 2}
    assert http.get(f"{url}.json").json() == [
        {"name": "many-1", "n": 1},
        {"name": "many-2", "n": 1},
    ]


def test_inputs_of_a_job_may_fail_if_that_is_allowed(http: httpx.Client) -> None:
    inputs = [{"n": 2}, {"n": 3}]
    whole = submit(http, udf="double", inputs=inputs).headers["location"]
    assert state(http, whole, "failed")["problem"]["code"] == "fanout-failed"
    partial = submit(http, udf="double", inputs=inputs, partial="allow").headers["location"]
    state(http, partial, "done")
    rows = http.get(f"{partial}.json").json()
    assert [row["twice"] for row in rows] == [4, None]
    assert "three" in rows[1]["_error"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is not JSON"),
        (b"[]", "must be an object"),
        (b'{"parameters": {}}', "udf: must be there"),
        (b'{"udf": 3}', "udf: must be there"),
        (b'{"udf": "gatet"}', "gated"),
        (b'{"udf": "gated", "parameters": []}', "parameters: must be there"),
        (b'{"udf": "gated", "parameters": {}}', "name"),
        (b'{"udf": "gated", "params": {}}', "params: is no part of a job"),
        (b'{"udf": "gated", "inputs": 3}', "inputs: must be there"),
        (b'{"udf": "gated", "inputs": [3]}', "list of objects"),
        (b'{"udf": "gated", "inputs": []}', "no inputs"),
        (b'{"udf": "double", "inputs": [{"n": "x"}]}', "input 0"),
        (b'{"udf": "double", "inputs": [{"n": "x"}], "partial": "allow"}', "input 0"),
        (b'{"udf": "double", "inputs": [{"n": 1}], "partial": "yes"}', "must be 'allow'"),
    ],
)
def test_what_makes_no_job_is_refused(http: httpx.Client, body: bytes, said: str) -> None:
    refused = http.post("/jobs", content=body)
    assert refused.status_code in (404, 422)
    assert said in refused.json()["detail"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/jobs/none", ("GET", "HEAD", "DELETE")),
        ("/jobs/é", ("GET", "HEAD", "DELETE")),
        ("/jobs/none.parquet", ("GET", "HEAD")),
    ],
)
def test_an_unknown_job_is_404(http: httpx.Client, path: str, methods: tuple[str, ...]) -> None:
    for method in methods:
        assert http.request(method, path).status_code == 404


def test_parameters_beside_a_job_are_refused(server: Server, http: httpx.Client) -> None:
    server.open("beside")
    url = submit(http, udf="gated", parameters={"name": "beside"}).headers["location"]
    state(http, url, "done")
    assert http.get(f"{url}.parquet?n=2").status_code == 422
    assert http.get(f"{url}.parquet?_limit=1&_ts=3").status_code == 200


def test_a_spreadsheet_is_told_to_come_back(server: Server, http: httpx.Client) -> None:
    path = "/udfs/gated.csv?name=sheet&_for=sheets"
    waiting = http.get(path)
    assert waiting.status_code == 200
    assert "still running; ask again in 20 seconds" in waiting.text
    server.open("sheet")
    eventually(lambda: http.get(path).text.split() == ["n", "1"])
    assert server.executions("sheet") == 1


def test_jobs_go_on_after_the_server_was_killed(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, jobs=UDFS)
    with ExitStack() as stack:
        first = stack.enter_context(serve(folder, *INLINE))
        with httpx.Client(base_url=first.url) as http:
            first.open("before")
            before = submit(http, udf="gated", parameters={"name": "before"}).json()
            state(http, before["url"], "done")
            running = submit(http, udf="gated", parameters={"name": "killed"}).json()
            queued = [
                submit(http, udf="double", parameters={"n": n}).json() for n in range(100, 110)
            ]
            eventually(lambda: first.executions("killed"))
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
        second = stack.enter_context(serve(folder, *INLINE))
        with httpx.Client(base_url=second.url) as http:
            # What is done stays done.
            assert state(http, f"/jobs/{before['id']}", "done")["rows"] == 1
            assert http.get(f"/jobs/{before['id']}.json").json() == [{"n": 1}]
            eventually(lambda: second.executions("killed") == 2)
            second.open("killed")
            state(http, f"/jobs/{running['id']}", "done")
            for job in queued:
                state(http, f"/jobs/{job['id']}", "done")
    assert second.executions("before") == 1


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_servers_that_share_a_store_share_their_jobs(tmp_path: Path, kind: str) -> None:
    folder = write_udfs(tmp_path, jobs=UDFS)
    environment = {**os.environ, **HOLD}
    with ExitStack() as stack:
        store: Path | S3Place = tmp_path / "store"
        if kind == "bucket":
            s3 = stack.enter_context(moto_server())
            store, environment = s3.make_place(), environment | s3.environment
        one, two = (
            stack.enter_context(serve(folder, *INLINE, store=store, environment=environment))
            for _ in range(2)
        )
        with httpx.Client(base_url=one.url) as here, httpx.Client(base_url=two.url) as there:
            job = submit(here, udf="gated", parameters={"name": "shared"}).json()
            state(there, f"/jobs/{job['id']}", "running")
            assert there.get(f"/jobs/{job['id']}.parquet").status_code == 303
            one.open("shared")
            state(there, f"/jobs/{job['id']}", "done")
            assert there.get(f"/jobs/{job['id']}.json").json() == [{"n": 1}]
            job = submit(here, udf="gated", parameters={"name": "shared-2"}).json()
            eventually(lambda: one.executions("shared-2"))
            there.delete(f"/jobs/{job['id']}")
            state(there, f"/jobs/{job['id']}", "cancelled")
            assert one.executions("shared") == 1


def test_a_spreadsheet_is_given_an_old_result_before_it_is_told_to_come_back(
    tmp_path: Path,
) -> None:
    text = UDFS.replace("@udf\ndef gated", '@udf(cache="1s", stale="1h")\ndef gated')
    folder = write_udfs(tmp_path, jobs=text)
    with serve(folder, *INLINE, environment={**os.environ, **HOLD}) as server:
        path = f"{server.url}/udfs/gated.csv?name=old&_for=sheets"
        server.open("old")
        eventually(lambda: httpx.get(path).text.split() == ["n", "1"])
        (tmp_path / "gate-old").unlink()
        eventually(lambda: httpx.get(path).headers.get("x-webfoot-stale"))
        assert httpx.get(path).text.split() == ["n", "1"]
        server.open("old")
