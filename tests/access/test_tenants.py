"""What one tenant asks for, no other learns of: no bytes, no names, no counts."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.access.granting import bearer, give_key, give_link
from tests.server_process import COUNT, GATE, INLINE, serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server_process import Server

UDFS = """
    import webfoot
    from webfoot import udf

    @udf(cache="forever")
    def numbers(n: int = 3, gate: str = ""):
        count("numbers")
        if gate:
            wait_at(gate)
        return [{"n": i} for i in range(n)]

    @udf(cache="forever")
    def sums(n: int = 3):
        return webfoot.map("leaf", [{"n": i} for i in range(n)])

    @udf(cache="forever")
    def leaf(n: int):
        count("leaf")
        return [{"n": n}]

    @udf
    def me(who: webfoot.Principal, n: int = 1):
        count("me")
        return [{"id": who.id, "tenant": who.tenant, "roles": ",".join(who.roles), "n": n}]

    @udf
    def about_me(who: webfoot.Principal):
        return webfoot.run("me")

    @udf
    def about_somebody():
        return webfoot.run("me")

    @udf
    def fails(n: int = 1):
        count("fails")
        raise ValueError("always")
"""


@dataclass(frozen=True)
class Tenants:
    """A server, and keys of two tenants: two of the first, one of the second."""

    server: Server
    ann: httpx.Client
    bob: httpx.Client
    zoe: httpx.Client
    operator: httpx.Client


@contextlib.contextmanager
def tenants_in(parent: Path, **environment: str) -> Iterator[Tenants]:
    folder = write_udfs(parent, tables=COUNT + GATE + UDFS.replace("\n    ", "\n"))
    place = parent / "store/access"
    keys = [give_key(place, "analyst", tenant=name) for name in ("acme", "acme", "zeta")]
    keys.append(give_key(place, "admin"))
    environment = {**os.environ, "WEBFOOT_DEBUG": "true", **environment}
    with serve(folder, *INLINE, environment=environment) as server:
        clients = [
            httpx.Client(base_url=server.url, headers=bearer(key), follow_redirects=True)
            for key in keys
        ]
        yield Tenants(server, *clients)
        for client in clients:
            client.close()


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with tenants_in(tmp_path_factory.mktemp("tenants")) as running:
        yield running


def test_a_call_runs_once_for_each_tenant(tenants: Tenants) -> None:
    url = "/udfs/numbers.parquet?n=5"
    for client in (tenants.ann, tenants.bob, tenants.zoe, tenants.zoe, tenants.operator):
        answer = client.get(url)
        assert answer.is_success, answer.text
        assert answer.headers["x-webfoot-executions"] == "1"
        assert answer.headers["x-webfoot-rows"] == "5"
    assert tenants.server.executions("numbers") == 3
    runs = [client.get(url).headers["x-webfoot-run"] for client in (tenants.ann, tenants.bob)]
    assert len(set(runs)) == 1
    assert tenants.zoe.get(url).headers["x-webfoot-run"] not in runs


@pytest.mark.parametrize(("extension", "n"), [("parquet", 30), ("csv", 31), ("html", 32)])
def test_nothing_tells_that_another_tenant_has_asked(
    tenants: Tenants, extension: str, n: int
) -> None:
    url = f"/udfs/numbers.{extension}?n={n}"
    first = tenants.ann.get(url)
    # To the second, HEAD knows nothing yet, and no condition on the first one's tag is met.
    head = tenants.zoe.head(url)
    assert not {"etag", "content-length", "last-modified", "x-webfoot-run"} & set(head.headers)
    time.sleep(1.1)
    second = tenants.zoe.get(url, headers={"if-none-match": '"0"'})
    assert second.status_code == 200
    assert second.headers["server-timing"] != "hit"
    made = [parsedate_to_datetime(one.headers["last-modified"]) for one in (first, second)]
    assert made[0] < made[1]
    assert second.headers["x-webfoot-executions"] == "1"
    assert second.content == first.content


def test_failures_are_remembered_for_each_tenant(tenants: Tenants) -> None:
    runs = set()
    for client in (tenants.ann, tenants.bob, tenants.zoe):
        answer = client.get("/udfs/fails.json?n=2")
        assert answer.json()["code"] == "udf-failed"
        runs.add(answer.json()["run"])
    assert len(runs) == 2
    assert tenants.server.executions("fails") == 2


def test_what_udfs_call_is_the_tenants_too(tenants: Tenants) -> None:
    for number, client in enumerate((tenants.ann, tenants.zoe, tenants.operator), start=1):
        assert client.get("/udfs/sums.json").is_success
        assert tenants.server.executions("leaf") == 3 * number
    for client in (tenants.bob, tenants.zoe):
        assert client.get("/udfs/leaf.json?n=2").is_success
    assert tenants.server.executions("leaf") == 9


def test_fan_outs_are_the_tenants_too(tenants: Tenants) -> None:
    before = tenants.server.executions("numbers")
    for client in (tenants.ann, tenants.zoe, tenants.bob):
        body = [{"n": 20}, {"n": 21}]
        answer = client.post("/udfs/numbers/map", json=body, headers={"accept": "application/json"})
        assert len(answer.json()) == 41
        assert client.get("/udfs/numbers.json?_each=n&n=20&n=21").is_success
    assert tenants.server.executions("numbers") - before == 4


def test_a_run_is_known_to_its_tenant_and_nobody_else(tenants: Tenants) -> None:
    run = tenants.ann.get("/udfs/numbers.json?n=8").headers["x-webfoot-run"]
    assert tenants.ann.get(f"/runs/{run}").json()["tenant"] == "acme"
    assert tenants.bob.get(f"/runs/{run}").status_code == 200
    strange = tenants.zoe.get(f"/runs/{run}")
    unknown = tenants.zoe.get("/runs/0123456789abcdef")
    assert strange.status_code == unknown.status_code == 404
    assert strange.text.replace(run, "") == unknown.text.replace("0123456789abcdef", "")
    assert tenants.operator.get(f"/runs/{run}").status_code == 404


def test_a_job_is_known_to_its_tenant_and_nobody_else(tenants: Tenants) -> None:
    job = tenants.ann.post("/jobs", json={"udf": "numbers", "parameters": {"n": 9}}).json()
    path = f"/jobs/{job['id']}"
    while tenants.bob.get(path).json()["state"] != "done":
        time.sleep(0.02)
    assert len(tenants.bob.get(f"{path}.json").json()) == 9
    before = tenants.server.executions("numbers")
    assert tenants.ann.get("/udfs/numbers.json?n=9").is_success
    assert tenants.server.executions("numbers") == before
    for client in (tenants.zoe, tenants.operator):
        for method, url in (("GET", path), ("DELETE", path), ("GET", f"{path}.json")):
            answer = client.request(method, url)
            assert answer.status_code == 404
            assert answer.json()["code"] == "job-not-found"
        assert client.head(f"{path}.parquet").status_code == 404


def test_an_idempotency_key_is_whose_it_is(tenants: Tenants) -> None:
    ids = set()
    for client in (tenants.ann, tenants.bob, tenants.zoe, tenants.zoe):
        body = {"udf": "numbers", "parameters": {"n": 10}}
        answer = client.post("/jobs", json=body, headers={"idempotency-key": "the same"})
        assert answer.status_code == 202
        ids.add(answer.json()["id"])
    assert len(ids) == 3
    other = {"udf": "numbers", "parameters": {"n": 11}}
    conflict = tenants.ann.post("/jobs", json=other, headers={"idempotency-key": "the same"})
    assert conflict.status_code == 409
    assert not {part for part in ("key:", "acme") if part in conflict.text}


def test_a_long_run_becomes_a_job_of_its_tenant(tmp_path: Path) -> None:
    with tenants_in(tmp_path, WEBFOOT_HOLD="0.2") as tenants:
        url = "/udfs/numbers.json?n=12&gate=long"
        asked = {c: c.get(url, follow_redirects=False) for c in (tenants.ann, tenants.zoe)}
        sent = {client: answer.headers["location"] for client, answer in asked.items()}
        assert len(set(sent.values())) == 2
        for client, where in sent.items():
            stranger = tenants.zoe if client is tenants.ann else tenants.ann
            assert stranger.get(where).status_code == 404
        tenants.server.open("long")
        for client, where in sent.items():
            answer = client.get(where)
            assert len(answer.json()) == 12
            assert "public" not in answer.headers["cache-control"]


def test_a_udf_that_is_told_who_asks_has_a_result_for_each(tenants: Tenants) -> None:
    shown = {}
    for name in ("ann", "bob", "zoe", "operator"):
        client: httpx.Client = getattr(tenants, name)
        for _ in range(2):
            (shown[name],) = client.get("/udfs/me.json").json()
    assert len({row["id"] for row in shown.values()}) == 4
    assert [row["tenant"] for row in shown.values()] == ["acme", "acme", "zeta", ""]
    assert [row["roles"] for row in shown.values()] == ["analyst"] * 3 + ["admin"]
    assert tenants.server.executions("me") == 4
    run = tenants.ann.get("/udfs/me.json").headers["x-webfoot-run"]
    assert tenants.ann.get(f"/runs/{run}").status_code == 200
    assert tenants.bob.get(f"/runs/{run}").status_code == 404


def test_who_asks_is_handed_on_by_a_udf_that_is_told(tenants: Tenants) -> None:
    before = tenants.server.executions("me")
    (row,) = tenants.ann.get("/udfs/about_me.json").json()
    assert (row["tenant"], row["roles"]) == ("acme", "analyst")
    assert tenants.server.executions("me") == before, "it is the same call"
    refused = tenants.ann.get("/udfs/about_somebody.json").json()
    assert refused["code"] == "run-error"
    assert "give about_somebody a parameter who: webfoot.Principal" in refused["detail"]


def test_a_link_is_of_its_tenant(tenants: Tenants) -> None:
    place = tenants.server.store / "access"
    before = tenants.server.executions("numbers")
    for tenant, more in (("acme", 1), ("zeta", 2), ("", 3)):
        link = give_link(place, "numbers", tenant=tenant, fixed={"n": ("13",)})
        assert len(httpx.get(f"{tenants.server.url}/udfs/numbers.json?_share={link}").json()) == 13
        assert tenants.server.executions("numbers") - before == more
    assert tenants.ann.get("/udfs/numbers.json?n=13").is_success
    assert tenants.server.executions("numbers") - before == 3
    (row,) = httpx.get(
        f"{tenants.server.url}/udfs/me.json?_share={give_link(place, 'me', tenant='acme')}"
    ).json()
    assert row["id"].startswith("share:")
    assert (row["tenant"], row["roles"]) == ("acme", "")


def test_the_parameter_is_none_of_the_calls(tenants: Tenants) -> None:
    (told,) = [u for u in tenants.ann.get("/udfs").json()["udfs"] if u["name"] == "me"]
    assert [parameter["name"] for parameter in told["parameters"]] == ["n"]
    answer = tenants.ann.get("/udfs/me.json?who=admin")
    assert answer.status_code == 422
