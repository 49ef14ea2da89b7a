"""What answers say of what they have cost, beside the records of the runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from tests.server_process import COUNT, Server, serve, write_udfs
from tests.test_calling import UDFS

from webfoot.billing import PRICES, architecture, gb_seconds
from webfoot.runs import Run, Runs
from webfoot.server.problems import EXPOSED_HEADERS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=["processes", "inline"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = write_udfs(tmp_path_factory.mktemp("bills"), _count=COUNT, calling=UDFS)
    with serve(folder, "--runner", request.param) as running:
        yield running


def runs_of(server: Server, answer: httpx.Response) -> list[Run]:
    """The records of all runs that the request led to whose answer names one of them."""
    runs = Runs(server.store / "runs")
    try:
        every = runs.all()
    finally:
        runs.close()
    [own] = [run for run in every if run.id == answer.headers["x-webfoot-run"]]
    return [run for run in every if run.trace == own.trace]


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        ("leaf.parquet?n=1&tag=a", ["call"]),
        ("leaf.csv?n=1&tag=b", ["call", "view"]),
        ("patient.parquet?n=1&sleep=0.01", ["call"]),
        ("total.parquet?count=7&tag=c", ["call"] * 8),
        ("nested.json?width=3&tag=d", ["call"] * 13 + ["view"]),
        ("leaf.parquet?_each=n&n=1&n=2&n=3&tag=e", ["call"] * 3 + ["fan-out"]),
    ],
)
def test_an_answer_tells_the_sum_of_its_run_records(
    server: Server, path: str, kinds: list[str]
) -> None:
    answer = httpx.get(f"{server.url}/udfs/{path}", timeout=60)
    answer.raise_for_status()
    runs = runs_of(server, answer)
    assert sorted(run.kind for run in runs) == kinds
    memory = [run.memory_bytes for run in runs if run.memory_bytes]
    assert len(memory) == len(runs)
    assert int(answer.headers["x-webfoot-billed-ms"]) == sum(run.billed_ms for run in runs)
    assert int(answer.headers["x-webfoot-runs"]) == len(runs)
    assert int(answer.headers["x-webfoot-memory"]) == max(memory)
    spent = sum(gb_seconds(run.billed_ms, run.memory_bytes or 0) for run in runs)
    cost = spent * PRICES.gb_second[architecture()]
    assert float(answer.headers["x-webfoot-cost"]) == pytest.approx(cost, abs=1e-10)
    assert int(answer.headers["x-webfoot-bytes"]) > 0


def test_a_stored_result_costs_nothing(server: Server) -> None:
    url = f"{server.url}/udfs/leaf.csv?n=5&tag=stored"
    first = httpx.get(url)
    assert int(first.headers["x-webfoot-billed-ms"]) > 0
    for method in ("GET", "HEAD"):
        again = httpx.request(method, url)
        assert again.headers["x-webfoot-billed-ms"] == "0"
        assert "x-webfoot-cost" not in again.headers
    ranged = httpx.get(url, headers={"Range": "bytes=0-1"})
    assert (ranged.status_code, ranged.headers["x-webfoot-billed-ms"]) == (206, "0")


def test_only_what_is_not_stored_is_billed(server: Server) -> None:
    httpx.get(f"{server.url}/udfs/total.parquet?count=3&tag=part").raise_for_status()
    answer = httpx.get(f"{server.url}/udfs/total.parquet?count=5&tag=part")
    assert int(answer.headers["x-webfoot-runs"]) == 1 + 2


def test_a_failure_tells_what_it_has_cost_and_its_retry_nothing(server: Server) -> None:
    url = f"{server.url}/udfs/leaf.parquet?n=1&fail=true&sleep=0.1&tag=failed"
    first, again = httpx.get(url), httpx.get(url)
    assert (first.status_code, again.status_code) == (500, 500)
    [run] = runs_of(server, first)
    assert int(first.headers["x-webfoot-billed-ms"]) == run.billed_ms >= 100
    assert again.headers["x-webfoot-billed-ms"] == "0"


def test_what_never_runs_costs_nothing(server: Server) -> None:
    for path in ("leaf.parquet?n=x", "no_such_udf.parquet"):
        assert httpx.get(f"{server.url}/udfs/{path}").headers["x-webfoot-billed-ms"] == "0"


def test_pages_of_other_origins_may_read_what_is_told(server: Server) -> None:
    answer = httpx.get(f"{server.url}/udfs/leaf.csv?n=6&tag=exposed")
    told = {name for name in answer.headers if name.startswith("x-webfoot-")}
    assert told <= {name.lower() for name in EXPOSED_HEADERS}
