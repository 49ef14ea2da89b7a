"""How large a request may be, before any of it is read; and all bodies together, while they are."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from webfoot.errors import ServerBusy
from webfoot.quantities import write_size
from webfoot.server.problems import Reply, http_reply

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope

# No proxy passes on a URL that is nearly as long; of the query of a call, a little less is read.
MOST_URL_BYTES = 65_000
# A body of the inputs of ten thousand calls, each of a kilobyte and a half.
MOST_BODY_BYTES = 16_000_000
# Four such at once: what JSON says in a byte may take twenty in memory.
_MOST_BODIES_BYTES = 4 * MOST_BODY_BYTES
_MOST_HEADERS = 100
_MOST_HEADER_BYTES = 32_000
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
    headers = scope["headers"]
    header_bytes, told = 0, b""
    for name, value in headers:
        header_bytes += len(name) + len(value)
        if name == b"content-length":
            told = told or value
    if len(headers) > _MOST_HEADERS or header_bytes > _MOST_HEADER_BYTES:
        return http_reply(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the request has {len(headers)} headers of {header_bytes} bytes, and at most"
            f" {_MOST_HEADERS} of {_MOST_HEADER_BYTES} are read; leave some out",
        )
    if len(told) > _MOST_DIGITS or (told.isdigit() and int(told) > MOST_BODY_BYTES):
        return http_reply(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body is larger than {write_size(MOST_BODY_BYTES)}; send the inputs in parts",
        )
    return None


class Bodies:
    """The bodies of the requests that are under way: together, no more than there is room for."""

    def __init__(self) -> None:
        self.room = _MOST_BODIES_BYTES


class Body:
    """Receives a request, and counts what of its body has come, until that is let go.

    Args:
        bodies: All of them.
        receive: Receives it.
    """

    _counted = 0

    def __init__(self, bodies: Bodies, receive: Receive) -> None:
        self._bodies = bodies
        self._receive = receive

    async def receive(self) -> Message:
        """Receive the next message.

        Raises:
            ServerBusy: If there is no room for it now.
        """
        message = await self._receive()
        # Of what is too large, nobody keeps the rest.
        size = min(len(message.get("body", b"")), MOST_BODY_BYTES + 1 - self._counted)
        if size > self._bodies.room:
            raise ServerBusy(
                f"the bodies of other requests fill {write_size(_MOST_BODIES_BYTES)}, which is"
                " all that this server holds at once; try again in a moment"
            )
        self._bodies.room -= size
        self._counted += size
        return message

    def let_go(self) -> None:
        """Make room for others."""
        self._bodies.room += self._counted
        self._counted = 0
