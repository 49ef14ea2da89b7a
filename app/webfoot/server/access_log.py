"""A line for each request that a server answers, in the form in which uvicorn writes them.

    INFO:     127.0.0.1:38420 - "GET /udfs/delays.parquet?year=2024 HTTP/1.1" 200 OK

uvicorn's own way takes four times as long: nearly as long as all that is done for a stored result
(`bench/access_log.py`).
"""

from __future__ import annotations

import contextlib
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from webfoot.server.logs import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Longer addresses are masked anew each time: remembered, they would fill the memory.
_MOST_REMEMBERED = 500
_COLOURS = {1: "bright_white", 2: "green", 3: "yellow", 4: "red", 5: "bright_red"}


class AccessLog:
    """An ASGI application that has another answer, and writes what was asked and how it ended.

    A line is there before the client has its answer.

    Args:
        app: The other.
        output: Where lines go.
        style: Makes parts of a line stand out, as `click.style` does for a terminal.
    """

    def __init__(self, app: ASGIApp, output: IO[str], style: Callable[..., str]) -> None:
        self._app = app
        self._output = output
        self._style = style
        self._level = style("INFO", fg="green") + ":     "

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have a request answered."""

        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._write(scope, message["status"])
            await send(message)

        await self._app(scope, receive, forward)

    def _write(self, scope: Scope, status: int) -> None:
        path, query = scope["path"], scope["query_string"]
        is_short = len(path) + len(query) <= _MOST_REMEMBERED
        shown = (_shown if is_short else _shown.__wrapped__)(path, query)
        asked = self._style(f"{scope['method']} {shown} HTTP/{scope['http_version']}", bold=True)
        client = "{}:{}".format(*scope["client"]) if scope.get("client") else ""
        # Whoever has read the lines may be gone.
        with contextlib.suppress(OSError):
            self._output.write(
                f'{self._level}{client} - "{asked}" {_answered(self._style, status)}\n'
            )
            self._output.flush()


def unstyled(text: str, **_: Any) -> str:
    """The text alone, where there is no terminal."""
    return text


@lru_cache(1_000)
def _shown(path: str, query: bytes) -> str:
    """What was asked for, as it was sent, but for secrets."""
    url = quote(path)
    return without_secrets(f"{url}?{query.decode('ascii', 'backslashreplace')}" if query else url)


@lru_cache(1_000)
def _answered(style: Callable[..., str], status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return style(f"{status} {phrase}", fg=_COLOURS.get(status // 100))
