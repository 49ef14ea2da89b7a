"""Many inputs in a few requests: sizes, failures of whole requests, and what they must not take."""

from __future__ import annotations

import itertools
import json
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.client.scripted import BEFORE, Reply, Request, scripted

from webfoot.client import connection as connections
from webfoot.client.connection import Connection
from webfoot.client.fanout import Fanout
from webfoot.errors import Error, InvalidParameters, ServerBusy, StorageFull, Unreachable
from webfoot.outcomes import Results

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_FIRST_WAIT_S", 0.001)


def stitched(inputs: Sequence[dict[str, Any]]) -> Reply:
    """What a server answers: a row for each input, or the problem of one below zero."""
    told: list[dict[str, Any]] = []
    for given in inputs:
        problem = Error(f"{given['n']} is too small").problem()
        told.append({"problem": problem} if given["n"] < 0 else {"rows": 1})
    numbers = [given["n"] for given in inputs]
    table = pa.table({"n": numbers, "twice": [2 * n for n in numbers], "_error": [""] * len(told)})
    note = json.dumps({"inputs": told, "columns": {"n": "n"}})
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({"webfoot": note}), sink)
    return Reply(body=bytes(sink.getvalue()))


def read(request: Request) -> list[dict[str, Any]]:
    inputs: list[dict[str, Any]] = json.loads(request.body)
    return inputs


def results(url: str, numbers: Sequence[int], concurrency: int = 1, retries: int = 2) -> Results:
    def start(inputs: Sequence[Any]) -> Fanout:
        connection = Connection(httpx.Client(base_url=url), retries)
        return Fanout(connection, "map", inputs, concurrency=concurrency)

    return Results([{"n": n} for n in numbers], start)


def test_every_input_is_sent_once_and_has_its_own_answer() -> None:
    with scripted(lambda request: stitched(read(request))) as server:
        found = results(server.url, range(1_000), concurrency=8)
        assert [table.arrow().to_pydict() for table in found] == [
            {"twice": [2 * n]} for n in range(1_000)
        ]
    sent = [given["n"] for request in server.requests for given in read(request)]
    assert sorted(sent) == list(range(1_000))


def test_requests_begin_with_one_input_and_grow_to_some_hundreds() -> None:
    with scripted(lambda request: stitched(read(request))) as server:
        results(server.url, range(3_000)).wait()
    sizes = [len(read(request)) for request in server.requests]
    assert sizes[0] == 1
    assert all(after <= 4 * before for before, after in itertools.pairwise(sizes))
    assert max(sizes) <= 500
    assert len(sizes) < 40


def test_slow_requests_stay_small() -> None:
    clock = itertools.count(step=2.0)  # Each request takes two seconds.
    with pytest.MonkeyPatch.context() as patch, scripted(lambda r: stitched(read(r))) as server:
        ticking = SimpleNamespace(monotonic=lambda: next(clock))
        patch.setattr("webfoot.client.fanout.time", ticking)
        results(server.url, range(12)).wait()
    assert [len(read(request)) for request in server.requests] == [1] * 12


def test_no_more_requests_are_under_way_than_allowed() -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def answer(request: Request) -> Reply:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        reply = stitched(read(request))
        with lock:
            under_way -= 1
        return reply

    with scripted(answer) as server:
        results(server.url, range(500), concurrency=3).wait()
    assert most <= 3


@pytest.mark.parametrize(
    "reply",
    [
        Reply(413, {}, b"<html>Request Entity Too Large</html>"),
        Reply(504, {}, b"<html>Gateway Time-out</html>"),
        Reply(422, {}, json.dumps(InvalidParameters("n: is wrong").problem()).encode()),
        Reply(200, {}, b"<html>no Parquet at all</html>"),
        stitched([]),
    ],
    ids=["too-large", "gateway", "invalid", "page", "of-no-input"],
)
def test_an_input_that_makes_its_whole_request_fail_fails_alone(reply: Reply) -> None:
    def answer(request: Request) -> Reply:
        inputs = read(request)
        return reply if any(given["n"] == 77 for given in inputs) else stitched(inputs)

    with scripted(answer) as server:
        found = results(server.url, range(100), retries=0)
        assert [outcome.index for outcome in found.errors] == [77]
        assert [len(found[index]) for index in (76, 78, 99)] == [1, 1, 1]


@pytest.mark.parametrize("error", [ServerBusy("full"), StorageFull("full")])
def test_an_error_that_no_input_is_to_blame_for_is_not_looked_for_in_them(
    error: Error, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Requests that take no time grow as fast as they may, however slow the machine is.
    standing = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr("webfoot.client.fanout.time", standing)
    body = json.dumps(error.problem()).encode()

    def answer(request: Request) -> Reply:
        inputs = read(request)
        return stitched(inputs) if len(inputs) == 1 else Reply(error.status, {}, body)

    with scripted(answer) as server:
        found = results(server.url, range(9), retries=0)
        assert {type(outcome.error) for outcome in found.errors} == {type(error)}
    assert len(server.requests) == 3


def test_a_lost_connection_loses_the_inputs_that_were_under_way_and_nothing_else() -> None:
    def answer(request: Request) -> Reply:
        inputs = read(request)
        return BEFORE if any(given["n"] == 10 for given in inputs) else stitched(inputs)

    with scripted(answer) as server:
        found = results(server.url, range(100))
        lost = [outcome.index for outcome in found.errors]
        assert {type(outcome.error) for outcome in found.errors} == {Unreachable}
    assert 10 in lost
    assert len(lost) < 30
    # Three attempts for the first that was lost, none of them in vain for the others.
    assert sum(any(given["n"] == 10 for given in read(r)) for r in server.requests) == 3


def test_a_server_that_is_gone_is_not_asked_five_times_for_every_input() -> None:
    with scripted(lambda _: BEFORE) as server:
        found = results(server.url, range(20), retries=4)
        assert len(found.errors) == 20
    assert len(server.requests) <= 5 + 19


def test_retry_sends_only_what_failed() -> None:
    broken = True

    def answer(request: Request) -> Reply:
        inputs = read(request)
        return BEFORE if broken and inputs[0]["n"] == 3 else stitched(inputs)

    with scripted(answer) as server:
        found = results(server.url, range(5), retries=0, concurrency=5).wait()
        failed = [outcome.input for outcome in found.errors]
        broken, before = False, len(server.requests)
        again = found.retry()
        assert [len(table) for table in again] == [1] * 5
    sent = [given for request in server.requests[before:] for given in read(request)]
    assert sorted(sent, key=str) == sorted(map(dict, failed), key=str) != []
