"""What people and scripts read besides tables: the catalog, a UDF's page, a run, the server's health."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from webfoot.errors import UdfNotFound
from webfoot.server.openapi import describe
from webfoot.templating import render
from webfoot.views import MEDIA_TYPES

if TYPE_CHECKING:
    from webfoot.definition import Udf
    from webfoot.engine import Engine
    from webfoot.settings import Settings

_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page_routes(engine: Engine, settings: Settings) -> APIRouter:
    """The routes of everything that is no table."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def index(request: Request) -> Response:
        return _catalog_page(engine, request)

    @router.get("/udfs")
    def list_udfs(request: Request) -> Response:
        if _wants_html(request):
            return _catalog_page(engine, request)
        registry = engine.registry
        udfs = [_describe(udf, engine, _base(request)) for udf in registry.values()]
        problems = [
            {"file": p.file, "message": p.message, "names": list(p.names)} for p in registry.problems
        ]
        return JSONResponse({"udfs": udfs, "problems": problems})

    @router.get("/udfs/{name}")
    def show_udf(name: str, request: Request) -> Response:
        udf = engine.registry.find(name)
        description = _describe(udf, engine, _base(request))
        if not _wants_html(request):
            return JSONResponse(description)
        example = _example(udf, _base(request))
        return _page("udf.html", udf=udf, it=description, example=example, formats=list(MEDIA_TYPES))

    @router.get("/runs/{run}")
    def show_run(run: str) -> Response:
        record = engine.runs.find(run)
        if record is None:
            raise UdfNotFound(f"there is no run {run!r}, or it is too long ago")
        shown = asdict(record)
        if settings.debug:
            shown["log"] = engine.runs.log(run)
        elif record.problem:
            shown["problem"] = {k: v for k, v in record.problem.items() if k != "traceback"}
        return JSONResponse(shown, headers={"cache-control": "no-store"})

    @router.get("/openapi.json")
    def openapi(request: Request) -> Response:
        return JSONResponse(describe(engine.registry, _base(request)))

    @router.get("/docs")
    def docs(request: Request) -> Response:
        document = describe(engine.registry, _base(request))
        return _page("docs.html", document=document)

    @router.get("/healthz")
    def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz")
    def readyz() -> Response:
        registry = engine.registry
        return JSONResponse(
            {"status": "ready", "udfs": len(registry), "problems": len(registry.problems)}
        )

    return router


def _catalog_page(engine: Engine, request: Request) -> Response:
    registry = engine.registry
    first = next(iter(registry.values()), None)
    return _page(
        "catalog.html",
        udfs=list(registry.values()),
        problems=registry.problems,
        example=_example(first, _base(request)) if first else "",
    )


def _page(template: str, **values: Any) -> Response:
    return HTMLResponse(render(template, **values), headers=_PAGE_HEADERS)


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _wants_html(request: Request) -> bool:
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
