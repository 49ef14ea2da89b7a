"""What people and scripts read besides tables: the catalog, a UDF's page, a run, health."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from webfoot.server.openapi import describe
from webfoot.server.problems import PAGE_POLICY
from webfoot.templating import render
from webfoot.views import MEDIA_TYPES

if TYPE_CHECKING:
    from webfoot.definition import Udf
    from webfoot.engine import Engine
    from webfoot.registry import Problem
    from webfoot.settings import Settings

_PAGE_HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
    "vary": "Accept",
}
# HEAD, because whoever looks whether a link is alive asks so: monitors, proxies, chat programs.
_READ = ["GET", "HEAD"]
_DATA_HEADERS = {"cache-control": "no-cache", "vary": "Accept"}


def page_routes(engine: Engine, settings: Settings) -> APIRouter:
    """The routes of everything that is no table."""
    router = APIRouter(include_in_schema=False)
    _add_udfs(router, engine, settings)
    _add_runs(router, engine, settings)
    _add_documents(router, engine)
    _add_health(router, engine)
    return router


def _add_udfs(router: APIRouter, engine: Engine, settings: Settings) -> None:
    @router.api_route("/", methods=_READ)
    def index(request: Request) -> Response:
        return _catalog_page(engine, request, debug=settings.debug)

    @router.api_route("/udfs", methods=_READ)
    def list_udfs(request: Request) -> Response:
        if wants_html(request):
            return _catalog_page(engine, request, debug=settings.debug)
        registry = engine.registry
        udfs = [_describe(udf, engine, base_url_of(request)) for udf in registry.values()]
        problems = [_plain(problem, debug=settings.debug) for problem in registry.problems]
        return JSONResponse({"udfs": udfs, "problems": problems}, headers=_DATA_HEADERS)

    @router.api_route("/udfs/{name}", methods=_READ)
    def show_udf(name: str, request: Request) -> Response:
        udf = engine.registry.find(name)
        description = _describe(udf, engine, base_url_of(request))
        if not wants_html(request):
            return JSONResponse(description, headers=_DATA_HEADERS)
        example = _example(udf, base_url_of(request))
        return _page(
            request,
            "udf.html",
            udf=udf,
            it=description,
            example=example,
            formats=list(MEDIA_TYPES),
            write=_write,
        )


def _add_runs(router: APIRouter, engine: Engine, settings: Settings) -> None:
    @router.api_route("/runs/{run}", methods=_READ)
    def show_run(run: str) -> Response:
        record = engine.runs.find(run)
        if record is None:
            raise HTTPException(404, f"there is no run {run!r}, or it is too long ago")
        shown = asdict(record)
        if settings.debug:
            shown["log"] = engine.runs.log(run)
        elif record.problem:
            shown["problem"] = {k: v for k, v in record.problem.items() if k != "traceback"}
        return JSONResponse(shown, headers={"cache-control": "no-store"})


def _add_documents(router: APIRouter, engine: Engine) -> None:
    @router.api_route("/openapi.json", methods=_READ)
    def openapi(request: Request) -> Response:
        return JSONResponse(describe(engine.registry, base_url_of(request)), headers=_DATA_HEADERS)

    @router.api_route("/docs", methods=_READ)
    def docs(request: Request) -> Response:
        document = describe(engine.registry, base_url_of(request))
        return _page(request, "docs.html", document=document)


def _add_health(router: APIRouter, engine: Engine) -> None:
    @router.api_route("/healthz", methods=_READ)
    def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @router.api_route("/readyz", methods=_READ)
    def readyz() -> Response:
        registry = engine.registry
        return JSONResponse(
            {"status": "ready", "udfs": len(registry), "problems": len(registry.problems)}
        )


def _catalog_page(engine: Engine, request: Request, *, debug: bool) -> Response:
    registry = engine.registry
    first = next(iter(registry.values()), None)
    return _page(
        request,
        "catalog.html",
        udfs=list(registry.values()),
        problems=[_plain(problem, debug=debug) for problem in registry.problems],
        example=_example(first, base_url_of(request)) if first else "",
    )


def _page(request: Request, template: str, **values: Any) -> Response:
    return HTMLResponse(
        render(template, root=base_url_of(request), **values), headers=_PAGE_HEADERS
    )


def _write(default: Any) -> str:
    """A default as a person would type it into a URL."""
    if default is None:
        return "none"
    return default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)


def _plain(problem: Problem, *, debug: bool) -> dict[str, Any]:
    """A problem with a file; the code in its traceback is for its author only."""
    plain = asdict(problem)
    if not debug:
        del plain["traceback"]
    return plain


def base_url_of(request: Request) -> str:
    """The server's address as the client wrote it, without a slash at its end."""
    return str(request.base_url).rstrip("/")


def wants_html(request: Request) -> bool:
    """Whether a browser asks, to show the answer to somebody."""
    accept = request.headers.get("accept", "")
    return "text/html" in accept and not accept.startswith("application/json")


def _example(udf: Udf, base_url: str) -> str:
    required = "&".join(f"{p.name}=…" for p in udf.parameters.values() if p.required)
    return f"{base_url}/udfs/{udf.name}.parquet" + (f"?{required}" if required else "")


def _describe(udf: Udf, engine: Engine, base_url: str) -> dict[str, Any]:
    lifetime = engine.lifetime(udf)
    return {
        "name": udf.name,
        "title": udf.title,
        "description": udf.description,
        "returns": udf.returns,
        "version": udf.version,
        "tags": list(udf.options.tags),
        "cache_s": None if lifetime == float("inf") else lifetime,
        "parameters": [
            {
                "name": p.name,
                "type": p.type,
                "required": p.required,
                "default": p.default,
                "help": p.help,
                "schema": p.schema,
            }
            for p in udf.parameters.values()
        ],
        "urls": {ext: f"{base_url}/udfs/{udf.name}.{ext}" for ext in MEDIA_TYPES},
    }
