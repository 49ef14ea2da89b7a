"""The gate: every request is decided here, before anything else looks at it.

    is there room → who asks → may they → how much of it → what there is for them

Only what was decided a moment ago is not decided again: see `webfoot.server.recall`. What is behind
the gate finds the answers in the request: see `webfoot.server.visits`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from webfoot.access.credentials import is_basic, read_credential, shown_in
from webfoot.access.principal import PRINCIPAL
from webfoot.access.shares import token_in, without_token
from webfoot.errors import Error, Forbidden, ServerBusy, Unauthorized
from webfoot.server.address import base_url_of
from webfoot.server.bounds import refuse_oversized
from webfoot.server.exchanges import exchange_of
from webfoot.server.permissions import FOR_RESULTS, Need, check_rights, wanted_by
from webfoot.server.problems import VARY_BY_ASKER, Reply, without_prompt
from webfoot.server.requests import SHARE, read_request
from webfoot.server.telling import tell_nothing, tell_reader, tell_visitor, without_body
from webfoot.server.transfer import send_reply
from webfoot.server.visits import VISIT, Visit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from webfoot.access.guards import Asker
    from webfoot.access.opening import Access
    from webfoot.access.roles import Rights
    from webfoot.access.shares import Share
    from webfoot.engine import Engine
    from webfoot.registry import Registry
    from webfoot.server.permissions import Wanted
    from webfoot.server.problems import Headers
    from webfoot.server.recall import Recall
    from webfoot.settings import Settings

# Beyond these, what was found out of askers is found out anew.
_MOST_ASKERS = 10_000
_SAFE = ("GET", "HEAD")
# What a browser says of a request that another site's page makes it send, with whatever key it has.
_FOREIGN = (b"cross-site", b"same-site")


class Gate:
    """An ASGI application that lets requests in to others.

    Args:
        access: Who is let in, and how much they may.
        engine: Has the UDFs.
        recall: Has what was answered a moment ago.
        settings: How many may be in at once, and how errors are told.
        results: Answers those that are for a table.
        others: Answers all else.
    """

    def __init__(
        self,
        access: Access,
        engine: Engine,
        recall: Recall,
        settings: Settings,
        results: ASGIApp,
        others: ASGIApp,
    ) -> None:
        self._access = access
        self._engine = engine
        self._recall = recall
        self._settings = settings
        self._results = results
        self._others = others
        self._inside = 0
        self._visits: dict[Asker, Visit] = {}
        self._narrowed: dict[Rights, Registry] = {}
        self._narrowed_from: Registry | None = None

    @property
    def inside(self) -> int:
        """How many requests are being answered."""
        return self._inside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or have it answered."""
        self._inside += 1
        try:
            refused = refuse_oversized(scope)
            if refused is not None:
                await send_reply(_for_method(refused, scope), send)
                return
            answered = None if self._is_full() else self._recall.find(scope)
            if answered is None:
                await self._let_in(scope, receive, send)
                return
            scope[PRINCIPAL] = answered.principal
            exchange_of(scope).repeat(answered.exchange)
            await send_reply(answered.reply, send)
        finally:
            self._inside -= 1

    def _is_full(self) -> bool:
        return self._inside > self._settings.requests

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = wanted_by(scope)
        if wanted is not None and wanted.need is Need.NOTHING:
            await self._others(scope, receive, send)
            return
        counted: list[str] = []
        try:
            decided = await self._decide(scope, wanted, counted)
            if isinstance(decided, Reply):
                await send_reply(decided, send)
                return
            if wanted is not None and wanted.need in FOR_RESULTS:
                await self._results(decided, receive, send)
                return
            private = self._access.guard.asks()
            await self._others(decided, receive, _privately(send) if private else send)
        finally:
            for name in counted:
                self._access.throttle.leave(name)

    async def _decide(
        self, scope: Scope, wanted: Wanted | None, counted: list[str]
    ) -> Scope | Reply:
        """The request with all that was decided of it; or what to answer at once.

        Args:
            scope: The request.
            wanted: What it is for.
            counted: Gets the names that it is counted under, until it has been answered.
        """
        try:
            if self._is_full():
                raise ServerBusy(
                    f"{self._settings.requests} requests are being answered, which is all that"
                    " this server takes at once; try again in a moment"
                )
            guard = self._access.guard
            asker = guard.recall(scope) or await guard.identify(scope)
            visit = self._visit_of(asker)
            # In place: what notes requests outside of here reads it there.
            scope[PRINCIPAL], scope[VISIT] = asker.principal, visit
            if wanted is None:
                return _for_method(tell_nothing(scope), scope)
            _refuse_foreign(scope)
            check_rights(asker, wanted)
            # HEAD never fails, and makes nothing.
            if visit.limited and scope["method"] != "HEAD":
                await self._count(asker, wanted, counted)
            return scope if asker.share is None else _without_link(scope, wanted, asker.share)
        except Error as error:
            return await self._refusal(error, scope, wanted)

    async def _count(self, asker: Asker, wanted: Wanted, counted: list[str]) -> None:
        """Count a request that makes something; it may have to wait.

        Raises:
            TooManyRequests: If it is one too many.
        """
        access = self._access
        wait_s = 0.0
        if not asker.limits.unlimited:
            wait_s = access.throttle.enter(asker.principal.id, asker.limits)
            counted.append(asker.principal.id)
        if wanted.udf and asker.rights.sees(wanted.udf):
            wait_s = max(wait_s, access.count(wanted.udf, counted))
        if wait_s:
            await asyncio.sleep(wait_s)

    def _visit_of(self, asker: Asker) -> Visit:
        """What there is for somebody."""
        registry = self._engine.registry
        if self._narrowed_from is not registry or len(self._visits) > _MOST_ASKERS:
            self._visits, self._narrowed, self._narrowed_from = {}, {}, registry
        visit = self._visits.get(asker)
        if visit is None:
            narrowed = self._narrow(registry, asker.rights)
            limited = not asker.limits.unlimited or bool(self._access.policy.udf_limits)
            private = self._access.guard.asks()
            visit = self._visits[asker] = Visit(asker, narrowed, limited, private)
        return visit

    def _narrow(self, registry: Registry, rights: Rights) -> Registry:
        """The UDFs that there are for those of these rights."""
        if rights.unbounded:
            return registry
        narrowed = self._narrowed.get(rights)
        if narrowed is None:
            narrowed = self._narrowed[rights] = registry.only(rights.sees)
        return narrowed

    async def _refusal(self, error: Error, scope: Scope, wanted: Wanted | None) -> Reply:
        """The error, told as whoever asks will see it."""
        exchange_of(scope).fail(error)
        by_link = bool(token_in(scope["query_string"]))
        if isinstance(error, Unauthorized) and not by_link:
            self._add_cure(error, scope)
        if wanted is not None and wanted.need in FOR_RESULTS:
            reply = tell_reader(error, read_request(scope), self._settings)
        else:
            reply = await tell_visitor(error, scope, self._settings)
        # Whoever has a link has no key that a browser could be told.
        return _for_method(without_prompt(reply) if by_link else reply, scope)

    def _add_cure(self, error: Unauthorized, scope: Scope) -> None:
        """Say how a key is shown, to who has shown none."""
        if self._access.guard.asks() and not read_credential(shown_in(scope)):
            error.detail += (
                "; send it as `Authorization: Bearer KEY`; in DuckDB: CREATE SECRET webfoot (TYPE"
                f" http, BEARER_TOKEN 'KEY', SCOPE '{base_url_of(scope)}/'); in a spreadsheet, use"
                " a share link"
            )


def _without_link(scope: Scope, wanted: Wanted, share: Share) -> Scope:
    """The request as one without a link, with what that gives."""
    query = scope["query_string"]
    own = share.apply(query) if wanted.need is Need.RESULT else without_token(query)
    return {**scope, "query_string": own, SHARE: token_in(query)}


def _refuse_foreign(scope: Scope) -> None:
    """Refuse what another site's page makes a browser send with a key that only the browser knows.

    Raises:
        Forbidden: If it is that.
    """
    if scope["method"] in _SAFE or not is_basic(shown_in(scope)):
        return
    if any(name == b"sec-fetch-site" and value in _FOREIGN for name, value in scope["headers"]):
        raise Forbidden(
            "a page of another site may change nothing here with the key that the browser knows;"
            " send the key as `Authorization: Bearer …`"
        )


def _privately(send: Send) -> Send:
    """Sends what is for one asker: no cache may hand it to another, nor any link tell of it.

    Results say so themselves, faster.
    """

    async def forward(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = _private_headers(message["headers"])
        await send(message)

    return forward


def _private_headers(headers: Headers) -> Headers:
    told = [
        (name, value.replace(b"public", b"private") if name == b"cache-control" else value)
        for name, value in headers
        if name != b"referrer-policy"
    ]
    if not any(name == b"cache-control" for name, _ in told):
        told.append((b"cache-control", b"no-store"))
    return [*told, VARY_BY_ASKER, (b"referrer-policy", b"no-referrer")]


def _for_method(reply: Reply, scope: Scope) -> Reply:
    return without_body(reply) if scope["method"] == "HEAD" else reply
