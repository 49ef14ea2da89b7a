"""`/metrics`: every request and every run is counted once, and in few words."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.access.granting import bearer, give_key
from tests.scrapes import OPENMETRICS, Scrape, scrape
from tests.server_process import (
    COUNT,
    GATE,
    INLINE,
    Server,
    eventually,
    serve,
    write_udfs,
)
from tests.test_calling import UDFS

from webfoot.runners import Load
from webfoot.server.exposition import expose
from webfoot.server.metrics import CLASSES_S, Asked, Requests, State, Times
from webfoot.settings import Settings
from webfoot.store import Holdings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GATED = """
    from webfoot import udf
    from ._gate import wait_at

    @udf
    def gated(gate: str, n: int):
        wait_at(gate)
        return [{"n": n}]
"""
TABLES = "/udfs/{name}.{extension}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    files = {"calling": UDFS, "gated": GATED}
    folder = write_udfs(tmp_path_factory.mktemp("metrics"), _count=COUNT, _gate=GATE, **files)
    with serve(folder, "--memory", "1GB", "--queue", "77", "--store-size", "5GB") as running:
        yield running


def get(server: Server, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{server.url}{path}", headers=headers, timeout=60)


def added(server: Server, before: Scrape, name: str, **labels: str) -> float:
    """By how much a number has grown."""
    return scrape(server.url).total(name, **labels) - before.total(name, **labels)


def test_the_names_that_dashboards_for_duckdb_look_for_are_there(server: Server) -> None:
    get(server, "/udfs/leaf.csv?n=1&tag=names")
    get(server, "/udfs/leaf.csv?n=1&fail=true&tag=names")
    assert scrape(server.url).names >= {
        "duckdb_queries_total",
        "duckdb_query_duration_seconds_bucket",
        "duckdb_memory_used_bytes",
        "duckdb_memory_limit_bytes",
        "duckdb_errors_total",
    }


def test_a_request_is_counted_by_how_it_went(server: Server) -> None:
    before = scrape(server.url)
    answers = [
        get(server, "/udfs/leaf.parquet?n=3&tag=how"),
        get(server, "/udfs/leaf.parquet?n=3&tag=how"),
        get(server, "/udfs/leaf.parquet?n=x"),
        get(server, "/udfs/leaf.parquet?n=3&fail=true&tag=how"),
        get(server, "/udfs/nosuch.parquet"),
    ]
    httpx.head(f"{server.url}/udfs/leaf.parquet?n=3&tag=how")
    after = scrape(server.url)

    def more(name: str, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    for status, count in (("200", 2), ("422", 1), ("500", 1), ("404", 1)):
        told = {"method": "GET", "route": TABLES, "status": status}
        assert more("http_requests_total", **told) == count
    assert more("http_requests_total", method="HEAD", status="200") == 1
    sent = sum(len(answer.content) for answer in answers)
    assert more("http_response_bytes_total", route=TABLES) == sent
    assert more("duckdb_queries_total") == 5
    assert more("duckdb_queries_total", udf="leaf", format="parquet", status="success") == 2
    assert more("duckdb_query_duration_seconds_count", udf="leaf") == 4
    assert more("duckdb_errors_total", udf="leaf", code="udf-failed", fault="server") == 1
    assert more("duckdb_errors_total", udf="leaf", code="invalid-parameters", fault="client") == 1
    assert more("duckdb_errors_total", udf="none", code="udf-not-found", fault="client") == 1
    assert more("webfoot_cache_results_total", udf="leaf", cache="miss") == 1
    assert more("webfoot_cache_results_total", udf="leaf", cache="hit") == 1


def test_runs_in_all_workers_add_up_to_their_records(server: Server) -> None:
    """Two workers, and calls below calls: the numbers are in one place."""
    with ThreadPoolExecutor(4) as pool:
        paths = [f"/udfs/total.csv?count=5&tag=sum{n}&sleep=0.02" for n in range(4)]
        assert all(answer.is_success for answer in pool.map(lambda p: get(server, p), paths))
    workers = {row["pid"] for row in get(server, "/udfs/patient.json?n=1").json()}
    assert workers
    records = get(server, "/_system/runs.json").json()
    told = scrape(server.url)
    assert told.total("webfoot_runs_total") == len(records)
    assert told.by("webfoot_runs_total", "udf", "kind", "status") == {
        key: sum((r["udf"], r["kind"], r["status"]) == key for r in records)
        for key in {(r["udf"], r["kind"], r["status"]) for r in records}
    }
    for metric, column, unit in (
        ("webfoot_run_billed_seconds_total", "billed_ms", 1000),
        ("webfoot_run_rows_total", "rows", 1),
        ("webfoot_run_bytes_total", "bytes", 1),
        ("webfoot_run_duration_seconds_sum", "execution_time_ms", 1000),
    ):
        for udf in {record["udf"] for record in records}:
            own = sum(record[column] or 0 for record in records if record["udf"] == udf)
            assert told.total(metric, udf=udf) * unit == pytest.approx(own, abs=0.02), metric
    assert told.total("webfoot_run_cost_dollars_total") > 0
    assert told.total("webfoot_run_byte_seconds_total") > 0


def test_sql_is_a_query_too(server: Server) -> None:
    before = scrape(server.url)
    assert get(server, "/query.csv?sql=SELECT%2042%20AS%20n").text == "n\r\n42\r\n"
    httpx.post(f"{server.url}/query", json={"query": "SELECT 43 AS n"}).raise_for_status()
    assert get(server, "/query.csv?sql=DROP%20TABLE%20n").is_client_error
    after = scrape(server.url)
    for name, labels, count in (
        ("duckdb_queries_total", {"status": "success"}, 2),
        ("duckdb_errors_total", {"code": "query-refused", "fault": "client"}, 1),
        ("webfoot_runs_total", {"kind": "query", "status": "success"}, 2),
    ):
        grown = after.total(name, udf="none", **labels) - before.total(name, udf="none", **labels)
        assert grown == count, name


def test_buckets_are_cumulative_and_end_with_the_count(server: Server) -> None:
    get(server, "/udfs/leaf.csv?n=4&tag=buckets")
    histograms = [f for f in scrape(server.url).families.values() if f.type == "histogram"]
    assert len(histograms) == 3
    for family in histograms:
        ladders: dict[Any, list[tuple[float, float]]] = {}
        counts = {}
        for sample in family.samples:
            labels = frozenset((k, v) for k, v in sample.labels.items() if k != "le")
            if sample.name.endswith("_bucket"):
                ladder = ladders.setdefault(labels, [])
                ladder.append((float(sample.labels["le"]), sample.value))
            elif sample.name.endswith("_count"):
                counts[labels] = sample.value
        assert set(ladders) == set(counts)
        for labels, ladder in ladders.items():
            assert [limit for limit, _ in ladder] == [*CLASSES_S, math.inf]
            assert all(low <= high for (_, low), (_, high) in pairwise(ladder))
            assert ladder[-1][1] == counts[labels] > 0


def test_a_time_is_in_the_class_that_it_is_not_above() -> None:
    times = Times()
    for seconds in (0.0, 5.0, 5.001, 1000.0):
        times.add(seconds)
    limits = [*CLASSES_S, math.inf]
    found = {limits[place]: number for place, number in enumerate(times.classes) if number}
    assert found == {CLASSES_S[0]: 1, 5.0: 1, 10.0: 1, math.inf: 1}
    assert (times.count, times.seconds) == (4, 1010.001)


def test_whatever_clients_send_there_are_only_so_many_labels(server: Server) -> None:
    before = scrape(server.url)
    with httpx.Client(base_url=server.url) as http:
        for number in range(30):
            http.request("PROPFIND", "/udfs")
            http.get(f"/udfs/made_up_{number}.csv")
            http.get(f"/udfs/made_up_{number}.ext{number}")
            http.get(f"/udfs/leaf.ext{number}?n=1")
            http.get(f"/udfs/made_up_{number}/a=b/data.csv")
            http.get(f"/made/up/{number}", headers={"user-agent": f"agent{number}"})
            http.get(f"/jobs/{number:016x}.csv")
            http.post(f"/udfs/made_up_{number}/map", json=[{}])
            http.post("/jobs", json={"udf": f"made_up_{number}"})
    after = scrape(server.url)
    assert len(after.samples) < len(before.samples) + 250
    for label in ("udf", "route", "method", "format", "code", "status"):
        assert len(after.labels(label) - before.labels(label)) < 10, label
    assert not any("made" in it for s in after.samples for it in s.labels.values())
    assert "other" in after.labels("method")


def test_how_the_server_is_is_told_as_it_is_at_that_moment(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = [f"/udfs/gated.csv?gate=busy&n={n}" for n in range(8)]
        asked = [pool.submit(get, server, path) for path in paths]
        eventually(lambda: scrape(server.url).total("webfoot_runs_waiting") == 6)
        busy = scrape(server.url)
        assert busy.total("webfoot_runs_in_progress") == 2
        assert busy.total("http_requests_in_progress") == 9
        time.sleep(0.5)  # Each of the six waits for longer than that.
        server.open("busy")
        assert all(answer.result().is_success for answer in asked)
    idle = scrape(server.url)
    assert idle.total("webfoot_runs_in_progress") == idle.total("webfoot_runs_waiting") == 0
    assert idle.total("http_requests_in_progress") == 1
    assert idle.total("webfoot_run_wait_seconds_total", udf="gated") > 6 * 0.5
    told = {
        "webfoot_runs_limit": 2,
        "webfoot_queue_limit": 77,
        "webfoot_requests_limit": 1000,
        "webfoot_store_limit_bytes": 5e9,
        "duckdb_memory_limit_bytes": 2e9,
        "webfoot_udf_problems": 0,
        "webfoot_lost_records_total": 0,
    }
    assert {name: idle.total(name) for name in told} == told
    assert idle.total("webfoot_worker_processes") >= 2
    assert idle.total("duckdb_memory_used_bytes") > 50e6
    assert idle.total("process_resident_memory_bytes") > 50e6
    assert idle.total("webfoot_store_bytes") > 0
    assert idle.total("webfoot_udfs") == len(get(server, "/udfs").json()["udfs"])


def test_a_worker_that_dies_is_counted(server: Server) -> None:
    before = scrape(server.url)
    assert get(server, "/udfs/dying.csv?n=3").status_code == 500
    assert added(server, before, "webfoot_workers_replaced_total") >= 1
    assert added(server, before, "webfoot_run_errors_total", code="udf-crashed") == 1


def test_both_forms_tell_the_same(server: Server) -> None:
    plain = get(server, "/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    open_form = get(server, "/metrics", accept=OPENMETRICS)
    assert open_form.headers["content-type"].startswith("application/openmetrics-text")
    assert open_form.text.endswith("# EOF\n")
    assert open_form.headers["vary"].startswith("Accept")
    assert open_form.headers["cache-control"] == "no-store"
    told, other = (Scrape(it.text, it.headers["content-type"]) for it in (plain, open_form))
    assert told.names == other.names
    head = httpx.head(f"{server.url}/metrics")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == plain.headers["content-type"]


def test_metrics_of_all_tenants_are_for_those_of_none(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, calling=UDFS)
    (tmp_path / "roles.toml").write_text('[roles.scraper]\nmay = ["metrics"]\n')
    keys = tmp_path / "store/access"
    scraper, admin = give_key(keys, "scraper"), give_key(keys, "admin", tenant="acme")
    with serve(folder, *INLINE, "--roles", str(tmp_path / "roles.toml")) as server:
        refused = get(server, "/metrics", **bearer(admin))
        assert refused.status_code == 403
        assert "all tenants together" in refused.json()["detail"]
        get(server, "/udfs/leaf.csv?n=1")
        get(server, "/udfs/leaf.csv?n=1", **bearer(scraper))
        told = scrape(server.url, **bearer(scraper))
    assert told.by("webfoot_refused_requests_total", "code") == {
        "forbidden": 1,
        "unauthorized": 1,
        # They are there from the start.
        "server-busy": 0,
        "too-many-requests": 0,
    }
    assert told.total("duckdb_errors_total", code="unauthorized", fault="client") == 1


def test_nothing_is_loaded_before_somebody_asks(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, one="from webfoot import udf\n@udf\ndef one(): return []\n")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from webfoot.server import create_app\n"
        "from webfoot.settings import Settings\n"
        f"create_app(Settings(folder=Path({str(folder)!r}), store=Path({str(tmp_path)!r}) / 's'))\n"
        "heavy = ('prometheus_client', 'opentelemetry.exporter', 'opentelemetry.sdk')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


# Without a server.


def state(**requests: Requests) -> State:
    told = {Asked("GET", TABLES, 200, udf, "csv", "hit", ""): it for udf, it in requests.items()}
    return State(told, {}, Load(), Holdings(0, 0), 0, 0, 0, 0, Settings())


def test_names_of_udfs_are_told_whatever_letters_they_have() -> None:
    odd = 'größe"\\\n'
    times = Requests()
    times.add(1.0)
    for accept in ("", OPENMETRICS):
        body, media_type = expose(state(**{odd: times}), accept)
        assert Scrape(body.decode(), media_type).total("duckdb_queries_total", udf=odd) == 1


def test_a_server_that_nobody_has_asked_anything_has_metrics_too() -> None:
    body, media_type = expose(state(), "")
    told = Scrape(body.decode(), media_type)
    assert told.total("webfoot_info", version="0.1.0") == 1
    assert "duckdb_queries" in told.families
