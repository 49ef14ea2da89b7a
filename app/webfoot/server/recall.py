"""What was answered a moment ago is answered again, where nothing can have changed since.

Most requests are for results that are stored, and many of them are the same: a dashboard's, a
sheet's, a crowd's. To find out again what each of them means, and comes to, is most of its cost.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from webfoot.server.limits import has_limits
from webfoot.server.visits import VISIT

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.types import Scope

    from webfoot.server.exchanges import Exchange
    from webfoot.server.problems import Reply
    from webfoot.store import Store

# The bytes may have been removed meanwhile, by somebody who has not told the store. They are noted
# as in use, too, so often.
_BELIEVED_S = 0.25
_MOST_BODY_BYTES = 64_000
_MOST_QUERY_BYTES = 1_000
_MOST_ANSWERS = 1_000
# All that an answer depends on, beside who asks: an `X-API-Key` is part of that.
_DECISIVE = frozenset(
    {
        *(b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since"),
        *(b"if-unmodified-since", b"accept-encoding", b"cache-control", b"pragma"),
    }
)


class Answered(NamedTuple):
    """An answer that was given.

    Args:
        reply: The answer.
        exchange: The request and what was found out of it.
        revision: Of the store, before it was asked.
        until: Up to when it is good, by the monotonic clock.
    """

    reply: Reply
    exchange: Exchange
    revision: bytes
    until: float


class Recall:
    """Remembers answers, each for as long as the next request can have no other.

    Args:
        store: Where the results are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._answers: OrderedDict[Hashable, Answered] = OrderedDict()

    def find(self, scope: Scope) -> Answered | None:
        """The answer to a request that the gate has let in, if one is remembered that is good."""
        if not self._answers:
            return None
        answered = self._answers.get(_same(scope))
        if (
            answered is None
            or answered.revision != self._store.revision()
            or answered.until < time.monotonic()
            or has_limits(scope)
        ):
            return None
        return answered

    def keep(self, scope: Scope, reply: Reply, exchange: Exchange, revision: bytes | None) -> None:
        """Remember an answer, if it is of a kind that can be.

        Args:
            scope: The request.
            reply: The answer.
            exchange: Both, with what was found out.
            revision: Of the store, before it was asked.
        """
        result = exchange.result
        if revision is None or result is None or not _is_plain(exchange) or has_limits(scope):
            return
        if len(reply.body) > _MOST_BODY_BYTES or len(scope["query_string"]) > _MOST_QUERY_BYTES:
            return
        good_s = min(_BELIEVED_S, result.expires - time.time())
        if good_s <= 0:
            return
        self._answers[_same(scope)] = Answered(reply, exchange, revision, time.monotonic() + good_s)
        if len(self._answers) > _MOST_ANSWERS:
            self._answers.popitem(last=False)


def _is_plain(exchange: Exchange) -> bool:
    """Whether it was answered with the stored result of a call, or a view of it, at no cost."""
    it = exchange
    is_call = it.method in ("GET", "HEAD") and bool(it.udf) and bool(it.key)
    return is_call and it.cache == "hit" and not it.code and not it.tally.runs


def _same(scope: Scope) -> Hashable:
    """What requests have in common that have the same answer."""
    return (
        scope[VISIT],
        scope["method"],
        # As it was sent: decoded, folders with a slash in a value look like others.
        scope.get("raw_path") or scope["path"],
        scope.get("root_path"),
        scope["query_string"],
        tuple([(name, value) for name, value in scope["headers"] if name in _DECISIVE]),
    )
