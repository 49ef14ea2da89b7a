"""Share links made on the page of a UDF, by somebody whose browser knows their key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect
from tests.access.granting import bearer, give_key
from tests.browser.udf_files import HOSTILE, TABLES
from tests.server_process import COUNT, serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page
    from tests.server_process import Server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharing")


@pytest.fixture(scope="module")
def key(parent: Path) -> str:
    return give_key(parent / "store/access", "analyst", formats=("csv", "json", "html"))


@pytest.fixture(scope="module")
def server(parent: Path, key: str) -> Iterator[Server]:
    folder = write_udfs(parent, _count=COUNT, tables=TABLES, hostile=HOSTILE)
    with serve(folder) as running:
        yield running


@pytest.fixture
def open_known(open_page: Callable[..., Page], key: str) -> Callable[..., Page]:
    """Opens a path in a browser whose user has given the key as a password."""

    def open_with_key(path: str, **options: Any) -> Page:
        known = {"username": "", "password": key}
        return open_page(path, http_credentials=known, **options)

    return open_with_key


def make(page: Page) -> str:
    page.get_by_role("button", name="Make a link").click()
    expect(page.locator("#share-said")).to_contain_text("It is revoked by its id")
    return page.locator("#share-url").inner_text()


def test_a_link_is_for_what_the_form_asks_for_and_for_nothing_else(
    open_known: Callable[..., Page],
) -> None:
    page = open_known("/udfs/squares?rows=2")
    page.get_by_label("label str").fill("a&b=ü")
    url = make(page)
    expect(page.locator("#share-said")).to_contain_text("Good until")
    answer = httpx.get(url)
    assert answer.text.splitlines() == ["number,square,label", "0,0,a&b=ü", "1,1,a&b=ü"]
    refused = httpx.get(f"{url}&rows=3")
    assert refused.status_code == 403
    assert "this link is for rows=2" in refused.json()["detail"]
    assert httpx.get(url.replace(".csv", ".json")).status_code == 403


def test_whoever_has_a_link_may_be_let_choose(open_known: Callable[..., Page]) -> None:
    page = open_known("/udfs/squares?rows=2")
    page.get_by_label("format", exact=True).select_option("json")
    page.get_by_label("readers may change the parameters").check()
    url = make(page)
    assert url.endswith("&rows=2")
    assert len(httpx.get(url).json()) == 2
    assert len(httpx.get(url.replace("rows=2", "rows=3")).json()) == 3


def test_several_values_are_one_list(open_known: Callable[..., Page]) -> None:
    page = open_known("/udfs/several?needed=7")
    page.get_by_label("axe").check()
    page.get_by_label("sizes").fill("3,4")
    (row,) = httpx.get(make(page)).text.splitlines()[1:]
    assert "3" in row
    assert "axe" in row
    assert "saw" in row


def test_a_link_is_copied(open_known: Callable[..., Page]) -> None:
    page = open_known("/udfs/squares", permissions=["clipboard-read", "clipboard-write"])
    url = make(page)
    page.get_by_role("button", name="Copy the link").click()
    assert page.evaluate("navigator.clipboard.readText()") == url


def test_what_is_wrong_is_said_and_no_older_link_stays(open_known: Callable[..., Page]) -> None:
    page = open_known("/udfs/squares", statuses=(422,))
    make(page)
    page.get_by_label("rows int").fill("9999")
    page.get_by_role("button", name="Make a link").click()
    wrong = page.locator("#share-wrong")
    expect(wrong).to_contain_text("rows: Input should be less than or equal to 5000")
    expect(page.locator("#share-made")).to_be_hidden()
    expect(page.locator("#share-said")).to_be_empty()
    page.get_by_label("rows int").fill("3")
    make(page)
    expect(wrong).to_be_hidden()


def test_only_formats_that_are_theirs_are_offered(open_known: Callable[..., Page]) -> None:
    page = open_known("/udfs/squares")
    assert page.locator("#share-format option").all_inner_texts() == ["csv", "json"]
    assert page.locator("#downloads a").all_inner_texts() == ["csv", "json"]


def test_without_scripts_there_is_no_form_for_links(open_known: Callable[..., Page]) -> None:
    page = open_known("/udfs/squares", java_script_enabled=False)
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()
    expect(page.get_by_text("Make a link")).to_be_hidden()


def test_who_may_give_out_no_links_sees_no_form(
    open_page: Callable[..., Page], parent: Path
) -> None:
    viewer = give_key(parent / "store/access", "viewer")
    page = open_page("/udfs/squares", extra_http_headers=bearer(viewer))
    expect(page.get_by_role("heading", name="Use it from")).to_be_visible()
    assert page.locator("#share").count() == 0


def test_a_small_screen_has_room_for_the_form(open_known: Callable[..., Page]) -> None:
    page = open_known("/udfs/squares", width=390)
    make(page)
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(wide)
