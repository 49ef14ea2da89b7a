"""Jobs on Lambda: made by one instance, run by another, asked for through any."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.aws.fleet import fleet_of
from tests.aws.gateway import reachable
from tests.s3_server import moto_server
from tests.server_process import COUNT, connect, write_udfs

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
    from webfoot import udf
    from ._count import count

    def rows(name, seconds):
        count(f"{name} {seconds:g}")
        time.sleep(seconds)
        count(f"{name} {seconds:g} ended")
        return [{"seconds": seconds}]

    @udf(timeout=60)
    def declared(seconds: float) -> list[dict[str, float]]:
        return rows("declared", seconds)

    @udf
    def undeclared(seconds: float) -> list[dict[str, float]]:
        return rows("undeclared", seconds)

    @udf
    def fails(n: int = 0) -> list[dict[str, float]]:
        count("fails")
        raise LookupError("no such station")
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture
def udfs(tmp_path: Path) -> Path:
    return write_udfs(tmp_path, some=UDFS, _count=COUNT)


@pytest.fixture
def fleet(tmp_path: Path, udfs: Path, s3: S3Server) -> Iterator[Fleet]:
    """Three instances, which hold a request for a second."""
    told = {"WEBFOOT_STORE": str(s3.make_place()), "WEBFOOT_HOLD": "1s"}
    with fleet_of(3, tmp_path / "fleet", udfs, {**s3.environment, **told}) as running:
        yield running


@pytest.fixture
def gateway(fleet: Fleet) -> Iterator[Gateway]:
    with reachable(fleet) as running:
        yield running


def counted(udfs: Path) -> list[str]:
    file = udfs.parent / "counts.txt"
    return file.read_text().splitlines() if file.exists() else []


def until(gateway: Gateway, job: str, *states: str) -> dict[str, Any]:
    patient_until = time.monotonic() + 40
    while True:
        told: dict[str, Any] = httpx.get(f"{gateway.url}/jobs/{job}", timeout=30).json()
        if told["state"] in states:
            return told
        assert time.monotonic() < patient_until, told
        time.sleep(0.1)


def submit(gateway: Gateway, **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{gateway.url}/jobs", json=body, timeout=30)
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_duckdb_reads_a_run_that_takes_longer_than_a_request_may(
    gateway: Gateway, udfs: Path
) -> None:
    with connect() as con:
        sql = f"FROM '{gateway.url}/udfs/declared.parquet?seconds=5'"
        assert con.execute(sql).fetchall() == [(5.0,)]
    assert counted(udfs) == ["declared 5", "declared 5 ended"]
    assert [status for method, status in gateway.requests if method == "GET"].count(303) >= 3


def test_who_does_not_declare_how_long_it_takes_is_begun_anew_and_answered(
    gateway: Gateway, udfs: Path
) -> None:
    # The instance has started, and the run begins at once.
    httpx.get(f"{gateway.url}/udfs/fails.parquet", timeout=30)
    with connect() as con:
        sql = f"FROM '{gateway.url}/udfs/undeclared.parquet?seconds=4'"
        assert con.execute(sql).fetchall() == [(4.0,)]
    # The instance that was asked first gave its run up.
    runs = [line for line in counted(udfs) if line.startswith("undeclared")]
    assert sorted(runs) == ["undeclared 4", "undeclared 4", "undeclared 4 ended"]


def test_a_job_is_run_by_one_instance_and_told_by_others(gateway: Gateway, udfs: Path) -> None:
    made = submit(gateway, udf="declared", parameters={"seconds": 2})
    assert made["state"] == "queued"
    done = until(gateway, made["id"], "done")
    assert (done["progress"], done["rows"]) == ({"done": 1, "total": 1}, 1)
    answer = httpx.get(f"{gateway.url}/jobs/{made['id']}.json", timeout=30)
    assert answer.json() == [{"seconds": 2.0}]
    assert counted(udfs) == ["declared 2", "declared 2 ended"]


def test_a_job_of_the_sdk_is_waited_for_across_instances(gateway: Gateway, udfs: Path) -> None:
    with Client(gateway.url) as client:
        job = client.submit("declared", seconds=2)
        assert job.result(40).arrow().to_pylist() == [{"seconds": 2.0}]
        with pytest.raises(UdfFailed, match="no such station"):
            client.submit("fails").result(40)
    assert counted(udfs) == ["declared 2", "declared 2 ended", "fails"]


def test_a_job_is_cancelled_from_another_instance(gateway: Gateway, udfs: Path) -> None:
    made = submit(gateway, udf="declared", parameters={"seconds": 30})
    while not counted(udfs):
        time.sleep(0.01)
    httpx.delete(f"{gateway.url}/jobs/{made['id']}", timeout=30).raise_for_status()
    assert until(gateway, made["id"], "cancelled")["problem"]["code"] == "run-cancelled"
    assert counted(udfs) == ["declared 30"]


def test_a_job_whose_instance_is_killed_is_done_by_another(
    fleet: Fleet, gateway: Gateway, udfs: Path
) -> None:
    made = submit(gateway, udf="declared", parameters={"seconds": 3})
    until(gateway, made["id"], "running")
    while not counted(udfs):
        time.sleep(0.01)
    (busy,) = fleet.busy()
    busy.kill()
    assert until(gateway, made["id"], "done")["rows"] == 1
    assert counted(udfs) == ["declared 3", "declared 3", "declared 3 ended"]
    assert [outcome.error for outcome in fleet.left] == [""]


def test_the_same_key_at_two_instances_is_one_job(fleet: Fleet, gateway: Gateway) -> None:
    made = []
    for _ in range(2):
        headers = {"idempotency-key": "k"}
        body = {"udf": "declared", "parameters": {"seconds": 0.1}}
        answer = httpx.post(f"{gateway.url}/jobs", json=body, headers=headers, timeout=30)
        made.append(answer.json()["id"])
        fleet.environments[0].kill()
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
    good = json.dumps({"udf": "declared", "parameters": {"seconds": 0.1}})
    batch = messages(good, json.dumps({"udf": "fails"}), "no json", '{"udf": "none"}')
    for _ in range(2):  # Delivered twice: none runs twice.
        outcome = fleet.invoke(batch)
        assert outcome.error == "", fleet.environments[0].printed()
        failed = [item["itemIdentifier"] for item in outcome.json()["batchItemFailures"]]
        assert failed == ["message-1", "message-2", "message-3"]
    assert sorted(counted(udfs)) == ["declared 0.1", "declared 0.1 ended", "fails"]


def test_a_job_that_the_platform_ends_fails_and_says_so(
    tmp_path: Path, udfs: Path, s3: S3Server
) -> None:
    told = {"WEBFOOT_STORE": str(s3.make_place())}
    given = {**s3.environment, **told}
    with fleet_of(2, tmp_path / "fleet", udfs, given, 4) as fleet, reachable(fleet) as gateway:
        made = submit(gateway, udf="declared", parameters={"seconds": 20})
        problem = until(gateway, made["id"], "failed")["problem"]
        assert problem["code"] == "deadline-reached"
