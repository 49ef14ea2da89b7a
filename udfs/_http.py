"""Reads an HTTP API page by page, and waits when the API asks for it."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

BUSY = {429, 503}
ATTEMPTS = 4
LONGEST_WAIT_S = 20


def pages(client: httpx.Client, url: str, limit: int) -> Iterator[Any]:
    """The JSON of `url` and of the pages after it, `limit` at most.

    Args:
        client: Whose base URL the pages must stay under.
        url: The first page.
        limit: Most pages to read.

    Raises:
        httpx.HTTPStatusError: If the API answers with an error, or stays busy.
        ValueError: If a page leads to another server: an API must not choose whom we call.
    """
    for _ in range(limit):
        response = get(client, url)
        yield response.json()
        if "next" not in response.links:
            return
        following = response.url.join(response.links["next"]["url"])
        if _origin(following) != _origin(client.base_url):
            raise ValueError(f"{response.url} leads to another server, {following}")
        url = str(following)


def get(client: httpx.Client, url: str, attempt: int = 1) -> httpx.Response:
    """The answer, after waiting and asking again while the API is busy."""
    response = client.get(url)
    wait_s = _wait_s(response, attempt)
    if response.status_code in BUSY and attempt < ATTEMPTS and wait_s <= LONGEST_WAIT_S:
        time.sleep(wait_s)
        return get(client, url, attempt + 1)
    return response.raise_for_status()


def _wait_s(response: httpx.Response, attempt: int) -> float:
    """What Retry-After says (RFC 9110, 10.2.3: seconds or a date), else 0.5, 1, 2 s."""
    text = response.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return float(2 ** (attempt - 2))


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
