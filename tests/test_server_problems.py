"""Errors as replies: every class of error in the one shape, and back in Python."""

from __future__ import annotations

import json
from http import HTTPStatus

import duckdb
import pytest

from webfoot.errors import (
    Error,
    InvalidParameters,
    MemoryExceeded,
    RunCancelled,
    ServerBusy,
    UdfFailed,
    UdfNotFound,
    UdfTimeout,
)
from webfoot.server.problems import (
    PROBLEM_TYPE,
    Reply,
    duckdb_reply,
    http_reply,
    page_reply,
    problem_reply,
)

EXAMPLES: list[Error] = [
    InvalidParameters("n: too small", errors=[{"parameter": "n", "message": "m", "value": 1}]),
    ServerBusy("full", retry_after_s=7),
    UdfTimeout("slow", timeout_s=1.5),
    MemoryExceeded("fat", limit_bytes=10),
    *(cls(f"a {cls.code} é \ud800 \x00 🦆") for cls in dict.fromkeys(Error.classes.values())),
]


def headers(reply: Reply) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in reply.headers}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: error.code)
def test_an_error_makes_the_round_trip_as_its_own_class(error: Error) -> None:
    error.udf, error.run = "contours", "8f2c1d"
    reply = problem_reply(error, debug=False)
    told = Error.from_problem(json.loads(reply.body))
    assert type(told) is type(error)
    assert told.detail == error.detail.encode(errors="replace").decode()
    assert (told.udf, told.run) == ("contours", "8f2c1d")
    assert [getattr(told, name) for name in error.fields] == [
        getattr(error, name) for name in error.fields
    ]
    assert reply.status == error.status
    said = headers(reply)
    assert said["content-type"] == PROBLEM_TYPE
    assert said["content-length"] == str(len(reply.body))
    assert said["cache-control"] == "no-store"
    assert said["x-webfoot-code"] == error.code
    assert said["x-webfoot-run"] == "8f2c1d"


def test_every_503_says_when_to_come_back() -> None:
    assert (
        headers(problem_reply(ServerBusy("full", retry_after_s=7), debug=False))["retry-after"]
        == "7"
    )
    assert headers(problem_reply(RunCancelled("stopped"), debug=False))["retry-after"] == "1"
    assert "retry-after" not in headers(problem_reply(UdfFailed("failed"), debug=False))


def test_the_traceback_is_for_debug_mode() -> None:
    error = UdfFailed("failed", traceback='File "a.py", line 3')
    assert b"a.py" not in problem_reply(error, debug=False).body
    assert json.loads(problem_reply(error, debug=True).body)["traceback"] == error.traceback


@pytest.mark.parametrize("status", [400, 404, 405, 412, 416])
def test_what_http_refuses_has_the_same_shape(status: int) -> None:
    reply = http_reply(HTTPStatus(status))
    problem = json.loads(reply.body)
    assert problem.keys() == {"type", "title", "status", "code", "detail"}
    assert problem["status"] == reply.status == status
    assert headers(reply)["content-type"] == PROBLEM_TYPE


@pytest.mark.parametrize(
    "error",
    [
        UdfFailed('ValueError: it\'s "quoted"\nand has\ttwo lines é 🦆 \x00 \\', udf="contours"),
        UdfFailed("x" * 100_000, udf="contours", run="8f2c1d"),
        UdfNotFound(""),
    ],
    ids=["odd letters", "long", "empty"],
)
def test_duckdb_reads_an_error_without_retries(
    error: Error, tmp_path_factory: pytest.TempPathFactory
) -> None:
    reply = duckdb_reply(error, "http://localhost:8000")
    path = tmp_path_factory.mktemp("file") / "error.parquet"
    path.write_bytes(reply.body)
    with duckdb.connect() as con, pytest.raises(duckdb.InvalidInputException) as raised:
        con.sql(f"FROM '{path}'")
    shown = str(raised.value)
    assert error.detail.replace("\0", "�")[:1000] in shown
    assert len(shown) < 5_000
    if error.run:
        assert "details: http://localhost:8000/runs/8f2c1d" in shown
    assert reply.status == 200
    assert headers(reply)["x-webfoot-status"] == str(error.status)


def test_a_browser_that_asks_for_a_preview_is_shown_the_error_as_a_page() -> None:
    reply = problem_reply(InvalidParameters("n: must be <b>, got 'x'"), debug=False)
    page = page_reply(reply, "http://here")
    assert page.status == 422
    assert headers(page)["content-type"].startswith("text/html")
    assert headers(page)["content-length"] == str(len(page.body))
    assert headers(page)["x-webfoot-code"] == "invalid-parameters"
    assert headers(page)["referrer-policy"] == "no-referrer"
    assert b"must be &lt;b&gt;" in page.body
