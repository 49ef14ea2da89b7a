"""`GET|HEAD /metrics` and `/alerts`: for those with the right `metrics`, and of no tenant.

What is counted is of all tenants together.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from webfoot.errors import Forbidden
from webfoot.server.pages import show_page, wants_html
from webfoot.server.visits import visit_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from webfoot.server.metrics import State
    from webfoot.server.records import Records

_READ = ["GET", "HEAD"]
_HEADERS = {"cache-control": "no-store", "vary": "Accept"}


def watching_routes(state: Callable[[], State], records: Records) -> list[Route]:
    """The routes of all metrics and all alerts.

    Args:
        state: Tells what they are made of.
        records: Of requests, which alerts are made of, too.
    """
    # One at a time reads the records, however many ask.
    tell_alerts = partial(_tell_alerts, state, records, asyncio.Lock())
    return [
        Route("/metrics", partial(_tell_metrics, state), methods=_READ),
        Route("/alerts", tell_alerts, methods=_READ),
    ]


async def _tell_metrics(state: Callable[[], State], request: Request) -> Response:
    _refuse_tenants(request)
    accept = ", ".join(request.headers.getlist("accept"))
    body, media_type = await asyncio.to_thread(_expose, state(), accept)
    return Response(body, headers={"content-type": media_type, **_HEADERS})


async def _tell_alerts(
    state: Callable[[], State], records: Records, reading: asyncio.Lock, request: Request
) -> Response:
    _refuse_tenants(request)
    async with reading:
        told = await asyncio.to_thread(_report, state(), records)
    if not wants_html(request):
        return JSONResponse(told, headers=_HEADERS)
    page = show_page(request, "alerts.html", report=told)
    page.headers.update(_HEADERS)
    return page


def _refuse_tenants(request: Request) -> None:
    if visit_of(request.scope).principal.tenant:
        raise Forbidden(
            "metrics are of all tenants together; ask with a key that is of none (webfoot keys"
            " create --role ROLE)"
        )


def _expose(state: State, accept: str) -> tuple[bytes, str]:
    # A library that a server does without until it is asked for its metrics.
    from webfoot.server.exposition import expose  # noqa: PLC0415

    return expose(state, accept)


def _report(state: State, records: Records) -> dict[str, Any]:
    # Likewise: it reads with DuckDB.
    from webfoot.server.alerts import report  # noqa: PLC0415

    return report(state, records)
