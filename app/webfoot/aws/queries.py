"""SQL as a plain event, `{"q": "SELECT …", "limit": 20}`: who may invoke the function needs no URL.

It is answered as `POST /query` is, whose request it becomes: that of a function URL. Where keys are
asked for, `"key"` in the event is what that request shows.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOST = "function.lambda-url.internal"


def is_query(event: Mapping[str, Any]) -> bool:
    """Whether an event is SQL, and no request."""
    return "requestContext" not in event and ("q" in event or "query" in event)


def request_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """The request that an event of SQL stands for."""
    asked = dict(event)
    key = asked.pop("key", None)
    shown = {} if key is None else {"authorization": f"Bearer {key}"}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/query",
        "rawQueryString": "",
        "headers": {"host": _HOST, "content-type": "application/json", **shown},
        "requestContext": {
            "domainName": _HOST,
            "http": {
                "method": "POST",
                "path": "/query",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
            },
            "stage": "$default",
        },
        "body": json.dumps(asked),
        "isBase64Encoded": False,
    }


def answer_of(response: Mapping[str, Any]) -> dict[str, Any]:
    """What `POST /query` answers: rows, or a problem with its `status`."""
    body = response["body"]
    answer: dict[str, Any] = json.loads(
        base64.b64decode(body) if response.get("isBase64Encoded") else body
    )
    return answer
