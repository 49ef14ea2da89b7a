"""What people and scripts read besides tables: the catalog, a UDF's page, a run, health."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from webfoot.asking import split_query
from webfoot.literals import sql_name
from webfoot.server import address
from webfoot.server.logs import without_secrets
from webfoot.server.problems import PAGE_POLICY
from webfoot.server.telling import wants_page
from webfoot.server.visits import visit_of
from webfoot.templating import render_page
from webfoot.views import MEDIA_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from webfoot.definition import Udf
    from webfoot.engine import Engine
    from webfoot.registry import Problem, Registry
    from webfoot.runs import Run
    from webfoot.server.visits import Visit
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
# The last of what a run printed is what a person looks for; the whole is in the JSON.
_LOG_LINES = 200
_DATA_HEADERS = {"cache-control": "no-cache", "vary": "Accept"}


def page_routes(engine: Engine, settings: Settings) -> list[Route]:
    """The routes of everything that is no table."""
    return [
        *_udf_routes(engine, settings),
        *_run_routes(engine, settings),
        Route("/openapi.json", _show_openapi, methods=_READ),
        Route("/docs", _show_docs, methods=_READ),
    ]


def _udf_routes(engine: Engine, settings: Settings) -> list[Route]:
    def index(request: Request) -> Response:
        return _catalog_page(request, settings)

    def list_udfs(request: Request) -> Response:
        if wants_html(request):
            return _catalog_page(request, settings)
        registry = visit_of(request.scope).registry
        udfs = [_describe(udf, engine, base_url_of(request)) for udf in registry.values()]
        problems = [_plain(problem, debug=settings.debug) for problem in registry.problems]
        return JSONResponse({"udfs": udfs, "problems": problems}, headers=_DATA_HEADERS)

    def show_udf(request: Request) -> Response:
        visit = visit_of(request.scope)
        udf = visit.registry.find(request.path_params["name"])
        description = _describe(udf, engine, base_url_of(request))
        if not wants_html(request):
            return JSONResponse(description, headers=_DATA_HEADERS)
        # What only pages need, starts on Lambda go without.
        from webfoot.server.forms import read_form  # noqa: PLC0415
        from webfoot.snippets import snippets  # noqa: PLC0415

        given = _given(request)
        return show_page(
            request,
            "udf.html",
            udf=udf,
            cache_s=description["cache_s"],
            form=read_form(udf, given),
            query=f"?{urlencode(given)}" if given else "",
            snippets=snippets(udf, base_url_of(request), given),
            downloads=[
                extension
                for extension in MEDIA_TYPES
                if extension != "html" and visit.asker.rights.reads(udf.name, extension)
            ],
            # Where nobody is asked for a key, the plain address is as good.
            may_share=visit.private and visit.asker.rights.has("share"),
        )

    return [
        Route("/", index, methods=_READ),
        Route("/udfs", list_udfs, methods=_READ),
        Route("/udfs/{name}", show_udf, methods=_READ),
    ]


def _run_routes(engine: Engine, settings: Settings) -> list[Route]:
    def show_run(request: Request) -> Response:
        run: str = request.path_params["run"]
        record = engine.runs.find(run)
        if record is None or not _is_for(visit_of(request.scope), record):
            raise HTTPException(404, f"there is no run {run!r}, or it is too long ago")
        shown = asdict(record)
        if settings.debug:
            shown["log"] = without_secrets(engine.runs.log(run))
        elif record.problem:
            shown["problem"] = {k: v for k, v in record.problem.items() if k != "traceback"}
        headers = {"cache-control": "no-store", "vary": "Accept"}
        if not wants_html(request):
            return JSONResponse(shown, headers=headers)
        # Of others, it is a few words.
        is_asked = record.kind in ("call", "query")
        arguments: dict[str, Any] = json.loads(record.arguments) if is_asked else {}
        page = show_page(
            request,
            "run.html",
            it={"parent": None, "trace": None, "log": None, **shown},
            arguments={name: _write(value) for name, value in arguments.items()},
            query=_query_of(arguments),
            started=datetime.fromtimestamp(record.started, UTC),
            log_lines=_LOG_LINES,
        )
        page.headers.update(headers)
        return page

    return [Route("/runs/{run}", show_run, methods=_READ)]


def _show_openapi(request: Request) -> Response:
    return JSONResponse(_openapi(request), headers=_DATA_HEADERS)


def _show_docs(request: Request) -> Response:
    return show_page(request, "docs.html", document=_openapi(request))


def _openapi(request: Request) -> dict[str, Any]:
    from webfoot.server.openapi import describe  # noqa: PLC0415  # as above

    return describe(visit_of(request.scope).registry, base_url_of(request))


def _catalog_page(request: Request, settings: Settings) -> Response:
    visit = visit_of(request.scope)
    registry = visit.registry
    may_ask_sql = settings.sql and visit.asker.rights.has("sql")
    asked = request.query_params.get("q", "").strip()
    entries = [(udf, _searched(udf)) for udf in registry.values()]
    words = asked.casefold().split()
    return show_page(
        request,
        "catalog.html",
        entries=entries,
        shown={udf.name for udf, text in entries if all(word in text for word in words)},
        asked=asked,
        attach=_attach(registry, base_url_of(request)) if registry else "",
        sql=_question(registry) if registry and may_ask_sql else "",
        problems=[_plain(problem, debug=settings.debug) for problem in registry.problems],
    )


def _attach(registry: Registry, base_url: str) -> str:
    """How to attach the catalog, and a call that works as it stands if there is one."""
    from webfoot.snippets import snippets  # noqa: PLC0415  # as above

    easiest = min(registry.values(), key=_required)
    return next(s.text for s in snippets(easiest, base_url) if s.name == "duckdb-attach")


def _question(registry: Registry) -> str:
    """SQL to begin with: of a UDF that needs nothing, or of the list of them."""
    easiest = min(registry.values(), key=_required)
    return "FROM udfs" if _required(easiest) else f"FROM {sql_name(easiest.name)}()\nLIMIT 20"


def _required(udf: Udf) -> int:
    return sum(parameter.required for parameter in udf.parameters.values())


def _searched(udf: Udf) -> str:
    """The text in which a search looks for its words."""
    helps = (parameter.help for parameter in udf.parameters.values())
    parts = (udf.name, udf.title, *udf.options.tags, *udf.parameters, *helps, udf.description)
    return " ".join(" ".join(parts).casefold().split())


def show_page(request: Request, template: str, **values: Any) -> Response:
    """A page of one of the templates that extend `layout.html`."""
    page = render_page(template, base_url_of(request), **values)
    return HTMLResponse(page, headers=_PAGE_HEADERS)


def _given(request: Request) -> list[tuple[str, str]]:
    """The UDF's parameters that the page's own address has."""
    _, given = split_query(request.url.query.encode())
    return [pair for pair in given if pair[1]]


def _is_for(visit: Visit, run: Run) -> bool:
    """Whether somebody may know of a run: their own, or their tenant's, of a UDF that is theirs."""
    return run.audience.includes(visit.principal) and visit.asker.rights.sees(run.udf)


def _query_of(arguments: Mapping[str, Any]) -> str:
    """The query string that fills a form in with canonical arguments."""
    pairs = [(name, _write(value)) for name, value in arguments.items() if value is not None]
    return f"?{urlencode(pairs)}" if pairs else ""


def _write(value: Any) -> str:
    """A JSON value as a person would type it into a URL."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(problem: Problem, *, debug: bool) -> dict[str, Any]:
    """A problem with a file; the code in its traceback is for its author only."""
    plain = asdict(problem)
    if not debug:
        del plain["traceback"]
    return plain


def base_url_of(request: Request) -> str:
    """The server's address as the client wrote it, without a slash at its end."""
    return address.base_url_of(request.scope)


def wants_html(request: Request) -> bool:
    """Whether a browser asks, to show the answer to somebody."""
    return wants_page(request.headers)


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
