"""Connections whose requests begin within bounds: uvicorn waits for any head, of whatever size."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from webfoot.server.bounds import MOST_URL_BYTES

# More than a server reads of a URL and of headers: who sends a little too much is told by that.
_MOST_HEAD_BYTES = 131_072
# From its first byte to its last; also how long a new connection may be silent.
_HEAD_S = 30.0


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections on which a head is too large, or too long in coming.

    Nearly every head comes whole, with the first bytes, and then costs a look.
    """

    _head_bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request, for a while."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come of a request."""
        super().data_received(data)
        # uvicorn's record of a request has no method before its head is whole.
        if self.scope is None or "method" not in self.scope:
            self._wait()
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self.send_400_response("")
        elif self.cycle is not None and self.cycle.response_complete:
            # The rest of what was refused, or empty lines: uvicorn takes those for ever.
            self._wait()
        elif self._timer is not None:
            self._stop_waiting()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or no longer read as one, and close the connection."""
        if self.transport.is_closing():
            return
        if len(getattr(self, "url", b"")) > MOST_URL_BYTES:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
        elif self._head_bytes > _MOST_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            super().send_400_response(msg)

    def _refuse(self, status: HTTPStatus) -> None:
        text = f"{status.description or status.phrase}\n"
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain\r\n"
            f"content-length: {len(text)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write((head + text).encode())
        self.transport.close()

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_HEAD_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._head_bytes = 0
