"""What the server logs: as JSON if asked for, and never a secret."""

from __future__ import annotations

import json
import logging
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.server_process import serve, write_udfs
from uvicorn.logging import DefaultFormatter

from webfoot.server.exchanges import REQUEST_ID
from webfoot.server.logs import JsonFormatter, MaskingFilter

if TYPE_CHECKING:
    from pathlib import Path

FAILS = """
    from webfoot import udf

    @udf
    def fails():
        raise ValueError("no")
"""


def record(message: Any, *args: Any, name: str = "webfoot", **more: Any) -> logging.LogRecord:
    return logging.LogRecord(name, logging.INFO, "file.py", 1, message, args, None, **more)


def test_a_message_is_masked_as_a_whole() -> None:
    masked = record("asked %s=%s", "token", "abc")
    assert MaskingFilter().filter(masked)
    assert masked.getMessage() == "asked token=***"


def test_a_terminal_sees_the_same_message() -> None:
    masked = record("Started server process [%d], token=abc", 4711)
    masked.color_message = "Started server process [\x1b[36m%d\x1b[0m], token=abc"
    MaskingFilter().filter(masked)
    line = DefaultFormatter("%(message)s", use_colors=True).format(masked)
    assert line == "Started server process [4711], token=***"


def test_a_traceback_is_masked() -> None:
    masked = record("failed")
    with pytest.raises(ValueError, match="no") as caught:
        raise ValueError("no https://a/?api_key=abc")
    masked.exc_info = (ValueError, caught.value, caught.tb)
    MaskingFilter().filter(masked)
    line = json.loads(JsonFormatter().format(masked))
    assert "api_key=***" in line["exception"]
    assert "abc" not in line["exception"]
    assert line["exception"].startswith("Traceback")


def test_a_line_of_json_tells_its_request() -> None:
    def line_of(request_id: str) -> dict[str, Any]:
        REQUEST_ID.set(request_id)
        line: dict[str, Any] = json.loads(JsonFormatter().format(record('a "quoted"\nline')))
        return line

    line = copy_context().run(line_of, "the-request")
    assert line["message"] == 'a "quoted"\nline'
    assert (line["level"], line["logger"]) == ("INFO", "webfoot")
    assert line["request_id"] == "the-request"
    assert "request_id" not in copy_context().run(line_of, "")


@pytest.mark.parametrize("kind", ["json", "emf"])
def test_every_line_of_a_server_is_json(tmp_path: Path, kind: str) -> None:
    folder = write_udfs(tmp_path, fails=FAILS, broken="import nothing_of_this_name\n")
    with serve(folder, "--log", kind) as server:
        httpx.get(f"{server.url}/udfs/fails.csv", headers={"x-request-id": "mine"})
    lines = [json.loads(line) for line in server.printed().splitlines()]
    serves, is_open, _, broken = (line["message"] for line in lines[:4])
    assert server.url.replace("127.0.0.1", "localhost") in serves
    assert is_open.startswith("It is open")
    assert "nothing_of_this_name" in broken
    mine = [line for line in lines if line.get("request_id") == "mine"]
    [logged] = [line for line in mine if line.get("logger") == "webfoot.server.data"]
    [told] = [line for line in mine if line is not logged]
    assert "fails: ValueError: no" in logged["message"]
    assert (told["udf"], told["status"], told["code"]) == ("fails", "error", "udf-failed")
    assert ("_aws" in told) == (kind == "emf")
    assert "GET /udfs" not in server.printed()
