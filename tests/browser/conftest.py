"""A real Chromium on a real server; every page is watched for what no page may do."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from playwright.sync_api import expect, sync_playwright
from tests.browser.udf_files import BROKEN, HOSTILE, TABLES
from tests.server_process import COUNT, EVERY_TYPE, Server, serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page, Request, Response, Route

# Nothing but the pages' own requests shall be made, and no sandbox is to be had in a container.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)
WATCH_POLICY = """
    document.addEventListener("securitypolicyviolation", (event) =>
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


@dataclass
class Watched:
    """What the pages of a test have done that they may not do."""

    server: Server
    statuses: set[int]
    faults: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Look at everything that `page` does from now on."""
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", self._see_request)
        page.on("response", self._see_response)

    def _hear(self, message: Any) -> None:
        # What a status means is seen by itself.
        is_status = message.text.startswith("Failed to load resource: the server responded")
        if message.type in ("error", "warning") and not is_status:
            self.faults.append(f"console: {message.text}")

    def _see_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.server.url}/", "data:", "about:")):
            self.faults.append(f"request: {request.url}")

    def _see_response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.statuses:
            self.faults.append(f"status {response.status}: {response.url}")


def forward(route: Route, prefix: str) -> None:
    """What a proxy does that has the server under `prefix`, and nothing besides."""
    parts = urlsplit(route.request.url)
    if not parts.path.startswith(f"{prefix}/"):
        route.fulfill(status=404, body="this proxy has nothing there")
        return
    headers = {**route.request.headers, "x-forwarded-prefix": prefix}
    inside = parts._replace(path=parts.path.removeprefix(prefix))
    route.continue_(url=urlunsplit(inside), headers=headers)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_udfs(
        tmp_path_factory.mktemp("browser"),
        _count=COUNT,
        tables=TABLES,
        hostile=HOSTILE,
        every_type=EVERY_TYPE,
        broken=BROKEN,
    )
    with serve(folder) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "there is no Chromium; tests/browser/install-chromium installs it"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def open_page(server: Server, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a path of the server; at the end, no page may have done what pages may not do.

    Besides the path it takes `statuses`, the statuses of 400 and above that are part of the test,
    `width`, `prefix` under which a proxy has the server, `faulty` if the page is broken on purpose
    and not watched, and what else Playwright's contexts take.
    """
    contexts = []
    watched = Watched(server, set())

    def open_path(
        path: str,
        *,
        statuses: tuple[int, ...] = (),
        width: int = 1280,
        prefix: str = "",
        faulty: bool = False,
        **options: Any,
    ) -> Page:
        watched.statuses |= set(statuses)
        context = browser.new_context(
            base_url=server.url, viewport={"width": width, "height": 900}, **options
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        if options.get("java_script_enabled", True):
            page.add_init_script(WATCH_POLICY)
        if not faulty:
            watched.watch(page)
        if prefix:
            page.route("**/*", lambda route: forward(route, prefix))
        page.goto(path)
        return page

    yield open_path
    for context in contexts:
        context.close()
    assert watched.faults == []
