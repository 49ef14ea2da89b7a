"""How large a request may be, before any of it is read."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from webfoot.quantities import write_size
from webfoot.server.problems import Reply, http_reply

if TYPE_CHECKING:
    from starlette.types import Scope

# No proxy passes on a URL that is nearly as long; of the query of a call, a little less is read.
MOST_URL_BYTES = 65_000
# A body of the inputs of ten thousand calls, each of a kilobyte and a half.
MOST_BODY_BYTES = 16_000_000
_MOST_HEADERS = 100
# Numbers of more digits are longer to read than to refuse.
_MOST_DIGITS = 18


def refuse_oversized(scope: Scope) -> Reply | None:
    """What to answer to a request that is too large; None if it is not."""
    url_bytes = len(scope["path"]) + len(scope["query_string"])
    if url_bytes > MOST_URL_BYTES:
        return http_reply(
            HTTPStatus.REQUEST_URI_TOO_LONG,
            f"the URL has {url_bytes} bytes, and at most {MOST_URL_BYTES} are read; POST the"
            " parameters to /udfs/NAME/map",
        )
    # How long they are is the server's affair: it has read them already.
    headers = scope["headers"]
    if len(headers) > _MOST_HEADERS:
        return http_reply(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the request has {len(headers)} headers, and at most {_MOST_HEADERS} are read; leave"
            " some out",
        )
    told = next((value for name, value in headers if name == b"content-length"), b"0")
    if len(told) > _MOST_DIGITS or (told.isdigit() and int(told) > MOST_BODY_BYTES):
        return http_reply(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body is larger than {write_size(MOST_BODY_BYTES)}; send the inputs in parts",
        )
    return None
