"""Share links: a URL that carries what it is good for, signed, for clients that send no headers.

A link is the plain address of a table with `_share=…` among its parameters. What is signed is the
link's whole record, so that a server which has only the secret can check it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlencode

from webfoot.access.principal import Principal
from webfoot.access.roles import Rights, Role
from webfoot.access.throttling import Limits, read_rate
from webfoot.errors import Forbidden, InvalidParameters, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Mapping

# The parameter that carries the link's token.
PARAMETER = "_share"
_IN_QUERY = PARAMETER.encode()
# Signatures are of these words and the record, so that no other use of the secret makes one.
_PURPOSE = b"webfoot share link 1\0"
_MOST_LETTERS = 16_000


@dataclass(frozen=True)
class Share:
    """What a link is good for.

    Args:
        id: What names it, and by what it is revoked.
        udf: The UDF that it calls.
        expires: Until when, in seconds since 1970.
        fixed: The parameters that it gives, as texts; whoever has the link cannot change them.
        free: The names of parameters that the link's reader may give; `*` for all others.
        formats: In which formats; `*` for all.
        rate: How many requests it is good for in what time; empty for no limit.
        tenant: Whose data it is about.
        by: Who gave it out.
    """

    id: str
    udf: str
    expires: float
    fixed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    free: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("*",)
    rate: str = ""
    tenant: str = ""
    by: str = ""

    @property
    def principal(self) -> Principal:
        """Who asks with it: the link itself, which is nobody's role."""
        return Principal(f"share:{self.id}", self.tenant)

    @property
    def rights(self) -> Rights:
        """What it may do: this one thing."""
        return Rights((Role((self.udf,), self.formats),))

    @property
    def limits(self) -> Limits:
        """How much may be asked for with it."""
        return Limits(rate=read_rate(self.rate)) if self.rate else Limits()

    def apply(self, query: bytes) -> bytes:
        """The query of a request with the link, as one without: with what the link gives.

        Raises:
            Forbidden: If the request gives other values, or parameters that the link does not free.
        """
        # As the call's own reader splits it, so that no two see different parameters.
        pairs = parse_qsl(query.decode(errors="replace"), keep_blank_values=True)
        given: dict[str, list[str]] = {}
        kept = [(name, text) for name, text in pairs if name != PARAMETER]
        for name, text in kept:
            if text and not name.startswith("_"):
                given.setdefault(name, []).append(text)
        for name, texts in given.items():
            self._check(name, tuple(texts))
        # To have each of several values by itself is to choose.
        for each in (
            name for option, text in kept if option == "_each" for name in text.split(",")
        ):
            if each.strip():
                self._check(each.strip(), ())
        fixed = [(name, text) for name, texts in self.fixed.items() for text in texts]
        others = [pair for pair in kept if pair[0] not in self.fixed]
        return urlencode([*others, *fixed]).encode()

    def _check(self, name: str, texts: tuple[str, ...]) -> None:
        if name in self.fixed:
            if texts != self.fixed[name]:
                own = ", ".join(self.fixed[name])
                raise Forbidden(
                    f"this link is for {name}={own}, got {', '.join(texts)}; leave {name} out, or"
                    " ask whoever gave you the link for another"
                )
        elif name not in self.free and "*" not in self.free:
            raise Forbidden(
                f"this link does not let you choose {name}; leave it out, or ask whoever gave you"
                " the link for another"
            )

    def plain(self) -> dict[str, Any]:
        """The record as JSON has it."""
        fixed = {name: list(texts) for name, texts in self.fixed.items()}
        lists = {"fixed": fixed, "free": list(self.free), "formats": list(self.formats)}
        return {name: value for name, value in ({**vars(self), **lists}).items() if value}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The record that `plain` says."""
        fixed = {name: tuple(texts) for name, texts in plain.get("fixed", {}).items()}
        read = {name: tuple(plain[name]) for name in ("free", "formats") if name in plain}
        return cls(**{**plain, **read, "fixed": fixed})


def sign(share: Share, secret: bytes) -> str:
    """The token of a link.

    Raises:
        InvalidParameters: If it is longer than any that is read.
    """
    payload = json.dumps(share.plain(), sort_keys=True, separators=(",", ":")).encode()
    encoded = _encode(payload)
    if len(encoded) > _MOST_LETTERS:
        raise InvalidParameters(
            f"the link would have {len(encoded)} letters, and of a link at most {_MOST_LETTERS} are"
            " read; give shorter parameters"
        )
    return f"{encoded}.{_encode(_signature(payload, secret))}"


def read_share(token: str, secret: bytes) -> Share | None:
    """What a token is good for; None if it is not one that `sign` has made with this secret.

    Raises:
        Unauthorized: If it has expired.
    """
    payload, _, signature = token.partition(".")
    try:
        signed, shown = _decode(payload), _decode(signature)
    except (ValueError, binascii.Error):
        return None
    if not hmac.compare_digest(_signature(signed, secret), shown):
        return None
    share = Share.from_plain(json.loads(signed))
    if time.time() >= share.expires:
        day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(share.expires))
        raise Unauthorized(
            f"this link expired on {day} UTC; ask whoever gave it to you for another"
        )
    return share


def token_in(query: bytes) -> str:
    """The token among the parameters of a request; empty if there is none."""
    if _IN_QUERY not in query:
        return ""
    pairs = parse_qsl(query.decode(errors="replace"))
    return next((text for name, text in pairs if name == PARAMETER), "")


def without_token(query: bytes) -> bytes:
    """The query of a request without the token of a link."""
    pairs = parse_qsl(query.decode(errors="replace"), keep_blank_values=True)
    return urlencode([pair for pair in pairs if pair[0] != PARAMETER]).encode()


def _signature(payload: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, _PURPOSE + payload, hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    if len(text) > _MOST_LETTERS:
        raise ValueError("too long")
    # Strictly: a text that is not what `_encode` writes is no token.
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(data) != text:
        raise ValueError("not canonical")
    return data
