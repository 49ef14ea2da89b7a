"""What a request shows of who makes it: one of several headers, or a parameter of its address."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from webfoot.access.keys import KEY
from webfoot.access.shares import PARAMETER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_SHARE = re.compile(rf"([?&]{PARAMETER}=)[^&\s\"']+")
# A token by its own form, wherever it is and however its parameter is written: of a share link, two
# parts; of an identity provider, three. It begins with the `{"` of JSON, where no letter is before
# it: a text may have thousands of such beginnings, and each would be read to its end.
_TOKEN = re.compile(
    r"(?:(?<![\w-])|(?<=%3D)|(?<=%3d))eyJ[\w-]{16,}\.[\w-]{16,}(?:\.[\w-]+)?", re.ASCII
)


def shown_in(scope: Mapping[str, Any]) -> bytes:
    """The header of a request that says who makes it; empty if there is none.

    `X-API-Key` before `Authorization`: some platforms have a use of their own for that.
    """
    authorization = b""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return bytes(value)
        if name == b"authorization":
            authorization = value
    return authorization


def read_credential(header: bytes) -> str:
    """The key or the token in the value of such a header; empty if it is for somebody else."""
    text = header.decode("latin-1").strip()
    scheme, _, rest = text.partition(" ")
    if not rest:
        return text
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            pair = base64.b64decode(rest, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return ""
        # The key is the password; where there is none, as in https://KEY@host/, the user.
        user, _, password = pair.partition(":")
        return password or user
    return ""


def is_basic(header: bytes) -> bool:
    """Whether a browser may have sent the header without anybody's doing."""
    return header[:6].lower() == b"basic "


def masked(text: str) -> str:
    """The text without keys and without the tokens of share links."""
    text = _TOKEN.sub("…", _SHARE.sub(r"\1…", text))
    return KEY.sub(lambda match: f"wf_{match[1]}_…", text)
