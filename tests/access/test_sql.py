"""SQL of somebody's: it names what they may read, and its rows are for nobody else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.access.granting import bearer, give_key
from tests.server_process import serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator

UDFS = """
    import webfoot
    from webfoot import udf

    @udf
    def plain(n: int = 1):
        return [{"n": n}]

    @udf
    def covert(n: int = 1):
        return [{"n": n}]

    @udf
    def me(who: webfoot.Principal):
        return [{"id": who.id, "tenant": who.tenant}]
"""


@dataclass(frozen=True)
class Server:
    http: httpx.Client
    keys: dict[str, str]

    def ask(self, who: str, sql: str, **headers: str) -> httpx.Response:
        shown = bearer(self.keys[who]) | headers
        return self.http.post("/query", json={"query": sql}, headers=shown)

    def rows(self, who: str, sql: str) -> list[dict[str, Any]]:
        answer = self.ask(who, sql)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["data"]
        return rows


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    parent = tmp_path_factory.mktemp("sql")
    folder, place = write_udfs(parent, tables=UDFS), parent / "store/access"
    for name in ("plain_fares", "taxi"):
        (parent / f"{name}.csv").write_text("fare\n7\n")
    lake = ", ".join(f"{name}={parent}/{name}.csv" for name in ("plain_fares", "taxi"))
    keys = {
        "operator": give_key(place, "admin"),
        "ann": give_key(place, "analyst", tenant="red"),
        "bob": give_key(place, "analyst", tenant="red"),
        "cid": give_key(place, "analyst", tenant="blue"),
        "narrow": give_key(place, "analyst", udfs=("plain*",)),
        "csv": give_key(place, "analyst", formats=("csv",)),
    }
    environment = {**os.environ, "WEBFOOT_LAKE": lake}
    with (
        serve(folder, environment=environment) as running,
        httpx.Client(base_url=running.url, timeout=60) as http,
    ):
        yield Server(http, keys)


def test_it_names_what_its_asker_may_call(server: Server) -> None:
    assert server.rows("operator", "SELECT count(*) AS n FROM udfs") == [{"n": 3}]
    assert server.rows("narrow", "SELECT name FROM udfs") == [{"name": "plain"}]
    assert server.rows("narrow", "FROM plain(n := 2)") == [{"n": 2}]


def test_what_is_not_for_them_is_as_if_it_were_not_there(server: Server) -> None:
    def told(name: str) -> tuple[int, str]:
        answer = server.ask("narrow", f"FROM {name}()")
        return answer.status_code, answer.json()["detail"].replace(name, "NAME")

    assert told("covert") == told("nosuch")
    assert told("me") == told("nosuch")


def test_datasets_are_theirs_by_the_same_patterns(server: Server) -> None:
    names = [{"name": "plain_fares"}, {"name": "taxi"}]
    listed = "SELECT name FROM datasets ORDER BY name"
    assert server.rows("operator", listed) == names
    assert server.rows("narrow", listed) == names[:1]
    assert server.rows("narrow", "FROM plain_fares") == [{"fare": 7}]
    assert server.ask("narrow", "FROM taxi").status_code == 422


def test_a_format_that_is_not_theirs_is_none_for_sql_either(server: Server) -> None:
    assert server.ask("csv", "FROM plain()").status_code == 422
    assert server.ask("csv", "FROM plain()", accept="text/csv").text == "n\r\n1\r\n"


def test_who_asks_is_who_its_calls_are_told(server: Server) -> None:
    """At once, or one after another: the same text is another query for each."""
    ids = {}
    for who, tenant in (("ann", "red"), ("bob", "red"), ("cid", "blue"), ("operator", "")):
        (row,) = server.rows(who, "FROM me()")
        assert row["tenant"] == tenant
        assert row["id"].startswith("key:")
        ids[who] = row["id"]
    assert len(set(ids.values())) == 4


def test_its_run_is_told_of_to_nobody_else(server: Server) -> None:
    run = server.ask("ann", "SELECT 1 AS mine").headers["x-webfoot-run"]
    answers = {
        who: server.http.get(f"/runs/{run}", headers=bearer(key)).status_code
        for who, key in server.keys.items()
    }
    assert answers == dict.fromkeys(server.keys, 404) | {"ann": 200}


def test_what_it_costs_is_told_with_all_that_it_has_called(server: Server) -> None:
    answer = server.ask("ann", "FROM plain(n := 77)")
    assert answer.headers["x-webfoot-runs"] == "3"
    assert int(answer.headers["x-webfoot-billed-ms"]) > 0
