"""What the pages look like, as far as it can be measured: contrast, small screens, roles."""

from __future__ import annotations

import importlib.util
import json
from importlib import resources
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
PATHS = [
    *("/", "/docs", "/nothing-here", "/udfs/squares", "/udfs/squares?rows=9999"),
    *("/udfs/several", "/udfs/squares?rows=30#table", "/udfs/typed#chart", "/udfs/places#map"),
    *("/udfs/hostile#table", "/udfs/squares.html", "/alerts"),
]
# Texts with less contrast to what is behind them than WCAG's level AA asks for.
FAINT = """() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const over = ([r, g, b, a = 1], below) =>
        [r, g, b].map((part, n) => part * a + below[n] * (1 - a));
    const brightness = (rgb) => {
        const [r, g, b] = rgb.map((part) => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (node) => {
        const layers = [];
        for (let at = node; at; at = at.parentElement) {
            const layer = parse(getComputedStyle(at).backgroundColor);
            layers.push(layer);
            if ((layer[3] ?? 1) === 1) break;
        }
        return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
    };
    const faint = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const node = texts.currentNode.parentElement;
        const text = texts.currentNode.textContent.trim();
        const style = getComputedStyle(node);
        if (!text || !node.checkVisibility({visibilityProperty: true})) continue;
        if (node.closest("button:disabled, option")) continue;
        const drawn = node instanceof SVGElement ? style.fill : style.color;
        const ground = behind(node);
        const [a, b] = [brightness(over(parse(drawn), ground)), brightness(ground)];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) faint.push(`${text.slice(0, 30)}: ${contrast.toFixed(2)}`);
    }
    return faint;
}"""


def settle(page: Page, path: str) -> None:
    if "#" in path:
        expect(page.locator("#views")).to_be_visible()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(
    open_page: Callable[..., Page], path: str, scheme: str
) -> None:
    page = open_page(path, color_scheme=scheme, statuses=(404,))
    settle(page, path)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert page.evaluate(FAINT) == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("width", [320, 360])
def test_a_phone_scrolls_down_only(open_page: Callable[..., Page], path: str, width: int) -> None:
    page = open_page(path, width=width, has_touch=True, is_mobile=True, statuses=(404,))
    settle(page, path)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("visualViewport.width") == width


def test_on_a_phone_the_result_comes_into_sight(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/several?needed=1", width=360, has_touch=True, reduced_motion="reduce")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#view-table table")).to_be_in_viewport()


def test_nothing_moves_for_those_who_ask_for_that(open_page: Callable[..., Page]) -> None:
    page = open_page("/udfs/slow", reduced_motion="reduce")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#working")).to_be_visible()
    animations = "document.getAnimations({subtree: true}).length"
    assert page.evaluate(animations) == 0
    page.get_by_role("button", name="Cancel").click()


@pytest.mark.parametrize("path", PATHS)
def test_axe_finds_nothing(open_page: Callable[..., Page], path: str) -> None:
    if importlib.util.find_spec("axe_playwright_python") is None:
        pytest.skip("axe-playwright-python, which brings axe-core along, is not installed")
    script = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
    page = open_page(path, statuses=(404,))
    settle(page, path)
    page.evaluate(script)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    told = {item["id"]: [node["html"] for node in item["nodes"]] for item in found}
    assert told == {}, json.dumps(told, indent=2)
