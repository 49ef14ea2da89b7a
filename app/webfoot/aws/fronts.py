"""What stands before a function, and what it does to a request: its limits, its paths.

Four services hand over HTTP requests: REST APIs and HTTP APIs of API Gateway, Function URLs, and
load balancers. Their events are much alike, and they differ in how long they wait, how much they
carry, and whether the paths that they tell begin with what is theirs (a stage, a mapping).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from webfoot.errors import Error

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a response may be as JSON, in bytes: Lambda's own limit, and that of load balancers.
LAMBDA_BYTES = 6_291_556
_BALANCER_BYTES = 1_000_000
# How long API Gateway waits for a function, in seconds. Function URLs wait as long as it runs.
_REST_S = 29.0
_HTTP_S = 30.0


@dataclass(frozen=True)
class Front:
    """One of the services, as one request came through it.

    Args:
        name: What people call it.
        payload_bytes: The largest response that it takes, as JSON.
        patience_s: How long it waits for that, in seconds.
        prefix: What its clients write before the path; empty if nothing.
        raw_path: The path behind that, still percent-encoded.
    """

    name: str
    payload_bytes: int
    patience_s: float
    prefix: str
    raw_path: str

    @property
    def path(self) -> str:
        """The whole path, decoded, as ASGI has it."""
        return self.prefix + unquote(self.raw_path)


def is_request(event: Mapping[str, Any]) -> bool:
    """Whether an event is an HTTP request."""
    context = event.get("requestContext")
    return isinstance(context, dict) and ("elb" in context or "http" in context or _is_rest(event))


def front_of(event: Mapping[str, Any]) -> Front:
    """What has handed over `event`.

    Raises:
        Error: If the event is no HTTP request.
    """
    if not is_request(event):
        raise Error(
            f"an event with {', '.join(sorted(event)) or 'nothing'} in it is no HTTP request; call"
            " the function through API Gateway, a Function URL or a load balancer"
        )
    context = event["requestContext"]
    if "elb" in context:
        path = _encode(event.get("path") or "/")
        return Front("the load balancer", _BALANCER_BYTES, math.inf, "", path)
    if _is_rest(event):
        return _rest_api(event, context)
    path = context["http"]["path"] or "/"
    if ".lambda-url." in context.get("domainName", ""):
        return Front("Lambda", LAMBDA_BYTES, math.inf, "", _encode(path))
    prefix = _mapping(event, path)
    stage = context.get("stage") or "$default"
    if not prefix and stage != "$default" and f"{path}/".startswith(f"/{stage}/"):
        prefix = f"/{stage}"
    inner = path.removeprefix(prefix) or "/"
    return Front("API Gateway", LAMBDA_BYTES, _HTTP_S, prefix, _encode(inner))


def _is_rest(event: Mapping[str, Any]) -> bool:
    """A REST API, or an HTTP API with the events of one."""
    return "httpMethod" in event and ("resource" in event or event.get("version") == "1.0")


def _rest_api(event: Mapping[str, Any], context: Mapping[str, Any]) -> Front:
    path = event.get("path") or "/"
    mapping = _mapping(event, path)
    inner = path.removeprefix(mapping) or "/"
    # The context's path is the one that the client asked for: with the stage, if that shows.
    asked = context.get("path") or path
    stage = asked.removesuffix(path) if asked.endswith(path) else ""
    return Front("API Gateway", LAMBDA_BYTES, _REST_S, stage + mapping, _encode(inner))


def _mapping(event: Mapping[str, Any], path: str) -> str:
    """What a custom domain maps to this API: the path before what a greedy route matches."""
    proxied = (event.get("pathParameters") or {}).get("proxy")
    return path.removesuffix(f"/{proxied}") if proxied and path.endswith(f"/{proxied}") else ""


def _encode(path: str) -> str:
    """The path percent-encoded: some of the services decode it, others do not."""
    return quote(path, safe="/%:@!$&'()*+,;=~")
