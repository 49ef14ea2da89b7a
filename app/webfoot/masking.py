"""Secrets in texts that others read: in logs, records and errors, three stars take their place.

A secret is told by its form alone: by the name before it, or by where in a URL or a header it is.
"""

from __future__ import annotations

import json
import re
from typing import Any

MASK = "***"
# `key` alone may be any key of a table.
_NAMES = (
    r"(?:token|secret|passw(?:or)?d|passphrase|pwd|(?:api|access|secret|private|account)[_-]?key"
    r"|sig|signature|credentials?|dsn|cookie)"
)
_SECRET_NAME = re.compile(rf"(?:.*[_\-.])?(?:{_NAMES}|authorization|(?<=_)key)", re.IGNORECASE)
# Most texts have none of these in them.
_SUSPICIOUS = re.compile(
    "token|secret|passw|passphrase|pwd|key|sig|credential|dsn|cookie|auth|bearer|basic|@",
    re.IGNORECASE,
)
_VALUE = r"""(?P<value>"[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*'|[^\s&;,"'<>(){}\[\]]+)"""
_SPACE = r"(?:\s|%20|\+)*"
_EQUALS = "(?::=|=>|=|%3A=|:%3D|%3A%3D|%3D%3E|=%3E|%3D)"
_PATTERNS = (
    # `Authorization: Bearer …`, as a header, in a dict, or by itself; not where we say how one is
    # written.
    re.compile(
        r"""(?P<kept>\b(?:authorization|x-api-key)["']?\s*[:=]\s*)(?!Bearer (?:KEY|…)`)"""
        r"""(?P<value>"[^"]*"|'[^']*'|(?:[A-Za-z0-9-]+\s+)?[^\s"',]+)""",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?P<kept>\b(?:bearer|basic)\s+)(?P<value>[A-Za-z0-9._~+/-]{16,}=*)", re.IGNORECASE
    ),
    # `_token=…`, `X-Amz-Signature=…`, `password='…'`, `"api_key": "…"`, in SQL `secret := '…'`;
    # also in a quoted URL.
    re.compile(
        rf"""(?P<kept>(?:(?<![A-Za-z0-9])|(?<=%3F)|(?<=%26)|(?<=%20)|(?<=%28)|(?<=%2C)){_NAMES}"""
        rf"""(?:["']?{_SPACE}{_EQUALS}|["']\s*:){_SPACE}){_VALUE}""",
        re.IGNORECASE,
    ),
    # A key in a query string: `?key=…`, `&_key=…`.
    re.compile(r"""(?P<kept>[?&]_?key=)(?P<value>[^\s&;"'<>]+)""", re.IGNORECASE),
    # The password of a URL.
    re.compile(r"""(?P<kept>://[^\s/:@"']{0,200}:)(?P<value>[^\s/@"']{1,200})(?=@)"""),
)


def mask(text: str) -> str:
    """The text without the secrets in it."""
    if _SUSPICIOUS.search(text):
        for pattern in _PATTERNS:
            text = pattern.sub(_hide, text)
    return text


def _hide(found: re.Match[str]) -> str:
    value = found["value"]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{found['kept']}{quote}{MASK}{quote}"


def mask_values(value: Any, name: str = "") -> Any:
    """A value as JSON has it, and all that is in it, likewise."""
    if _SECRET_NAME.fullmatch(name):
        return None if value is None else MASK
    if isinstance(value, dict):
        return {key: mask_values(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [mask_values(item) for item in value]
    return mask(value) if isinstance(value, str) else value


def mask_arguments(arguments: str) -> str:
    """A call's canonical arguments without the secrets among them."""
    if not _SUSPICIOUS.search(arguments):
        return arguments
    masked = mask_values(json.loads(arguments))
    return json.dumps(masked, separators=(",", ":"), ensure_ascii=False)
