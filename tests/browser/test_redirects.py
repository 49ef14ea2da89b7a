"""A page of another origin fetches what a bucket answers in place of the server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.s3_server import moto_server
from tests.server_process import serve, write_udfs

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

UDF = """
from webfoot import udf

@udf
def numbers():
    return {"n": [n * 7919 % 100_003 for n in range(500_000)]}
"""
FETCH = """async (url) => {
    const whole = await fetch(url);
    const part = await fetch(url, { headers: { Range: "bytes=0-3" } });
    const head = await fetch(url, { method: "HEAD" });
    return {
        redirected: whole.redirected,
        size: (await whole.arrayBuffer()).byteLength,
        part: await part.text(),
        length: Number(head.headers.get("Content-Length")),
    };
}"""


def test_a_page_of_another_origin_follows_a_redirect(tmp_path: Path, browser: Browser) -> None:
    folder = write_udfs(tmp_path / "one", numbers=UDF)
    other = write_udfs(tmp_path / "other", numbers=UDF)
    with moto_server() as s3:
        environment = {**os.environ, **s3.environment, "WEBFOOT_REDIRECT": "100kB"}
        with (
            serve(folder, store=s3.make_place(), environment=environment) as server,
            serve(other) as page_server,
        ):
            page = browser.new_page()
            # What is no page has no policy that forbids other origins.
            page.goto(f"{page_server.url}/healthz")
            page.evaluate(FETCH, f"{server.url}/udfs/numbers.parquet")
            seen = page.evaluate(FETCH, f"{server.url}/udfs/numbers.parquet")
    assert seen["redirected"]
    assert seen["part"] == "PAR1"
    assert seen["size"] == seen["length"] > 1_000_000
