"""Whether the server lives, and whether it is to be sent requests."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

if TYPE_CHECKING:
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

    def routes(self) -> APIRouter:
        """`/healthz` and `/readyz`."""
        router = APIRouter(include_in_schema=False)

        @router.api_route("/healthz", methods=_READ)
        def healthz() -> Response:
            return JSONResponse({"status": "ok"}, headers=_HEADERS)

        @router.api_route("/readyz", methods=_READ)
        def readyz() -> Response:
            registry = self._engine.registry
            status = HTTPStatus.SERVICE_UNAVAILABLE if self._draining else HTTPStatus.OK
            told = {
                "status": "draining" if self._draining else "ready",
                "udfs": len(registry),
                "problems": len(registry.problems),
            }
            return JSONResponse(told, status, headers=_HEADERS)

        return router
