"""What somebody else wrote, wherever it stands, is text and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from playwright.sync_api import expect
from tests.browser.udf_files import ATTACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
HARMLESS = """() => [
    typeof attacked,
    document.querySelectorAll("img, svg[onload], iframe, [onerror], [onmouseover]").length,
    [...document.querySelectorAll("a")].filter((a) => !/^https?:/.test(a.href)).length,
    [...document.scripts].filter((script) => !script.src.includes("/static/")).length,
]"""


def assert_harmless(page: Page) -> None:
    assert page.evaluate(HARMLESS) == ["undefined", 0, 0, 0]


@pytest.mark.parametrize(
    "path",
    [
        *("/", f"/?q={quote(ATTACK)}", "/docs", "/udfs/hostile", "/udfs/hostile.html"),
        f"/udfs/hostile?text={quote(ATTACK)}&{quote(ATTACK)}={quote(ATTACK)}",
        f"/udfs/hostile?text={quote('</textarea>' + ATTACK)}",
        f"/udfs/squares?rows={quote(ATTACK)}",
        f"/udfs/squares.html?rows={quote(ATTACK)}",
        f"/udfs/hostile.html?fail=true&text={quote(ATTACK)}",
        *(f"/udfs/{quote(ATTACK, safe='')}", f"/{quote(ATTACK, safe='')}"),
        f"/runs/{quote(ATTACK, safe='')}",
    ],
)
def test_pages_show_it_as_text(open_page: Callable[..., Page], path: str) -> None:
    page = open_page(path, statuses=(404, 422, 500))
    expect(page.locator("body")).to_contain_text("Webfoot")
    assert_harmless(page)


def test_a_result_shows_it_as_text(open_page: Callable[..., Page]) -> None:
    page = open_page(f"/udfs/hostile?text={quote(ATTACK)}%21#table")
    expect(page.locator("#view-table thead")).to_contain_text(ATTACK)
    expect(page.locator("#view-table tbody")).to_contain_text("</td></table>" + ATTACK)
    assert_harmless(page)
    page.get_by_role("tab", name="Chart").click()
    page.get_by_label("Across").select_option(label=ATTACK)
    page.locator(".chart svg").hover(position={"x": 300, "y": 15})
    expect(page.locator(".chart .tooltip")).to_contain_text("<img")
    assert_harmless(page)
    page.get_by_role("tab", name="Map").click()
    box = page.locator(".map canvas").bounding_box()
    assert box
    page.locator(".map canvas").hover(position={"x": box["width"] / 2, "y": box["height"] / 2})
    expect(page.locator(".map .tooltip")).to_contain_text("<img")
    assert_harmless(page)


def test_an_error_shows_it_as_text(open_page: Callable[..., Page]) -> None:
    page = open_page(f"/udfs/hostile?fail=true&text={quote(ATTACK)}#table", statuses=(500,))
    expect(page.locator("#problem")).to_contain_text(ATTACK)
    page.locator("#problem a").click()
    expect(page.get_by_role("alert")).to_contain_text(ATTACK)
    assert_harmless(page)
    page = open_page(f"/udfs/squares?rows={quote(ATTACK)}#table", statuses=(422,))
    assert_harmless(page)


def test_a_script_in_a_page_would_not_run(open_page: Callable[..., Page]) -> None:
    page = open_page("/", faulty=True)
    for markup in ("<img src=x onerror='attacked=1'>", "<b style='color:red'>b</b>"):
        page.evaluate("(markup) => document.body.insertAdjacentHTML('beforeend', markup)", markup)
    page.evaluate(
        "const script = document.createElement('script');"
        "script.text = 'attacked=1'; document.body.append(script)"
    )
    assert page.evaluate("getComputedStyle(document.querySelector('b')).color") != "rgb(255, 0, 0)"
    assert page.evaluate("typeof attacked") == "undefined"
