"""`/shares`: links are given out, listed and revoked by those who may."""

from __future__ import annotations

import asyncio
import errno
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.access.granting import bearer, give_key
from tests.server_process import INLINE, serve, write_udfs

from webfoot.access.key_folder import KeyFolder
from webfoot.server import create_app
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server_process import Server

UDFS = """
from webfoot import udf

@udf
def delays(month: int, origin: str = "JFK", carriers: list[str] = []):
    return [{"month": month, "origin": origin, "carriers": ",".join(carriers)}]

@udf
def covert():
    return [{"n": 1}]
"""


@dataclass(frozen=True)
class Place:
    """A server and its clients."""

    server: Server
    ann: httpx.Client
    bob: httpx.Client
    boss: httpx.Client
    zoe: httpx.Client

    def link(self, **asked: Any) -> dict[str, Any]:
        answer = self.ann.post("/shares", json={"udf": "delays", **asked})
        assert answer.status_code == 201, answer.text
        assert answer.headers["cache-control"] == "no-store"
        made: dict[str, Any] = answer.json()
        return made

    def refused(self, **asked: Any) -> tuple[int, str]:
        answer = self.ann.post("/shares", json={"udf": "delays", **asked})
        return answer.status_code, answer.json()["detail"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    parent = tmp_path_factory.mktemp("shares")
    access = parent / "store/access"
    keys = [
        give_key(access, "analyst", tenant="acme", udfs=("delays",), formats=("csv", "json")),
        give_key(access, "analyst", tenant="acme"),
        give_key(access, "admin", tenant="acme"),
        give_key(access, "admin", tenant="zeta"),
    ]
    with serve(write_udfs(parent, tables=UDFS), *INLINE) as server:
        clients = [httpx.Client(base_url=server.url, headers=bearer(key)) for key in keys]
        yield Place(server, *clients)
        for client in clients:
            client.close()


def test_a_link_is_the_address_of_a_table(place: Place) -> None:
    made = place.link(parameters={"month": 3, "carriers": ["AA", "B 6"]}, expires="1h")
    assert made["expires"] == pytest.approx(time.time() + 3600, abs=30)
    # In the formats that its giver may read, and no others.
    assert set(made["urls"]) == {"csv", "json"}
    assert made["urls"]["json"].startswith(f"{place.server.url}/udfs/delays.json?_share=")
    (row,) = httpx.get(made["urls"]["json"]).json()
    assert row == {"month": 3, "origin": "JFK", "carriers": "AA,B 6"}
    assert "month=3" not in made["urls"]["json"]
    parquet = made["urls"]["json"].replace(".json", ".parquet")
    assert httpx.get(parquet).status_code == 403


def test_what_is_free_is_the_readers(place: Place) -> None:
    made = place.link(parameters={"origin": "LGA"}, free=["month"], formats=["csv"])
    url = made["urls"]["csv"]
    assert httpx.get(f"{url}&month=5").text.split() == ["month,origin,carriers", '5,LGA,""']
    assert httpx.get(f"{url}&month=5&origin=JFK").status_code == 403
    assert httpx.get(url).status_code == 422
    everything = place.link(free=["*"])["urls"]["json"]
    assert httpx.get(f"{everything}&month=1&origin=SFO").json()[0]["origin"] == "SFO"


def test_a_link_has_a_rate(place: Place) -> None:
    url = place.link(parameters={"month": 6}, rate="2/h")["urls"]["json"]
    assert [httpx.get(url).status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("asked", "status", "detail"),
    [
        ({"udf": "covert"}, 404, "there is no UDF 'covert'"),
        ({"udf": "nosuch"}, 404, "there is no UDF 'nosuch'"),
        ({}, 422, "month: is required; fix it, or free it"),
        ({"parameters": {"month": "x"}}, 422, "month: Input should be a valid integer"),
        ({"parameters": {"month": 1, "year": 2}}, 422, "year: unknown parameter; known: month"),
        ({"parameters": {"month": None}}, 422, "month: a link cannot give null"),
        ({"parameters": {"month": 1}, "free": ["month"]}, 422, "month: is fixed and free"),
        ({"parameters": {"month": 1}, "free": ["year"]}, 422, "no parameter 'year' to free"),
        ({"parameters": {"month": 1}, "formats": ["parquet"]}, 403, "not for you as .parquet"),
        (
            {"parameters": {"month": 1}, "formats": ["doc"]},
            422,
            "there is no format 'doc'; use some of parquet, ",
        ),
        ({"parameters": {"month": 1}, "expires": "soon"}, 422, "expires: a duration is"),
        ({"parameters": {"month": 1}, "expires": 0}, 422, "expires: it would be good for nothing"),
        ({"parameters": {"month": 1}, "expires": True}, 422, "expires: must be as in"),
        ({"parameters": {"month": 1}, "rate": "fast"}, 422, "rate: a rate is written like"),
        ({"parameters": {"month": 1, "origin": "a" * 20_000}}, 422, "at most 16000 are read"),
        ({"parameters": [1]}, 422, "parameters: must be as in"),
        ({"formats": [1]}, 422, "formats: must be a list of texts"),
        ({"tenant": "zeta"}, 422, "tenant: is no part of a link"),
    ],
)
def test_what_makes_no_link_is_refused(
    place: Place, asked: dict[str, Any], status: int, detail: str
) -> None:
    found, told = place.refused(**asked)
    assert (found, detail in told) == (status, True), told


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"{", b'"delays"'])
def test_what_is_no_object_is_refused(place: Place, body: bytes) -> None:
    answer = place.ann.post("/shares", content=body)
    assert answer.status_code == 422


def test_links_are_listed_and_revoked_by_their_giver_or_the_tenants_admin(place: Place) -> None:
    first, second = (place.link(parameters={"month": n}, rate="5/m") for n in (7, 8))
    for client, known in ((place.ann, True), (place.bob, False), (place.boss, True)):
        listed = client.get("/shares").json()["shares"]
        ids = {item["id"] for item in listed}
        assert ({first["id"], second["id"]} <= ids) is known
    (shown,) = [i for i in place.ann.get("/shares").json()["shares"] if i["id"] == first["id"]]
    assert shown["parameters"] == {"month": ["7"]}
    assert (shown["rate"], shown["revoked"]) == ("5/m", None)
    assert place.zoe.get("/shares").json() == {"shares": []}
    for stranger in (place.bob, place.zoe):
        assert stranger.delete(f"/shares/{first['id']}").status_code == 404
    assert httpx.get(first["urls"]["json"]).status_code == 200
    assert place.ann.delete(f"/shares/{first['id']}").status_code == 204
    assert place.boss.delete(f"/shares/{second['id']}").status_code == 204
    time.sleep(0.6)
    for made in (first, second):
        refused = httpx.get(made["urls"]["json"])
        assert refused.status_code == 401
        assert "this link was revoked" in refused.json()["detail"]
    assert place.ann.delete("/shares/0123456789ab").status_code == 404


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [(errno.ENOSPC, 507, "storage-full"), (errno.EIO, 500, "error")],
)
def test_a_disk_that_is_full_is_told_as_that(
    number: int, status: int, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_udfs(tmp_path, tables=UDFS)
    key = give_key(tmp_path / "store/access", "analyst")

    def give(*_: object) -> str:
        raise OSError(number, "the disk's own words")

    monkeypatch.setattr(KeyFolder, "give", give)
    app = create_app(Settings(folder=folder, store=tmp_path / "store", runner="inline"))

    async def ask() -> httpx.Response:
        # As uvicorn does: it answers, and raises what is a bug for the log.
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.post("/shares", json={"udf": "covert"}, headers=bearer(key))

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "own words" not in answer.text
