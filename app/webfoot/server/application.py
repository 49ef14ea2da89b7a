"""The application: one folder of UDFs as a FastAPI app."""

from __future__ import annotations

import asyncio
import contextlib
import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response
from starlette.exceptions import HTTPException

import webfoot
from webfoot.assembly import assemble
from webfoot.errors import Error
from webfoot.server.data import EXPOSED_HEADERS, DataEndpoint
from webfoot.server.pages import page_routes
from webfoot.server.problems import PROBLEM_TYPE, http_problem, problem_reply
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from webfoot.assembly import Parts


class Application(FastAPI):
    """A FastAPI app whose results are answered before the framework's layers.

    Args:
        parts: The engine and the store that it answers from.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(
            title="Webfoot",
            version=webfoot.__version__,
            lifespan=lambda _: _running(parts),
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
        )
        self.engine = parts.engine
        self._data = DataEndpoint(parts.engine, parts.store, parts.settings)
        self.include_router(page_routes(parts.engine, parts.settings))
        self.add_exception_handler(Error, _show_error)
        self.add_exception_handler(HTTPException, _show_http_error)
        self.add_middleware(
            CORSMiddleware,
            allow_origins=["*"],
            allow_methods=["GET", "HEAD", "OPTIONS"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        handle = self._data if self._data.handles(scope) else super().__call__
        await handle(scope, receive, send)


def create_app(settings: Settings | None = None) -> Application:
    """Build the server of one folder.

    UDFs are found here and not when the server starts: on Lambda, starting happens at every call.

    Args:
        settings: How it behaves; read from the environment if not given.
    """
    return Application(assemble(settings or Settings.from_environment()))


@contextlib.asynccontextmanager
async def _running(parts: Parts) -> AsyncIterator[None]:
    await parts.start()
    following = asyncio.ensure_future(parts.follow_changes()) if parts.settings.reload else None
    try:
        yield
    finally:
        if following is not None:
            following.cancel()
        await parts.close()


async def _show_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, Error)
    reply = problem_reply(error, debug=False)
    return Response(reply.body, reply.status, media_type=PROBLEM_TYPE)


async def _show_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = json.dumps(http_problem(HTTPStatus(error.status_code)))
    return Response(body, error.status_code, error.headers, PROBLEM_TYPE)
