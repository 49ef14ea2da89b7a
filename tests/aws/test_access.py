"""Who a function lets in: nobody, until it is told whom."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.access.granting import bearer
from tests.aws.events import KINDS, Asked, answer_of, event_of
from tests.aws.runtime_api import environment
from tests.server_process import write_udfs

from webfoot.access.key_setting import write_keys
from webfoot.access.keys import Key, new_id, new_key
from webfoot.access.shares import Share, sign

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.aws.events import Answered
    from tests.aws.runtime_api import Environment

UDF = """
from webfoot import udf

@udf
def rows(n: int = 3):
    return [{"n": i} for i in range(n)]
"""
SECRET = "s" * 32
KEY, TEXT = new_key(Key(new_id(), "", ("analyst",), tenant="acme"))
GONE = new_id()


@pytest.fixture(scope="module")
def udfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_udfs(tmp_path_factory.mktemp("access"), tables=UDF)


@pytest.fixture(scope="module")
def untold(udfs: Path) -> Iterator[Environment]:
    with environment(udfs.parent / "untold", udfs, WEBFOOT_OPEN="") as running:
        yield running


@pytest.fixture(scope="module")
def told(udfs: Path) -> Iterator[Environment]:
    """A function that has been given keys, by variables."""
    with environment(
        udfs.parent / "told",
        udfs,
        WEBFOOT_OPEN="",
        WEBFOOT_KEYS=write_keys([KEY], [GONE]),
        WEBFOOT_SHARE_SECRET=SECRET,
    ) as running:
        yield running


def ask(
    function: Environment, url: str, kind: str = "http_api", method: str = "GET", **headers: str
) -> Answered:
    outcome = function.invoke(event_of(kind, Asked(method, url, headers)))
    assert outcome.error == "", function.printed()
    return answer_of(outcome.json())


def detail(answered: Answered) -> str:
    problem: dict[str, Any] = json.loads(answered.body)
    assert problem["status"] == answered.status
    return str(problem["detail"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_that_was_told_nothing_lets_nobody_in(untold: Environment, kind: str) -> None:
    for host in ("example.org", "127.0.0.1", "localhost"):
        answered = ask(untold, "/udfs/rows.csv", kind, host=host)
        assert answered.status == 401
        assert "WEBFOOT_OPEN=true" in detail(answered)
    assert ask(untold, "/healthz", kind).status == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_of_a_setting_opens_it(told: Environment, kind: str) -> None:
    assert ask(told, "/udfs/rows.csv", kind).status == 401
    answered = ask(told, "/udfs/rows.csv", kind, **bearer(TEXT))
    assert (answered.status, answered.body) == (200, b"n\r\n0\r\n1\r\n2\r\n")
    # Where the platform has a use of its own for the usual header.
    signed = {"authorization": "AWS4-HMAC-SHA256 Credential=x", "x-api-key": TEXT}
    assert ask(told, "/udfs/rows.csv", kind, **signed).status == 200


def test_a_link_needs_the_secret_alone(told: Environment) -> None:
    def link(id_: str) -> str:
        share = Share(id_, "rows", time.time() + 100, {"n": ("2",)})
        return f"/udfs/rows.csv?_share={sign(share, SECRET.encode())}"

    assert ask(told, link(new_id())).body == b"n\r\n0\r\n1\r\n"
    assert "revoked" in detail(ask(told, link(GONE)))
    assert "this link is for n=2" in detail(ask(told, link(new_id()) + "&n=3"))


def test_links_are_given_out_but_not_listed(told: Environment) -> None:
    outcome = told.invoke(
        event_of(
            "http_api",
            Asked("POST", "/shares", bearer(TEXT), b'{"udf": "rows", "parameters": {"n": 1}}'),
        )
    )
    made = answer_of(outcome.json())
    assert made.status == 201
    url = json.loads(made.body)["urls"]["csv"]
    assert ask(told, url[url.index("/udfs/") :]).body == b"n\r\n0\r\n"
    assert "keeps no list of links" in detail(ask(told, "/shares", **bearer(TEXT)))


def test_an_event_of_sql_shows_its_key_itself(told: Environment) -> None:
    refused = told.invoke({"q": "FROM rows(n := 2)"}).json()
    assert (refused["status"], refused["code"]) == (401, "unauthorized")
    answer = told.invoke({"q": "FROM rows(n := 2)", "key": TEXT}).json()
    assert answer["data"] == [{"n": 0}, {"n": 1}]
