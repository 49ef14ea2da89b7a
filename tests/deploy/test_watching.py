"""What operators are given to watch a server with: it asks for what there is, and alerts fire."""

from __future__ import annotations

import itertools
import json
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from tests.access.granting import bearer, give_key
from tests.prometheus_server import Prometheus, promtool, watch
from tests.scrapes import scrape
from tests.server_process import COUNT, INLINE, Server, eventually, serve, write_udfs
from tests.test_calling import UDFS

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
DASHBOARD = json.loads((DEPLOY / "grafana" / "webfoot.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
NAME = re.compile(r"(?<![:\w])(?:duckdb|http|process|python|webfoot)_\w+")
# Which Grafana fills in.
VARIABLES = {
    "$__rate_interval": "1m",
    "$__range": "1m",
    '"$job"': '"webfoot"',
    '"$instance"': '".*"',
}
BROKEN = "from webfoot import udf\nraise ValueError('a broken file')\n"


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard_expressions() -> list[str]:
    found = [target["expr"] for panel in PANELS for target in panel["targets"]]
    for variable, value in VARIABLES.items():
        found = [expression.replace(variable, value) for expression in found]
    return found


def expressions() -> list[str]:
    """What panels draw, and what rules compare."""
    compared = [re.sub(r" (>|==) [\d.e]+", "", r["expr"]) for r in rules() if "alert" in r]
    recorded = [rule["expr"] for rule in rules() if "record" in rule]
    return [*dashboard_expressions(), *recorded, *compared]


@dataclass(frozen=True)
class Watched:
    """A server that has been asked for all kinds of things.

    Args:
        server: The server.
        scraper: The key of who watches it.
        analyst: That of who asks.
    """

    server: Server
    scraper: str
    analyst: str

    def work(self, tag: str) -> None:
        """Ask for seven tables with a key, for one without, and for one page."""
        tables = [
            *(f"/udfs/leaf.{ext}?n=1&tag={tag}" for ext in ("csv", "parquet", "csv")),
            *(f"/udfs/total.json?count=3&tag={tag}", f"/udfs/leaf.csv?n=1&fail=true&tag={tag}"),
            *("/udfs/leaf.csv?n=x", "/udfs/nosuch.csv"),
        ]
        with httpx.Client(base_url=self.server.url, timeout=60) as http:
            for path in [*tables, "/udfs"]:
                http.get(path, headers=bearer(self.analyst))
            assert http.get(tables[0]).status_code == 401


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    parent = tmp_path_factory.mktemp("watching")
    folder = write_udfs(parent, _count=COUNT, calling=UDFS, broken=BROKEN)
    (parent / "roles.toml").write_text('[roles.scraper]\nmay = ["metrics"]\n')
    scraper, analyst = (give_key(parent / "store/access", r) for r in ("scraper", "analyst"))
    with serve(folder, *INLINE, "--roles", str(parent / "roles.toml")) as server:
        running = Watched(server, scraper, analyst)
        running.work("before")
        yield running


def test_every_name_is_one_that_a_server_tells(watched: Watched) -> None:
    known = scrape(watched.server.url, **bearer(watched.scraper)).names
    for text in [*dashboard_expressions(), RULES.read_text()]:
        names = set(NAME.findall(text))
        assert names <= known, text
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert set(re.findall(r"job:\w+:\w+", RULES.read_text())) == recorded


def test_an_alert_says_what_it_means_and_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) >= 8
    for alert in alerts:
        assert {"summary", "description", "runbook"} == set(alert["annotations"])
        assert alert["labels"]["severity"] in ("critical", "warning")
        text = (DEPLOY / "README.md").read_text()
        assert f"`{alert['alert']}`" in text


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    assert DASHBOARD["uid"] == "webfoot"
    assert DASHBOARD["schemaVersion"] >= 39
    assert "id" not in DASHBOARD
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids) >= 15
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "job", "instance"}
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert panel["type"] in ("gauge", "stat", "table", "timeseries")
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["targets"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


@pytest.mark.slow
def test_promtool_has_nothing_to_say(watched: Watched) -> None:
    said = promtool("check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    assert "rules found" in said
    told = httpx.get(f"{watched.server.url}/metrics", headers=bearer(watched.scraper)).text
    assert promtool("check", "metrics", told=told) == ""


@pytest.mark.slow
def test_every_alert_fires_and_is_silent_where_nothing_happens() -> None:
    told = Path(__file__).with_name("alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", told)
    tested = set(re.findall(r'alertname="(\w+)"', told.read_text()))
    assert tested == {rule["alert"] for rule in rules() if "alert" in rule}


@pytest.fixture(scope="module")
def prometheus(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with watch(
        watched.server.url, watched.scraper, tmp_path_factory.mktemp("prometheus")
    ) as running:
        yield running


@pytest.fixture(scope="module")
def seen_at(prometheus: Prometheus, watched: Watched) -> float:
    """When Prometheus had seen the server at work for some seconds."""
    patient_until = time.monotonic() + 60
    for number in itertools.count():
        watched.work(f"watched{number}")
        time.sleep(1)
        now = time.time()
        if len(prometheus.values("count_over_time(webfoot_info[1m]) > 8", now)) == 1:
            break
        assert time.monotonic() < patient_until
    return now


@pytest.mark.slow
@pytest.mark.parametrize("expression", expressions())
def test_every_expression_has_a_value(
    prometheus: Prometheus, seen_at: float, expression: str
) -> None:
    values = prometheus.values(expression, seen_at)
    assert values, expression
    assert not any(map(math.isnan, values)), expression


@pytest.mark.slow
def test_prometheus_counts_what_a_server_has_done(prometheus: Prometheus, watched: Watched) -> None:
    before = scrape(watched.server.url, **bearer(watched.scraper)).total("duckdb_queries_total")
    eventually(lambda: prometheus.values("sum(duckdb_queries_total)") == [before])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: watched.work(f"counted{n}"), range(4)))
    eventually(lambda: prometheus.values(f"sum(duckdb_queries_total) >= {before + 32}"))
    assert prometheus.values("sum(duckdb_queries_total)") == [before + 32]


@pytest.mark.slow
def test_an_alert_reaches_who_watches(prometheus: Prometheus) -> None:
    def alerts() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = prometheus.ask("alerts")["alerts"]
        return [alert for alert in found if alert["labels"]["alertname"] == "WebfootUdfBroken"]

    broken = eventually(alerts)[0]["annotations"]
    assert broken["summary"].startswith("1 files or UDFs of 127.0.0.1:")

    def health() -> set[str]:
        groups = prometheus.ask("rules")["groups"]
        return {rule["health"] for group in groups for rule in group["rules"]}

    def targets() -> list[tuple[str, str]]:
        found = prometheus.ask("targets")["activeTargets"]
        return [(target["health"], target["lastError"]) for target in found]

    eventually(lambda: health() == {"ok"})
    eventually(lambda: targets() == [("up", "")])
