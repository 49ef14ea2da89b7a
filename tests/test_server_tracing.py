"""Traces: from a request to its runs to the calls that they make, in one tree."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.otlp_collector import Collector, Span, collect
from tests.server_process import COUNT, INLINE, Server, serve, write_udfs
from tests.test_calling import UDFS

from webfoot.server.tracing import tracing_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.places import Place

TABLES = "/udfs/{name}.{extension}"
DEEP = """
    import webfoot
    from webfoot import udf

    @udf
    def tree(tag: str = ""):
        return webfoot.map("total", [{"count": 2, "tag": f"{tag}{n}"} for n in range(3)])
"""


def environment_for(collector: Collector, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        **more,
    }


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collect() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Server]:
    folder = write_udfs(tmp_path_factory.mktemp("tracing"), _count=COUNT, calling=UDFS, deep=DEEP)
    with serve(folder, environment=environment_for(collector)) as running:
        yield running


def trace_of(name: str) -> tuple[str, str]:
    """A trace id for a test, and the id of the span that asks in it."""
    trace = name.encode().hex().rjust(32, "0")[-32:]
    return trace, "00000000000000aa"


def ask(server: Server, trace: str, above: str, path: str, flags: str = "01") -> httpx.Response:
    headers = {"traceparent": f"00-{trace}-{above}-{flags}", "x-request-id": trace}
    return httpx.get(f"{server.url}{path}", headers=headers, timeout=60)


def below(spans: list[Span], above: str) -> list[Span]:
    return [span for span in spans if span.parent == above]


def test_a_fan_out_of_depth_two_is_one_tree(server: Server, collector: Collector) -> None:
    trace, above = trace_of("a fan-out")
    answer = ask(server, trace, above, "/udfs/tree.parquet?tag=t")
    assert answer.is_success
    # The request, the tree, three totals, two leaves of each.
    spans = collector.wait_for(1 + 1 + 3 + 6, trace)
    assert len(spans) == 11
    [request] = below(spans, above)
    assert (request.name, request.kind) == (f"GET {TABLES}", "SPAN_KIND_SERVER")
    [tree] = below(spans, request.id)
    assert (tree.name, tree.kind) == ("call tree", "SPAN_KIND_INTERNAL")
    totals = below(spans, tree.id)
    assert [span.name for span in totals] == ["call total"] * 3
    for total in totals:
        leaves = below(spans, total.id)
        assert [span.name for span in leaves] == ["call leaf"] * 2
        for leaf in leaves:
            assert total.began <= leaf.began <= leaf.ended <= total.ended
    assert request.began <= tree.began <= tree.ended <= request.ended
    assert {span.service for span in spans} == {"webfoot"}
    assert not any(span.failed for span in spans)
    assert tree.id == answer.headers["x-webfoot-run"]


def test_what_is_known_of_an_answer_is_told(server: Server, collector: Collector) -> None:
    trace, above = trace_of("an answer")
    answer = ask(server, trace, above, "/udfs/leaf.csv?n=7&tag=told")
    spans = {span.name: span for span in collector.wait_for(3, trace)}
    assert set(spans) == {f"GET {TABLES}", "view leaf", "call leaf"}
    id_ = answer.headers["x-webfoot-run"]
    expected: dict[str, Any] = {
        "http.request.method": "GET",
        "http.route": TABLES,
        "http.response.status_code": 200,
        "http.response.body.size": len(answer.content),
        "webfoot.request_id": trace,
        "webfoot.udf": "leaf",
        "webfoot.format": "csv",
        "webfoot.cache": "miss",
        "webfoot.runs": 2,
        "webfoot.run": id_,
        "webfoot.rows": 1,
        "webfoot.bytes": int(answer.headers["x-webfoot-bytes"]),
        "webfoot.executions": 1,
    }
    request, call = spans[f"GET {TABLES}"], spans["call leaf"]
    assert {name: request.attributes.get(name) for name in expected} == expected
    record = httpx.get(f"{server.url}/runs/{id_}").json()
    assert (call.id, call.attributes["webfoot.kind"]) == (id_, "call")
    for name in ("rows", "bytes", "billed_ms", "memory_bytes"):
        assert call.attributes[f"webfoot.{name}"] == record[name]
    assert call.attributes["webfoot.cpu_s"] == pytest.approx(record["cpu_s"])


def test_a_stored_result_is_a_span_without_runs(server: Server, collector: Collector) -> None:
    httpx.get(f"{server.url}/udfs/leaf.parquet?n=8&tag=stored")
    trace, above = trace_of("stored")
    ask(server, trace, above, "/udfs/leaf.parquet?n=8&tag=stored")
    [span] = collector.wait_for(1, trace)
    assert (span.attributes["webfoot.cache"], span.attributes["webfoot.executions"]) == ("hit", 1)
    records = httpx.get(f"{server.url}/_system/requests.json?_columns=trace").json()
    assert {"trace": trace} in records


def test_errors_are_told_where_they_happen(server: Server, collector: Collector) -> None:
    trace, above = trace_of("an error")
    assert ask(server, trace, above, "/udfs/strict.csv").status_code == 500
    patient_until = time.monotonic() + 20
    # The request's is the last; how many other calls there were by then, nobody knows.
    while not below(collector.spans(trace), above):
        assert time.monotonic() < patient_until
        time.sleep(0.02)
    spans = {span.name: span for span in collector.spans(trace) if span.failed}
    assert set(spans) == {f"GET {TABLES}", "call strict", "call leaf"}
    assert spans[f"GET {TABLES}"].attributes["error.type"]
    leaf = spans["call leaf"]
    assert leaf.attributes["error.type"] == "udf-failed"
    assert "no leaf 1" in leaf.said
    [event] = leaf.events
    assert event == {"exception.type": "udf-failed", "exception.message": leaf.said}


def test_an_error_that_is_told_as_a_table_is_one_all_the_same(
    server: Server, collector: Collector
) -> None:
    trace, above = trace_of("in a sheet")
    assert ask(
        server, trace, above, "/udfs/leaf.csv?n=1&fail=true&tag=sheet&_for=sheets"
    ).is_success
    assert {span.failed for span in collector.wait_for(2, trace)} == {True}


def test_what_a_client_did_wrong_is_no_error_of_the_server(
    server: Server, collector: Collector
) -> None:
    trace, above = trace_of("a client")
    ask(server, trace, above, "/udfs/leaf.csv?n=x")
    [span] = collector.wait_for(1, trace)
    assert not span.failed
    assert span.attributes["error.type"] == "invalid-parameters"
    assert span.attributes["http.response.status_code"] == 422


def test_who_tells_of_no_trace_begins_one(server: Server, collector: Collector) -> None:
    for number, told in enumerate(("", "00-nonsense", f"00-{'0' * 32}-{'1' * 16}-01")):
        headers = {"x-request-id": f"begins-{number}", "traceparent": told}
        httpx.get(f"{server.url}/udfs", headers=headers)
        patient_until = time.monotonic() + 20
        while not (
            found := [
                span
                for span in collector.spans()
                if span.attributes.get("webfoot.request_id") == f"begins-{number}"
            ]
        ):
            assert time.monotonic() < patient_until
            time.sleep(0.02)
        assert (found[0].parent, found[0].name) == ("", "GET /udfs")
        assert re.fullmatch("[0-9a-f]{32}", found[0].trace)


def test_what_is_not_sampled_is_not_sent_nor_what_it_leads_to(
    server: Server, collector: Collector
) -> None:
    unwanted, above = trace_of("unwanted")
    ask(server, unwanted, above, "/udfs/total.parquet?count=2&tag=unwanted", flags="00")
    wanted, _ = trace_of("wanted")
    ask(server, wanted, above, "/udfs/total.parquet?count=2&tag=wanted")
    collector.wait_for(4, wanted)
    assert collector.spans(unwanted) == []


def test_a_job_has_a_trace_of_its_own(server: Server, collector: Collector) -> None:
    job = httpx.post(
        f"{server.url}/jobs", json={"udf": "one", "parameters": {"n": 4, "tag": "job"}}
    ).json()
    patient_until = time.monotonic() + 20
    while (state := httpx.get(f"{server.url}/jobs/{job['id']}").json())["state"] != "done":
        assert time.monotonic() < patient_until
        time.sleep(0.05)
    trace = httpx.get(f"{server.url}/runs/{state['run']}").json()["trace"]
    spans = {span.name: span for span in collector.wait_for(2, trace)}
    assert spans["call one"].parent == ""
    assert spans["call leaf"].parent == spans["call one"].id


def test_the_variables_of_opentelemetry_are_heard(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, calling=UDFS)
    with collect() as collector:
        environment = environment_for(
            collector,
            OTEL_SERVICE_NAME="tables",
            OTEL_EXPORTER_OTLP_HEADERS="x-tenant=ours",
            OTEL_TRACES_SAMPLER="parentbased_always_off",
            # Spans wait for the end of the server.
            OTEL_BSP_SCHEDULE_DELAY="60000",
            # Those of FastAPI have queries in them, as they came.
            FASTAPI_OTEL_AUTO_CONFIGURE="true",
        )
        with serve(folder, *INLINE, environment=environment) as server:
            httpx.get(f"{server.url}/udfs/one.csv?n=1")
            trace, above = trace_of("heard")
            ask(server, trace, above, "/udfs/leaf.parquet?n=1")
            ask(server, trace, above, "/udfs")
            assert collector.bodies == []
        spans = collector.spans()
        assert {span.trace for span in spans} == {trace}
        assert [span.name for span in spans] == [f"GET {TABLES}", "GET /udfs"]
        assert {span.service for span in spans} == {"tables"}
        assert collector.headers[0]["x-tenant"] == "ours"


def test_a_collector_that_is_not_there_harms_nobody(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, calling=UDFS)
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with serve(folder, *INLINE, environment=environment) as server:
        assert httpx.get(f"{server.url}/udfs/leaf.csv?n=1").is_success
        asked = time.monotonic()
    # It would try for ten seconds, and again.
    assert time.monotonic() - asked < 30


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, ""),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "Webfoot speaks http/protobuf, not 'grpc'",
        ),
    ],
)
def test_nothing_is_sent_that_nobody_wants(
    variables: dict[str, str], said: str, caplog: pytest.LogCaptureFixture, place: Place
) -> None:
    assert tracing_of(place.engine, variables) is None
    assert said in caplog.text
    assert bool(caplog.text) == bool(said)


def test_without_the_libraries_a_server_says_what_to_install(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "webfoot.server.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert tracing_of(place.engine, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}) is None
    assert "install webfoot[otel]" in caplog.text
