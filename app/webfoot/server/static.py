"""`GET|HEAD /static/{version}/{file}`: the style sheet, the scripts and the icon of the pages."""

from __future__ import annotations

import gzip
from functools import cache
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from webfoot import assets
from webfoot.server.requests import accepts_gzip

if TYPE_CHECKING:
    from starlette.requests import Request

# What the URL stands for never changes, so nobody need ask again.
_HEADERS = {
    "cache-control": "public, max-age=31536000, immutable",
    "cross-origin-resource-policy": "same-origin",
    "vary": "Accept-Encoding",
    "x-content-type-options": "nosniff",
}


def static_routes() -> list[Route]:
    """The route of all files."""
    return [Route("/static/{version}/{file}", _show_file, methods=["GET", "HEAD"])]


def _show_file(request: Request) -> Response:
    version, file = (request.path_params[name] for name in ("version", "file"))
    content = assets.files().get(file)
    if content is None or version != assets.version():
        raise HTTPException(404, f"there is no file {file!r} of version {version!r}")
    headers = dict(_HEADERS)
    if accepts_gzip(request.headers):
        content = _compressed(file)
        headers["content-encoding"] = "gzip"
    media_type = assets.MEDIA_TYPES[file.rpartition(".")[2]]
    return Response(content, headers=headers, media_type=media_type)


@cache
def _compressed(file: str) -> bytes:
    return gzip.compress(assets.files()[file], mtime=0)
