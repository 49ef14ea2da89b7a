"""Every request leaves one record, and no secret leaves the server."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.scrapes import scrape
from tests.server_process import COUNT, GATE, Server, eventually, serve, write_udfs
from tests.test_calling import UDFS

from webfoot.access.principal import Principal
from webfoot.lineage import Tally
from webfoot.results import Result
from webfoot.server.exchanges import Exchange, begin
from webfoot.server.records import COLUMNS, Records
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEAKY = """
    import os
    from webfoot import udf

    @udf
    def leaks(api_key: str = "", url: str = ""):
        print("ready")
        raise ValueError(f"refused {url} with api_key={api_key}, Authorization: Bearer {api_key}")

    @udf
    def strict(token: int = 1):
        return [{"n": token}]
"""
GATED = """
    from webfoot import udf
    from ._gate import wait_at

    @udf
    def gated(gate: str):
        wait_at(gate)
        return [{"n": 1}]
"""
RESULT = Result(
    *("key", "run1", "parquet", "etag", 10, 3, (), 0.25, 0.0, 1.0, 2),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    files = {"calling": UDFS, "gated": GATED}
    folder = write_udfs(tmp_path_factory.mktemp("records"), _count=COUNT, _gate=GATE, **files)
    with serve(folder) as running:
        yield running


def lines_in(store: Path) -> list[dict[str, Any]]:
    paths = sorted((store / "requests").glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def record_of(server: Server, request_id: str, count: int = 1) -> list[dict[str, Any]]:
    """The records of the requests that a client has called so, as soon as they are written."""
    patient_until = time.monotonic() + 20
    while True:
        found = [line for line in lines_in(server.store) if line["request_id"] == request_id]
        if len(found) >= count:
            return found
        assert time.monotonic() < patient_until
        time.sleep(0.05)


def ask(server: Server, request_id: str, path: str, method: str = "GET", **headers: str) -> Any:
    sent = {"X-Request-Id": request_id, **headers}
    return httpx.request(method, f"{server.url}{path}", headers=sent, timeout=60)


def test_a_run_leaves_a_record_of_all_that_it_took(server: Server) -> None:
    answer = ask(server, "first", "/udfs/total.csv?count=3&tag=rec", **{"user-agent": "me/1"})
    [record] = record_of(server, "first")
    run = httpx.get(f"{server.url}/runs/{answer.headers['x-webfoot-run']}").json()
    told = {
        "method": "GET",
        "route": "/udfs/{name}.{extension}",
        "udf": "total",
        "format": "csv",
        "run": run["id"],
        "trace": run["trace"],
        "status": "success",
        "http_status": 200,
        "cache": "miss",
        "executions": 1,
        "rows": 1,
        "bytes_sent": len(answer.content),
        "runs": 5,
        "billed_ms": int(answer.headers["x-webfoot-billed-ms"]),
        "agent": "me/1",
        "principal": "anonymous",
    }
    assert {name: record[name] for name in told} == told
    assert re.fullmatch("[0-9a-f]{64}", record["key"])
    assert record["memory_used_mb"] == round(int(answer.headers["x-webfoot-memory"]) / 1e6, 3)
    assert record["execution_time_ms"] > record["run_ms"] > 0
    assert record["queue_ms"] >= 0
    assert set(record) <= set(COLUMNS)


def test_what_is_asked_for_again_is_told_apart(server: Server) -> None:
    for number in range(2):
        ask(server, f"again-{number}", "/udfs/leaf.parquet?n=5&tag=again")
    ask(server, "again-head", "/udfs/leaf.parquet?n=5&tag=again", "HEAD")
    ask(server, "again-range", "/udfs/leaf.parquet?n=5&tag=again", Range="bytes=0-3")
    records = [record_of(server, f"again-{which}")[0] for which in (0, 1, "head", "range")]
    assert [record["cache"] for record in records] == ["miss", "hit", "hit", "hit"]
    assert [record["runs"] for record in records] == [1, 0, 0, 0]
    assert len({(record["key"], record["run"]) for record in records}) == 1
    assert [record["http_status"] for record in records] == [200, 200, 200, 206]
    assert [record["bytes_sent"] for record in records][2:] == [0, 4]
    assert "trace" not in records[1]


def test_of_the_same_answer_each_who_gets_it_is_told(server: Server) -> None:
    agents = ["one/1", "two/2", "two/2", "one/1"]
    for number, agent in enumerate(agents):
        ask(server, f"same{number}", "/udfs/total.csv?count=2&tag=same", **{"user-agent": agent})
    records = [record_of(server, f"same{number}")[0] for number in range(4)]
    assert [record["agent"] for record in records] == agents
    # What a run has cost is told of the one that led to it.
    assert [record["runs"] > 0 for record in records] == [True, False, False, False]


def test_who_waits_for_a_job_has_joined_it_and_who_comes_later_has_a_hit(server: Server) -> None:
    asked = {"udf": "gated", "parameters": {"gate": "job"}}
    job = httpx.post(f"{server.url}/jobs", json=asked).json()["id"]
    with ThreadPoolExecutor(1) as threads:
        waits = threads.submit(ask, server, "job-waits", f"/jobs/{job}.csv")
        # It, and who looks.
        eventually(lambda: scrape(server.url).total("http_requests_in_progress") == 2)
        # Where one who came later has been told of the job, it has been found for the first, too.
        httpx.get(f"{server.url}/jobs/{job}").raise_for_status()
        server.open("job")
        assert waits.result().status_code == 200
    assert ask(server, "job-later", f"/jobs/{job}.csv").status_code == 200
    records = [record_of(server, which)[0] for which in ("job-waits", "job-later")]
    assert [record["cache"] for record in records] == ["joined", "hit"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/udfs/leaf.csv?n=x", {"udf": "leaf", "code": "invalid-parameters", "http_status": 422}),
        ("/udfs/leaf.json?n=1&fail=true", {"udf": "leaf", "code": "udf-failed", "runs": 1}),
        ("/udfs/no_such.csv", {"udf": None, "code": "udf-not-found", "http_status": 404}),
        ("/nothing", {"route": None, "http_status": 404, "code": None}),
        ("/udfs/no_such", {"route": "/udfs/{name}", "code": "udf-not-found"}),
        ("/jobs/unknown", {"route": "/jobs/{id}", "code": "job-not-found"}),
    ],
)
def test_a_failure_says_what_kind_it_is(server: Server, path: str, told: dict[str, Any]) -> None:
    ask(server, f"failed{path}".replace("?", "/").replace("&", "/"), path)
    [record] = record_of(server, f"failed{path}".replace("?", "/").replace("&", "/"))
    assert record["status"] == "error"
    assert {name: record.get(name) for name in told} == told


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/", "/"),
        ("GET", "/udfs", "/udfs"),
        ("GET", "/udfs/leaf", "/udfs/{name}"),
        ("GET", "/catalog.duckdb", "/catalog.duckdb"),
        ("POST", "/udfs/leaf/map", "/udfs/{name}/map"),
        ("DELETE", "/jobs/none", "/jobs/{id}"),
    ],
)
def test_paths_are_told_by_their_templates(
    server: Server, method: str, path: str, route: str
) -> None:
    ask(server, f"{method}{path}", path, method)
    assert record_of(server, f"{method}{path}")[0]["route"] == route


def test_who_only_looks_how_the_server_is_is_not_told(server: Server) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/alerts"):
        ask(server, "health", path)
    ask(server, "health", "/udfs")
    assert [record["route"] for record in record_of(server, "health")] == ["/udfs"]


def test_a_request_has_an_id_that_the_client_may_choose(server: Server) -> None:
    assert ask(server, "mine-7", "/udfs/leaf.csv?n=1").headers["x-request-id"] == "mine-7"
    for own in ("", "a b", "x" * 129, 'a"b', "a\\b"):
        answer = ask(server, own, "/udfs")
        assert answer.headers["x-request-id"] != own
    ids = {httpx.get(f"{server.url}/udfs").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_a_client_that_goes_leaves_a_record(server: Server) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(
            f"{server.url}/udfs/leaf.csv?n=1&sleep=50&tag=gone",
            headers={"x-request-id": "gone"},
            timeout=0.5,
        )
    [record] = record_of(server, "gone")
    assert (record["status"], record["code"], record["http_status"]) == ("error", "client-gone", 0)


def test_records_survive_a_kill(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, calling=UDFS)
    with serve(folder) as first:
        for number in range(20):
            ask(first, f"before-{number}", "/udfs/leaf.csv?n=1")
        record_of(first, "before-19")
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    # Torn, as a kill in the middle of a line leaves it.
    with max((first.store / "requests").glob("*.jsonl")).open("a") as segment:
        segment.write('{"timestamp":"2026-01-01T00:00:00.0')
    with serve(folder) as second:
        ask(second, "after", "/udfs/leaf.csv?n=1")
        table = httpx.get(f"{second.url}/_system/requests.json?_columns=request_id")
        ids = [row["request_id"] for row in table.json()]
        assert ids[:20] == [f"before-{number}" for number in range(20)]
        assert ids[-1] == "after"


def test_without_a_size_there_are_none(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, calling=UDFS)
    with serve(folder, "--request-log", "0") as server:
        ask(server, "none", "/udfs/leaf.csv?n=1").raise_for_status()
        assert httpx.get(f"{server.url}/_system/requests.json").json() == []
    assert not (server.store / "requests").exists()


# Lines, as they are written.


def exchange(principal: Principal | None = None, **known: Any) -> Exchange:
    scope = {"method": "GET", "headers": [(b"x-request-id", b"id")]}
    made = Exchange(scope)
    for name, value in known.items():
        setattr(made, name, value)
    made.end(principal)
    return made


def written(folder: Path, *exchanges: Exchange, log: Any = "text") -> list[dict[str, Any]]:
    records = Records(folder, Settings(log=log))
    for item in exchanges:
        records.add(item)
    records.close()
    return [
        json.loads(line)
        for path in records.segments.paths()
        for line in path.read_text().splitlines()
    ]


def test_equal_parts_of_lines_are_not_mixed_up(tmp_path: Path) -> None:
    exchanges = [
        exchange(udf=udf, status=status, result=result, code=code)
        for udf in ("one", "two")
        for status in (200, 500)
        for result in (None, RESULT)
        for code in ("", "error")
    ]
    lines = written(tmp_path, *exchanges)
    told = [(line["udf"], line["http_status"], line.get("run"), line.get("code")) for line in lines]
    assert told == [
        (item.udf, item.status, item.result and item.result.run, item.code or None)
        for item in exchanges
    ]
    assert [line["status"] for line in lines][:2] == ["success", "error"]


def test_whatever_a_text_is_the_line_is_json(tmp_path: Path) -> None:
    odd = 'a"b\\c\nd\u2028é'
    [line] = written(tmp_path, exchange(Principal(odd, odd), udf=odd, agent=odd, route=odd))
    told = ("udf", "principal", "tenant", "agent", "route")
    assert {line[name] for name in told} == {odd}


def test_what_a_run_took_is_told(tmp_path: Path) -> None:
    tally = Tally()
    tally.runs, tally.billed_ms, tally.memory_bytes = 2, 300, 80_000_000
    [line] = written(tmp_path, exchange(result=RESULT, waited_s=0.3, tally=tally, cache="miss"))
    assert (line["run_ms"], line["queue_ms"]) == (250, 50)
    assert (line["runs"], line["billed_ms"], line["memory_used_mb"]) == (2, 300, 80)


def test_an_exchange_is_one_for_all_who_answer_it() -> None:
    scope: dict[str, Any] = {"method": "GET", "headers": []}
    begun = begin(scope)
    assert begin({"method": "GET", "headers": []}).request_id != begun.request_id


def test_cloudwatch_is_told_what_are_metrics(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    tally = Tally()
    tally.runs, tally.billed_ms = 1, 300
    written(tmp_path, exchange(udf="u", status=200, tally=tally), exchange(), log="emf")
    first, second = (json.loads(line) for line in capfdbinary.readouterr().out.splitlines())
    [metrics] = first["_aws"]["CloudWatchMetrics"]
    assert abs(first["_aws"]["Timestamp"] / 1000 - time.time()) < 60
    for metric in metrics["Metrics"]:
        assert isinstance(first[metric["Name"]], int | float)
        assert isinstance(second[metric["Name"]], int | float)
    assert first["udf"] == "u"


# Secrets.

PLANTED = "S3CRETS3CRETS3CRET"


@pytest.mark.parametrize("log", ["text", "json", "emf"])
def test_no_planted_secret_is_told_anywhere(tmp_path: Path, log: str) -> None:
    folder = write_udfs(tmp_path, leaky=LEAKY)
    where = f"_token={PLANTED}"
    paths = [
        f"/udfs/leaks.parquet?api_key={PLANTED}&url=https%3A%2F%2Fa%2F%3Fsig%3D{PLANTED}",
        f"/udfs/leaks.csv?api_key={PLANTED}&_for=sheets",
        f"/udfs/strict.csv?token={PLANTED}",
        f"/udfs/strict.json?_each=token&token=1&token={PLANTED}",
        f"/udfs/strict.csv?{where}",
        f"/udfs?{where}&_key={PLANTED}&X-Amz-Signature={PLANTED}",
        f"/nothing?{where}",
    ]
    headers = {
        "authorization": f"Bearer {PLANTED}",
        "x-api-key": PLANTED,
        "cookie": f"session={PLANTED}",
        "referer": f"http://a/?{where}",
    }
    told: list[str] = []
    with serve(folder, "--debug", "--log", log) as server:
        for agent in ("duckdb/v1.5.5", f"me/1 token={PLANTED}"):
            for path in paths:
                sent = {**headers, "user-agent": agent, "x-request-id": f"id-{agent[:2]}"}
                answer = httpx.get(f"{server.url}{path}", headers=sent)
                told += [answer.text, str(answer.headers)]
                if run := answer.headers.get("x-webfoot-run"):
                    told.append(httpx.get(f"{server.url}/runs/{run}").text)
        body = {"udf": "leaks", "parameters": {"api_key": PLANTED}}
        job = httpx.post(f"{server.url}/jobs", json=body, headers=headers)
        told.append(httpx.get(f"{server.url}{httpx.URL(job.headers['location']).path}").text)
        told += [
            httpx.get(f"{server.url}/_system/{table}.json").text for table in ("requests", "runs")
        ]
        count = len(httpx.get(f"{server.url}/_system/requests.json").json())
    told.append(server.printed())
    assert count > len(paths)
    found = [line for text in told for line in text.splitlines() if PLANTED in line]
    assert found == []
    # What has to be kept to make a job again, or to tell calls apart, is told to nobody.
    kept = {
        path for path in server.store.rglob("*") if path.is_file() and "objects" not in path.parts
    }
    with_secret = {path.name for path in kept if PLANTED.encode() in path.read_bytes()}
    assert {name for name in with_secret if not name.startswith("jobs")} == set()
