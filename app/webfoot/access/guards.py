"""Who is let in: from what a request shows to who asks, and what they may do."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.to_thread

from webfoot.access.credentials import read_credential, shown_in
from webfoot.access.keys import PREFIX, id_of, out_of_reach, unknown_key
from webfoot.access.principal import ANONYMOUS, Principal
from webfoot.access.roles import BUILT_IN, Rights
from webfoot.access.shares import read_share, token_in
from webfoot.access.throttling import Limits
from webfoot.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from webfoot.access.keys import Key, Keys
    from webfoot.access.roles import Policy
    from webfoot.access.shares import Share
    from webfoot.access.tokens import Tokens

# What was found out of who shows what is good for so long without another look.
_FRESH_S = 0.25
# Keys themselves, and not their hashes, which would cost a request more than all else that is asked
# here: so not for long.
_FORGOTTEN_S = 60.0
_REMEMBERED = 10_000
# Who shows more, which nobody has to, is looked up each time.
_MOST_SHOWN = 4_000
# A token is checked on a thread, and may wait for its issuer there: not on all threads.
_TOKENS_AT_ONCE = 4
_LOCAL = re.compile(r"127(\.\d+){3}|::1|/.*")


@dataclass(frozen=True, eq=False)
class Asker:
    """Who makes a request, and what they may do; the same record while that is known to be so.

    Args:
        principal: Who.
        rights: What.
        limits: How much of it.
        share: The share link that they came by, if it was one.
    """

    principal: Principal
    rights: Rights
    limits: Limits = Limits()  # noqa: RUF009  # it is frozen, too
    share: Share | None = None


# Who asks where nobody is asked who they are: it is the operator, or everybody is welcome.
ANYBODY = Asker(ANONYMOUS, Rights((BUILT_IN["admin"],)))


class Guard(Protocol):
    """Says who makes a request."""

    def asks(self) -> bool:
        """Whether it wants to know who somebody is."""

    def recall(self, scope: Mapping[str, Any]) -> Asker | None:
        """Who makes a request, if that is known already: thousands come in a second."""

    async def identify(self, scope: Mapping[str, Any]) -> Asker:
        """Who makes a request.

        Raises:
            Unauthorized: If that is not known, and must be.
        """


class NoGuard:
    """For a folder that is served inside a process: whoever can ask could read its files."""

    def asks(self) -> bool:
        """It does not."""
        return False

    def recall(self, scope: Mapping[str, Any]) -> Asker:  # noqa: ARG002  # everybody may
        """Anybody."""
        return ANYBODY

    async def identify(self, scope: Mapping[str, Any]) -> Asker:  # noqa: ARG002  # likewise
        """Anybody."""
        return ANYBODY


class DoorGuard:
    """For a server: who has no key is let in while nobody has one, and only where that is safe.

    Args:
        policy: What roles may do.
        keys: Where keys and share links are.
        tokens: Reads the tokens of an identity provider, if there is one.
        saw: Is told who was let in, now and then.
        welcomes_all: Whether others than this machine are let in while nobody has a key.
    """

    def __init__(
        self,
        policy: Policy,
        keys: Sequence[Keys],
        tokens: Tokens | None,
        saw: Callable[[str], None],
        *,
        welcomes_all: bool,
    ) -> None:
        self._policy = policy
        self._keys = keys
        self._tokens = tokens
        self._saw = saw
        self._welcomes_all = welcomes_all
        self._asks = tokens is not None
        self._looked = -math.inf
        # By what was shown: who it was, and until when that is sure; the latest are last.
        self._known: dict[str | bytes, tuple[Asker, float]] = {}
        self._checking = anyio.CapacityLimiter(_TOKENS_AT_ONCE)

    def asks(self) -> bool:
        """Whether keys were given out; once that is so, it stays so until the server ends."""
        if not self._asks and (now := time.monotonic()) - self._looked > _FRESH_S:
            self._looked = now
            self._asks = any(keys.exist() for keys in self._keys)
        return self._asks

    def recall(self, scope: Mapping[str, Any]) -> Asker | None:
        """Who makes a request, if that was found out a moment ago; see `Guard`."""
        if not self.asks():
            return ANYBODY if self._welcomes(scope) else None
        known = self._known.get(token_in(scope["query_string"]) or shown_in(scope))
        return known[0] if known is not None and time.monotonic() < known[1] else None

    async def identify(self, scope: Mapping[str, Any]) -> Asker:
        """Who makes a request; see `Guard`."""
        if not self.asks():
            return self._welcome(scope)
        token, header = token_in(scope["query_string"]), shown_in(scope)
        try:
            asker, until = self._read_share(token) if token else await self._read(header)
        except OSError as error:
            raise out_of_reach(error) from error
        self._saw(asker.principal.id)
        return self._remember(token or header, asker, until)

    def _remember(self, shown: str | bytes, asker: Asker, until: float) -> Asker:
        """Note who shows what, for a moment; the record of before, if they are who they were."""
        now = time.monotonic()
        before, _ = self._known.pop(shown, (asker, 0.0))
        asker = before if vars(before) == vars(asker) else asker
        self._forget(now - _FORGOTTEN_S)
        if len(shown) <= _MOST_SHOWN:
            self._known[shown] = asker, now + min(until - time.time(), _FRESH_S)
        return asker

    def _forget(self, before: float) -> None:
        """Forget what was sure until some time before, and the oldest if there is too much."""
        while self._known:
            oldest = next(iter(self._known))
            if self._known[oldest][1] > before and len(self._known) < _REMEMBERED:
                return
            del self._known[oldest]

    def _welcomes(self, scope: Mapping[str, Any]) -> bool:
        # Where the server listens, which no request can pretend.
        return self._welcomes_all or _is_local((scope.get("server") or ("", None))[0])

    def _welcome(self, scope: Mapping[str, Any]) -> Asker:
        if self._welcomes(scope):
            return ANYBODY
        raise Unauthorized(
            "this server has given out no key, and was not told to be open to everybody; make a key"
            " (webfoot keys create --role analyst), or set WEBFOOT_OPEN=true"
        )

    def _read_share(self, token: str) -> tuple[Asker, float]:
        for keys in self._keys:
            secret = keys.share_secret()
            share = None if secret is None else read_share(token, secret)
            if share is None:
                continue
            if not keys.shared(share.id):
                raise Unauthorized("this link was revoked; ask whoever gave it to you for another")
            return Asker(share.principal, share.rights, share.limits, share), share.expires
        raise Unauthorized(
            "this link is not one that this server gave out, or was changed on the way; copy it"
            " whole"
        )

    async def _read(self, header: bytes) -> tuple[Asker, float]:
        text = read_credential(header)
        if not text:
            raise Unauthorized("a key is needed")
        if text.startswith(PREFIX) or self._tokens is None:
            return self._read_key(text)
        read = self._tokens.read
        principal, until = await anyio.to_thread.run_sync(read, text, limiter=self._checking)
        rights = self._policy.rights(principal.roles)
        return Asker(principal, rights, rights.limits), until

    def _read_key(self, text: str) -> tuple[Asker, float]:
        key = self._find(id_of(text))
        if key is None:
            raise unknown_key()
        until = key.check(text, time.time())
        rights = self._policy.rights(key.roles, key.udfs, key.formats)
        return Asker(key.principal, rights, key.limits.over(rights.limits)), until

    def _find(self, id: str) -> Key | None:  # noqa: A002  # it is one
        found = (keys.find(id) for keys in self._keys)
        return next((key for key in found if key is not None), None)


@lru_cache(100)
def _is_local(host: str) -> bool:
    return _LOCAL.fullmatch(host) is not None
