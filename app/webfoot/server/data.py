"""`GET|HEAD /udfs/{name}.{extension}` and `/query.{extension}`: the HTTP contract of a table.

HEAD never runs a UDF and never fails, except that an unknown name is 404: DuckDB asks it first, and
it is the only way to one run per query and to errors that say something. GET does the work.

A plain ASGI application in front of the framework: stored results are answered thousands of times a
second, and the framework's layers would double what one costs (`bench/throughput.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from webfoot.asking import read_query_string, split_query, take_options
from webfoot.errors import (
    Error,
    Forbidden,
    InvalidParameters,
    JobNotFound,
    RunCancelled,
    ServerBusy,
    UdfNotFound,
    UnsupportedFormat,
)
from webfoot.jobs import Job
from webfoot.results import Query, is_whole
from webfoot.server.bills import bill_headers
from webfoot.server.bounds import MOST_BODY_BYTES
from webfoot.server.conditions import Decision, http_date, read_range
from webfoot.server.exchanges import CLIENT_GONE, exchange_of
from webfoot.server.fanouts import (
    accepted_extension,
    from_body,
)
from webfoot.server.limits import within
from webfoot.server.permissions import check_format
from webfoot.server.problems import (
    COMMON_HEADERS,
    PREVIEW_POLICY,
    VARY_BY_ASKER,
    Headers,
    Reply,
    lazy_reply,
)
from webfoot.server.queries import MOST_QUERY_BYTES, around, read_posted, read_query
from webfoot.server.recall import Recall
from webfoot.server.requests import (
    accepts_gzip,
    check_folders,
    read_request,
    wants_rerun,
)
from webfoot.server.stand_ins import SOON_S, StandIns
from webfoot.server.stored import REFUSALS, decide_on, etag_of, length_headers, refusal
from webfoot.server.telling import tell_reader, without_body
from webfoot.server.transfer import (
    ClientGone,
    File,
    read_body,
    read_whole,
    send_file,
    send_reply,
    unless_gone,
)
from webfoot.server.visits import visit_of
from webfoot.views import MEDIA_TYPES, TEXTS, View, read_view

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from webfoot.definition import Udf
    from webfoot.engine import Answer, Engine
    from webfoot.lineage import Admit
    from webfoot.registry import Registry
    from webfoot.results import Question, Result
    from webfoot.server.exchanges import Exchange
    from webfoot.server.holding import Holding
    from webfoot.server.requests import Request
    from webfoot.server.visits import Visit
    from webfoot.settings import Settings
    from webfoot.store import Blob, Link, Store

# HEAD tells the length of a stored result up to the first size and from the second one on.
#
# Between them DuckDB is better off without: it then sends one plain GET, where lengths make it
# fetch the footer and each column by themselves. First read of all columns behind 40 ms and
# 100 Mbit/s, one GET against the same bytes in nginx: 0.62 at 64 KiB, 0.69 at 512 KiB, 0.74 at
# 1 MiB; of one column: 0.62, 0.82, 0.98, and 1.32 at 2 MiB, where ranges begin to win
# (`bench/head_threshold.py`).
#
# Up to 16 KiB, DuckDB's first range is the whole file: the first read costs the same either way,
# and a repeat in the same session is one HEAD instead of a HEAD and a GET (85 ms against 127).
LENGTH_UP_TO_BYTES = 16_384
LENGTH_FROM_BYTES = 1_000_000
# Texts below this size gain nothing from compression.
_COMPRESS_FROM_BYTES = 1_000
_REMEMBERED = 10_000
# Longer queries are read anew each time: remembered, they would fill the memory.
_MOST_REMEMBERED_BYTES = 1_000
_HEADERS_OF_BYTES = frozenset(
    {
        *(b"content-type", b"etag", b"last-modified", b"accept-ranges", b"content-encoding"),
        *(b"vary", b"content-security-policy"),
    }
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Asked:
    """What a request asks for, understood: a call's result, a job's, or a query's.

    Args:
        udf: The UDF that is called; None for SQL.
        call: What is asked.
        view: How its result is wanted.
        private: Whether the answer is for its asker alone.
    """

    udf: Udf | None
    call: Question | Job | Query
    view: View
    private: bool


class _Obtained(NamedTuple):
    """A result, and what it took.

    Args:
        result: The result.
        timing: What it took, for `Server-Timing`.
        stale: Whether it stands in for a newer one.
        warm: Whether this server has answered SQL before.
    """

    result: Result
    timing: bytes = b"hit"
    stale: bool = False
    warm: bool = False


class DataEndpoint:
    """Answers requests for results.

    Args:
        engine: Gives results.
        store: Gives their bytes.
        holding: Sends on who has waited long enough.
        admit: Counts what SQL calls.
        settings: How to show errors and caching.
    """

    def __init__(
        self, engine: Engine, store: Store, holding: Holding, admit: Admit, settings: Settings
    ) -> None:
        self._engine = engine
        self._store = store
        self._holding = holding
        self._admit = admit
        self._settings = settings
        # Before the request is sent on, or its reader told to come back.
        self._stand_ins = StandIns(engine, min(SOON_S, settings.hold / 2))
        self._recall = Recall(store)
        self._understood: dict[tuple[Visit, str, str, bytes], _Asked] = {}
        self._understood_by: Registry | None = None
        # Whether SQL has been asked before: the first waits for what it takes to be imported.
        self._warm = False
        self._headers_of: OrderedDict[tuple[str, str, bool, str, bool], Headers] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that this endpoint handles."""
        answered = self._recall.find(scope)
        if answered is not None:
            exchange_of(scope).repeat(answered.exchange)
            await send_reply(answered.reply, send)
            return
        # Before anything is looked up: what changes meanwhile makes it another.
        revision = self._store.revision()
        request = read_request(scope)
        answer = await self._answer(request, visit_of(scope), receive)
        if isinstance(answer, File):
            with contextlib.closing(answer.blob):
                if not answer.is_small:
                    await send_file(answer, receive, send)
                    return
                answer = await read_whole(answer)
        if answer is not None:
            self._recall.keep(scope, answer, request.exchange, revision)
            await send_reply(answer, send)

    async def _answer(
        self, request: Request, visit: Visit, receive: Receive
    ) -> Reply | File | None:
        """The answer, whatever happens; None if nobody is left to read it."""
        try:
            if request.method == "HEAD":
                return await self._head(request, visit)
            return await within(request.limits, self._read(request, visit, receive))
        except ClientGone:
            request.exchange.code = CLIENT_GONE
            return None
        except asyncio.CancelledError:  # The server stops, and has waited long enough.
            error: Error = RunCancelled("the server is stopping; try again in a moment")
        except Error as known:
            error = known
        except Exception:  # noqa: BLE001  # logged whole, and told as what it is
            _log.exception(
                "a bug in Webfoot: %s %s.%s", request.method, request.name, request.extension
            )
            error = Error("something went wrong in Webfoot itself; the server's log says what")
        return self._refuse(error, request)

    async def _read(self, request: Request, visit: Visit, receive: Receive) -> Reply | File:
        if request.method == "POST":
            return await (self._query if request.sql else self._map)(request, visit, receive)
        return await self._get(request, await self._understand(request, visit), receive)

    def _refuse(self, error: Error, request: Request) -> Reply:
        request.exchange.fail(error)
        if error.run and request.method != "HEAD":
            self._log_failure(error)
        reply = tell_reader(error, request, self._settings)
        if request.method == "HEAD":
            return without_body(reply)
        return replace(reply, headers=reply.headers + bill_headers(request.exchange.tally))

    def _log_failure(self, error: Error) -> None:
        """Tell whoever runs the server; while debugging, that is the author."""
        lines = [f"{error.udf or 'SQL'}: {error.detail} ({error.code}, run {error.run})"]
        if self._settings.debug:
            lines += [error.traceback or "", self._engine.runs.log(error.run or "")]
        _log.warning("\n".join(line.rstrip() for line in lines if line))

    async def _understand(self, request: Request, visit: Visit) -> _Asked:
        """Find the UDF and read the parameters; requests that are made again are remembered."""
        if request.job:
            return await self._understand_job(request, visit)
        if request.sql:
            asked_sql = read_query(request, visit, self._engine, self._settings)
            return _Asked(None, asked_sql.query, asked_sql.view, visit.private)
        registry = self._engine.registry
        if self._understood_by is not registry or len(self._understood) > _REMEMBERED:
            self._understood, self._understood_by = {}, registry
        if request.partitions:
            check_folders(visit.registry.find(request.name), request.partitions)
        key = (visit, request.name, request.extension, request.query)
        asked = self._understood.get(key)
        if asked is None:
            udf, asker = visit.registry.find(request.name), visit.principal
            text = read_query_string(request.query, request.extension)
            if text.fanout:
                # On a thread, and forgotten: it may be thousands of calls.
                question = await asyncio.to_thread(self._engine.question, udf, text, asker)
                return _Asked(udf, question, text.view, visit.private)
            question = self._engine.question(udf, text, asker)
            asked = _Asked(udf, question, text.view, visit.private)
            if len(request.query) <= _MOST_REMEMBERED_BYTES:
                self._understood[key] = asked
        return asked

    async def _understand_job(self, request: Request, visit: Visit) -> _Asked:
        job = await self._holding.find(request.job, visit.principal)
        own, others = split_query(request.query)
        if others:
            raise InvalidParameters(f"{others[0][0]}: a job has its parameters already")
        udf = visit.registry.find(job.udf)
        check_format(visit.asker, job.udf, request.extension)
        return _Asked(udf, job, read_view(request.extension, own), visit.private)

    async def _head(self, request: Request, visit: Visit) -> Reply:
        try:
            asked = await self._understand(request, visit)
            _note(request, asked)
            found = await self._peek(asked, request.headers)
            if found is not None:
                request.exchange.cache, request.exchange.result = "hit", found[0]
                return await self._head_of(request, asked, *found)
        except (Forbidden, UdfNotFound, JobNotFound, UnsupportedFormat):
            raise
        except Error as error:
            # GET will say what is wrong; here it would make DuckDB ask five times more.
            _log.debug("HEAD %s.%s: %s", request.name, request.extension, error)
        return lazy_reply(request.extension)

    async def _head_of(
        self, request: Request, asked: _Asked, result: Result, shown: Result, view: View
    ) -> Reply:
        """What GET would say of `shown`, whether it would send the bytes or say where they are.

        A link is for GET alone, and so never given here.
        """
        link = await self._link(request, shown, view)
        decision = decide_on(request.headers, shown, _etag(shown, link))
        if decision.status in REFUSALS:
            return replace(refusal(decision, shown), body=b"")
        headers = self._headers(asked, result, shown, view, link)
        headers += bill_headers(request.exchange.tally)
        if decision.status != HTTPStatus.OK or _tells_length(view, shown):
            headers += length_headers(decision, shown)
        return Reply(decision.status, headers, b"")

    async def _peek(
        self, asked: _Asked, headers: Mapping[str, str]
    ) -> tuple[Result, Result, View] | None:
        """What a GET would be answered with now, if that is sure: the result, and a view of it."""
        if isinstance(asked.call, Job):
            result = asked.call.result
            if (
                result is None
                or not asked.view.canonical
                or not await self._store.last_used(result)
            ):
                return None
            return result, result, asked.view
        if wants_rerun(headers):
            return None
        result = await self._engine.peek(asked.call, View("parquet"))
        if result is None:
            return None
        view = _encoded(asked.view, headers, result)
        shown = result if view.canonical else await self._engine.peek(asked.call, view)
        return None if shown is None else (result, shown, view)

    async def _map(self, request: Request, visit: Visit, receive: Receive) -> Reply | File:
        """A fan-out whose inputs are in the body; the answer is a table like any other."""
        udf = visit.registry.find(request.name)
        own, others = split_query(request.query)
        # As it is written elsewhere, too: in the query of a POST, nothing is the UDF's.
        own += [(f"_{name}", text) for name, text in others if name == "partial"]
        others = [pair for pair in others if pair[0] != "partial"]
        if others:
            raise InvalidParameters(f"{others[0][0]}: a POST has its parameters in the body")
        options, own = take_options(own)
        extension = accepted_extension(request.headers.get("accept", ""))
        view = read_view(extension, own)
        media_type = request.headers.get("content-type", "").split(";")[0].strip()
        body = await read_body(receive, MOST_BODY_BYTES)
        read = partial(from_body, self._engine, udf, options, media_type, body)
        fanout = await asyncio.to_thread(read, visit.principal)
        return await self._get(request, _Asked(udf, fanout, view, visit.private), receive)

    async def _query(self, request: Request, visit: Visit, receive: Receive) -> Reply | File:
        """SQL in the body: answered with a table like any other, or with rows and facts."""
        body = await read_body(receive, MOST_QUERY_BYTES)
        asked = read_posted(request, visit, body, self._engine, self._settings)
        plain = _Asked(None, asked.query, asked.view, visit.private)
        if not asked.told:
            return await self._get(request, plain, receive)
        _note(request, plain)
        began = time.time()
        found = await self._obtain(request, plain, receive)
        assert not isinstance(found, Reply), "who asks SQL is not sent on"
        request.exchange.result = found.result
        audience, tally = asked.query.audience, request.exchange.tally
        derived = self._engine.view(None, found.result, asked.view, audience, tally)
        shown = (await unless_gone(receive, derived)).result
        before, after = around(asked, found.result, time.time() - began, warm=found.warm)
        length = len(before) + shown.size + len(after)
        request.limits.check(length)
        headers = [
            (b"content-type", MEDIA_TYPES["json"].encode()),
            (b"content-length", b"%d" % length),
            (b"cache-control", b"no-store"),
            (b"server-timing", found.timing),
            *COMMON_HEADERS,
            *_facts(found.result),
            *bill_headers(tally),
        ]
        whole = Decision(HTTPStatus.OK, 0, shown.size)
        return File(whole, headers, await self._open(shown), before, after)

    async def _get(self, request: Request, asked: _Asked, receive: Receive) -> Reply | File:
        _note(request, asked)
        found = await self._obtain(request, asked, receive)
        if isinstance(found, Reply):
            return found
        result = request.exchange.result = found.result
        view = _encoded(asked.view, request.headers, result)
        shown = result
        if not view.canonical:
            audience, tally = asked.call.audience, request.exchange.tally
            derived = self._engine.view(asked.udf, result, view, audience, tally)
            shown = (await unless_gone(receive, derived)).result
        link = await self._link(request, shown, view)
        decision = decide_on(request.headers, shown, _etag(shown, link))
        if decision.status in REFUSALS:
            return refusal(decision, shown)
        headers = self._headers(asked, result, shown, view, link)
        headers += [(b"server-timing", found.timing), *bill_headers(request.exchange.tally)]
        if isinstance(asked.call, Query):
            headers.append((b"x-webfoot-warm", b"true" if found.warm else b"false"))
        if found.stale:
            headers.append((b"x-webfoot-stale", b"%d" % (time.time() - result.expires)))
        if link is not None:
            moved = decision.status != HTTPStatus.NOT_MODIFIED
            return _redirect(link, headers, request) if moved else Reply(304, headers, b"")
        request.limits.check(decision.length)
        blob = await self._open(shown)
        return File(decision, headers + length_headers(decision, shown), blob)

    async def _open(self, shown: Result) -> Blob:
        blob = await self._store.open(shown)
        if blob is None:  # Evicted between the two: the next attempt runs anew.
            raise ServerBusy("the result was evicted while it was asked for; try again")
        return blob

    async def _obtain(self, request: Request, asked: _Asked, receive: Receive) -> _Obtained | Reply:
        """The result, stored or made; or where to wait for it."""
        if isinstance(asked.call, Job):
            return await self._wait_for(asked.call, request, receive)
        ranged = read_range(request.headers.get("range")) is not None
        rerun = not ranged and wants_rerun(request.headers)
        if isinstance(asked.call, Query):
            warm, self._warm = self._warm, True
            lineage = replace(self._engine.request(request.exchange.tally), admit=self._admit)
            asking = self._engine.answer(asked.call, ranged=ranged, rerun=rerun, lineage=lineage)
            answer = await unless_gone(receive, asking)
            _note_answer(request.exchange, answer, stale=False)
            return _Obtained(answer.result, _timing(answer), warm=warm)
        assert asked.udf is not None, "only SQL is asked of none"
        stored = None if rerun else await self._engine.stored(asked.call, ranged=ranged)
        if stored is not None:
            request.exchange.cache = "hit"
            return _Obtained(stored)
        # A job has no word for "anew", nor for inputs that make no call.
        may_go_on = not rerun and is_whole(asked.call)
        if may_go_on and (job := await self._holding.begin(asked.udf, asked.call)) is not None:
            return await self._wait_for(job, request, receive)
        lineage = self._engine.request(request.exchange.tally)
        running = self._engine.result(
            asked.udf, asked.call, ranged=ranged, rerun=rerun, lineage=lineage
        )
        if asked.view.spreadsheet and asked.udf.options.stale_s and not rerun:
            running = self._stand_ins.answer(asked.udf, asked.call, running)
        try:
            async with self._holding.limit(request) if may_go_on else asyncio.timeout(None):
                answer = await unless_gone(receive, running)
        except TimeoutError:
            return await self._holding.become_job(asked.call, request)
        stale = not answer.ran and not answer.result.fresh(time.time())
        _note_answer(request.exchange, answer, stale=stale)
        return _Obtained(answer.result, _timing(answer), stale)

    async def _wait_for(self, job: Job, request: Request, receive: Receive) -> _Obtained | Reply:
        """What comes of a job; or where to go on waiting for it."""
        request.exchange.cache = "hit" if job.over else "joined"
        job = await unless_gone(receive, self._holding.wait(job, request))
        if not job.over:
            return self._holding.send_on(job, request)
        return _Obtained(await self._holding.result_of(job))

    async def _link(self, request: Request, shown: Result, view: View) -> Link | None:
        """Where the bytes are to be had, if not here: what is small is answered at once.

        DuckDB, and others, would send a key in a header of their own on to wherever they are sent:
        who has one gets the bytes from here. So does who wants a preview, which is shown with a
        policy that a bucket cannot state.
        """
        here = "x-api-key" in request.headers or view.extension == "html"
        if here or shown.size < min(self._settings.redirect, request.limits.most_bytes):
            return None
        media_type = MEDIA_TYPES[view.extension]
        return await self._store.link(shown, media_type, "gzip" if view.gzip else "")

    def _headers(
        self, asked: _Asked, result: Result, shown: Result, view: View, link: Link | None
    ) -> Headers:
        """What HEAD and GET alike say of `shown`, which is `view` of `result`."""
        return [
            *self._fixed_headers(shown, view, _etag(shown, link), asked.private),
            self._cache_control(asked, result, math.inf if link is None else link.seconds),
            *_facts(result),
        ]

    def _fixed_headers(self, result: Result, view: View, etag: str, private: bool) -> Headers:
        """The headers that are the same whenever `result` is sent as `view`."""
        key = (result.run, view.extension, view.gzip, etag, private)
        headers = self._headers_of.get(key)
        if headers is None:
            headers = [
                (b"content-type", MEDIA_TYPES[view.extension].encode()),
                (b"etag", etag.encode()),
                (b"last-modified", http_date(result.created).encode()),
                (b"accept-ranges", b"bytes"),
                *COMMON_HEADERS,
            ]
            if view.extension in TEXTS:
                headers.append((b"vary", b"Accept-Encoding"))
            if view.extension == "html":
                headers.append(PREVIEW_POLICY)
            if private:
                headers.append(VARY_BY_ASKER)
            if view.gzip:
                headers.append((b"content-encoding", b"gzip"))
            self._headers_of[key] = headers
            if len(self._headers_of) > _REMEMBERED:
                self._headers_of.popitem(last=False)
        return headers

    def _cache_control(self, asked: _Asked, result: Result, most_s: float) -> tuple[bytes, bytes]:
        who = b"private" if asked.private else b"public"
        if isinstance(asked.call, Job) and math.isinf(most_s):
            return (b"cache-control", b"%s, max-age=31536000, immutable" % who)
        lifetime = 0.0 if asked.udf is None else self._engine.lifetime(asked.udf)
        if lifetime == 0:
            return (b"cache-control", b"no-store")
        left = lifetime if math.isinf(result.expires) else result.expires - time.time()
        # With reload, the code behind the URL may change at any moment.
        if self._settings.reload or left <= 0:
            return (b"cache-control", b"no-cache")
        return (b"cache-control", b"%s, max-age=%d" % (who, min(left, most_s, 31_536_000)))


def _note(request: Request, asked: _Asked) -> None:
    """What the request is about, for its record."""
    exchange, call = request.exchange, asked.call
    exchange.udf = asked.udf.name if asked.udf else ""
    exchange.extension = asked.view.extension
    # A job's is that of the request which has made it.
    exchange.key = "" if isinstance(call, Job) else call.key


def _note_answer(exchange: Exchange, answer: Answer, *, stale: bool) -> None:
    """Where the answer came from, likewise."""
    if answer.ran:
        exchange.cache = "miss" if exchange.tally.runs else "joined"
    else:
        exchange.cache = "stale" if stale else "hit"
    exchange.waited_s = answer.waited_s


def _facts(result: Result) -> Headers:
    """What is known of a result beside its rows."""
    return [
        (b"x-webfoot-run", result.run.encode()),
        (b"x-webfoot-executions", b"%d" % result.executions),
        (b"x-webfoot-rows", b"%d" % result.rows),
        (b"x-webfoot-bytes", b"%d" % result.size),
        *([(b"x-webfoot-failed", b"%d" % result.failed)] if result.failed else []),
        *([(b"x-webfoot-truncated", b"true")] if result.truncated else []),
    ]


def _encoded(view: View, headers: Mapping[str, str], result: Result) -> View:
    """The view, compressed if it is text and the client asks for that."""
    worth_it = view.extension in TEXTS and result.size >= _COMPRESS_FROM_BYTES
    return replace(view, gzip=True) if worth_it and accepts_gzip(headers) else view


def _tells_length(view: View, shown: Result) -> bool:
    # CSV is read twice by a DuckDB that knows its length, once by one that does not.
    is_parquet = view.extension == "parquet"
    return is_parquet and not LENGTH_UP_TO_BYTES < shown.size < LENGTH_FROM_BYTES


def _etag(shown: Result, link: Link | None) -> str:
    """The tag that readers see on the bytes, by which DuckDB tells one file from another.

    S3 cannot be told to say ours: HEAD here must then say what GET there will.
    """
    return etag_of(shown) if link is None else link.etag


def _redirect(link: Link, headers: Headers, request: Request) -> Reply:
    """Send the reader to where the bytes are.

    The headers of the bytes are left out: it is `link` that has them.
    """
    # A POST has done its work: what is there is to be got.
    status = HTTPStatus.SEE_OTHER if request.method == "POST" else HTTPStatus.TEMPORARY_REDIRECT
    told = [(name, value) for name, value in headers if name not in _HEADERS_OF_BYTES]
    own = [
        (b"location", link.url.encode()),
        (b"content-length", b"0"),
        (b"vary", b"Authorization, X-Api-Key, Accept-Encoding"),
    ]
    return Reply(status, [*told, *own], b"")


def _timing(answer: Answer) -> bytes:
    run, total = answer.result.seconds * 1000, answer.waited_s * 1000
    return b"run;dur=%.1f, wait;dur=%.1f" % (run, max(total - run, 0))
