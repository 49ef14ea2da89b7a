"""What a UDF calls runs in the function's other instances: within limits, and nothing is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.aws.fleet import fleet_of
from tests.aws.gateway import reachable
from tests.otlp_collector import collect
from tests.s3_server import moto_server
from tests.server_process import COUNT, GATE, eventually, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.aws.fleet import Fleet
    from tests.s3_server import S3Server

UDFS = """
    import os, time
    from pathlib import Path
    import webfoot
    from webfoot import udf
    from ._count import count
    from ._gate import wait_at

    NOTES = Path(__file__).parents[1] / "counts.txt"

    @udf(cache="1h")
    def sleeps(n: int, tag: str) -> list[dict[str, int]]:
        count(f"{tag} {n}")
        time.sleep(0.1)
        if tag == "killed" and NOTES.read_text().count(tag) > 8:
            wait_at(tag)
        return [{"n": n, "pid": os.getpid()}]

    @udf(cache="0")
    def fans_out(inputs: int, tag: str, take: int = 0) -> object:
        return webfoot.map("sleeps", [{"n": n, "tag": tag} for n in range(inputs)]).arrow()

    @udf
    def fails(n: int) -> list[dict[str, int]]:
        if n == 3:
            raise LookupError(f"no station {n}")
        return [{"n": n}]

    @udf(cache="0")
    def calls_failing() -> object:
        return webfoot.map("fails", [{"n": n} for n in range(6)]).df()

    @udf
    def nested(depth: int, n: int = 0) -> list[dict[str, int]]:
        if depth == 0:
            return [{"pid": os.getpid()}]
        below = webfoot.map("nested", [{"depth": depth - 1, "n": 3 * n + i} for i in range(3)])
        return below.arrow().to_pylist()

    @udf
    def circle(n: int = 0) -> object:
        time.sleep(0.3)
        others = [{"n": (n + 1) % 3}, {"n": (n + 1) % 3 + 10}] if n < 10 else []
        return webfoot.map("circle", others).df() if others else [{"n": n}]

    @udf
    def crashes(n: int) -> list[dict[str, int]]:
        count(f"crash {n}")
        time.sleep(0.2)
        if n == 5:
            os._exit(3)
        return [{"n": n}]

    @udf(cache="0")
    def calls_crashing() -> object:
        return webfoot.map("crashes", [{"n": n} for n in range(6)]).df()
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def udfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_udfs(tmp_path_factory.mktemp("runner"), some=UDFS, _count=COUNT, _gate=GATE)


def counted(udfs: Path, tag: str) -> list[str]:
    """What runs with this tag have noted: each test has its own."""
    file = udfs.parent / "counts.txt"
    noted = file.read_text().splitlines() if file.exists() else []
    return [line.removeprefix(f"{tag} ") for line in noted if line.startswith(f"{tag} ")]


def get(fleet: Fleet, path: str) -> httpx.Response:
    with reachable(fleet) as gateway:
        return httpx.get(f"{gateway.url}/udfs/{path}", timeout=120, follow_redirects=True)


def printed(fleet: Fleet) -> str:
    return "\n".join(one.printed() for one in fleet.environments)


@pytest.fixture(scope="module")
def four(udfs: Path, s3: S3Server) -> Iterator[Fleet]:
    told = {"WEBFOOT_STORE": str(s3.make_place()), "WEBFOOT_WORKERS": "1"}
    with fleet_of(4, udfs.parent / "fleet", udfs, {**s3.environment, **told}) as running:
        running.start()
        yield running


@pytest.fixture
def fleet(four: Fleet) -> Fleet:
    """Four instances, each with one processor, with nothing to do."""
    four.rest()
    return four


def test_a_fan_out_uses_every_instance_and_what_is_throttled_is_tried_again(
    fleet: Fleet, udfs: Path
) -> None:
    fleet.next.kill()  # One that starts does not know how many others there are.
    throttled = fleet.throttled
    answer = get(fleet, "fans_out.json?inputs=30&tag=all")
    assert answer.status_code == 200, answer.text
    rows = answer.json()
    assert [row["n"] for row in rows] == list(range(30))
    assert len({row["pid"] for row in rows}) == 4
    assert fleet.throttled > throttled
    assert sorted(counted(udfs, "all"), key=int) == [str(n) for n in range(30)]
    # Asked again, by an instance that did not make them, all of it is there.
    fleet.next.kill()
    assert get(fleet, "fans_out.json?inputs=30&tag=all&take=1").json() == rows
    assert len(counted(udfs, "all")) == 30


def test_no_more_instances_are_asked_for_than_allowed(
    tmp_path: Path, udfs: Path, s3: S3Server
) -> None:
    told = {"WEBFOOT_STORE": str(s3.make_place()), "WEBFOOT_INVOCATIONS": "2"}
    with fleet_of(6, tmp_path / "fleet", udfs, {**s3.environment, **told}) as fleet:
        assert len(get(fleet, "fans_out.json?inputs=12&tag=allowed").json()) == 12
        assert fleet.throttled == 0
        assert sum(one.starts for one in fleet.environments) == 3


def test_without_leave_to_invoke_all_runs_in_one_instance(
    tmp_path: Path, udfs: Path, s3: S3Server
) -> None:
    told = {"WEBFOOT_STORE": str(s3.make_place()), "WEBFOOT_WORKERS": "2"}
    with fleet_of(2, tmp_path / "fleet", udfs, {**s3.environment, **told}) as fleet:
        fleet.forbidden = True
        assert len(get(fleet, "fans_out.json?inputs=12&tag=alone").json()) == 12
        assert len(fleet.events) < 12
        assert "allow lambda:InvokeFunction, or set WEBFOOT_INVOCATIONS to 0" in printed(fleet)


def test_an_instance_that_is_killed_loses_nothing(fleet: Fleet, udfs: Path) -> None:
    asked = fleet.next
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(get, fleet, "fans_out.json?inputs=30&tag=killed")
        try:
            # From the ninth on they wait, so that who is busy now is so until it is killed.
            eventually(lambda: len(counted(udfs, "killed")) > 8)
            victim = eventually(lambda: [one for one in fleet.busy() if one is not asked])[0]
            victim.kill()
        finally:
            (udfs.parent / "gate-killed").touch()
        rows = asking.result().json()
    assert [row["n"] for row in rows] == list(range(30))
    # What it was doing ran twice, and nothing else.
    assert 30 <= len(counted(udfs, "killed")) <= 31


def test_a_udf_that_ends_its_instance_is_told_so_and_runs_no_third_time(
    fleet: Fleet, udfs: Path
) -> None:
    answer = get(fleet, "calls_crashing.json")
    # The instance that was asked is one that can be ended, too.
    assert answer.status_code in (500, 502)
    assert counted(udfs, "crash").count("5") <= 2


def test_an_error_arrives_as_if_it_had_happened_here(fleet: Fleet) -> None:
    problem = get(fleet, "calls_failing.json").json()
    assert problem["code"] == "fanout-failed"
    assert "LookupError: no station 3" in problem["detail"]
    (failure,) = problem["failures"]
    assert (failure["index"], failure["problem"]["udf"]) == (3, "fails")


def test_calls_below_calls_go_on_to_further_instances(fleet: Fleet) -> None:
    rows = get(fleet, "nested.json?depth=3").json()
    assert len(rows) == 27
    # What runs cost in other instances is told, too: 1 + 3 + 9 + 27 of them.
    told = get(fleet, "nested.parquet?depth=3&n=100").headers
    assert int(told["x-webfoot-runs"]) == 40
    assert int(told["x-webfoot-billed-ms"]) >= 40
    assert len({row["pid"] for row in rows}) > 2


def test_a_circle_by_way_of_other_instances_is_found(fleet: Fleet) -> None:
    problem = get(fleet, "circle.json").json()
    assert "called in a circle" in problem["detail"]


def test_a_trace_goes_on_in_other_instances(tmp_path: Path, udfs: Path, s3: S3Server) -> None:
    trace, above = "5" * 32, "00000000000000aa"
    with collect() as collector:
        told = {
            "WEBFOOT_STORE": str(s3.make_place()),
            "WEBFOOT_WORKERS": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            # What is sent before an answer is, as an instance stands still after it.
            "OTEL_BSP_SCHEDULE_DELAY": "3600000",
        }
        with fleet_of(4, tmp_path / "fleet", udfs, {**s3.environment, **told}) as fleet:
            with reachable(fleet) as gateway:
                answer = httpx.get(
                    f"{gateway.url}/udfs/nested.parquet?depth=2",
                    headers={"traceparent": f"00-{trace}-{above}-01"},
                    timeout=120,
                )
            assert answer.is_success
            assert sum(one.starts for one in fleet.environments) > 1
            # The request, and 1 + 3 + 9 runs.
            spans = collector.wait_for(14, trace)
    assert len(spans) == 14
    [request] = [span for span in spans if span.parent == above]
    [top] = [span for span in spans if span.parent == request.id]
    middle = [span for span in spans if span.parent == top.id]
    assert len(middle) == 3
    for one in middle:
        assert len([span for span in spans if span.parent == one.id]) == 3
