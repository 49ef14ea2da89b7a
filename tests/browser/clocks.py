"""A page's clock, which a test sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


def stop_clock(page: Page) -> None:
    """Have no timer of `page` fire from now on but by `page.clock.run_for`."""
    page.clock.install(time=0)
    page.clock.pause_at(1000)
