"""What a server's answer means: an error of Webfoot's, an answer that is not Webfoot's, a wait."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from webfoot.errors import Error, UdfTimeout
from webfoot.quantities import shorten

if TYPE_CHECKING:
    import httpx

_AGAIN = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_LETTERS_SHOWN = 200


def read_error(response: httpx.Response) -> Error:
    """The error that `response` tells of: of the class that the server raised."""
    try:
        problem = json.loads(response.content)
        known = isinstance(problem, dict) and "code" in problem and "detail" in problem
    except ValueError:
        known = False
    if not known:
        return foreign(response)
    error = Error.from_problem(problem)
    if error.traceback:  # The author's own frames; where the error is shown, they are, too.
        error.add_note(error.traceback)
    return error


def foreign(response: httpx.Response) -> Error:
    """The error that `response` is not Webfoot's: a proxy's, or of another server."""
    first = next((line for line in response.text.splitlines() if line.strip()), "nothing")
    return Error(
        f"{response.url} answered {response.status_code} {response.reason_phrase}, and not as"
        f" Webfoot does: {shorten(first.strip(), _LETTERS_SHOWN)!r}; is the address right, or does"
        " a proxy in between have trouble?"
    )


def wait_before_retry(response: httpx.Response, error: Error) -> float | None:
    """How long to wait before the request is made again, in seconds; None if it is of no use.

    Zero means that the server does not say.
    """
    # The run was given its time; a second one would take as long.
    if response.status_code not in _AGAIN or isinstance(error, UdfTimeout):
        return None
    said = _read_retry_after(response.headers.get("retry-after", ""))
    if said is None:
        return None if response.status_code == HTTPStatus.TOO_MANY_REQUESTS else 0.0
    return said


def _read_retry_after(text: str) -> float | None:
    """Seconds, or a date (RFC 9110, section 10.2.3)."""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
