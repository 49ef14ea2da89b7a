"""The application: one folder of UDFs as a FastAPI app."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.routing import Route

import webfoot
from webfoot import registry, sources
from webfoot.engine import Engine
from webfoot.runners.inline import InlineRunner
from webfoot.runners.processes import ProcessRunner
from webfoot.runs import Runs
from webfoot.server.data import DataEndpoint
from webfoot.settings import Settings
from webfoot.store.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from webfoot.runners import Runner


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the server of one folder.

    UDFs are found here and not when the server starts: on Lambda, starting happens at every call.

    Args:
        settings: How it behaves; read from the environment if not given.
    """
    settings = settings or Settings.from_environment()
    store = LocalStore(settings.store, settings.store_size)
    runner: Runner
    if settings.runner == "inline":
        runner = InlineRunner(settings.workers, settings.store / "temp")
    else:
        runner = ProcessRunner(settings.workers, settings.queue, settings.store / "temp")
    code = sources.read(settings.folder)
    engine = Engine(registry.load(code), store, runner, Runs(settings.store / "runs"), settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await engine.use(engine.registry)
        try:
            yield
        finally:
            await engine.close()
            store.close()

    app = FastAPI(title="Webfoot", version=webfoot.__version__, lifespan=lifespan, openapi_url=None)
    app.router.routes.append(
        Route("/udfs/{name}.{extension}", DataEndpoint(engine, store, settings), name="result")
    )
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "HEAD", "OPTIONS"],
        allow_headers=["*"],
        expose_headers=[
            "Content-Length",
            "Content-Range",
            "Accept-Ranges",
            "ETag",
            "Server-Timing",
            "X-Webfoot-Run",
            "X-Webfoot-Executions",
            "X-Webfoot-Status",
            "X-Webfoot-Code",
        ],
    )
    return app
