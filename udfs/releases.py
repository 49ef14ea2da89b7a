"""An HTTP API as a table: pages, retries and limits are in `_http.py`."""

import os
from datetime import datetime
from typing import Annotated, TypedDict

import httpx
from pydantic import Field

from webfoot import udf

from ._http import pages

# From the environment and never from the query: callers must not choose whom the server calls.
API_URL = os.environ.get("GITHUB_API_URL", "https://api.github.com")


class Release(TypedDict):
    """A row: with its types written down, a table without rows has columns too."""

    tag: str
    published_at: datetime
    prerelease: bool
    downloads: int
    url: str


@udf(cache="10m", timeout="2m", waits=True)
def releases(
    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+/[\w.-]*\w[\w.-]*$")] = "duckdb/duckdb",
    max_pages: Annotated[int, Field(ge=1, le=10)] = 3,
) -> list[Release]:
    """Releases of a public GitHub repository, newest first.

    Args:
        repo: Owner and name, such as `duckdb/duckdb`.
        max_pages: Most pages of 100 releases to read.

    Returns:
        One row per release: `tag` text, `published_at` timestamp (UTC), `prerelease` boolean,
        `downloads` of all its files together, `url` of its page. Empty when there is none.

    Raises:
        httpx.HTTPError: If there is no such repository, or GitHub stays busy or out of reach.

    Source:
        GitHub REST API, under GitHub's Terms of Service.
    """
    with httpx.Client(base_url=API_URL, timeout=10) as github:
        return [
            {
                "tag": release["tag_name"],
                "published_at": datetime.fromisoformat(release["published_at"]),
                "prerelease": release["prerelease"],
                "downloads": sum(file["download_count"] for file in release["assets"]),
                "url": release["html_url"],
            }
            for page in pages(github, f"/repos/{repo}/releases?per_page=100", max_pages)
            for release in page
        ]
