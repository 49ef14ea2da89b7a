"""Whether the server lives, and whether it is to be sent requests."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from webfoot.engine import Engine

_READ = ["GET", "HEAD"]
_HEADERS = {"cache-control": "no-store"}


class Health:
    """How the server is.

    Args:
        engine: Has the UDFs.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._draining = False

    def drain(self) -> None:
        """Be ready no more: the server is about to end."""
        self._draining = True

    def routes(self) -> list[Route]:
        """`/healthz` and `/readyz`."""
        return [
            Route("/healthz", _tell_alive, methods=_READ),
            Route("/readyz", self._tell_ready, methods=_READ),
        ]

    async def _tell_ready(self, _: Request) -> Response:
        registry = self._engine.registry
        status = HTTPStatus.SERVICE_UNAVAILABLE if self._draining else HTTPStatus.OK
        told = {
            "status": "draining" if self._draining else "ready",
            "udfs": len(registry),
            "problems": len(registry.problems),
        }
        return JSONResponse(told, status, headers=_HEADERS)


async def _tell_alive(_: Request) -> Response:
    return JSONResponse({"status": "ok"}, headers=_HEADERS)
