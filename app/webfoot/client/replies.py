"""What a server's answer means: an error of Webfoot's, an answer that is not Webfoot's, a wait."""

from __future__ import annotations

import contextlib
import json
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from webfoot.errors import Error, UdfTimeout, Unauthorized
from webfoot.quantities import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
# The type of a problem that is no more than its status (RFC 9457, section 4.2.1).
_OF_HTTP_ITSELF = "about:blank"
_NO_SUCH_REQUEST = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})


def read_error(response: httpx.Response) -> Error:
    """The error that `response` tells of: of the class that the server raised."""
    try:
        problem = json.loads(response.content)
        known = isinstance(problem, dict) and "code" in problem and "detail" in problem
    except ValueError:
        known = False
    if not known:
        return foreign(response)
    if problem.get("type") == _OF_HTTP_ITSELF and response.status_code in _NO_SUCH_REQUEST:
        return Error(
            f"{response.url} answered {response.status_code} {response.reason_phrase}: that server"
            " is a Webfoot, and knows no such request; is it older than this client?"
        )
    return error_of(problem)


def error_of(problem: Mapping[str, Any]) -> Error:
    """The error that `problem` came from, which shows the author's own frames if it has them."""
    error = Error.from_problem(problem)
    if error.traceback:
        error.add_note(error.traceback)
    if isinstance(error, Unauthorized):
        error.add_note('show a key with webfoot.Client(url, token="wf_…")')
    return error


@contextlib.contextmanager
def as_webfoot_answers(response: httpx.Response) -> Iterator[None]:
    """What cannot be read inside is no answer of Webfoot's."""
    try:
        yield
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise foreign(response) from error


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
    said = read_retry_after(response)
    if said is None:
        return None if response.status_code == HTTPStatus.TOO_MANY_REQUESTS else 0.0
    return said


def read_retry_after(response: httpx.Response) -> float | None:
    """When to come back, in seconds: told as such, or as a date (RFC 9110, section 10.2.3)."""
    text = response.headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
