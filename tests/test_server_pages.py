"""What people and scripts read besides tables, on a real server."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.server_process import INLINE, Server, serve, write_udfs

from webfoot.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Iterator

UDFS = '''
    import enum
    from typing import Annotated, Literal
    from pydantic import Field
    from webfoot import udf

    class Shade(enum.Enum):
        DARK = "dark & <b>deep</b>"
        LIGHT = "light"

    @udf(tags=["<i>tag</i>"])
    def shown(
        needed: int,
        shade: Shade = Shade.LIGHT,
        kind: Literal["a", "b"] = "a",
        loud: bool = False,
        label: str = "<img src=x onerror=alert(1)>",
        sizes: list[int] = [1, 2],
    ):
        """Shows <script>alert(1)</script> & "more".

        Several <script>alert(2)</script> lines.

        Args:
            needed: How many <script>alert(3)</script>.

        Returns:
            One row <script>alert(4)</script>.
        """
        print("the UDF printed this")
        return [{"needed": needed}]

    @udf(cache="forever")
    def plain():
        return [{"a": 1}]

    @udf(cache=0)
    def fleeting():
        return [{"a": 1}]
'''
BROKEN = """
    secret = "in the source"
    import nothing_of_this_name, secret  # <script>alert(5)</script>

    def stranded():
        pass
"""
PAGES = [
    "/",
    "/udfs",
    "/udfs/shown",
    "/udfs/plain",
    "/docs",
    "/nothing",
    "/udfs/shwn",
    "/udfs/stranded",
]
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_udfs(tmp_path_factory.mktemp("pages"), shown=UDFS, broken=BROKEN)
    with serve(folder) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as client:
        yield client


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects what tests look at."""

    VOID = frozenset({"meta", "link", "input", "br", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.names: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.assets: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"<{tag}> has an attribute twice"
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "a":
            self.links.append(given["href"] or "")
        if tag in ("input", "select", "textarea"):
            self.names.append(given["name"] or "")
        if tag in ("script", "link"):
            self.assets.append(given.get("src") or given.get("href") or "")
        if tag == "label":
            self.labels.append(given["for"] or "")
        if "id" in given:
            self.ids.append(given["id"] or "")
        assert not any(name.startswith("on") for name in given)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_whole_escaped_and_locked_down(http: httpx.Client, path: str) -> None:
    response = http.get(path, headers=BROWSER)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.text.startswith("<!doctype html>")
    page = Page(response.text)
    assert not page.tags & {"img", "iframe", "b", "i"}
    for asset in page.assets:
        assert asset.startswith("/static/")
        assert http.get(asset).status_code == 200
    assert "style=" not in response.text
    assert "<style" not in response.text
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.labels) <= set(page.ids)
    assert '<html lang="en">' in response.text
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "Accept" in response.headers["vary"]
    for link in page.links:
        # One has a required parameter, the other no geometry; and no other server is asked.
        own = link.startswith(("/", "#", http.base_url.scheme)) and "shell.duckdb.org" not in link
        if own and "/udfs/shown." not in link and not link.endswith(".geojson"):
            assert http.get(link, headers=BROWSER).status_code == 200, link


def test_the_catalog_lists_every_udf_and_every_problem(http: httpx.Client) -> None:
    page = http.get("/").text
    for text in ("shown", "plain", "fleeting", "needed", "broken.py", "nothing_of_this_name"):
        assert text in page
    assert "in the source" not in page
    assert "Traceback" not in page


def test_the_catalog_has_a_box_for_sql_that_works_without_a_script(http: httpx.Client) -> None:
    page = http.get("/").text
    assert "sql" in Page(page).names
    box = re.search(r"<textarea[^>]*>([^<]*)</textarea>", page)
    assert box is not None
    text = html.unescape(box[1])
    rows = http.get("/query.html", params={"sql": text}, headers=BROWSER)
    assert rows.status_code == 200
    assert "<table" in rows.text
    wrong = http.get("/query.html", params={"sql": "DROP TABLE a"}, headers=BROWSER)
    assert wrong.status_code == 403
    assert "this is DROP" in wrong.text


def test_a_folder_without_udfs_shows_how_to_begin(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with serve(write_udfs(tmp_path_factory.mktemp("empty")), *INLINE) as server:
        page = httpx.get(f"{server.url}/").text
        assert "from webfoot import udf" in page
        assert "@udf" in page
        paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
        assert {path.split("/")[1] for path in paths} == {"query", "query.{extension}"}
        assert 'name="sql"' not in page


def test_the_page_of_a_udf_has_a_form_that_calls_it(http: httpx.Client) -> None:
    response = http.get("/udfs/shown", headers=BROWSER)
    page = Page(response.text)
    assert page.names == ["needed", "shade", "kind", "loud", "label", "sizes"]
    assert "How many &lt;script&gt;" in response.text
    action = re.search(r'action="([^"]+)"', response.text)
    assert action is not None
    filled = dict.fromkeys(page.names, "") | {"needed": "3"}
    shown = http.get(action[1], params=filled, headers=BROWSER)
    assert shown.status_code == 200
    assert '<td class="number">3</td>' in shown.text


def test_the_catalog_is_searched_by_all_words(http: httpx.Client) -> None:
    def found(query: str) -> list[str]:
        page = http.get("/", params={"q": query}).text
        entries = re.findall(r"<li data-searched=[^>]*>.*?</li>", page, re.DOTALL)
        shown = [entry for entry in entries if " hidden>" not in entry.split("\n")[0]]
        return [re.findall(r"/udfs/(\w+)", entry)[0] for entry in shown]

    assert found("") == ["fleeting", "plain", "shown"]
    assert found("SHOWN more") == ["shown"]
    assert found("needed <i>tag</i>") == ["shown"]
    assert found("shown nowhere") == []


def test_a_form_is_filled_in_from_the_address(http: httpx.Client) -> None:
    page = http.get("/udfs/shown?needed=12&kind=b&_limit=1", headers=BROWSER).text
    assert re.search(r'name="needed"[^>]* value="12"', page)
    assert "<option selected>b</option>" in page
    assert "/udfs/shown.csv?needed=12&amp;kind=b" in page
    assert "/udfs/shown.parquet?needed=12&amp;kind=b" in page
    wrong = http.get("/udfs/shown?needed=x&strange=1", headers=BROWSER).text
    assert "strange: unknown parameter" in wrong


def test_assets_are_kept_for_ever_under_a_name_that_changes_with_them(http: httpx.Client) -> None:
    (sheet,) = re.findall(r'href="([^"]+\.css)"', http.get("/").text)
    answer = http.get(sheet)
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip"
    plain = http.get(sheet, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.text == answer.text
    script = http.get(sheet.replace("webfoot.css", "udf.js"))
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    for path in ("webfoot.txt", "../webfoot.css", "..%2f..%2fassets.py", "udf.html", ""):
        assert http.get(sheet.replace("webfoot.css", path)).status_code in (404, 405)
    version = sheet.split("/")[2]
    assert http.get(sheet.replace(version, "0" * len(version))).status_code == 404


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", "application/json, text/html;q=0.9", ""]
)
def test_scripts_get_json(http: httpx.Client, accept: str) -> None:
    listed = http.get("/udfs", headers={"Accept": accept}).json()
    assert [udf["name"] for udf in listed["udfs"]] == ["fleeting", "plain", "shown"]
    (problem,) = listed["problems"]
    assert problem["file"] == "broken.py"
    assert problem["names"] == ["stranded"]
    assert "traceback" not in problem
    shown = http.get("/udfs/shown", headers={"Accept": accept}).json()
    assert shown == listed["udfs"][2]
    assert [p["name"] for p in shown["parameters"] if p["required"]] == ["needed"]
    assert [p["type"] for p in shown["parameters"]][:4] == ["int", "Shade", "'a' | 'b'", "bool"]
    assert shown["parameters"][0]["schema"]["type"] == "integer"
    assert http.get(listed["udfs"][1]["urls"]["parquet"]).status_code == 200
    ages = {udf["name"]: udf["cache_s"] for udf in listed["udfs"]}
    assert ages == {"fleeting": 0, "plain": None, "shown": 600}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/nothing", 404, "not-found"),
        ("/udfs/shwn", 404, "udf-not-found"),
        ("/udfs/stranded", 500, "udf-unavailable"),
        ("/runs/0123456789abcdef", 404, "not-found"),
        ("/runs/..%2f..%2fetc", 404, "not-found"),
        ("/runs/%00", 404, "not-found"),
        ("/udfs/%FF", 404, "udf-not-found"),
    ],
)
def test_errors_are_problems_for_scripts_and_pages_for_people(
    http: httpx.Client, path: str, status: int, code: str
) -> None:
    told = http.get(path)
    assert told.status_code == status
    assert told.headers["content-type"] == "application/problem+json"
    assert told.json()["code"] == code
    shown = http.get(path, headers=BROWSER)
    assert shown.status_code == status
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert "Traceback" not in shown.text


def test_a_near_miss_is_told(http: httpx.Client) -> None:
    assert "did you mean 'shown'?" in http.get("/udfs/shwn").json()["detail"]


@pytest.mark.parametrize(
    "path", ["/", "/udfs", "/udfs/shown", "/openapi.json", "/docs", "/healthz", "/readyz"]
)
def test_head_is_get_without_its_body(http: httpx.Client, path: str) -> None:
    head, get = http.head(path), http.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert head.headers["content-length"] == get.headers["content-length"]


def test_health_and_readiness(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready", "udfs": 3, "problems": 1}


def test_a_run_is_recorded_without_what_is_the_authors(http: httpx.Client) -> None:
    run = http.get("/udfs/shown.json?needed=8").headers["x-webfoot-run"]
    record = http.get(f"/runs/{run}").json()
    assert record["udf"] == "shown"
    assert '"needed":8' in record["arguments"]
    assert record["rows"] == 1
    assert record["problem"] is None
    assert "log" not in record


def test_a_run_has_a_page_for_people(http: httpx.Client) -> None:
    run = http.get("/udfs/shown.json?needed=9&label=%3Cb%3E").headers["x-webfoot-run"]
    answer = http.get(f"/runs/{run}", headers=BROWSER)
    page = Page(answer.text)
    assert "/udfs/shown?" in " ".join(page.links)
    assert "needed=9" in " ".join(page.links)
    assert "&lt;b&gt;" in answer.text
    assert "worked" in answer.text
    assert "the UDF printed this" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert "Accept" in answer.headers["vary"]


@pytest.mark.parametrize("extension", ["parquet", "csv"])
def test_every_kind_of_run_has_a_page(server: Server, http: httpx.Client, extension: str) -> None:
    answer = http.get(f"/udfs/shown.{extension}?_each=needed&needed=21&needed=22")
    runs = Runs(server.store / "runs")
    kinds = {run.kind: run.id for run in runs.all()}
    runs.close()
    assert kinds["fan-out"] == answer.headers["x-webfoot-run"]
    for kind, run in kinds.items():
        page = http.get(f"/runs/{run}", headers=BROWSER)
        assert page.status_code == 200
        assert " ms" in page.text
        assert ("<h2>Arguments</h2>" in page.text) == (kind == "call")


def test_a_result_tells_how_many_rows_it_has(http: httpx.Client) -> None:
    for path in ("/udfs/plain.parquet", "/udfs/plain.html?_limit=0"):
        assert http.get(path).headers["x-webfoot-rows"] == "1"
        assert http.head(path).headers["x-webfoot-rows"] == "1"


def test_debug_mode_shows_authors_what_is_theirs(server: Server) -> None:
    with serve(server.folder, "--debug", store=server.folder.parent / "debug") as debugged:
        page = httpx.get(f"{debugged.url}/", headers=BROWSER).text
        assert "Traceback" in page
        assert "&lt;script&gt;alert(5)" in page
        assert "broken.py&#34;, line 3" in page
        (problem,) = httpx.get(f"{debugged.url}/udfs").json()["problems"]
        assert 'broken.py", line 3' in problem["traceback"]
        assert "Traceback" in httpx.get(f"{debugged.url}/udfs/stranded", headers=BROWSER).text
        run = httpx.get(f"{debugged.url}/udfs/shown.json?needed=1").headers["x-webfoot-run"]
        assert httpx.get(f"{debugged.url}/runs/{run}").json()["log"] == "the UDF printed this\n"
        shown = httpx.get(f"{debugged.url}/runs/{run}", headers=BROWSER).text
        assert "the UDF printed this" in shown
