"""The application: one folder of UDFs as a FastAPI app."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response
from starlette.exceptions import HTTPException

import webfoot
from webfoot.access.opening import access_of
from webfoot.access.principal import PRINCIPAL
from webfoot.assembly import assemble
from webfoot.errors import Error, StorageFull
from webfoot.files import is_disk_full
from webfoot.jobs.running import Jobs
from webfoot.server import exchanges
from webfoot.server.address import Address
from webfoot.server.bounds import Bodies, Body
from webfoot.server.catalog import catalog_routes
from webfoot.server.data import DataEndpoint
from webfoot.server.exchanges import exchange_of
from webfoot.server.gate import Gate
from webfoot.server.health import Health
from webfoot.server.holding import Holding
from webfoot.server.jobs import job_routes
from webfoot.server.metrics import Metrics
from webfoot.server.pages import base_url_of, page_routes, wants_html
from webfoot.server.problems import EXPOSED_HEADERS, Reply, http_reply, page_reply, problem_reply
from webfoot.server.recall import Recall
from webfoot.server.records import Records
from webfoot.server.shares import share_routes
from webfoot.server.static import static_routes
from webfoot.server.system import SystemTables, system_routes
from webfoot.server.telling import tell_visitor
from webfoot.server.tracing import tracing_of
from webfoot.server.watching import watching_routes
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from webfoot.access.opening import Access
    from webfoot.assembly import Parts

_log = logging.getLogger(__name__)


class Application(FastAPI):
    """A FastAPI app whose results are answered before the framework's layers.

    Args:
        parts: The engine and the store that it answers from.
        jobs: The jobs that are made through it; closed with it.
        access: Decides who is answered.
        resume_jobs: Whether it goes on, once it runs, with the jobs of servers that died.
    """

    def __init__(self, parts: Parts, jobs: Jobs, access: Access, *, resume_jobs: bool) -> None:
        settings = parts.settings
        holding = Holding(jobs, parts.store, settings.hold)
        records = Records(parts.records / "requests", settings)
        system = SystemTables(records, parts.engine.runs)
        closing = contextlib.ExitStack()
        for part in (access, records, system):
            closing.callback(part.close)
        super().__init__(
            title="Webfoot",
            version=webfoot.__version__,
            lifespan=lambda _: _running(parts, jobs, closing, resume_jobs=resume_jobs),
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
            # FastAPI's own would tell of its routes alone, and whole queries with what is in them.
            telemetry={
                "tracing": False,
                "metrics": False,
                "logs": False,
                "operation_spans": False,
                "auto_configure": False,
            },
        )
        self.engine = parts.engine
        self._records = records
        self._metrics = Metrics(parts.engine)
        self._tracing = tracing_of(parts.engine)
        if self._tracing is not None:
            closing.callback(self._tracing.close)
        self.health = Health(parts.engine)
        self.access = access
        self.jobs = jobs
        self._settings = settings
        self._address = Address(settings.base_url, settings.trusted_proxies)
        self._bodies = Bodies()
        recall = Recall(parts.engine, parts.store)
        results = DataEndpoint(parts.engine, parts.store, holding, access.calling, recall, settings)
        self._gate = Gate(access, parts.engine, recall, settings, results, self._answer_other)
        counted = partial(self._metrics.state, parts.store, self._gate, records, settings)
        # Plain ones, for endpoints that take the request: for a parameter that FastAPI reads, it
        # imports the whole of pydantic's first version, a twentieth of a start on Lambda.
        routes = [
            *catalog_routes(parts.engine, parts.store),
            *system_routes(system),
            *page_routes(parts.engine, settings),
            *job_routes(jobs, parts.engine, access.calling, settings),
            *share_routes(access),
            *static_routes(),
            *self.health.routes(),
            *watching_routes(counted, records),
        ]
        self._paths: dict[Any, str] = {route.endpoint: route.path for route in routes}
        self.router.routes.extend(routes)
        self.add_exception_handler(Error, self._show_error)
        self.add_exception_handler(OSError, self._show_full_disk)
        self.add_exception_handler(HTTPException, _show_http_error)
        self.add_exception_handler(Exception, _show_bug)
        self.add_middleware(
            CORSMiddleware,
            allow_origins=["*"],
            allow_methods=["DELETE", "GET", "HEAD", "OPTIONS", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        exchange = exchanges.begin(scope)
        if self._tracing is not None:
            self._tracing.begin(exchange, scope["headers"])
        scope = self._address.correct(scope)
        body = Body(self._bodies, receive)
        try:
            await self._gate(scope, body.receive, exchange.through(send))
        finally:
            body.let_go()
            exchange.end(scope.get(PRINCIPAL))
            self._records.add(exchange)
            self._metrics.add(exchange)
            if self._tracing is not None:
                self._tracing.add(exchange)

    def flush(self) -> None:
        """Write and send what is known of exchanges that are over."""
        self._records.flush()
        if self._tracing is not None:
            self._tracing.flush()

    async def _answer_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is for no result, by the framework."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # The framework notes only what answers.
            exchange_of(scope).route = self._paths.get(scope.get("endpoint"), "")

    async def _show_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, Error)
        exchange_of(request.scope).fail(error)
        return _response(await tell_visitor(error, request.scope, self._settings))

    async def _show_full_disk(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, OSError)
        if not is_disk_full(error):
            raise error
        full = StorageFull("the server's disk is full; free some space, and try again")
        return await self._show_error(request, full)


def create_app(
    settings: Settings | None = None, access: Access | None = None, *, resume_jobs: bool = True
) -> Application:
    """Build the server of one folder.

    UDFs are found here and not when the server starts: on Lambda, starting happens at every call.

    Args:
        settings: How it behaves; read from the environment if not given.
        access: Decides who is answered; what the settings say of it if not given.
        resume_jobs: Whether it goes on, once it runs, with the jobs of servers that died.
    """
    settings = settings or Settings.from_environment()
    access = access or access_of(settings)
    parts = assemble(settings)
    jobs = Jobs(parts.jobs, parts.engine, settings)
    return Application(parts, jobs, access, resume_jobs=resume_jobs)


@contextlib.asynccontextmanager
async def _running(
    parts: Parts, jobs: Jobs, closing: contextlib.ExitStack, *, resume_jobs: bool
) -> AsyncIterator[None]:
    await parts.start()
    if resume_jobs:
        await jobs.resume()
    following = asyncio.ensure_future(_follow(parts)) if parts.settings.reload else None
    try:
        yield
    finally:
        if following is not None:
            following.cancel()
        await jobs.close()
        await parts.close()
        closing.close()


async def _follow(parts: Parts) -> None:
    try:
        await parts.follow_changes()
    except OSError as error:  # The folder is gone, say.
        _log.warning("changes of %s/ are no longer followed: %s", parts.settings.folder, error)


async def _show_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    said = "" if error.detail == status.phrase else error.detail
    response = _respond(request, http_reply(status, said))
    response.headers.update(error.headers or {})
    return response


async def _show_bug(request: Request, _: Exception) -> Response:
    bug = Error("something went wrong in Webfoot itself; the server's log says what")
    return _respond(request, problem_reply(bug, debug=False))


def _respond(request: Request, reply: Reply) -> Response:
    """The reply; as a page if a browser shows it to somebody."""
    if wants_html(request):
        reply = page_reply(reply, base_url_of(request))
    return _response(reply)


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status)
    for name, value in reply.headers:
        response.headers[name.decode()] = value.decode()
    return response
