"""Connections whose requests begin within bounds: uvicorn waits for any head, of whatever size."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from webfoot.server.bounds import MOST_URL_BYTES

# More than a server reads of a URL and of headers: who sends a little too much is told by that.
_MOST_HEAD_BYTES = 262_144
# From its first byte to its last; also how long a new connection may be silent.
_HEAD_S = 30.0


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections on which a head is too large, or too long in coming."""

    _in_head = True
    _head_bytes = 0
    _timer: asyncio.TimerHandle | None = None
    _refused = HTTPStatus.BAD_REQUEST

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
        if self._in_head:
            self._head_bytes += len(data)
            self._wait()
        super().data_received(data)
        if self._in_head and self._head_bytes > _MOST_HEAD_BYTES:
            self._refused = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self.send_400_response("")

    def on_url(self, url: bytes) -> None:
        """Take a part of the URL.

        Raises:
            ValueError: If it is too long; uvicorn then refuses the request.
        """
        super().on_url(url)
        if len(self.url) > MOST_URL_BYTES:
            self._refused = HTTPStatus.REQUEST_URI_TOO_LONG
            raise ValueError(len(self.url))

    def on_headers_complete(self) -> None:
        """Have a request answered."""
        self._in_head, self._head_bytes = False, 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes from here on is of the next request."""
        self._in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or no longer read as one, and close the connection."""
        if self.transport.is_closing():
            return
        if self._refused is HTTPStatus.BAD_REQUEST:
            super().send_400_response(msg)
            return
        text = f"{self._refused.description or self._refused.phrase}\n"
        head = (
            f"HTTP/1.1 {self._refused.value} {self._refused.phrase}\r\ncontent-type: text/plain\r\n"
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
