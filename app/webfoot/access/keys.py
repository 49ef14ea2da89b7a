"""API keys: `wf_`, an id that may be shown, and a secret of 256 bits of which only a hash is kept.

A secret that nobody could guess needs no slow hash: SHA-256 says whether it is the one.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import re
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

from webfoot.access.principal import Principal
from webfoot.access.throttling import Limits
from webfoot.errors import ServerBusy, Unauthorized
from webfoot.quantities import seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.access.shares import Share

PREFIX = "wf_"
KEY = re.compile(rf"{PREFIX}([0-9a-f]{{12}})_([A-Za-z0-9_-]{{43}})")
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}|")
_ALL = ("*",)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """A key, without what must not be known.

    Args:
        id: What names it.
        hash: The SHA-256 of the whole key, hexadecimal.
        roles: What its bearer is.
        name: For whom or for what it is.
        tenant: Whose data it is for; empty for the operator's own.
        udfs: Patterns of the UDFs that it is good for, as far as the roles allow them.
        formats: The formats that it is good for, likewise.
        limits: How much may be asked for with it; what it does not say, the roles do.
        created: In seconds since 1970.
        expires: Likewise; infinity for never.
        revoked: When it was revoked; None if it was not.
        before: The hash of the key that it replaces, which still is good...
        before_until: ...until then.
    """

    id: str
    hash: str
    roles: tuple[str, ...] = ()
    name: str = ""
    tenant: str = ""
    udfs: tuple[str, ...] = _ALL
    formats: tuple[str, ...] = _ALL
    limits: Limits = Limits()  # noqa: RUF009  # it is frozen, too
    created: float = 0.0
    expires: float = math.inf
    revoked: float | None = None
    before: str = ""
    before_until: float = 0.0

    @property
    def principal(self) -> Principal:
        """Who asks with it."""
        return Principal(f"key:{self.id}", self.tenant, self.roles)

    def check(self, text: str, now: float) -> float:
        """Until when `text` is this key, good for something, in seconds since 1970.

        Raises:
            Unauthorized: If it is not; only who has the secret is told why.
        """
        shown = hash_of(text)
        until = self.expires
        if not hmac.compare_digest(shown, self.hash):
            if not (hmac.compare_digest(shown, self.before) and now < self.before_until):
                raise unknown_key()
            until = min(until, self.before_until)
        if self.revoked is not None:
            raise Unauthorized(f"the key {self.id} was revoked; ask for a new one")
        if now >= until:
            raise Unauthorized(f"the key {self.id} expired; ask for a new one")
        return until

    def plain(self) -> dict[str, Any]:
        """The key as JSON has it, without what is as always."""
        told = {
            "id": self.id,
            "hash": self.hash,
            "roles": list(self.roles),
            "name": self.name,
            "tenant": self.tenant,
            "udfs": None if self.udfs == _ALL else list(self.udfs),
            "formats": None if self.formats == _ALL else list(self.formats),
            "limits": self.limits.plain(),
            "created": self.created,
            "expires": None if math.isinf(self.expires) else self.expires,
            "revoked": self.revoked,
            "before": self.before,
            "before_until": self.before_until,
        }
        return {name: value for name, value in told.items() if value}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The key that `plain` says.

        Raises:
            ValueError: If it is none.
        """
        try:
            lists = ("roles", "udfs", "formats")
            read = {name: tuple(plain[name]) for name in lists if name in plain}
            limits = Limits.from_plain(plain.get("limits", {}))
            return cls(**{**plain, **read, "limits": limits})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"a key is an object with id, hash and roles ({error})") from error


class Keys(Protocol):
    """Where keys are that were given out, and what is known of share links."""

    def exist(self) -> bool:
        """Whether any were ever given out: from then on, who has none is not let in."""

    def find(self, id: str) -> Key | None:  # noqa: A002  # it is one
        """The key of that id, whatever has become of it."""

    def share_secret(self) -> bytes | None:
        """What signs share links; None if none were given out."""

    def shared(self, id: str) -> bool:  # noqa: A002  # likewise
        """Whether a share link that is signed so is still good."""

    def give(self, share: Share) -> str:
        """Give out a share link: its token.

        Raises:
            Forbidden: If that cannot be done here.
        """


def new_key(key: Key) -> tuple[Key, str]:
    """The key with a secret, and the text that its bearer shows: told here, and never again."""
    text = f"{PREFIX}{key.id}_{secrets.token_urlsafe(32)}"
    return replace(key, hash=hash_of(text)), text


def rotated(key: Key, grace_s: float) -> tuple[Key, str]:
    """The key with a new secret; the old one is good for `grace_s` seconds more."""
    after, text = new_key(key)
    until = time.time() + grace_s if grace_s else 0.0
    return replace(after, before=key.hash if grace_s else "", before_until=until), text


def lifetime(text: str | float) -> float:
    """For how many seconds a key or a link is good.

    Raises:
        ValueError: If it is no duration, or none at all.
    """
    if not (left_s := seconds(text)):
        raise ValueError(
            f"it would be good for nothing; write how long, such as '30d', got {text!r}"
        )
    return left_s


def new_id() -> str:
    """The id of a new key, or of a new share link."""
    return secrets.token_hex(6)


def hash_of(text: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(text.encode()).hexdigest()


def id_of(text: str) -> str:
    """The id in a key.

    Raises:
        Unauthorized: If it is no key.
    """
    match = KEY.fullmatch(text)
    if match is None:
        raise unknown_key()
    return match[1]


def unknown_key() -> Unauthorized:
    """What is said of a key that is not known: nothing that helps to guess one."""
    return Unauthorized("the key is not known here; check that it is whole, and for this server")


def out_of_reach(error: Exception) -> ServerBusy:
    """What is said to those who ask while keys cannot be read; why is for the server's log."""
    _log.error("the keys cannot be read: %s", error)
    return ServerBusy("this server cannot reach its keys right now; its log says why")


def check_tenant(text: str) -> str:
    """The name of a tenant, if it can be one.

    Raises:
        ValueError: If it cannot.
    """
    if not TENANT.fullmatch(text):
        raise ValueError(
            f"a tenant is up to 63 letters, digits, dots, dashes and underscores, got {text!r}"
        )
    return text
