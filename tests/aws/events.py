"""HTTP requests as the four services hand them over, and their answers as clients see them.

The events are those that AWS documents, in `events/`, with another request put into each.
"""

from __future__ import annotations

import base64
import copy
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

Event = dict[str, Any]
KINDS = ("function_url", "http_api", "rest_api", "load_balancer")
_FOLDER = Path(__file__).parent / "events"


@dataclass(frozen=True)
class Asked:
    """A request: its method, its path with the query, its headers and its body."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Answered:
    """An answer: its status, its headers in lower case, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def recorded(kind: str) -> Event:
    """The event of that kind, as AWS documents it."""
    event: Event = json.loads((_FOLDER / f"{kind}.json").read_text())
    return event


def event_of(kind: str, asked: Asked) -> Event:
    """The event that `kind` makes of a request."""
    event = copy.deepcopy(recorded(kind))
    path, _, query = asked.url.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    context = event["requestContext"]
    if kind in ("function_url", "http_api"):
        told = path if kind == "function_url" else unquote(path)
        event |= {"rawPath": told, "rawQueryString": query}
        event["headers"] = {"host": context["domainName"], **lower(asked.headers)}
        context["http"] |= {"method": asked.method, "path": told}
        context["timeEpoch"] = int(time.time() * 1000)
        if pairs:
            event["queryStringParameters"] = dict(pairs)
    elif kind == "rest_api":
        told = unquote(path)
        headers = {"Host": context["domainName"], **asked.headers}
        event |= {"path": told, "httpMethod": asked.method, "headers": headers}
        event["pathParameters"] = {"proxy": told[1:]} if told != "/" else None
        event["resource"] = "/{proxy+}" if told != "/" else "/"
        event["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
        event["queryStringParameters"] = dict(pairs) or None
        event["multiValueQueryStringParameters"] = _by_name(pairs) or None
        stage = context["stage"]
        context |= {"httpMethod": asked.method, "path": f"/{stage}{path}"}
        context["requestTimeEpoch"] = int(time.time() * 1000)
    else:
        event |= {"path": path, "httpMethod": asked.method}
        raw = [part.partition("=")[::2] for part in query.split("&") if part]
        event["queryStringParameters"] = dict(raw)
        event["headers"] |= lower(asked.headers)
    event["body"] = base64.b64encode(asked.body).decode() if asked.body else ""
    event["isBase64Encoded"] = bool(asked.body)
    return event


def answer_of(response: Mapping[str, Any]) -> Answered:
    """What a client sees of a function's response."""
    headers = dict(response.get("headers") or {})
    for name, values in (response.get("multiValueHeaders") or {}).items():
        headers[name] = ", ".join(values)
    body = response.get("body") or ""
    encoded = response.get("isBase64Encoded")
    return Answered(
        response["statusCode"],
        lower(headers),
        base64.b64decode(body) if encoded else body.encode(),
    )


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _by_name(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found
