"""The page of a UDF in a real browser: its form, the table, the chart, the map, the snippets."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import expect
from tests.browser.clocks import stop_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator, Page
    from tests.server_process import Server

pytestmark = pytest.mark.browser
PIXELS = """
    (canvas) => {
        const {width, height} = canvas;
        const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
        const found = new Set();
        for (let i = 0; i < data.length; i += 4) {
            found.add((data[i] << 16) + (data[i + 1] << 8) + data[i + 2]);
        }
        return found.size;
    }
"""


def run(page: Page) -> None:
    page.get_by_role("button", name="Run", exact=True).click()


def said(page: Page, text: str | re.Pattern[str]) -> None:
    expect(page.locator("#said")).to_have_text(text)


def address(page: Page) -> str:
    parts = urlsplit(page.url)
    return f"{parts.path}?{parts.query}#{parts.fragment}"


def cells(page: Page, row: int) -> list[str]:
    return page.locator("#view-table tbody tr").nth(row).locator("td").all_text_contents()


def wait_until_drawn(canvas: Locator) -> None:
    while canvas.evaluate(PIXELS) <= 8:
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Running.


def test_the_form_runs_the_call_and_shows_its_rows(
    open_page: Callable[..., Page], server: Server
) -> None:
    page = open_page("/udfs/squares")
    page.get_by_label("rows int").fill("3")
    page.get_by_label("label str").fill("a&b=ü c")
    run(page)
    said(page, "3 rows, 3 columns")
    heads = page.locator("#view-table thead th").all_inner_texts()
    assert [" ".join(head.split()) for head in heads[1:]] == [
        *("number BIGINT", "square BIGINT", "label VARCHAR"),
    ]
    assert cells(page, 2) == ["2", "4", "a&b=ü c"]
    assert address(page) == "/udfs/squares?rows=3&label=a%26b%3D%C3%BC+c#table"
    expect(page.locator("#origin")).to_contain_text(re.compile(r"Ran for .* run once so far"))
    assert server.executions("squares 3 a&b=ü c") == 1


def test_a_second_look_is_the_stored_result_until_somebody_wants_it_anew(
    open_page: Callable[..., Page], server: Server
) -> None:
    page = open_page("/udfs/squares?rows=4#table")
    said(page, "4 rows, 3 columns")
    run(page)
    expect(page.locator("#origin")).to_contain_text("Stored, made just now")
    assert server.executions("squares 4 no") == 1
    page.get_by_role("button", name="Run it anew").click()
    expect(page.locator("#origin")).to_contain_text("run 2 times so far")
    assert server.executions("squares 4 no") == 2


def test_one_run_asks_the_server_once(open_page: Callable[..., Page], server: Server) -> None:
    page = open_page("/udfs/squares")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    run(page)
    said(page, "5 rows, 3 columns")
    page.get_by_role("tab", name="Chart").click()
    expect(page.locator(".chart svg")).to_be_visible()
    assert [url for url in asked if "/udfs/" in url] == [f"{server.url}/udfs/squares.html"]


def test_only_what_differs_from_the_defaults_is_asked_for(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/several")
    page.get_by_label("needed int").fill("7")
    run(page)
    said(page, re.compile("1 row, 9 columns"))
    assert address(page) == "/udfs/several?needed=7#table"
    assert cells(page, 0)[:4] == ["7", "sharp", "[1, 2]", "['saw']"]
    page.get_by_label("kind").select_option("blunt")
    page.get_by_label("sizes").fill("3,4")
    page.get_by_label("axe").check()
    page.get_by_label("since").fill("2024-02-29")
    page.get_by_label("share").fill("0.25")
    page.get_by_label("loud").select_option("true")
    page.get_by_label("note").fill("two words")
    page.get_by_label("setup").fill('{"a": 1}')
    run(page)
    expect(page.locator("#view-table td").first).to_be_visible()
    assert cells(page, 0) == [
        *("7", "blunt", "[3, 4]", "['saw', 'axe']", "2024-02-29", "0.25", "True"),
        *("two words", "{'a': 1}"),
    ]
    before = address(page)
    page.reload()
    expect(page.locator("#view-table td").first).to_be_visible()
    assert address(page) == before
    expect(page.get_by_label("axe")).to_be_checked()
    expect(page.get_by_label("sizes")).to_have_value("3,4")
    page.get_by_role("button", name="Defaults").click()
    expect(page.get_by_label("sizes")).to_have_value("1,2")
    expect(page.get_by_label("axe")).not_to_be_checked()
    expect(page.get_by_label("saw")).to_be_checked()


@pytest.mark.parametrize("name", ["texts", "moments", "lists", "objects", "größe"])
def test_a_form_of_defaults_runs_whatever_its_types(
    open_page: Callable[..., Page], name: str
) -> None:
    page = open_page(f"/udfs/{name}")
    run(page)
    said(page, re.compile("^1 row"))
    assert page.url.endswith("#table")
    assert "?" not in page.url


def test_keys_run_it_and_back_and_forward_go_through_what_was_seen(
    open_page: Callable[..., Page],
) -> None:
    page = open_page("/udfs/squares")
    page.get_by_label("rows int").fill("2")
    page.keyboard.press("Control+Enter")
    said(page, "2 rows, 3 columns")
    page.get_by_label("rows int").fill("6")
    page.keyboard.press("Enter")
    said(page, "6 rows, 3 columns")
    page.go_back()
    said(page, "2 rows, 3 columns")
    expect(page.get_by_label("rows int")).to_have_value("2")
    page.go_back()
    expect(page.get_by_label("rows int")).to_have_value("5")
    expect(page.locator("#view-table")).to_be_hidden()
    page.go_forward()
    said(page, "2 rows, 3 columns")


def test_the_first_thousand_rows_are_shown_and_all_are_counted(
    open_page: Callable[..., Page],
) -> None:
    page = open_page("/udfs/squares?rows=2500#table")
    said(page, "First 1,000 of 2,500 rows, 3 columns")
    expect(page.locator("#view-table tbody tr")).to_have_count(1000)
    box = page.get_by_role("region", name="Rows of the result")
    box.evaluate("(box) => box.scrollTo(0, 4000)")
    top, head = box.bounding_box(), page.locator("#view-table thead th").first.bounding_box()
    assert top
    assert head
    assert abs(head["y"] - top["y"]) < 3


def test_values_are_shown_as_they_are(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/typed#table")
    said(page, "40 rows, 6 columns")
    # A number beyond what JavaScript can count is still right.
    assert cells(page, 1) == ["1", "9007199254740994", "0.333333", "2024-01-31", "false", "word 1"]
    short = page.locator("#view-table tbody tr").nth(1).locator("td").nth(2)
    expect(short).to_have_attribute("title", "0.3333333333333333")
    expect(page.locator("#view-table tbody tr").first.locator("td.null")).to_have_text("null")


def test_a_table_without_rows_says_so(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/no_rows#table")
    said(page, "0 rows, 1 column")
    expect(page.get_by_role("tab", name="Chart")).to_be_hidden()


def test_downloads_and_snippets_follow_the_form(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/squares?rows=3")
    link = page.get_by_role("link", name="csv", exact=True)
    expect(link).to_have_attribute("href", "/udfs/squares.csv?rows=3")
    page.get_by_label("rows int").fill("8")
    expect(link).to_have_attribute("href", "/udfs/squares.csv?rows=8")
    expect(page.locator("#code-url")).to_have_text(re.compile(r"/udfs/squares\.parquet\?rows=8$"))
    assert page.request.get(link.get_attribute("href") or "").text().count("\r\n") == 9


# What goes wrong.


def test_a_wrong_parameter_is_told_at_its_field(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/squares", statuses=(422,))
    page.get_by_label("rows int").fill("9999")
    run(page)
    field = page.get_by_label("rows int")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile("less than or equal to 5000"))
    expect(page.locator("#problem")).to_be_hidden()
    field.fill("2")
    run(page)
    said(page, "2 rows, 3 columns")
    expect(field).not_to_have_attribute("aria-invalid", "true")


def test_what_is_required_is_told_at_its_field(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/several", statuses=(422,))
    run(page)
    expect(page.get_by_label("needed int")).to_be_focused()
    expect(page.locator("#p-needed-error")).to_have_text("is required")


def test_a_wrong_parameter_in_the_address_is_told_before_anything_runs(
    open_page: Callable[..., Page],
) -> None:
    page = open_page("/udfs/squares?rows=9999&colour=red")
    expect(page.locator("#strange")).to_contain_text("colour: unknown parameter")
    page = open_page("/udfs/squares?rows=many")
    expect(page.get_by_label("rows int")).to_have_value("many")
    expect(page.locator("#p-rows-error")).to_contain_text("valid integer")
    page = open_page("/udfs/squares?rows=9999")
    expect(page.locator("#p-rows-error")).to_contain_text("less than or equal to 5000")


def test_the_udfs_own_words_are_shown_with_its_run(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/refuses", statuses=(422, 500))
    page.get_by_label("low").fill("3")
    run(page)
    box = page.locator("#problem")
    expect(box).to_contain_text("low must be below high, got 3 >= 2")
    page.get_by_label("low").fill("0")
    run(page)
    expect(box).to_contain_text("ValueError: there is no table today")
    expect(box).to_be_focused()
    box.get_by_role("link", name="run").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Run [0-9a-f]{16}$"))
    expect(page.get_by_role("alert")).to_contain_text("there is no table today")
    page.get_by_role("link", name="refuses").click()
    expect(page.get_by_label("low")).to_have_value("0")


def test_a_run_is_cancelled_in_the_browser_and_on_the_server(
    open_page: Callable[..., Page], server: Server
) -> None:
    page = open_page("/udfs/slow")
    pid_file = server.folder / "slow.pid"
    page.get_by_role("button", name="Run", exact=True).focus()
    page.keyboard.press("Enter")
    said(page, "Running")
    while not pid_file.exists() or not pid_file.read_text():
        time.sleep(0.02)
    expect(page.locator("#clock")).to_have_text(re.compile(r"^\d\.\d s$"))
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Enter")
    said(page, "Cancelled.")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_focused()
    while is_alive(int(pid_file.read_text())):
        time.sleep(0.02)


@pytest.mark.parametrize("gone", ["connection", "proxy"])
def test_a_server_that_is_gone_is_told(open_page: Callable[..., Page], gone: str) -> None:
    page = open_page("/udfs/squares", statuses=(502,), faulty=True)
    if gone == "proxy":
        page.route("**/*.html", lambda route: route.fulfill(status=502, body="<p>Bad gateway"))
    else:
        page.route("**/*.html", lambda route: route.abort("connectionrefused"))
    run(page)
    expected = "Status 502" if gone == "proxy" else "The server did not answer"
    expect(page.locator("#problem")).to_contain_text(expected)


# Charts.


def test_a_chart_appears_with_axes_and_words(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/typed#chart")
    chart = page.locator(".chart svg")
    expect(chart).to_have_attribute("aria-label", re.compile("^Line: whole by day, 40 marks"))
    ticks = page.locator(".chart .tick").all_text_contents()
    assert "0" in ticks
    assert any(re.fullmatch(r"2024-\d\d-\d\d", tick) for tick in ticks)
    chart.hover(position={"x": 400, "y": 200})
    expect(page.locator(".chart .tooltip")).to_contain_text(re.compile(r"day2024-0\d-\d\d"))
    chart.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator(".chart .hidden").text_content()


@pytest.mark.parametrize(
    ("kind", "marks"), [("bar", 40), ("line", 1), ("point", 40), ("histogram", 8)]
)
def test_every_kind_of_chart_draws_its_marks(
    open_page: Callable[..., Page], kind: str, marks: int
) -> None:
    page = open_page("/udfs/typed#chart")
    page.get_by_label("Across").select_option(label="whole")
    page.locator(".controls").get_by_label("Chart").select_option(kind)
    expect(page.locator(".chart .mark")).to_have_count(marks)
    sizes = page.locator(".chart .mark").evaluate_all("(all) => all.map((n) => n.getBBox().width)")
    assert all(size > 0 for size in sizes)


def test_words_are_given_bars(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/typed#chart")
    kind = page.locator(".controls").get_by_label("Chart")
    page.get_by_label("Across").select_option(label="word")
    expect(kind).to_have_value("bar")
    kind.select_option("line")
    expect(page.locator(".chart svg")).to_have_attribute("aria-label", re.compile("by whole"))


def test_rows_that_share_an_x_are_combined_as_chosen(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/typed#chart")
    page.locator(".controls").get_by_label("Chart").select_option("bar")
    page.get_by_label("Across").select_option(label="even")
    page.get_by_label("Combined by").select_option("max")
    chart = page.locator(".chart svg")
    expect(chart).to_have_attribute("aria-label", re.compile("max of whole by even, 2 marks"))
    chart.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".chart [role=status]")).to_have_text("even false, max of whole 39")


# Maps.


@pytest.mark.parametrize(("name", "places"), [("places", 9), ("positions", 30), ("geojson", 2)])
def test_places_are_drawn(open_page: Callable[..., Page], name: str, places: int) -> None:
    page = open_page(f"/udfs/{name}#map")
    canvas = page.locator(".map canvas")
    expect(canvas).to_have_attribute("aria-label", re.compile(f"^Map of {places} places"))
    wait_until_drawn(canvas)


def test_what_is_under_the_pointer_is_told_and_keys_move_the_map(
    open_page: Callable[..., Page],
) -> None:
    page = open_page("/udfs/places#map")
    canvas = page.locator(".map canvas")
    wait_until_drawn(canvas)
    box = canvas.bounding_box()
    assert box
    # Everything lies within 0 to 8 by 0 to 7; (4.5, 2) is in the polygon and (6, 2) in its hole.
    scale = (box["height"] - 56) / 7

    def place(x: float, y: float) -> dict[str, float]:
        return {"x": box["width"] / 2 + (x - 4) * scale, "y": box["height"] / 2 - (y - 3.5) * scale}

    canvas.hover(position=place(4.5, 2))  # type: ignore[arg-type]  # Playwright's own type
    expect(page.locator(".map .tooltip")).to_contain_text("place 3")
    canvas.hover(position=place(6, 2))  # type: ignore[arg-type]
    expect(page.locator(".map .tooltip")).to_be_hidden()
    canvas.hover(position=place(1, 1))  # type: ignore[arg-type]
    expect(page.locator(".map .tooltip")).to_contain_text("place 0")
    before = canvas.screenshot()
    canvas.focus()
    for key in ("+", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    while canvas.screenshot() == before:
        time.sleep(0.02)


def test_a_view_is_kept_in_the_address(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/places")
    run(page)
    page.get_by_role("tab", name="Map").click()
    assert address(page) == "/udfs/places?#map"
    page.reload()
    expect(page.get_by_role("tab", name="Map")).to_have_attribute("aria-selected", "true")
    expect(page.locator(".map canvas")).to_be_visible()
    page.get_by_role("tab", name="Map").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Table")).to_be_focused()
    expect(page.locator("#view-table")).to_be_visible()


# Snippets.


def test_a_snippet_is_copied_as_the_server_wrote_it(
    open_page: Callable[..., Page], server: Server
) -> None:
    page = open_page("/udfs/squares?rows=3", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("tab", name="DuckDB", exact=True).click()
    stop_clock(page)
    button = page.get_by_role("button", name="Copy for DuckDB", exact=True)
    button.click()
    expect(button).to_have_text("Copied")
    page.clock.run_for(1700)
    expect(button).to_have_text("Copy")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"FROM '{server.url}/udfs/squares.parquet?rows=3';"


def test_a_snippet_is_copied_where_there_is_no_clipboard(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/squares", permissions=["clipboard-read"])
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    stop_clock(page)
    page.get_by_role("button", name="Copy for URL").click()
    assert page.evaluate("getSelection().toString()").endswith("/udfs/squares.parquet")
    expect(page.locator("#snippet-url .copy")).to_have_text(re.compile("Copied|Press Ctrl C"))


def test_keys_go_through_the_snippets(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/squares")
    page.get_by_role("tab", name="URL", exact=True).focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("tab", name="DuckDB", exact=True)).to_be_focused()
    expect(page.locator("#code-duckdb")).to_be_visible()
    expect(page.locator("#code-url")).to_be_hidden()


# Without script, and with keys alone.


def test_without_script_links_form_and_preview_work(
    open_page: Callable[..., Page], server: Server
) -> None:
    page = open_page("/", java_script_enabled=False)
    page.get_by_role("link", name="squares", exact=True).click()
    page.get_by_label("rows int").fill("3")
    run(page)
    expect(page.locator("tbody tr")).to_have_count(3)
    page.go_back()
    page.get_by_role("link", name="json", exact=True).click()
    assert page.locator("pre").text_content()
    page.goto("/udfs/squares")
    assert page.locator(".snippet:visible").count() > 5
    assert page.locator("button:visible").all_text_contents() == ["Run"]


def test_without_script_an_error_is_a_page_that_leads_back(
    open_page: Callable[..., Page],
) -> None:
    page = open_page("/udfs/squares.html?rows=9999", java_script_enabled=False, statuses=(422,))
    expect(page.get_by_role("alert")).to_contain_text("less than or equal to 5000")
    page.get_by_role("link", name="Back to squares").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("squares")


def test_everything_is_reached_by_keys_alone(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/squares")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_label("rows int")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("3")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    said(page, "3 rows, 3 columns")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("tab", name="Table")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("region", name="Rows of the result")).to_be_focused()


def test_everything_works_behind_a_proxy_with_a_prefix(
    open_page: Callable[..., Page], server: Server
) -> None:
    page = open_page("/data/here/", prefix="/data/here")
    page.get_by_role("link", name="squares", exact=True).click()
    page.wait_for_load_state()
    run(page)
    said(page, "5 rows, 3 columns")
    assert address(page) == "/data/here/udfs/squares?#table"
    expect(page.locator("#code-url")).to_have_text(f"{server.url}/data/here/udfs/squares.parquet")
    page.locator("#origin").get_by_role("link", name="run").click()
    page.get_by_role("link", name="squares").click()
    page.get_by_role("link", name="Catalog").click()
    assert urlsplit(page.url).path == "/data/here/"
    page.goto("/data/here/udfs/squares.html")
    page.get_by_role("link", name="Webfoot").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Catalog")


def test_a_run_has_a_page(open_page: Callable[..., Page], server: Server) -> None:
    run_id = httpx.get(f"{server.url}/udfs/squares.json?rows=7").headers["x-webfoot-run"]
    page = open_page(f"/runs/{run_id}")
    expect(page.get_by_text("worked")).to_be_visible()
    expect(page.locator(".record")).to_contain_text("Rows7")
    page.get_by_role("link", name="squares").click()
    expect(page.get_by_label("rows int")).to_have_value("7")
