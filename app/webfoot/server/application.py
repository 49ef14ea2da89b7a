"""The application: one folder of UDFs as a FastAPI app."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.routing import Route

import webfoot
from webfoot.assembly import assemble
from webfoot.errors import Error
from webfoot.server.data import DataEndpoint
from webfoot.server.pages import page_routes
from webfoot.server.problems import http_problem_response, problem_response
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.responses import Response

_EXPOSED_HEADERS = (
    *("Content-Length", "Content-Range", "Accept-Ranges", "ETag", "Server-Timing"),
    *("X-Webfoot-Run", "X-Webfoot-Executions", "X-Webfoot-Status", "X-Webfoot-Code"),
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the server of one folder.

    UDFs are found here and not when the server starts: on Lambda, starting happens at every call.

    Args:
        settings: How it behaves; read from the environment if not given.
    """
    settings = settings or Settings.from_environment()
    parts = assemble(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await parts.start()
        following = asyncio.ensure_future(parts.follow_changes()) if settings.reload else None
        try:
            yield
        finally:
            if following is not None:
                following.cancel()
            await parts.close()

    app = FastAPI(
        title="Webfoot",
        version=webfoot.__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.engine = parts.engine
    data = DataEndpoint(parts.engine, parts.store, settings)
    app.router.routes.append(Route("/udfs/{name}.{extension}", data))
    app.include_router(page_routes(parts.engine, settings))

    async def show_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, Error)
        return problem_response(error, debug=settings.debug)

    async def show_http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return http_problem_response(HTTPStatus(error.status_code), error.headers)

    app.add_exception_handler(Error, show_error)
    app.add_exception_handler(HTTPException, show_http_error)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "HEAD", "OPTIONS"],
        allow_headers=["*"],
        expose_headers=_EXPOSED_HEADERS,
    )
    return app
