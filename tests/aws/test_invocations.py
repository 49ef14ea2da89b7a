"""A function in a real `awslambdaric`: its limits, its end, and what one caller leaves another."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tests.aws.events import KINDS, Answered, Asked, Event, answer_of, event_of
from tests.aws.runtime_api import MOST_BYTES, Environment, environment
from tests.server_process import COUNT, GATE, eventually, write_udfs

from webfoot.aws.invocations import _limits_of
from webfoot.billing import PRICES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from webfoot.server.limits import Limits

UDFS = """
    import os, re, time
    from pathlib import Path
    import duckdb
    from webfoot import udf

    NOTES = Path(__file__).parents[1] / "notes.txt"

    def note(text):
        with NOTES.open("a") as file:
            file.write(text + "\\n")

    @udf
    def pid(n: int = 0) -> list[dict[str, int]]:
        return [{"pid": os.getpid()}]

    @udf
    def sleeps(seconds: float) -> list[dict[str, float]]:
        note(f"sleeps begins {seconds:g}")
        time.sleep(seconds)
        note("sleeps ends")
        return [{"seconds": seconds}]

    @udf
    def spins() -> list[dict[str, int]]:
        note("spins begins")
        try:
            while True:
                pass
        finally:
            note("spins ends")

    @udf
    def never_yields() -> list[dict[str, int]]:
        re.fullmatch("(a|aa)+b", "a" * 60)  # Holds Python's lock for years.
        return []

    @udf
    def noise(pieces: int, text: str = "x") -> list[dict[str, str]]:
        return [{"text": text * 1000 + os.urandom(500).hex()} for _ in range(pieces)]

    @udf
    def quotes(rows: int) -> list[dict[str, str]]:
        return [{"text": '"' * 1000} for _ in range(rows)]

    @udf
    def tables(con: duckdb.DuckDBPyConnection, n: int = 0) -> list[dict[str, int]]:
        seen = con.sql("SELECT count(*) FROM duckdb_tables()").fetchone()[0]
        con.sql("CREATE TABLE secret AS SELECT 1")
        return [{"seen": seen}]

    @udf
    def crashes() -> list[dict[str, int]]:
        os._exit(3)
"""

# What nobody waits for goes on for as long as this test may stand still between its two requests.
WAITS = """
    import webfoot.engine
    from webfoot import udf
    from ._count import count
    from ._gate import wait_at

    webfoot.engine.LINGER_S = 60

    @udf
    def ready() -> list[dict[str, int]]:
        return [{"n": 1}]

    @udf
    def waits() -> list[dict[str, int]]:
        count("waits")
        wait_at("waits")
        return [{"n": 1}]
"""


@pytest.fixture(scope="module")
def udfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_udfs(tmp_path_factory.mktemp("invocations"), some=UDFS)


@pytest.fixture(scope="module")
def function(udfs: Path) -> Iterator[Environment]:
    with environment(udfs.parent / "function", udfs) as running:
        yield running


@pytest.fixture
def quick(udfs: Path, tmp_path: Path) -> Iterator[Environment]:
    """A function that has run something, and is told from now on that it may take two seconds."""
    with environment(tmp_path / "quick", udfs) as running:
        ask(running, "/udfs/pid.json")
        hurry(running)
        yield running


def hurry(function: Environment) -> None:
    """Give calls two seconds, and end none that is late: what is answered decides."""
    function.timeout_s, function.grace_s = 2, 20


def ask(function: Environment, url: str, kind: str = "function_url", **headers: str) -> Answered:
    return answer(function, event_of(kind, Asked("GET", url, headers)))


def answer(function: Environment, event: Event) -> Answered:
    outcome = function.invoke(event)
    assert outcome.error == "", function.printed()
    return answer_of(outcome.json())


def problem(answered: Answered) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answered.body)
    assert found["status"] == answered.status
    return found


def until_noted(udfs: Path, text: str) -> None:
    """Wait until the UDFs have noted `text`."""
    notes = udfs.parent / "notes.txt"
    eventually(lambda: notes.exists() and text in notes.read_text())


def test_a_run_is_billed_for_the_functions_memory(function: Environment) -> None:
    answered = ask(function, "/udfs/sleeps.parquet?seconds=0.11")
    assert int(answered.headers["x-webfoot-memory"]) == 1024 << 20
    milliseconds = int(answered.headers["x-webfoot-billed-ms"])
    assert 110 <= milliseconds < 10_000
    price = min(PRICES.gb_second.values()), max(PRICES.gb_second.values())
    cost = float(answered.headers["x-webfoot-cost"]) / (milliseconds / 1000)
    assert price[0] * 0.99 < cost < price[1] * 1.01


# What stays, and what does not.


def test_an_instance_answers_all_its_requests_in_one_process(function: Environment) -> None:
    pids = {ask(function, f"/udfs/pid.json?n={n}").body for n in range(3)}
    assert function.process is not None
    assert [json.loads(body) for body in pids] == [[{"pid": function.process.pid}]]
    assert function.starts == 1


def test_nothing_of_one_caller_is_visible_to_the_next(function: Environment) -> None:
    for n in range(3):
        assert json.loads(ask(function, f"/udfs/tables.json?n={n}").body) == [{"seen": 0}]


def test_sql_is_an_event_of_its_own_and_the_body_of_a_request(function: Environment) -> None:
    first = function.invoke({"q": "SELECT * FROM range(1000000000)", "limit": 20}).json()
    assert (first["rows"], first["truncated"]) == (20, True)
    assert first["data"][-1] == {"range": 19}
    asked = Asked("POST", "/query", {"content-type": "application/json"})
    body = json.dumps({"query": "FROM noise(pieces := 2) SELECT count(*) AS n"})
    posted = answer(function, {**event_of("function_url", asked), "body": body})
    assert posted.status == 200
    told = json.loads(posted.body)
    assert told["data"] == [{"n": 2}]
    assert told["metadata"]["warm"] is True
    refused = function.invoke({"query": "FROM read_text('/etc/passwd')"}).json()
    assert (refused["status"], refused["code"]) == (403, "query-refused")


def test_a_scheduled_event_keeps_an_instance_warm(function: Environment) -> None:
    event = {"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
    assert function.invoke(event).json() == {"warm": True}


def test_an_event_that_is_no_request_is_an_error_that_says_so(function: Environment) -> None:
    outcome = function.invoke({"Records": []})
    assert outcome.error
    assert "is no HTTP request; call the function through" in outcome.json()["errorMessage"]


def test_a_crash_ends_its_own_call_only(udfs: Path, tmp_path: Path) -> None:
    with environment(tmp_path / "crashing", udfs) as running:
        crash = running.invoke(event_of("http_api", Asked("GET", "/udfs/crashes.json")))
        assert crash.error == "Runtime.ExitError"
        assert ask(running, "/udfs/pid.json").status == 200
        assert running.starts == 2


# Time.


@pytest.mark.parametrize("kind", ["function_url", "load_balancer"])
def test_a_call_is_answered_before_the_platform_ends_it(quick: Environment, kind: str) -> None:
    answered = ask(quick, "/udfs/sleeps.json?seconds=20", kind)
    assert answered.status == 504
    told = problem(answered)
    assert told["code"] == "deadline-reached"
    assert "s that Lambda allows; try again, since a run may go on" in told["detail"]
    quick.timeout_s = 30
    assert ask(quick, "/udfs/pid.json").status == 200
    assert quick.starts == 1


def test_a_call_that_comes_when_its_time_is_over_is_told_that(quick: Environment) -> None:
    quick.timeout_s = 0.2
    answered = ask(quick, "/udfs/sleeps.json?seconds=19")
    assert (answered.status, problem(answered)["code"]) == (504, "deadline-reached")


def test_a_loop_that_never_yields_is_answered_and_then_stopped(
    quick: Environment, udfs: Path
) -> None:
    assert problem(ask(quick, "/udfs/spins.json"))["code"] == "deadline-reached"
    # Nobody asks again: what nobody waits for ends while the instance has something else to do.
    patient_until = time.monotonic() + 30
    while "spins ends" not in (udfs.parent / "notes.txt").read_text():
        assert time.monotonic() < patient_until
        ask(quick, f"/udfs/sleeps.json?seconds={random.uniform(0.5, 1)}")
    assert quick.starts == 1


def test_a_run_that_went_on_answers_who_tries_again(tmp_path: Path) -> None:
    udfs = write_udfs(tmp_path, some=WAITS, _gate=GATE, _count=COUNT)
    with environment(tmp_path / "function", udfs) as running:
        assert ask(running, "/udfs/ready.json").status == 200
        hurry(running)
        assert ask(running, "/udfs/waits.json").status == 504
        (tmp_path / "gate-waits").touch()
        running.timeout_s = 30
        assert ask(running, "/udfs/waits.json").status == 200
    assert (tmp_path / "counts.txt").read_text().splitlines() == ["waits"]


def test_code_that_holds_the_interpreter_is_answered_with_worker_processes(
    udfs: Path, tmp_path: Path
) -> None:
    with environment(
        tmp_path / "processes", udfs, WEBFOOT_RUNNER="processes", WEBFOOT_WORKERS="1"
    ) as running:
        assert ask(running, "/udfs/pid.json").status == 200
        hurry(running)
        assert ask(running, "/udfs/never_yields.json").status == 504
        assert running.starts == 1


@dataclass(frozen=True)
class Remaining:
    """What Lambda tells: how much is left of a call's time."""

    seconds: float

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


def limits_after(
    monkeypatch: pytest.MonkeyPatch, kind: str, passed_s: float, remaining_s: float = 900
) -> Limits:
    """The limits of a request that was made so many seconds ago."""
    event = event_of(kind, Asked("GET", "/udfs/pid.json"))
    context = event["requestContext"]
    began_s = (context.get("timeEpoch") or context.get("requestTimeEpoch")) / 1000
    monkeypatch.setattr(time, "time", lambda: began_s + passed_s)

    async def look() -> Limits:
        limits = _limits_of({"aws.event": event, "aws.context": Remaining(remaining_s)})[1]
        assert limits.ends_at <= asyncio.get_running_loop().time() + limits.seconds - 0.5
        return limits

    return asyncio.run(look())


GATEWAYS = pytest.mark.parametrize(("kind", "patience_s"), [("http_api", 30), ("rest_api", 29)])


@GATEWAYS
def test_what_a_gateway_has_waited_already_counts(
    monkeypatch: pytest.MonkeyPatch, kind: str, patience_s: float
) -> None:
    limits = limits_after(monkeypatch, kind, 27)
    assert limits.seconds == pytest.approx(patience_s - 27)
    assert limits.platform == "API Gateway"
    limits = limits_after(monkeypatch, kind, 27, remaining_s=1)
    assert (limits.seconds, limits.platform) == (1, "Lambda")


@GATEWAYS
def test_for_a_gateway_that_waits_no_longer_nothing_is_begun(
    monkeypatch: pytest.MonkeyPatch, kind: str, patience_s: float
) -> None:
    limits = limits_after(monkeypatch, kind, patience_s + 1)
    assert (limits.seconds, limits.platform) == (0, "API Gateway")


@GATEWAYS
@pytest.mark.parametrize("passed_s", [-5, 10_000_000])
def test_of_a_time_to_come_or_of_long_ago_nothing_has_passed(
    monkeypatch: pytest.MonkeyPatch, kind: str, patience_s: float, passed_s: float
) -> None:
    assert limits_after(monkeypatch, kind, passed_s).seconds == patience_s


def test_a_gateway_that_has_waited_for_long_is_answered_while_it_waits(
    function: Environment,
) -> None:
    event = event_of("http_api", Asked("GET", "/udfs/sleeps.json?seconds=21"))
    event["requestContext"]["timeEpoch"] -= 28_000
    told = problem(answer(function, event))
    assert told["code"] == "deadline-reached"
    assert "API Gateway allows" in told["detail"]


def test_a_duckdb_prompt_shows_what_ran_out_of_time(quick: Environment) -> None:
    url = "/udfs/sleeps.parquet?seconds=21"
    answered = ask(quick, url, **{"user-agent": "duckdb/v1.5.5(linux_amd64) cli"})
    assert (answered.status, answered.headers["x-webfoot-status"]) == (200, "504")
    assert b"no answer came within" in answered.body


# Size.


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_that_the_platform_does_not_carry_is_413(function: Environment, kind: str) -> None:
    answered = ask(function, "/udfs/noise.parquet?pieces=15000", kind)
    assert answered.status == 413
    told = problem(answered)
    assert told["code"] == "result-too-large"
    assert "ask for less (?_columns=…, ?_limit=…, a byte range)" in told["detail"]
    carrier = "the load balancer" if kind == "load_balancer" else "Lambda"
    assert f"and {carrier} carries at most" in told["detail"]
    assert told["limit_bytes"] < 6_000_000


def test_a_large_result_can_be_read_in_ranges(function: Environment) -> None:
    url = "/udfs/noise.parquet?pieces=15000"
    head = answer(function, event_of("function_url", Asked("HEAD", url)))
    assert head.status == 200
    whole, size = b"", 1
    while len(whole) < size:
        answered = ask(function, url, range=f"bytes={len(whole)}-{len(whole) + 3_999_999}")
        assert answered.status == 206
        size = int(answered.headers["content-range"].rpartition("/")[2])
        whole += answered.body
    assert whole[:4] == whole[-4:] == b"PAR1"


def test_a_duckdb_prompt_shows_that_a_result_is_too_large(function: Environment) -> None:
    url = "/udfs/noise.parquet?pieces=15000"
    answered = ask(function, url, **{"user-agent": "duckdb/v1.5.5(linux_amd64) cli"})
    assert (answered.status, answered.headers["x-webfoot-status"]) == (200, "413")
    assert b"and Lambda carries at most" in answered.body


def test_a_text_that_json_would_swell_is_sent_as_bytes(function: Environment) -> None:
    event = event_of("function_url", Asked("GET", "/udfs/quotes.csv?rows=2000"))
    outcome = function.invoke(event)
    assert outcome.error == ""
    assert len(outcome.body) < MOST_BYTES
    assert len(answer_of(outcome.json()).body) > 4_000_000


# The end.


def test_sigterm_ends_an_idle_instance_in_order(udfs: Path, tmp_path: Path) -> None:
    with environment(tmp_path / "idle", udfs) as running:
        assert ask(running, "/udfs/pid.json").status == 200
        staging = tmp_path / "idle" / "tmp" / "webfoot" / "staging"
        assert len(list(staging.iterdir())) == 1
        assert running.process is not None
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0
        assert list(staging.iterdir()) == []


def test_sigterm_during_a_call_answers_it(udfs: Path, tmp_path: Path) -> None:
    with environment(tmp_path / "busy", udfs) as running:
        ask(running, "/healthz")
        outcomes = []
        event = event_of("http_api", Asked("GET", "/udfs/sleeps.json?seconds=33"))
        calling = threading.Thread(target=lambda: outcomes.append(running.invoke(event)))
        calling.start()
        until_noted(udfs, "sleeps begins 33")
        assert running.process is not None
        running.process.send_signal(signal.SIGTERM)
        calling.join(20)
        (outcome,) = outcomes
        assert outcome.error == ""
        assert problem(answer_of(outcome.json()))["code"] == "run-cancelled"
        assert running.process.wait(10) == 0


# The disk.


def test_a_function_writes_nowhere_but_in_its_temporary_folder(udfs: Path, tmp_path: Path) -> None:
    before = sorted(path for path in udfs.rglob("*") if path.name != "__pycache__")
    with environment(tmp_path / "disk", udfs) as running:
        assert ask(running, "/udfs/pid.json").status == 200
        assert ask(running, "/udfs/tables.parquet").status == 200
        found = {path.name for path in (tmp_path / "disk").iterdir()}
    assert found == {"tmp", "task", "function.log"}
    assert sorted(path for path in udfs.rglob("*") if path.name != "__pycache__") == before
