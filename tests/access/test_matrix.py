"""Every route, every kind of asker: 401, 403, 404, 429, or an answer.

The routes are the router's own: a new one that nobody has decided on fails here.
"""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from tests.access.granting import bearer, give_key, give_link, revoke
from tests.server_process import INLINE, serve, write_udfs

from webfoot import assets
from webfoot.access.keys import id_of, new_id
from webfoot.access.opening import open_access
from webfoot.access.throttling import Limits, read_rate
from webfoot.server import create_app
from webfoot.server.permissions import _PATHS, Need, Wanted, wanted_by
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

UDFS = """
    from webfoot import udf

    @udf(partitions=["month"])
    def delays(month: Literal[1, 2] = 1, origin: str = "JFK"):
        return [{"month": month, "origin": origin}]

    @udf
    def covert(n: int = 1):
        return [{"n": n}]
"""
ROLES = """
[roles.nothing]

[roles.scraper]
may = ["metrics"]

[roles.reader]
udfs = ["delays"]
formats = ["csv", "parquet"]
"""
# What stands for the parameters of the router's paths.
SAMPLES = {
    "name": "delays",
    "run": "{run}",
    "id": "{job}",
    "version": assets.version(),
    "file": "webfoot.css",
    "table": "requests",
    "extension": "csv",
}
# The data path is in front of the router.
RESULTS = [
    *(("GET", f"/udfs/{name}.{ext}") for name in ("delays", "covert") for ext in ("csv", "json")),
    *(("HEAD", f"/udfs/delays.{ext}") for ext in ("parquet", "html")),
    ("GET", "/udfs/delays/month=2/data.parquet"),
    ("POST", "/udfs/delays/map"),
    ("GET", "/jobs/{job}.csv"),
    ("HEAD", "/jobs/{job}.json"),
    ("GET", "/query.csv"),
    ("HEAD", "/query.json"),
    ("POST", "/query"),
]


def routes_of(router: Any) -> Iterator[tuple[str, str]]:
    for route in router.routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes_of(inner)
        else:
            yield from ((method, route.path) for method in sorted(route.methods))


def routes() -> list[tuple[str, str]]:
    """Method and path of every route, with samples for their parameters."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "udfs").mkdir()
        settings = Settings(
            folder=Path(folder) / "udfs", store=Path(folder) / "store", runner="inline"
        )
        app = create_app(settings, open_access())
        found = list(routes_of(app.router))
        app.engine.runs.close()
    assert len(found) > 30
    return [
        (method, re.sub(r"{(\w+)}", lambda match: SAMPLES[match[1]], path))
        for method, path in found
    ]


ROUTES = routes()


def scope_of(method: str, path: str) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_is_in_the_table_of_what_is_needed(method: str, path: str) -> None:
    assert wanted_by(scope_of(method, path)) is not None, "add a line to webfoot.server.permissions"
    if not any(method in needs for pattern, needs in _PATHS if pattern.fullmatch(path)):
        assert (method, path) in RESULTS, "say what this method needs, too"


def test_what_is_not_in_the_table_nobody_is_told_of() -> None:
    for path in (
        "/metrics2",
        "/udfs/a/b",
        "/jobs/a/b",
        "/admin",
        "//udfs",
        "/runs/a/b",
        "/shares/a/b",
        "/query.csv/",
        "/query/a.csv",
        "/jobs/1.csv/",
    ):
        assert wanted_by(scope_of("GET", path)) is None


@dataclass(frozen=True)
class Kind:
    """A kind of asker.

    Args:
        headers: What they send.
        query: What they add to the address.
        known: Whether they are let in at all.
        may: What they have a right to.
        udfs: What they may call.
        formats: In which formats.
        share: Whether they come by a link.
        spent: Whether they have asked for as much as they may.
    """

    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""
    known: bool = True
    may: frozenset[Need] = frozenset()
    udfs: tuple[str, ...] = ("delays", "covert")
    formats: tuple[str, ...] = ("csv", "json", "parquet", "html")
    share: bool = False
    spent: bool = False

    def expected(self, method: str, path: str) -> int:
        """401, 403, 404, 429; or 200 for an answer."""
        wanted = wanted_by(scope_of(method, path))
        assert wanted is not None
        if wanted.need is Need.NOTHING:
            return 200
        if not self.known:
            return 401
        is_link, extension = wanted.need in (Need.RESULT, Need.FOLLOW), path.rpartition(".")[2]
        plain = is_link and "=" not in path and method != "POST"
        read = extension if plain or "=" in path else "parquet"
        lacks = wanted.need in ALL and wanted.need not in self.may
        unreadable = wanted.udf in self.udfs and read not in self.formats
        if (self.share and not plain) or lacks or (wanted.need is Need.RESULT and unreadable):
            return 403
        if self.spent and method != "HEAD":
            return 429
        named = re.fullmatch(r"/udfs/(\w+)", path)
        # What a job or a run is of, is known when it is found.
        found = wanted.need is Need.FOLLOW or path.startswith("/runs/")
        udf = wanted.udf or (named[1] if named else "delays" if found else "")
        if udf and udf not in self.udfs:
            return 404
        return 403 if wanted.need is Need.FOLLOW and read not in self.formats else 200


ANALYST = frozenset({Need.SQL, Need.JOBS, Need.SHARE})
ALL = ANALYST | {Need.METRICS, Need.ADMIN}
KINDS = (
    *("nobody", "stranger", "wrong secret", "revoked", "expired", "no scheme", "tampered link"),
    *("expired link", "revoked link", "link", "viewer", "analyst", "admin", "narrow", "reader"),
    *("scraper", "nothing", "forgotten role", "spent"),
)


@dataclass(frozen=True)
class Place:
    """A server, who may ask it, and what there is."""

    url: str
    http: httpx.Client
    kinds: dict[str, Kind]
    samples: dict[str, str]

    def ask(self, kind: Kind, method: str, path: str) -> httpx.Response:
        for name, value in self.samples.items():
            path = path.replace(f"{{{name}}}", value)
        body: Any = [{"month": 1}] if path.endswith("/map") else {"udf": "delays"}
        asked = [kind.query] if kind.query else []
        if path.startswith("/query."):
            asked.append("sql=SELECT%201")
        elif path == "/query":
            body = {"query": "SELECT 1"}
        return self.http.request(
            method,
            path + (f"?{'&'.join(asked)}" if asked else ""),
            headers=kind.headers,
            json=body if method == "POST" else None,
        )


def kinds_in(place: Path) -> dict[str, Kind]:
    def key(*roles: str, **given: Any) -> dict[str, str]:
        return bearer(give_key(place, *roles, **given))

    gone = give_key(place, "admin")
    revoke(place, "key", id_of(gone))
    wrong = give_key(place, "admin")
    link = give_link(place, "delays", formats=("csv",), fixed={"month": ("1",)})
    swapped = link[:-1] + ("A" if link[-1] != "A" else "B")
    gone_link = new_id()
    spent = Limits(read_rate("1/d"))
    revoked = give_link(place, "delays", id=gone_link)
    revoke(place, "share", gone_link)
    late = give_link(place, "delays", expires=int(time.time()) - 1)

    def stranger(headers: dict[str, str], query: str = "") -> Kind:
        return Kind(headers, query, known=False)

    return {
        "nobody": stranger({}),
        "stranger": stranger(bearer(f"wf_{new_id()}_{'x' * 43}")),
        "wrong secret": stranger(bearer(wrong[:16] + "x" * 43)),
        "revoked": stranger(bearer(gone)),
        "expired": stranger(key("admin", expires=time.time() - 1)),
        "no scheme": stranger({"authorization": "Negotiate abc"}),
        "tampered link": stranger({}, f"_share={swapped}"),
        "expired link": stranger({}, f"_share={late}"),
        "revoked link": stranger({}, f"_share={revoked}"),
        "link": Kind(query=f"_share={link}", udfs=("delays",), formats=("csv",), share=True),
        "viewer": Kind(key("viewer")),
        "analyst": Kind(key("analyst"), may=ANALYST),
        "admin": Kind(key("admin"), may=ALL),
        "narrow": Kind(key("analyst", udfs=("del*",)), may=ANALYST, udfs=("delays",)),
        "reader": Kind(key("reader"), udfs=("delays",), formats=("csv", "parquet")),
        "scraper": Kind(key("scraper"), may=frozenset({Need.METRICS}), udfs=()),
        "nothing": Kind(key("nothing"), udfs=()),
        "forgotten role": Kind(key("no-such-role"), udfs=()),
        "spent": Kind(key("analyst", limits=spent), may=ANALYST, spent=True),
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    parent = tmp_path_factory.mktemp("matrix")
    folder = write_udfs(
        parent, tables="from typing import Literal\n" + UDFS.replace("\n    ", "\n")
    )
    (parent / "roles.toml").write_text(ROLES)
    kinds = kinds_in(parent / "store/access")
    assert set(kinds) == set(KINDS)
    with (
        serve(folder, *INLINE, "--roles", str(parent / "roles.toml")) as running,
        httpx.Client(base_url=running.url) as http,
    ):
        # The one request of today.
        assert http.get("/udfs", headers=kinds["spent"].headers).is_success
        mine = kinds["analyst"].headers
        run = http.get("/udfs/delays.csv", headers=mine).headers["x-webfoot-run"]
        job = http.post("/jobs", json={"udf": "delays"}, headers=mine).json()["id"]
        while http.get(f"/jobs/{job}", headers=mine).json()["state"] != "done":
            time.sleep(0.01)
        yield Place(running.url, http, kinds, {"run": run, "job": job})


@pytest.mark.parametrize("kind", KINDS)
def test_who_gets_what(place: Place, kind: str) -> None:
    asker = place.kinds[kind]
    wrong = {}
    for method, path in [*ROUTES, *RESULTS]:
        answer = place.ask(asker, method, path)
        expected = asker.expected(method, path)
        found = 200 if answer.status_code < 400 else answer.status_code
        if method == "DELETE" and found == 404:  # What they may revoke is not there.
            found = 200
        if found != expected:
            wrong[f"{method} {path}"] = (found, expected, answer.text[:200])
        kept = answer.headers.get("cache-control", "")
        if found == 200 and wanted_by(scope_of(method, path)) != Wanted(Need.NOTHING):
            apart = "no-store" in kept or "Authorization" in answer.headers.get("vary", "")
            lazy = method == "HEAD" and kept == "no-cache"
            if "public" in kept or not (apart or lazy):
                wrong[f"{method} {path} kept"] = (found, expected, kept)
    assert wrong == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_says_what_to_do_and_who_may_keep_it(place: Place, kind: str) -> None:
    asker = place.kinds[kind]
    for method, path in [("GET", "/udfs/delays.json"), ("GET", "/udfs"), ("POST", "/jobs")]:
        answer = place.ask(asker, method, path)
        if answer.status_code == 401:
            schemes = [told.split()[0] for told in answer.headers.get_list("www-authenticate")]
            # A browser asks a person for a key, but not for one in the place of a link.
            assert schemes == (["Bearer"] if "link" in kind else ["Bearer", "Basic"])
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) > 0
        if answer.is_error:
            assert answer.headers["cache-control"] == "no-store"
            assert answer.json()["status"] == answer.status_code
            assert len(answer.json()["detail"]) > 20
        else:
            assert "public" not in answer.headers["cache-control"]
            assert "Authorization" in answer.headers["vary"]
            assert answer.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("kind", ["narrow", "reader", "nothing", "link"])
def test_what_somebody_may_not_see_is_as_if_it_were_not_there(place: Place, kind: str) -> None:
    asker = place.kinds[kind]

    def told(name: str, path: str, method: str = "GET") -> tuple[int, str, list[str]]:
        answer = place.ask(asker, method, path.format(name))
        return answer.status_code, answer.text.replace(name, "NAME"), sorted(answer.headers)

    for path in ("/udfs/{}", "/udfs/{}.csv", "/udfs/{}.json", "/udfs/{}.nothing"):
        assert told("covert", path) == told("nosuch", path)
        assert told("covert", path, "HEAD") == told("nosuch", path, "HEAD")
    assert told("covert", "/udfs/{}/map", "POST") == told("nosuch", "/udfs/{}/map", "POST")


def test_lists_and_catalogs_have_what_the_asker_may_call(place: Place) -> None:
    for kind, names in (
        ("analyst", {"delays", "covert"}),
        ("narrow", {"delays"}),
        ("nothing", set()),
    ):
        asker = place.kinds[kind]
        listed = place.ask(asker, "GET", "/udfs").json()
        assert {udf["name"] for udf in listed["udfs"]} == names
        for path in ("/", "/docs", "/openapi.json", "/catalog.sql", "/catalog-untyped.sql"):
            text = place.ask(asker, "GET", path).text
            assert {name for name in ("delays", "covert") if name in text} == names, path
        binary = place.ask(asker, "GET", "/catalog.duckdb").content
        assert {name for name in ("delays", "covert") if name.encode() in binary} == names


def test_a_preflight_needs_no_key(place: Place) -> None:
    for method, path in [("GET", "/udfs/delays.csv"), ("POST", "/jobs"), ("DELETE", "/jobs/1")]:
        answer = httpx.options(
            place.url + path,
            headers={
                "origin": "https://elsewhere.example",
                "access-control-request-method": method,
                "access-control-request-headers": "authorization",
            },
        )
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()
        assert "access-control-allow-credentials" not in answer.headers


def test_a_link_from_a_page_is_the_same_link(place: Place) -> None:
    link = place.kinds["link"].query
    assert dict(parse_qsl(link)).keys() == {"_share"}
    answer = httpx.get(f"{place.url}/udfs/delays.csv?{link}&origin=JFK")
    assert answer.status_code == 403
    assert "does not let you choose origin" in answer.json()["detail"]
    assert urlsplit(str(answer.url)).path == "/udfs/delays.csv"
