"""Jobs on Lambda: made by one instance, run by another, asked for through any."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.aws.fleet import fleet_of
from tests.aws.gateway import reachable
from tests.s3_server import moto_server
from tests.server_process import COUNT, GATE, connect, eventually, write_udfs

from webfoot import Client
from webfoot.errors import UdfFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.aws.fleet import Fleet
    from tests.aws.gateway import Gateway
    from tests.s3_server import S3Server

UDFS = """
    import time
    import webfoot.engine
    from webfoot import udf
    from ._count import count
    from ._gate import wait_at

    # What an instance does not give up of its own accord, it goes on with.
    webfoot.engine.LINGER_S = 600

    def rows(name, seconds, tag, gate):
        count(f"{tag} {name}")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.02)
        if gate:
            wait_at(gate)
        count(f"{tag} {name} ended")
        return [{"seconds": seconds}]

    @udf(timeout=60)
    def declared(seconds: float, tag: str, gate: str = "") -> list[dict[str, float]]:
        return rows("declared", seconds, tag, gate)

    @udf
    def undeclared(seconds: float, tag: str, gate: str = "") -> list[dict[str, float]]:
        return rows("undeclared", seconds, tag, gate)

    @udf
    def fails(tag: str) -> list[dict[str, float]]:
        count(f"{tag} fails")
        raise LookupError("no such station")
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="module")
def udfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_udfs(tmp_path_factory.mktemp("jobs"), some=UDFS, _count=COUNT, _gate=GATE)


@pytest.fixture(scope="module")
def three(udfs: Path, s3: S3Server) -> Iterator[Fleet]:
    told = {"WEBFOOT_STORE": str(s3.make_place()), "WEBFOOT_HOLD": "1s"}
    with fleet_of(3, udfs.parent / "fleet", udfs, {**s3.environment, **told}) as running:
        running.start()
        yield running


@pytest.fixture
def fleet(three: Fleet) -> Fleet:
    """Three instances with nothing to do, which hold a request for a second."""
    three.rest()
    return three


@pytest.fixture
def gateway(fleet: Fleet) -> Iterator[Gateway]:
    with reachable(fleet) as running:
        yield running


def counted(udfs: Path, tag: str) -> list[str]:
    """What runs with this tag have noted: each test has its own."""
    file = udfs.parent / "counts.txt"
    noted = file.read_text().splitlines() if file.exists() else []
    return [line.removeprefix(f"{tag} ") for line in noted if line.startswith(f"{tag} ")]


def open_gate(udfs: Path, gate: str) -> None:
    """Let runs go on that wait at a gate."""
    (udfs.parent / f"gate-{gate}").touch()


def until(gateway: Gateway, job: str, *states: str) -> dict[str, Any]:
    patient_until = time.monotonic() + 40
    while True:
        told: dict[str, Any] = httpx.get(f"{gateway.url}/jobs/{job}", timeout=30).json()
        if told.get("state") in states:  # A problem has none.
            return told
        assert time.monotonic() < patient_until, told
        time.sleep(0.1)


def submit(gateway: Gateway, **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{gateway.url}/jobs", json=body, timeout=30)
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.json()
    return told


def read(url: str) -> list[tuple[Any, ...]]:
    """What DuckDB reads there."""
    with connect() as con:
        return con.execute(f"FROM '{url}'").fetchall()


def test_duckdb_reads_a_run_that_takes_longer_than_a_request_may(
    gateway: Gateway, udfs: Path
) -> None:
    url = f"{gateway.url}/udfs/declared.parquet?seconds=0&tag=long&gate=long"
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, url)
        try:
            eventually(lambda: gateway.requests.count(("GET", 303)) >= 2)
        finally:
            open_gate(udfs, "long")
        assert reading.result() == [(0.0,)]
    assert counted(udfs, "long") == ["declared", "declared ended"]


def test_who_does_not_declare_how_long_it_takes_is_begun_anew_and_answered(
    gateway: Gateway, udfs: Path
) -> None:
    # The instance has imported what runs need, and the run begins at once.
    httpx.get(f"{gateway.url}/udfs/undeclared.parquet?seconds=0&tag=first", timeout=30)
    url = f"{gateway.url}/udfs/undeclared.parquet?seconds=0&tag=anew&gate=anew"
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, url)
        try:
            eventually(lambda: len(counted(udfs, "anew")) == 2)
        finally:
            open_gate(udfs, "anew")
        assert reading.result() == [(0.0,)]
    # The instance that was asked first gave its run up.
    assert sorted(counted(udfs, "anew")) == ["undeclared", "undeclared", "undeclared ended"]


def test_a_job_is_run_by_one_instance_and_told_by_others(gateway: Gateway, udfs: Path) -> None:
    made = submit(gateway, udf="declared", parameters={"seconds": 0.5, "tag": "told"})
    assert made["state"] == "queued"
    done = until(gateway, made["id"], "done")
    assert (done["progress"], done["rows"]) == ({"done": 1, "total": 1}, 1)
    answer = httpx.get(f"{gateway.url}/jobs/{made['id']}.json", timeout=30)
    assert answer.json() == [{"seconds": 0.5}]
    assert counted(udfs, "told") == ["declared", "declared ended"]


def test_a_job_of_the_sdk_is_waited_for_across_instances(gateway: Gateway, udfs: Path) -> None:
    with Client(gateway.url) as client:
        job = client.submit("declared", seconds=0.7, tag="sdk")
        assert job.result(40).arrow().to_pylist() == [{"seconds": 0.7}]
        with pytest.raises(UdfFailed, match="no such station"):
            client.submit("fails", tag="sdk").result(40)
    assert counted(udfs, "sdk") == ["declared", "declared ended", "fails"]


def test_a_job_is_cancelled_from_another_instance(gateway: Gateway, udfs: Path) -> None:
    made = submit(gateway, udf="declared", parameters={"seconds": 30, "tag": "cancelled"})
    while not counted(udfs, "cancelled"):
        time.sleep(0.01)
    httpx.delete(f"{gateway.url}/jobs/{made['id']}", timeout=30).raise_for_status()
    assert until(gateway, made["id"], "cancelled")["problem"]["code"] == "run-cancelled"
    assert counted(udfs, "cancelled") == ["declared"]


# Until it is known that nobody goes on with it, 20 s pass.
@pytest.mark.slow
def test_a_job_whose_instance_is_killed_is_done_by_another(
    fleet: Fleet, gateway: Gateway, udfs: Path
) -> None:
    made = submit(
        gateway, udf="declared", parameters={"seconds": 0, "tag": "killed", "gate": "killed"}
    )
    until(gateway, made["id"], "running")
    eventually(lambda: counted(udfs, "killed"))
    left = len(fleet.left)
    (busy,) = fleet.busy()
    busy.kill()
    open_gate(udfs, "killed")
    assert until(gateway, made["id"], "done")["rows"] == 1
    assert counted(udfs, "killed") == ["declared", "declared", "declared ended"]
    eventually(lambda: len(fleet.left) > left)
    assert [outcome.error for outcome in fleet.left[left:]] == [""]


def test_the_same_key_at_two_instances_is_one_job(fleet: Fleet, gateway: Gateway) -> None:
    made = []
    for _ in range(2):
        headers = {"idempotency-key": "k"}
        body = {"udf": "declared", "parameters": {"seconds": 0.1, "tag": "key"}}
        answer = httpx.post(f"{gateway.url}/jobs", json=body, headers=headers, timeout=30)
        made.append(answer.json()["id"])
        fleet.rest()
        fleet.next.kill()  # What starts in its place knows nothing.
    assert made[0] == made[1]


def messages(*bodies: str) -> dict[str, Any]:
    """A batch, as SQS hands it over."""
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": "handle",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:jobs",
                "awsRegion": "eu-west-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


def test_of_a_batch_of_messages_those_that_fail_are_told(fleet: Fleet, udfs: Path) -> None:
    good = json.dumps({"udf": "declared", "parameters": {"seconds": 0.1, "tag": "batch"}})
    bad = json.dumps({"udf": "fails", "parameters": {"tag": "batch"}})
    batch = messages(good, bad, "no json", '{"udf": "none"}')
    for _ in range(2):  # Delivered twice: none runs twice.
        outcome = fleet.invoke(batch)
        assert outcome.error == "", fleet.next.printed()
        failed = [item["itemIdentifier"] for item in outcome.json()["batchItemFailures"]]
        assert failed == ["message-1", "message-2", "message-3"]
    assert sorted(counted(udfs, "batch")) == ["declared", "declared ended", "fails"]


def test_a_job_that_the_platform_ends_fails_and_says_so(
    tmp_path: Path, udfs: Path, s3: S3Server
) -> None:
    given = {**s3.environment, "WEBFOOT_STORE": str(s3.make_place())}
    with fleet_of(2, tmp_path / "fleet", udfs, given) as fleet, reachable(fleet) as gateway:
        fleet.unwaited_s = 3
        for one in fleet.environments:
            one.grace_s = 20  # Its answer decides, however late it is.
        made = submit(gateway, udf="declared", parameters={"seconds": 50, "tag": "ended"})
        problem = until(gateway, made["id"], "failed")["problem"]
        assert problem["code"] == "deadline-reached"
