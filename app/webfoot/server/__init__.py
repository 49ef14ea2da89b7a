"""The HTTP server: `uvicorn webfoot.server:create_app --factory`."""

from webfoot.server.application import create_app

__all__ = ["create_app"]
