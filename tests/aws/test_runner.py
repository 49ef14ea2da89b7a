"""What a UDF calls runs in the function's other instances: within limits, and nothing is lost."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.aws.fleet import fleet_of
from tests.aws.gateway import reachable
from tests.s3_server import moto_server
from tests.server_process import COUNT, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.aws.fleet import Fleet
    from tests.s3_server import S3Server

UDFS = """
    import os, time
    import webfoot
    from webfoot import udf
    from ._count import count

    @udf(cache="1h")
    def sleeps(n: int, seconds: float = 0.5) -> list[dict[str, int]]:
        count(f"{n}")
        time.sleep(seconds)
        return [{"n": n, "pid": os.getpid()}]

    @udf(cache="0")
    def sixty(seconds: float = 0.5, inputs: int = 60, take: int = 0) -> object:
        return webfoot.map("sleeps", [{"n": n, "seconds": seconds} for n in range(inputs)]).df()

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


@pytest.fixture
def udfs(tmp_path: Path) -> Path:
    return write_udfs(tmp_path, some=UDFS, _count=COUNT)


def counted(udfs: Path) -> list[str]:
    file = udfs.parent / "counts.txt"
    return file.read_text().splitlines() if file.exists() else []


def get(fleet: Fleet, path: str) -> httpx.Response:
    with reachable(fleet) as gateway:
        return httpx.get(f"{gateway.url}/udfs/{path}", timeout=120, follow_redirects=True)


def printed(fleet: Fleet) -> str:
    return "\n".join(one.printed() for one in fleet.environments)


@pytest.fixture
def fleet(tmp_path: Path, udfs: Path, s3: S3Server) -> Iterator[Fleet]:
    """Six instances, each with one processor."""
    told = {"WEBFOOT_STORE": str(s3.make_place()), "WEBFOOT_WORKERS": "1"}
    with fleet_of(6, tmp_path / "fleet", udfs, {**s3.environment, **told}) as running:
        yield running


def test_a_fan_out_uses_six_instances(fleet: Fleet, udfs: Path) -> None:
    answer = get(fleet, "sixty.json")
    assert answer.status_code == 200, answer.text
    rows = answer.json()
    assert [row["n"] for row in rows] == list(range(60))
    assert len({row["pid"] for row in rows}) == 6
    assert sorted(counted(udfs), key=int) == [str(n) for n in range(60)]
    # Asked again, by an instance that did not make them, all of it is there.
    fleet.environments[0].kill()
    assert get(fleet, "sixty.json?take=1").json() == rows
    assert len(counted(udfs)) == 60


def test_throttled_calls_are_tried_again_and_none_is_lost(fleet: Fleet) -> None:
    rows = get(fleet, "sixty.json?seconds=0.05").json()
    assert [row["n"] for row in rows] == list(range(60))
    assert fleet.throttled > 0


def test_no_more_instances_are_asked_for_than_allowed(
    tmp_path: Path, udfs: Path, s3: S3Server
) -> None:
    told = {"WEBFOOT_STORE": str(s3.make_place()), "WEBFOOT_INVOCATIONS": "2"}
    with fleet_of(6, tmp_path / "fleet", udfs, {**s3.environment, **told}) as fleet:
        assert len(get(fleet, "sixty.json?seconds=0.1&inputs=12").json()) == 12
        assert fleet.throttled == 0
        assert sum(one.starts for one in fleet.environments) == 3


def test_without_leave_to_invoke_all_runs_in_one_instance(
    tmp_path: Path, udfs: Path, s3: S3Server
) -> None:
    told = {"WEBFOOT_STORE": str(s3.make_place()), "WEBFOOT_WORKERS": "2"}
    with fleet_of(2, tmp_path / "fleet", udfs, {**s3.environment, **told}) as fleet:
        fleet.forbidden = True
        assert len(get(fleet, "sixty.json?seconds=0.05&inputs=12").json()) == 12
        assert len(fleet.events) < 12
        assert "allow lambda:InvokeFunction, or set WEBFOOT_INVOCATIONS to 0" in printed(fleet)


def test_an_instance_that_is_killed_loses_nothing(fleet: Fleet, udfs: Path) -> None:
    killed = []

    def kill_one() -> None:
        until = time.monotonic() + 30
        while len(counted(udfs)) < 15 and time.monotonic() < until:
            time.sleep(0.01)
        while not (others := [one for one in fleet.environments[1:] if one in fleet.busy()]):
            time.sleep(0.01)
        victim = others[0]
        victim.kill()
        killed.append(victim)

    killing = threading.Thread(target=kill_one)
    killing.start()
    rows = get(fleet, "sixty.json").json()
    killing.join()
    assert killed
    assert [row["n"] for row in rows] == list(range(60))
    # What it was doing ran twice, and nothing else.
    assert 60 <= len(counted(udfs)) <= 61


def test_a_udf_that_ends_its_instance_is_told_so_and_runs_no_third_time(
    fleet: Fleet, udfs: Path
) -> None:
    answer = get(fleet, "calls_crashing.json")
    # The instance that was asked is one that can be ended, too.
    assert answer.status_code in (500, 502)
    assert counted(udfs).count("crash 5") <= 2


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
