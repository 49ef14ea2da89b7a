"""Jobs from Python: made, watched, waited for, taken up again and cancelled, on a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.client.scripted import BEFORE, MIDDLE, Reply, Request, in_turn, scripted
from tests.client.test_connection import OK, PAGE, parquet
from tests.server_process import COUNT, INLINE, Server, serve, write_udfs

import webfoot
from webfoot.errors import (
    Error,
    InvalidParameters,
    JobNotFound,
    ResultGone,
    RunCancelled,
    ServerBusy,
    UdfFailed,
    UdfNotFound,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from webfoot.client.jobs import Job

UDFS = """
    import time
    from pathlib import Path
    from webfoot import udf
    from ._count import count

    def wait_for(name):
        here = Path(__file__).parents[1]
        while not (here / f"gate-{name}").exists():
            time.sleep(0.01)

    @udf
    def gated(name: str, n: int = 1):
        count(name)
        print("waiting for", name, flush=True)
        wait_for(name)
        return [{"n": n}]

    @udf
    def half(n: int):
        if n % 2:
            raise ValueError(f"{n} is odd")
        return [{"half": n // 2}]

    @udf
    def words(text: str = "default", maybe: int | None = 5):
        return [{"text": text, "maybe": maybe}]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_udfs(tmp_path_factory.mktemp("jobs"), _count=COUNT, some=UDFS)
    environment = {**os.environ, "WEBFOOT_HOLD": "1s", "WEBFOOT_DEBUG": "true"}
    with serve(folder, environment=environment) as running:
        yield running


def open_gate(server: Server, name: str) -> None:
    (server.folder.parent / f"gate-{name}").touch()


def eventually(see: Callable[[], Any]) -> None:
    patient_until = time.monotonic() + 30
    while not see():
        assert time.monotonic() < patient_until, "it never came"
        time.sleep(0.02)


def asked(server: Server, job: Job) -> list[tuple[str, int]]:
    """What the server was asked about a job, once nothing is asked any more."""
    return server.requests(f"/jobs/{job.id}")


# Its life.


def test_a_job_is_there_at_once_and_its_result_when_it_has_ended(
    either: webfoot.Client, server: Server
) -> None:
    name = f"life-{either!r}".replace("/", "")
    before = server.executions(name)
    job = either.submit("gated", name=name, n=7)
    assert len(job.id) == 16
    eventually(lambda: job.status == "running")
    assert (job.progress.done, job.progress.total) == (0, 1)
    assert job.wait(0.01) is job
    with pytest.raises(TimeoutError, match=rf"job {job.id} of gated has not ended after 0.01 s"):
        job.result(0.01)
    open_gate(server, name)
    assert job.result(30).arrow().to_pylist() == [{"n": 7}]
    assert job.status == "done"
    assert job.progress.done == 1
    assert job.progress.elapsed_s > 0
    assert job.result() is job.result(0)
    assert server.executions(name) - before == 1


def test_a_job_and_a_call_are_one_run(client: webfoot.Client, server: Server) -> None:
    jobs = [client.submit("gated", name="one run") for _ in range(2)]
    with ThreadPoolExecutor(1) as threads:
        called = threads.submit(client.run, "gated", name="one run", n=1)
        open_gate(server, "one run")
        tables = [called.result(), *(job.result(30) for job in jobs)]
    assert [table.arrow().to_pylist() for table in tables] == [[{"n": 1}]] * 3
    assert jobs[0].id != jobs[1].id
    assert server.executions("one run") == 1


def test_a_failed_job_raises_what_the_server_raised_with_the_author_s_frames(
    either: webfoot.Client,
) -> None:
    job = either.submit("half", n=3).wait(30)
    assert job.status == "failed"
    for _ in range(2):
        with pytest.raises(UdfFailed, match="3 is odd") as failed:
            job.result()
        assert failed.value.udf == "half"
        assert 'raise ValueError(f"{n} is odd")' in failed.value.__notes__[0]
    assert not job.cancel(), "it has ended"


def test_without_debug_mode_no_frames_and_no_log_are_told(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, some=UDFS)
    with serve(folder) as server, webfoot.Client(server.url) as client:
        job = client.submit("half", n=3)
        with pytest.raises(UdfFailed) as failed:
            job.result(30)
        assert not hasattr(failed.value, "__notes__")
        assert job.log == ""


def test_what_a_job_printed_is_told_in_debug_mode(client: webfoot.Client, server: Server) -> None:
    job = client.submit("gated", name="prints")
    eventually(lambda: job.log == "waiting for prints")
    open_gate(server, "prints")
    job.wait(30)
    assert job.log == "waiting for prints"


def test_a_cancelled_job_stops_on_the_server(either: webfoot.Client, server: Server) -> None:
    name = f"cancelled-{either!r}".replace("/", "")
    job = either.submit("gated", name=name)
    eventually(lambda: server.executions(name))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(job.result)
        assert job.cancel()
        for result in (waiting.result, job.result):
            with pytest.raises(RunCancelled, match="the job was cancelled"):
                result()
    assert job.status == "cancelled"
    assert job.cancel()
    # Its worker is free, for more than there are of them.
    assert [len(either.run("half", n=n)) for n in (2, 4, 6)] == [1, 1, 1]


def test_a_job_that_is_cancelled_as_it_is_done_says_so(
    client: webfoot.Client, server: Server
) -> None:
    job = client.submit("gated", name="too late")
    open_gate(server, "too late")
    client.job(job.id).wait(30)
    assert not job.cancel()
    assert len(job.result()) == 1


def test_threads_wait_for_one_job(client: webfoot.Client, server: Server) -> None:
    job = client.submit("gated", name="threads")
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(job.result, 30) for _ in range(8)]
        open_gate(server, "threads")
        assert [len(one.result()) for one in waiting] == [1] * 8


# Longer than its client.


def test_a_job_goes_on_when_its_client_is_closed(server: Server) -> None:
    with webfoot.Client(server.url) as closed, ThreadPoolExecutor(1) as threads:
        job = closed.submit("gated", name="closed", n=3)
        waiting = threads.submit(job.result)
        eventually(lambda: server.executions("closed"))
        closed.close()
        with pytest.raises(RunCancelled, match="the client was closed"):
            waiting.result(30)
    with pytest.raises(RunCancelled, match="the client was closed"):
        _ = job.status
    with webfoot.Client(server.url) as client:
        again = client.job(job.id)
        assert again.status == "running"
        open_gate(server, "closed")
        assert again.result(30).arrow().to_pylist() == [{"n": 3}]
    assert server.executions("closed") == 1


def test_a_job_goes_on_when_its_process_has_ended(client: webfoot.Client, server: Server) -> None:
    code = (
        "import sys, webfoot\n"
        "print(webfoot.Client(sys.argv[1]).submit('gated', name='process', n=4).id)\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, server.url]
    job = client.job(subprocess.check_output(command, text=True).strip())
    assert job.status in ("queued", "running")
    open_gate(server, "process")
    assert job.result(30).arrow().to_pylist() == [{"n": 4}]
    assert server.executions("process") == 1


def test_a_job_is_waited_for_again_after_its_server_was_killed(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, some=UDFS)
    with serve(folder, *INLINE) as first, webfoot.Client(first.url, retries=1) as client:
        job = client.submit("gated", name="killed")
        eventually(lambda: first.executions("killed"))
        first.process.kill()
        first.process.wait()
        with pytest.raises(Unreachable, match="cannot be reached"):
            job.result()
        open_gate(first, "killed")
        with serve(folder, *INLINE) as second, webfoot.Client(second.url) as other:
            assert len(other.job(job.id).result(30)) == 1


@pytest.mark.parametrize("id", ["0123456789abcdef", "", "../udfs", "a/b", "é"])
def test_a_job_that_there_is_not_is_not_found(either: webfoot.Client, id: str) -> None:  # noqa: A002  # it is one
    with pytest.raises(JobNotFound, match="there is no job"):
        either.job(id)


# What is asked for.


def test_values_that_no_url_can_say_are_a_job_s_too(either: webfoot.Client) -> None:
    long = "é" * 20_000
    for given in ({"text": ""}, {"text": long, "maybe": None}):
        expected = {"text": "default", "maybe": 5, **given}
        assert either.submit("words", **given).result(30).arrow().to_pylist() == [expected]


def test_what_makes_no_job_is_refused_at_once(either: webfoot.Client) -> None:
    with pytest.raises(UdfNotFound, match="did you mean 'half'"):
        either.submit("hafl", n=1)
    with pytest.raises(InvalidParameters, match="m: unknown parameter"):
        either.submit("half", m=1)
    with pytest.raises(TypeError, match="n is <object"):
        either.submit("half", n=object())
    with pytest.raises(TypeError, match="_limit, _order cannot go with a job"):
        either.submit("half", n=2, _limit=1, _order="half")


def test_many_inputs_are_one_job_and_one_table(either: webfoot.Client) -> None:
    job = either.submit_map("half", [2, 3, 4])
    rows = job.result(30).arrow().to_pylist()
    assert [(row["n"], row["half"]) for row in rows] == [(2, 1), (3, None), (4, 2)]
    assert [bool(row["_error"]) for row in rows] == [False, True, False]
    assert "3 is odd" in rows[1]["_error"]
    assert (job.progress.done, job.progress.total) == (3, 3)
    assert job.status == "done"


def test_many_inputs_are_read_as_a_map_s_are(client: webfoot.Client) -> None:
    frame = client.run("half", n=8).df().rename(columns={"half": "n"})
    assert client.submit_map("half", frame).result(30).arrow()["half"].to_pylist() == [2]
    with pytest.raises(TypeError, match="input 0 is a bare value, 1, and could be of any"):
        client.submit_map("words", [1])
    assert client.submit_map("words", ["x"], over="text").result(30).arrow().num_rows == 1
    with pytest.raises(TypeError, match="input 1: n is <object"):
        client.submit_map("half", [{"n": 1}, {"n": object()}])
    with pytest.raises(UdfNotFound, match="did you mean 'half'"):
        client.submit_map("hafl", [1])
    with pytest.raises(InvalidParameters, match="input 1 makes no call"):
        client.submit_map("half", [2, "x"])


# What it looks like.


def test_a_job_shows_how_it_stands(client: webfoot.Client, server: Server) -> None:
    job = client.submit("gated", name="shown")
    eventually(lambda: f"<Job {job.id} of gated: running, " in repr(job))
    eventually(lambda: "waiting for shown" in job._repr_html_())
    assert f'client.job("{job.id}")' in job._repr_html_()
    open_gate(server, "shown")
    job.wait(30)
    assert f"<Job {job.id} of gated: done, " in repr(job)
    assert "takes it up again" not in job._repr_html_()
    failed = client.submit("half", n=5).wait(30)
    assert repr(failed).endswith("s, ValueError: 5 is odd>")
    assert "ValueError: 5 is odd" in failed._repr_html_()
    many = client.submit_map("half", [0, 2]).wait(30)
    assert "done, 2 of 2 inputs, " in repr(many)
    assert "2 of 2 inputs" in many._repr_html_()


def test_a_job_that_cannot_be_asked_after_is_shown_as_it_stood_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("webfoot.client.jobs._GLANCE_S", 60.0)
    with (
        scripted(in_turn(told("running"), BEFORE)) as server,
        webfoot.Client(server.url) as client,
    ):
        job = client.submit("f")
        for _ in range(2):
            assert repr(job) == "<Job 0123456789abcdef of f: running, 1.5 s>"
            assert "running" in job._repr_html_()
    assert repr(job) == "<Job 0123456789abcdef of f: running, 1.5 s>"
    # Looked at, it is asked after once, however often it would otherwise be tried.
    assert len(server.requests) == 5


# How it is asked after.


def told(state: str, problem: Error | None = None, again_s: int | None = None) -> Reply:
    """What a server tells of a job."""
    body = {
        "id": "0123456789abcdef",
        "udf": "f",
        "state": state,
        "elapsed": 1.5,
        "progress": {"done": int(state == "done"), "total": 1},
        "problem": None if problem is None else problem.problem(),
    }
    headers = {} if again_s is None else {"retry-after": str(again_s)}
    return Reply(200, headers, json.dumps(body).encode())


def busy(error: Error) -> Reply:
    return Reply(error.status, {"retry-after": "0"}, json.dumps(error.problem()).encode())


def paths(requests: list[Request]) -> list[str]:
    return [f"{one.method} {one.path.removeprefix('/jobs')}" for one in requests]


JOB = "GET /0123456789abcdef"
RESULT = f"{JOB}.parquet"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that clients make between requests, which take no time, as all else does."""
    made: list[float] = []

    def pause(_: object, seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr("webfoot.client.connection.Connection.pause", pause)
    monkeypatch.setattr("webfoot.client.jobs.time", SimpleNamespace(monotonic=lambda: 0.0))
    return made


def test_a_result_is_there_with_the_one_request_that_was_held_for_it() -> None:
    with scripted(in_turn(told("running"), OK)) as server, webfoot.Client(server.url) as client:
        assert client.submit("f").result().arrow().to_pydict() == {"n": [1]}
    assert paths(server.requests) == ["POST ", RESULT]


def test_who_is_sent_on_looks_how_it_stands_and_waits_on(
    client: webfoot.Client, server: Server
) -> None:
    job = client.submit("gated", name="sent on")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(job.result)
        eventually(lambda: ("GET", 303) in asked(server, job))
        open_gate(server, "sent on")
        waiting.result(30)
    statuses = [status for _, status in asked(server, job)]
    assert statuses == [*([303, 200] * (len(statuses) // 2)), 200]


def test_who_waits_but_wants_no_table_is_sent_none_of_it() -> None:
    replies = [told("queued"), Reply(206, {}, b"P"), told("done")]
    with scripted(in_turn(*replies)) as server, webfoot.Client(server.url) as client:
        assert client.submit("f").wait().status == "done"
    assert paths(server.requests) == ["POST ", RESULT, JOB]
    assert server.requests[1].headers["range"] == "bytes=0-0"


def test_a_job_that_has_ended_is_not_asked_after_any_more() -> None:
    with scripted(in_turn(told("done"), OK)) as server, webfoot.Client(server.url) as client:
        job = client.submit("f")
        for _ in range(2):
            assert job.wait().status == "done"
            assert len(job.result(0)) == 1
            assert repr(job)
            assert not job.cancel()
    assert paths(server.requests) == ["POST ", RESULT]


@pytest.mark.parametrize(
    "trouble",
    [busy(RunCancelled("the server is stopping")), Reply(502, {}, PAGE), BEFORE, MIDDLE],
    ids=["stops", "502", "hangs-up", "cut-short"],
)
def test_a_wait_that_meets_with_trouble_goes_on_as_slowly_as_the_server_says(
    trouble: Reply, pauses: list[float]
) -> None:
    running = told("running", again_s=7)
    replies = [running, trouble, running, trouble, told("running"), trouble, running, OK]
    with scripted(in_turn(*replies)) as server, webfoot.Client(server.url) as client:
        assert len(client.submit("f").result()) == 1
    assert paths(server.requests) == ["POST ", *[RESULT, JOB] * 3, RESULT]
    assert pauses == [7, 1, 7]


def test_a_wait_that_is_of_no_use_is_not_gone_on_with() -> None:
    """The server has the job, but not its UDF, say."""
    replies = [told("running"), busy(UdfNotFound("there is no UDF 'f'")), told("running")]
    with (
        scripted(in_turn(*replies)) as server,
        webfoot.Client(server.url) as client,
        pytest.raises(UdfNotFound, match="there is no UDF 'f'"),
    ):
        client.submit("f").result()
    assert paths(server.requests) == ["POST ", RESULT, JOB]


def test_a_result_that_is_moved_without_end_is_given_up(pauses: list[float]) -> None:
    moved = Reply(307, {"location": "/jobs/0123456789abcdef.parquet"})
    replies = [told("running"), *[moved] * 5, told("running"), OK]
    with scripted(in_turn(*replies)) as server, webfoot.Client(server.url) as client:
        assert len(client.submit("f").result()) == 1
    assert paths(server.requests) == ["POST ", *[RESULT] * 5, JOB, RESULT]
    assert pauses == [1]


def test_a_pause_is_no_longer_than_there_is_time(pauses: list[float]) -> None:
    running = told("running", again_s=70)
    with (
        scripted(in_turn(running, BEFORE, running, OK)) as server,
        webfoot.Client(server.url) as client,
    ):
        client.submit("f").result(60)
    assert pauses == [60]


def test_no_time_is_time_enough_to_ask() -> None:
    replies = [told("running"), told("running"), told("done"), OK]
    with scripted(in_turn(*replies)) as server, webfoot.Client(server.url) as client:
        job = client.submit("f")
        with pytest.raises(TimeoutError, match="has not ended after 0 s; it goes on"):
            job.result(0)
        assert len(job.result(0)) == 1
    assert paths(server.requests) == ["POST ", JOB, JOB, RESULT]


def test_a_result_in_a_bucket_is_fetched_there_without_the_token() -> None:
    with scripted(in_turn(OK)) as bucket:
        moved = Reply(307, {"location": f"{bucket.url}/results/1"})
        with (
            scripted(in_turn(told("running"), moved)) as server,
            webfoot.Client(server.url.replace("127.0.0.1", "localhost"), token="s3cret") as client,
        ):
            assert len(client.submit("f").result()) == 1
    assert [one.path for one in bucket.requests] == ["/results/1"]
    assert "authorization" not in bucket.requests[0].headers
    assert {one.headers["authorization"] for one in server.requests} == {"Bearer s3cret"}


def test_a_result_that_has_gone_says_so() -> None:
    gone = ResultGone("evicted")
    replies = [told("running"), busy(gone), told("done"), busy(gone)]
    with (
        scripted(in_turn(*replies)) as server,
        webfoot.Client(server.url) as client,
        pytest.raises(ResultGone),
    ):
        client.submit("f").result()


def test_a_job_that_is_asked_for_twice_is_one_job(pauses: list[float]) -> None:
    """The key is the same when an attempt is repeated, and another for another job."""
    replies = [BEFORE, busy(ServerBusy("full")), told("queued"), told("queued")]
    with scripted(in_turn(*replies)) as server, webfoot.Client(server.url) as client:
        client.submit("f", n=1)
        client.submit("f", n=1)
    keys = [one.headers["idempotency-key"] for one in server.requests]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert json.loads(server.requests[0].body) == {"udf": "f", "parameters": {"n": 1}}
    assert len(pauses) == 2


def test_a_cancellation_is_tried_again(pauses: list[float]) -> None:
    replies = [told("running"), BEFORE, Reply(503), told("cancelled", RunCancelled("it was"))]
    with scripted(in_turn(*replies)) as server, webfoot.Client(server.url) as client:
        assert client.submit("f").cancel()
    assert paths(server.requests)[1:] == ["DELETE /0123456789abcdef"] * 3
    assert len(pauses) == 2


@pytest.mark.parametrize(
    "older",
    [
        Reply(404, {}, PAGE),
        Reply(405, {}, b""),
        Reply(404, {}, b'{"type":"about:blank","code":"not-found","detail":"GET / shows more"}'),
        Reply(200, {}, parquet(n=[1])),
        Reply(200, {}, b"{}"),
    ],
    ids=["page", "405", "webfoot", "other", "empty"],
)
def test_a_server_without_jobs_is_told_from_one_with_them(older: Reply) -> None:
    with scripted(in_turn(older)) as server, webfoot.Client(server.url) as client:
        asks = [partial(client.submit, "f"), partial(client.job, "0123456789abcdef")]
        for ask in asks:
            with pytest.raises(Error, match=rf"{server.url}/jobs\S* answered {older.status}"):
                ask()
    assert len(server.requests) == 2
