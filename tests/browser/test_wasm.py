"""DuckDB-Wasm in a real browser, on a page of another origin, reads a UDF by its URL."""

from __future__ import annotations

import hashlib
import http.client
import http.server
import json
import shutil
import subprocess
import threading
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Error as PageError
from tests.server_process import COUNT, Server, serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Request

# The packages are large, and fetched when the tests first run.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PACKAGES = Path(__file__).parent / "wasm"
# Two of DuckDB-Wasm: the last with Parquet built in, and the one of now, which would fetch its
# Parquet extension from the internet, and reads Arrow without it.
WITH_PARQUET, NOW = "duckdb-with-parquet", "duckdb-now"
INSIDE = f"/{WITH_PARQUET}/node_modules"
PAGE = f"""<!doctype html>
<script type="importmap">
{
    json.dumps(
        {
            "imports": {
                "apache-arrow": "/apache-arrow/Arrow.dom.mjs",
                "tslib": "/tslib/tslib.es6.mjs",
                "flatbuffers": "/flatbuffers/mjs/flatbuffers.js",
            },
            "scopes": {
                f"/{WITH_PARQUET}/": {
                    "apache-arrow": f"{INSIDE}/apache-arrow/Arrow.dom.mjs",
                    "flatbuffers": f"{INSIDE}/flatbuffers/mjs/flatbuffers.js",
                },
            },
        }
    )
}
</script>
<script type="module">
window.connect = async (name) => {{
    const at = `${{location.origin}}/${{name}}/dist`;
    const duckdb = await import(`${{at}}/duckdb-browser.mjs`);
    const worker = new Worker(`${{at}}/duckdb-browser-eh.worker.js`);
    const db = new duckdb.AsyncDuckDB(new duckdb.VoidLogger(), worker);
    await db.instantiate(`${{at}}/duckdb-eh.wasm`);
    return await db.connect();
}};
window.rows = async (connection, sql) => {{
    const found = (await connection.query(sql)).toArray().map((row) => Object.values(row.toJSON()));
    return JSON.parse(JSON.stringify(found, (_, value) =>
        typeof value === "bigint" ? Number(value) : value));
}};
window.ready = true;
</script>
"""
UDFS = """
    from webfoot import udf
    from ._count import count

    @udf
    def small(n: int = 3, text: str = ""):
        count(f"small {n}")
        return [{"i": i, "text": f"é {text} {i}"} for i in range(n)]

    @udf
    def large():
        count("large")
        return "SELECT i, md5(i::VARCHAR) AS text FROM range(400_000) r(i)"
"""


@pytest.fixture(scope="session")
def packages(request: pytest.FixtureRequest) -> Path:
    """The packages as npm installs them: once, and again if their versions change."""
    lock = (PACKAGES / "package-lock.json").read_bytes()
    folder = Path(request.config.cache.mkdir(f"wasm-{hashlib.sha256(lock).hexdigest()[:16]}"))
    done = folder / "done"
    if not done.exists():
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PACKAGES / name, folder)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=folder, check=True)
        done.touch()
    return folder / "node_modules"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_udfs(tmp_path_factory.mktemp("wasm"), _count=COUNT, tables=UDFS)
    with serve(folder) as running:
        yield running


class Files(http.server.SimpleHTTPRequestHandler):
    """The page, and the packages beside it."""

    def do_GET(self) -> None:
        if self.path != "/":
            super().do_GET()
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, *_: object) -> None:
        """Nothing: the tests look at the other server."""


class WithoutPermission(http.server.BaseHTTPRequestHandler):
    """A proxy that takes away what lets pages of other origins read the answer."""

    target: str

    def do_GET(self) -> None:
        upstream = http.client.HTTPConnection(urlsplit(self.target).netloc)
        upstream.request(self.command, self.path, headers=dict(self.headers))
        answer = upstream.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if not name.lower().startswith(("access-control-", "cross-origin-", "content-length")):
                self.send_header(name, value)
        self.send_header("Content-Length", answer.getheader("Content-Length", str(len(body))))
        self.end_headers()
        self.wfile.write(body)
        upstream.close()

    do_HEAD = do_GET  # noqa: N815  # the name that the server looks for

    def log_message(self, *_: object) -> None:
        """Nothing, likewise."""


@contextmanager
def listening(handler: Any) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.server_port}"
        finally:
            listener.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def origin(packages: Path) -> Iterator[str]:
    with listening(partial(Files, directory=str(packages))) as url:
        yield url


@pytest.fixture
def page(browser: Browser, origin: str) -> Iterator[Page]:
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(origin)
    opened.wait_for_function("window.ready")
    yield opened
    context.close()


def query(page: Page, package: str, sql: str) -> list[list[Any]]:
    found: list[list[Any]] = page.evaluate(
        "async ([name, sql]) => rows(await connect(name), sql)", [package, sql]
    )
    return found


def test_a_page_elsewhere_reads_parquet_and_the_udf_runs_once(page: Page, tables: Server) -> None:
    url = f"{tables.url}/udfs/small.parquet?n=4&text=a%26b"
    assert query(page, WITH_PARQUET, f"FROM read_parquet('{url}') ORDER BY i") == [
        [i, f"é a&b {i}"] for i in range(4)
    ]
    assert tables.executions("small 4") == 1
    assert {status for _, status in tables.requests("n=4")} <= {200, 206}


def test_a_large_table_is_read_whole_and_then_in_ranges_and_runs_once(
    page: Page, tables: Server
) -> None:
    sql = f"SELECT count(*), max(i) FROM '{tables.url}/udfs/large.parquet'"
    assert query(page, WITH_PARQUET, sql) == [[400_000, 399_999]]
    assert ("GET", 206) not in tables.requests("large")
    assert query(page, WITH_PARQUET, sql) == [[400_000, 399_999]]
    assert ("GET", 206) in tables.requests("large")
    assert tables.executions("large") == 1


def test_the_version_of_now_reads_arrow_and_needs_nothing_else(page: Page, tables: Server) -> None:
    elsewhere: list[str] = []

    def see(request: Request) -> None:
        if not request.url.startswith((page.url, tables.url, "data:", "blob:")):
            elsewhere.append(request.url)

    page.context.on("request", see)
    found = page.evaluate(
        """async ([name, url]) => {
            const connection = await connect(name);
            const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
            await connection.insertArrowFromIPCStream(bytes, {name: "small", create: true});
            return rows(connection, "FROM small ORDER BY i DESC");
        }""",
        [NOW, f"{tables.url}/udfs/small.arrow?n=5"],
    )
    assert found == [[i, f"é  {i}"] for i in (4, 3, 2, 1, 0)]
    assert tables.executions("small 5") == 1
    assert elsewhere == []


def test_without_permission_the_page_is_told_why(page: Page, tables: Server) -> None:
    handler = type("Handler", (WithoutPermission,), {"target": tables.url})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    with listening(handler) as proxy:
        with pytest.raises(PageError) as caught:
            query(page, WITH_PARQUET, f"FROM '{proxy}/udfs/small.parquet?n=6'")
        with pytest.raises(PageError, match="TypeError: Failed to fetch"):
            page.evaluate("url => fetch(url)", f"{proxy}/udfs/small.arrow?n=6")
    assert "NetworkError: Failed to execute 'send' on 'XMLHttpRequest'" in str(caught.value)
    assert any("blocked by CORS policy" in text for text in said)
