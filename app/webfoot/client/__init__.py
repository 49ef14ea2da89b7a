"""The Python SDK: `webfoot.Client`. It imports nothing of the server."""

from webfoot.client.client import Client

__all__ = ["Client"]
