"""Bare Starlette servers with Parquet files in memory, run under uvicorn."""

from __future__ import annotations

import os
import re
from email.utils import formatdate
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

PARQUET = "application/vnd.apache.parquet"
RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


async def ready(_: Request) -> Response:
    """Answer that the server is up."""
    return PlainTextResponse("ok")


def head_threshold() -> Starlette:
    """Each file of the folder `BENCH_FILES` in two ways, `/lazy/NAME` and `/ranges/NAME`.

    Both answer alike but for HEAD: `lazy` leaves its length out, so that DuckDB sends one plain
    GET; `ranges` tells it, with ETag and ranges.
    """
    files = {path.name: path.read_bytes() for path in Path(os.environ["BENCH_FILES"]).iterdir()}
    tags = {name: f'"{sha256(body).hexdigest()[:32]}"' for name, body in files.items()}
    modified = formatdate(0, usegmt=True)

    async def lazy(request: Request) -> Response:
        headers = {"etag": tags[request.path_params["name"]], "last-modified": modified}
        if request.method == "HEAD":
            response = Response(media_type=PARQUET, headers=headers)
            del response.headers["content-length"]
            return response
        return Response(files[request.path_params["name"]], media_type=PARQUET, headers=headers)

    async def ranges(request: Request) -> Response:
        body = files[request.path_params["name"]]
        headers = {
            "etag": tags[request.path_params["name"]],
            "last-modified": modified,
            "accept-ranges": "bytes",
        }
        match = RANGE.match(request.headers.get("range", ""))
        if not match or request.method == "HEAD":
            return Response(body, media_type=PARQUET, headers=headers)
        first, last = match.groups()
        start = int(first) if first else len(body) - int(last)
        stop = min(int(last) + 1, len(body)) if first and last else len(body)
        headers["content-range"] = f"bytes {start}-{stop - 1}/{len(body)}"
        return Response(body[start:stop], status_code=206, media_type=PARQUET, headers=headers)

    return Starlette(
        routes=[
            Route("/", ready),
            Route("/lazy/{name}", lazy, methods=["GET"]),
            Route("/ranges/{name}", ranges, methods=["GET"]),
        ]
    )


def bare() -> Starlette:
    """The file `BENCH_FILE` from memory at `/readings.parquet`: the least a route can do."""
    body = Path(os.environ["BENCH_FILE"]).read_bytes()

    async def stored(_: Request) -> Response:
        return Response(body, media_type=PARQUET)

    return Starlette(routes=[Route("/", ready), Route("/readings.parquet", stored)])
