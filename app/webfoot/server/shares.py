"""`/shares`: links to one table each, for those who can show no key."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from webfoot.access.issuing import EXPIRES, ShareTerms, extensions, link, new_share, texts_of
from webfoot.errors import Forbidden, InvalidParameters
from webfoot.server.address import base_url_of
from webfoot.server.bounds import MOST_BODY_BYTES
from webfoot.server.fanouts import read_json
from webfoot.server.transfer import read_body
from webfoot.server.visits import visit_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from webfoot.access.guards import Asker
    from webfoot.access.key_folder import GivenShare, KeyFolder
    from webfoot.access.opening import Access
    from webfoot.access.shares import Share

_EXAMPLE = (
    '{"udf": "delays", "parameters": {"month": 1}, "free": ["origin"], "formats": ["csv"],'
    ' "expires": "30d", "rate": "10/m"}'
)
_FIELDS: Mapping[str, tuple[type, ...]] = {
    "udf": (str,),
    "parameters": (dict,),
    "free": (list,),
    "formats": (list,),
    "expires": (str, int, float),
    "rate": (str,),
}
_HEADERS = {"cache-control": "no-store"}


def share_routes(access: Access) -> list[Route]:
    """The routes of share links."""

    async def give(request: Request) -> Response:
        body = await read_body(request.receive, MOST_BODY_BYTES)
        return await run_in_threadpool(_give, request, body)

    def show(request: Request) -> Response:
        asker = visit_of(request.scope).asker
        own = [given for given in _folder_of(access).all_shares() if _is_of(given.share, asker)]
        return JSONResponse({"shares": [_describe(given) for given in own]}, headers=_HEADERS)

    def revoke(request: Request) -> Response:
        asker, id_ = visit_of(request.scope).asker, request.path_params["id"]
        folder = _folder_of(access)
        own = [g.share for g in folder.all_shares() if g.share.id == id_]
        if not own or not _is_of(own[0], asker):
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no link {id_!r} of yours")
        folder.revoke("share", id_)
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=_HEADERS)

    def _give(request: Request, body: bytes) -> Response:
        if not access.guard.asks():
            raise Forbidden(
                "nobody has a key, so everybody may read the plain address; a link is of use once"
                " keys are given out (webfoot keys create)"
            )
        visit, asked = visit_of(request.scope), _read_object(body)
        udf = visit.registry.find(asked["udf"])
        terms = ShareTerms(
            fixed=texts_of(asked.get("parameters", {})),
            free=_texts(asked, "free"),
            formats=_texts(asked, "formats"),
            expires=asked.get("expires", EXPIRES),
            rate=asked.get("rate", ""),
        )
        share = new_share(udf, terms, visit.asker)
        token, base_url = access.give(share), base_url_of(request.scope)
        urls = {other: link(share, token, base_url, other) for other in extensions(share)}
        told = {"id": share.id, "expires": _instant(share.expires), "urls": urls}
        return JSONResponse(told, HTTPStatus.CREATED, _HEADERS)

    return [
        Route("/shares", give, methods=["POST"]),
        Route("/shares", show, methods=["GET", "HEAD"]),
        Route("/shares/{id}", revoke, methods=["DELETE"]),
    ]


def _folder_of(access: Access) -> KeyFolder:
    if access.folder is None or not access.folder.exist():
        raise Forbidden("this server keeps no list of links; its operator revokes them")
    return access.folder


def _is_of(share: Share, asker: Asker) -> bool:
    """Whether a link is somebody's own, or of the tenant that they administer."""
    if share.tenant != asker.principal.tenant:
        return False
    return share.by == asker.principal.id or asker.rights.has("admin")


def _describe(given: GivenShare) -> dict[str, Any]:
    share = given.share
    return {
        "id": share.id,
        "udf": share.udf,
        "parameters": {name: list(texts) for name, texts in share.fixed.items()},
        "free": list(share.free),
        "formats": extensions(share),
        "rate": share.rate,
        "by": share.by,
        "created": given.created,
        "expires": _instant(share.expires),
        "revoked": given.revoked,
    }


def _instant(expires: float) -> float | None:
    return None if math.isinf(expires) else expires


def _read_object(body: bytes) -> Mapping[str, Any]:
    asked = read_json(body, _EXAMPLE)
    if not isinstance(asked, dict) or "udf" not in asked:
        raise InvalidParameters(f"the body must be an object such as {_EXAMPLE}")
    for name, value in asked.items():
        if name not in _FIELDS:
            known = ", ".join(_FIELDS)
            raise InvalidParameters(f"{name}: is no part of a link; known: {known}")
        if isinstance(value, bool) or not isinstance(value, _FIELDS[name]):
            raise InvalidParameters(f"{name}: must be as in {_EXAMPLE}, got {value!r}")
    return asked


def _texts(asked: Mapping[str, Any], name: str) -> list[str]:
    texts: list[str] = asked.get(name, [])
    if not all(isinstance(text, str) for text in texts):
        raise InvalidParameters(f"{name}: must be a list of texts, got {texts!r}")
    return texts
