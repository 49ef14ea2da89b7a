"""`/alerts`: three alerts of Prometheus' rules, without Prometheus."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from tests.access.granting import bearer, give_key
from tests.scrapes import scrape
from tests.server_process import INLINE, Server, serve, write_udfs
from tests.test_server_pages import BROWSER

from webfoot.server import alerts
from webfoot.server.alerts import (
    FAILING,
    MEMORY,
    MEMORY_SHARE,
    SLOW,
    WINDOW_S,
    Recent,
    judge_memory,
    judge_requests,
    read_recent,
)
from webfoot.server.records import Records
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = Path(__file__).parents[1] / "deploy" / "prometheus" / "rules.yml"
UDFS = """
    from webfoot import udf

    @udf
    def fine(n: int = 1):
        return [{"n": n}]

    @udf
    def raises(n: int = 1):
        raise ValueError("a planted failure")
"""
TABLES = "/udfs/{name}.{extension}"
NOW = 1_800_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_udfs(tmp_path, some=UDFS)


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serve(folder, *INLINE) as running:
        yield running


def told(server: Server, **headers: str) -> dict[str, Any]:
    """What the server says of all alerts, with these by their names."""
    answer = httpx.get(f"{server.url}/alerts", headers=headers, timeout=60).raise_for_status()
    report: dict[str, Any] = answer.json()
    report["alerts"] = {alert["name"]: alert for alert in report["alerts"]}
    return report


def line(ended: float, **known: Any) -> str:
    """A record as a server writes it, of a request that was over at that time."""
    record = {
        "method": "GET",
        "route": TABLES,
        "udf": "fine",
        "http_status": 200,
        "execution_time_ms": 10.0,
        **known,
    }
    began = datetime.fromtimestamp(ended - record["execution_time_ms"] / 1000, UTC)
    return json.dumps({"timestamp": began.isoformat().replace("+00:00", "Z"), **record}) + "\n"


def write_segment(folder: Path, *lines: str, name: str = "a", at: float = NOW) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text("".join(lines))
    os.utime(path, (at, at))


def recent(folder: Path, *lines: str) -> Recent:
    """What is read of these lines."""
    write_segment(folder, *lines)
    return read_recent(Records(folder, Settings()), NOW)


# On a server.


def test_nobody_has_asked_anything_and_all_is_well(server: Server) -> None:
    for _ in range(2):
        report = told(server)
        assert (report["state"], report["requests"], report["since"]) == ("ok", 0, None)
        for name in ("WebfootQueriesFail", "WebfootQueriesSlow"):
            alert = report["alerts"][name]
            assert (alert["state"], alert["value"], alert["reason"]) == ("ok", None, None)
            assert alert["window_s"] == 300
        memory = report["alerts"]["WebfootMemoryHigh"]
        assert memory["state"] == "ok"
        assert memory["value"] > 10
        # Of 2 GB for each of two workers.
        assert (memory["threshold"], memory["unit"], memory["window_s"]) == (3600, "MB", 0)


def test_a_udf_that_raises_fires_and_what_clients_do_wrong_does_not(server: Server) -> None:
    began = time.time()
    with httpx.Client(base_url=server.url) as http:
        for number in range(3):
            assert http.get(f"/udfs/fine.csv?n={number}").status_code == 200
            assert http.get("/udfs/fine.csv?n=x").status_code == 422
            assert http.get("/udfs/nosuch.csv").status_code == 404
            http.get("/nothing")
            http.head("/udfs/raises.csv")
        assert told(server)["alerts"]["WebfootQueriesFail"]["value"] == 0
        for number in range(3):
            assert http.get(f"/udfs/raises.csv?n={number}").status_code == 500
        assert http.get("/query.csv?sql=SELECT%201").status_code == 200
        assert http.post("/udfs/raises/map", json=[{"n": 7}]).status_code == 500
    report = told(server)
    assert (report["state"], report["requests"]) == ("firing", 14)
    assert began < report["since"] < time.time()
    failing = report["alerts"]["WebfootQueriesFail"]
    assert failing["state"] == "firing"
    assert (failing["value"], failing["threshold"], failing["unit"]) == (28.571, 5, "%")
    assert "'/_system/runs.parquet'" in failing["runbook"]
    assert report["alerts"]["WebfootQueriesSlow"]["state"] == "ok"
    assert report["alerts"]["WebfootQueriesSlow"]["value"] > 0
    # What counts here is what Prometheus is told.
    metrics = scrape(server.url)
    assert metrics.total("duckdb_queries_total") == report["requests"]
    assert metrics.total("duckdb_errors_total", fault="server") == 4


def test_slow_requests_fire_whichever_server_has_answered_them(server: Server) -> None:
    now = time.time()
    slow = [line(now, execution_time_ms=ms) for ms in (10.0, 5100.0, 7000.0)]
    write_segment(server.store / "requests", *slow, at=now)
    report = told(server)
    alert = report["alerts"]["WebfootQueriesSlow"]
    assert (report["state"], alert["state"]) == ("firing", "firing")
    assert (alert["threshold"], alert["unit"]) == (5000, "ms")
    assert 5100 < alert["value"] < 7000


def test_much_memory_fires(folder: Path) -> None:
    with serve(folder, *INLINE, "--workers", "1", "--memory", "10MB") as server:
        report = told(server)
    alert = report["alerts"]["WebfootMemoryHigh"]
    assert (report["state"], alert["state"], alert["threshold"]) == ("firing", "firing", 9)
    assert alert["value"] > 9


def test_without_records_only_memory_is_known(folder: Path) -> None:
    with serve(folder, *INLINE, "--request-log", "0") as server:
        httpx.get(f"{server.url}/udfs/raises.csv")
        report = told(server)
        page = httpx.get(f"{server.url}/alerts", headers=BROWSER).text
    assert (report["state"], report["requests"], report["since"]) == ("unknown", None, None)
    for name in ("WebfootQueriesFail", "WebfootQueriesSlow"):
        alert = report["alerts"][name]
        assert (alert["state"], alert["value"]) == ("unknown", None)
        assert "WEBFOOT_REQUEST_LOG" in alert["reason"]
    assert report["alerts"]["WebfootMemoryHigh"]["state"] == "ok"
    assert "WEBFOOT_REQUEST_LOG" in page
    assert "Requests for tables in" not in page


def test_records_that_could_not_be_written_are_no_silence(folder: Path) -> None:
    # A file where their folder should be: they are lost, as on a full disk.
    store = folder.parent / "store"
    store.mkdir()
    (store / "requests").touch()
    with serve(folder, *INLINE) as server:
        assert told(server)["state"] == "ok"
        httpx.get(f"{server.url}/udfs/raises.csv")
        report = told(server)
    assert report["state"] == "unknown"
    assert "1 were lost" in report["alerts"]["WebfootQueriesFail"]["reason"]


def test_people_get_a_page_and_nobody_keeps_either(server: Server) -> None:
    httpx.get(f"{server.url}/udfs/raises.csv")
    page = httpx.get(f"{server.url}/alerts", headers=BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "content-security-policy" in page.headers
    assert re.search(r'WebfootQueriesFail.*bad">firing<.*?>100\.0 %.*?>5 %', page.text, re.DOTALL)
    plain = httpx.get(f"{server.url}/alerts")
    head = httpx.head(f"{server.url}/alerts")
    assert (head.status_code, head.content) == (200, b"")
    for answer in (page, plain, head):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["vary"].startswith("Accept")
    assert httpx.post(f"{server.url}/alerts").status_code == 405


def test_alerts_are_for_whom_metrics_are(folder: Path) -> None:
    roles = folder.parent / "roles.toml"
    roles.write_text('[roles.scraper]\nmay = ["metrics"]\n')
    keys = folder.parent / "store/access"
    scraper, analyst = give_key(keys, "scraper"), give_key(keys, "analyst")
    tenant = give_key(keys, "admin", tenant="acme")
    with serve(folder, *INLINE, "--roles", str(roles)) as server:
        assert httpx.get(f"{server.url}/alerts").status_code == 401
        for key, why in ((analyst, "the right 'metrics'"), (tenant, "all tenants together")):
            refused = httpx.get(f"{server.url}/alerts", headers=bearer(key))
            assert refused.status_code == 403
            assert why in refused.json()["detail"]
        assert told(server, **bearer(scraper))["state"] == "ok"


# Records, without a server.


def test_what_was_over_before_the_window_does_not_count(tmp_path: Path) -> None:
    found = recent(
        tmp_path,
        line(NOW - WINDOW_S - 1, http_status=500, code="udf-failed"),
        line(NOW - WINDOW_S + 1),
        # It began before the window, and was over within.
        line(NOW - 1, execution_time_ms=WINDOW_S * 1000),
    )
    assert (found.requests, found.failed) == (2, 0)
    assert found.since == pytest.approx(NOW - WINDOW_S + 1)


def test_segments_that_were_last_written_before_the_window_are_not_read(tmp_path: Path) -> None:
    write_segment(tmp_path, line(NOW), name="old", at=NOW - WINDOW_S - 1)
    assert recent(tmp_path, line(NOW)).requests == 1


@pytest.mark.parametrize(
    ("known", "is_counted", "has_failed"),
    [
        ({"http_status": 200}, True, False),
        ({"http_status": 500, "code": "udf-failed"}, True, True),
        ({"http_status": 503, "code": "server-busy"}, True, True),
        ({"http_status": 500}, True, True),
        # DuckDB is told an error inside of a file.
        ({"http_status": 200, "code": "udf-failed"}, True, True),
        ({"http_status": 200, "code": "invalid-parameters"}, True, False),
        ({"http_status": 0, "code": "client-gone"}, True, False),
        ({"http_status": 500, "method": "HEAD"}, False, False),
        ({"http_status": 500, "route": "/udfs/{name}"}, False, False),
        ({"http_status": 500, "route": "/query", "method": "POST"}, True, True),
    ],
)
def test_requests_for_tables_count_and_whose_fault_it_is(
    tmp_path: Path, known: dict[str, Any], *, is_counted: bool, has_failed: bool
) -> None:
    found = recent(tmp_path, line(NOW, **known))
    assert (found.requests, found.failed) == (int(is_counted), int(has_failed))


def test_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    torn = line(NOW)[:40]
    write_segment(tmp_path, line(NOW), torn, name="a")
    write_segment(tmp_path, line(NOW), torn, name="b")
    write_segment(tmp_path, line(NOW), name="c")
    assert read_recent(Records(tmp_path, Settings()), NOW).requests == 3
    assert recent(tmp_path / "only", torn).requests == 0


def test_however_much_is_written_only_the_latest_of_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line(NOW - 10, http_status=500), *(line(NOW) for _ in range(20))]
    monkeypatch.setattr(alerts, "_MOST_BYTES", len("".join(lines)) - 5)
    found = recent(tmp_path, *lines)
    assert (found.requests, found.failed) == (20, 0)


def test_nineteen_of_twenty_decide(tmp_path: Path) -> None:
    times = [*(100.0 for _ in range(96)), *(9000.0 for _ in range(4))]
    found = recent(tmp_path, *(line(NOW, execution_time_ms=ms) for ms in times))
    assert found.p95_ms == 100
    found = recent(tmp_path, *(line(NOW, execution_time_ms=ms) for ms in [*times[2:], 9000, 9000]))
    assert found.p95_ms == 9000


# Thresholds.


def test_what_is_at_its_threshold_is_not_above_it() -> None:
    def states(failed: int, p95_ms: float) -> list[str]:
        return [alert.standing for alert in judge_requests(Recent(100, failed, p95_ms, NOW))]

    assert states(5, 5000.0) == ["ok", "ok"]
    assert states(6, 5000.0) == ["firing", "ok"]
    assert states(5, 5000.1) == ["ok", "firing"]
    assert judge_memory(8_000_000_000, 64_000_000_000).standing == "ok"
    assert judge_memory(8_000_000_001, 64_000_000_000).standing == "firing"
    assert judge_memory(3_600_000_000, 4_000_000_000).standing == "ok"
    assert judge_memory(3_600_000_001, 4_000_000_000).standing == "firing"


def test_prometheus_has_the_same_thresholds_and_words() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    memory, share = MEMORY.threshold * 1e6, MEMORY_SHARE
    for rule, limits in (
        (FAILING, [FAILING.threshold / 100]),
        (SLOW, [SLOW.threshold / 1000]),
        (MEMORY, [memory, share]),
    ):
        known = rules[rule.name]
        assert [float(text) for text in re.findall(r"> ([\d.e]+)", known["expr"])] == limits
        assert rule.description.endswith(known["annotations"]["description"])
    recorded = {rule["record"]: rule["expr"] for rule in groups[0]["rules"]}
    for name in ("job:webfoot_queries:rate5m", "job:webfoot_query_duration_seconds:p95_rate5m"):
        assert f"[{WINDOW_S // 60}m]" in recorded[name]
