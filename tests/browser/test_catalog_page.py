"""The catalog in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from tests.browser.clocks import stop_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
SEARCH = "Search the catalog"


def names(page: Page) -> list[str]:
    return page.locator("#catalog > li:visible h2").all_text_contents()


def test_it_lists_every_udf_with_title_parameters_and_tags(open_page: Callable[..., Page]) -> None:
    page = open_page("/")
    entry = page.locator("#catalog > li", has=page.get_by_role("link", name="squares", exact=True))
    expect(entry).to_contain_text("The first square numbers.")
    expect(entry).to_contain_text("rows int")
    expect(entry.get_by_role("link", name="small")).to_have_attribute("href", "/?q=small")
    entry.get_by_role("link", name="squares", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("squares")


def test_it_filters_as_one_types_and_keeps_that_in_the_address(
    open_page: Callable[..., Page],
) -> None:
    page = open_page("/")
    everything = names(page)
    page.keyboard.press("/")
    expect(page.get_by_label(SEARCH)).to_be_focused()
    page.keyboard.type("LONG lati")
    assert names(page) == ["positions"]
    expect(page.locator("#count")).to_have_text(f"1 of {len(everything)}")
    expect(page).to_have_url(re.compile(r"\?q=LONG\+lati$"))
    page.reload()
    assert names(page) == ["positions"]
    page.get_by_label(SEARCH).fill("no such thing")
    expect(page.get_by_text("Nothing is called so.")).to_be_visible()
    page.get_by_label(SEARCH).fill("")
    assert names(page) == everything
    expect(page).to_have_url(re.compile(r"/$"))


def test_enter_opens_what_is_found(open_page: Callable[..., Page]) -> None:
    page = open_page("/")
    page.get_by_label(SEARCH).fill("longitudes")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("positions")


def test_without_script_the_server_searches(open_page: Callable[..., Page]) -> None:
    page = open_page("/", java_script_enabled=False)
    page.get_by_label(SEARCH).fill("longitudes")
    page.get_by_role("button", name="Search").click()
    assert names(page) == ["positions"]
    page.get_by_role("link", name="show all").click()
    assert len(names(page)) > 5


def test_a_broken_file_is_told(open_page: Callable[..., Page]) -> None:
    alert = open_page("/").get_by_role("alert")
    expect(alert).to_contain_text("broken.py is not served")
    expect(alert).to_contain_text("ImportError")


def test_the_attach_statement_is_copied(open_page: Callable[..., Page]) -> None:
    page = open_page("/", permissions=["clipboard-read", "clipboard-write"])
    stop_clock(page)
    button = page.get_by_role("button", name="Copy the ATTACH statement")
    button.click()
    expect(button).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "/catalog.duckdb' AS udfs;" in copied


def test_sql_is_asked_and_answered_on_the_page(open_page: Callable[..., Page]) -> None:
    page = open_page("/")
    box = page.get_by_label("SQL, one SELECT")
    box.fill("FROM squares(rows := 3) SELECT max(square) AS largest")
    page.get_by_role("button", name="Ask").click()
    rows = page.get_by_role("region", name="Rows of the result")
    expect(rows.get_by_role("cell")).to_have_text(["4"])
    expect(page.locator("#asked")).to_have_text("1 row")
    box.fill("FROM range(5000)")
    box.press("Control+Enter")
    expect(page.locator("#asked")).to_have_text("The first 1,000 rows")


def test_sql_that_is_refused_is_told_on_the_page(open_page: Callable[..., Page]) -> None:
    page = open_page("/", statuses=(403,))
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_label("SQL, one SELECT").fill("DROP TABLE a")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#refused")).to_contain_text("and this is DROP")
    said = page.locator("#refused pre")
    assert said.evaluate("node => node.scrollWidth <= node.clientWidth"), "it is read whole"
