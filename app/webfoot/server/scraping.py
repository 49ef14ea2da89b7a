"""`GET|HEAD /metrics`: for those with the right `metrics`, and of no tenant.

What is counted is of all tenants together.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from webfoot.errors import Forbidden
from webfoot.server.visits import visit_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from webfoot.server.metrics import State


def metrics_routes(state: Callable[[], State]) -> list[Route]:
    """The route of all metrics.

    Args:
        state: Tells what they are made of.
    """
    return [Route("/metrics", partial(_tell_metrics, state), methods=["GET", "HEAD"])]


async def _tell_metrics(state: Callable[[], State], request: Request) -> Response:
    if visit_of(request.scope).principal.tenant:
        raise Forbidden(
            "metrics are of all tenants together; ask with a key that is of none (webfoot keys"
            " create --role ROLE)"
        )
    accept = ", ".join(request.headers.getlist("accept"))
    body, media_type = await asyncio.to_thread(_expose, state(), accept)
    headers = {"content-type": media_type, "cache-control": "no-store", "vary": "Accept"}
    return Response(body, headers=headers)


def _expose(state: State, accept: str) -> tuple[bytes, str]:
    # A library that a server does without until it is asked for its metrics.
    from webfoot.server.exposition import expose  # noqa: PLC0415

    return expose(state, accept)
