"""What was answered a moment ago is answered again, where nothing can have changed since.

Most requests are for results that are stored, and many of them are the same: a dashboard's, a
sheet's, a crowd's. To find out again who makes each of them, what it means, and comes to, is most
of its cost. Who shows the same key at the same door as a moment ago is who was let in with it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from webfoot.server.limits import has_limits
from webfoot.server.visits import visit_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.types import Scope

    from webfoot.access.principal import Principal
    from webfoot.engine import Engine
    from webfoot.registry import Registry
    from webfoot.server.exchanges import Exchange
    from webfoot.server.problems import Reply
    from webfoot.store import Store

# The bytes may have been removed meanwhile, by somebody who has not told the store, and the key
# revoked. Bytes are noted as in use, too, so often.
_BELIEVED_S = 0.25
_MOST_BODY_BYTES = 64_000
_MOST_ASKED_BYTES = 4_000
_MOST_ANSWERS = 1_000
_SOUGHT = "webfoot.sought"
# The headers that an answer depends on: who asks, and for what.
_DECISIVE = frozenset(
    {
        *(b"authorization", b"x-api-key"),
        *(b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since"),
        *(b"if-unmodified-since", b"accept-encoding", b"cache-control", b"pragma"),
    }
)


class Sought(NamedTuple):
    """A request, before anything was looked up for it: what changes meanwhile makes it another.

    Args:
        same: What it has in common with those that have the same answer.
        registry: All UDFs that there were.
        revision: Of the store; None if that cannot tell.
    """

    same: Hashable
    registry: Registry
    revision: bytes | None


class Answered(NamedTuple):
    """An answer that was given.

    Args:
        sought: To what.
        reply: The answer.
        exchange: Both, with what was found out.
        principal: Who was given it.
        until: Up to when it is good, by the monotonic clock.
    """

    sought: Sought
    reply: Reply
    exchange: Exchange
    principal: Principal
    until: float


class Recall:
    """Remembers answers, each for as long as the next request can have no other.

    Args:
        engine: Has the UDFs.
        store: Where the results are.
    """

    def __init__(self, engine: Engine, store: Store) -> None:
        self._engine = engine
        self._store = store
        self._answers: OrderedDict[Hashable, Answered] = OrderedDict()

    def find(self, scope: Scope) -> Answered | None:
        """The answer to a request, whoever makes it, if one is remembered that is good."""
        same = _same(scope)
        sought = Sought(same, self._engine.registry, self._store.revision())
        answered = self._answers.get(same)
        if (
            answered is None
            or answered.sought != sought
            or answered.until < time.monotonic()
            or has_limits(scope)
        ):
            scope[_SOUGHT] = sought
            return None
        return answered

    def keep(self, scope: Scope, reply: Reply, exchange: Exchange) -> None:
        """Remember an answer, if it is of a kind that can be.

        Args:
            scope: The request, which the gate has let in.
            reply: The answer.
            exchange: Both, with what was found out.
        """
        result, sought = exchange.result, scope[_SOUGHT]
        if sought.revision is None or result is None or not _is_plain(exchange):
            return
        if has_limits(scope):
            return
        visit = visit_of(scope)
        if visit.limited or len(reply.body) > _MOST_BODY_BYTES or not _is_short(scope):
            return
        good_s = min(_BELIEVED_S, result.expires - time.time())
        if good_s <= 0:
            return
        now = time.monotonic()
        self._answers.pop(sought.same, None)
        self._forget(now)
        answered = Answered(sought, reply, exchange, visit.principal, now + good_s)
        self._answers[sought.same] = answered

    def _forget(self, now: float) -> None:
        """Forget what is good no longer, and the oldest if there is too much."""
        while self._answers:
            oldest = next(iter(self._answers.values()))
            if oldest.until > now and len(self._answers) < _MOST_ANSWERS:
                return
            self._answers.popitem(last=False)


def _is_plain(exchange: Exchange) -> bool:
    """Whether it was answered with the stored result of a call, or a view of it, at no cost."""
    it = exchange
    is_call = it.method in ("GET", "HEAD") and bool(it.udf) and bool(it.key)
    return is_call and it.cache == "hit" and not it.code and not it.tally.runs


def _same(scope: Scope) -> Hashable:
    """What requests have in common that have the same answer."""
    headers = tuple([(name, value) for name, value in scope["headers"] if name in _DECISIVE])
    return (
        # Where the server was reached, which no request can pretend: who needs no key from the same
        # machine needs one from another.
        scope.get("server"),
        scope["method"],
        # As it was sent: decoded, folders with a slash in a value look like others.
        scope.get("raw_path") or scope["path"],
        scope.get("root_path"),
        scope["query_string"],
        headers,
    )


def _is_short(scope: Scope) -> bool:
    """Whether it does not cost much to remember what was asked."""
    headers = sum(len(value) for name, value in scope["headers"] if name in _DECISIVE)
    return len(scope["query_string"]) + headers <= _MOST_ASKED_BYTES
