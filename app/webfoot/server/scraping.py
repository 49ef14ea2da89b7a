"""`GET|HEAD /metrics`: for those with the right `metrics`, and of no tenant.

What is counted is of all tenants together.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response

from webfoot.errors import Forbidden
from webfoot.server.visits import visit_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from webfoot.server.metrics import State


def metrics_routes(state: Callable[[], State]) -> APIRouter:
    """The route of all metrics.

    Args:
        state: Tells what they are made of.
    """
    router = APIRouter(include_in_schema=False)

    @router.api_route("/metrics", methods=["GET", "HEAD"])
    async def metrics(request: Request) -> Response:
        if visit_of(request.scope).principal.tenant:
            raise Forbidden(
                "metrics are of all tenants together; ask with a key that is of none (webfoot keys"
                " create --role ROLE)"
            )
        accept = ", ".join(request.headers.getlist("accept"))
        body, media_type = await asyncio.to_thread(_expose, state(), accept)
        headers = {"content-type": media_type, "cache-control": "no-store", "vary": "Accept"}
        return Response(body, headers=headers)

    return router


def _expose(state: State, accept: str) -> tuple[bytes, str]:
    # A library that a server does without until it is asked for its metrics.
    from webfoot.server.exposition import expose  # noqa: PLC0415

    return expose(state, accept)
