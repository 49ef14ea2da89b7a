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
import time
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from webfoot.errors import (
    Error,
    Forbidden,
    JobNotFound,
    RunCancelled,
    ServerBusy,
    UdfNotFound,
    UnsupportedFormat,
)
from webfoot.results import Query
from webfoot.server.bills import bill_headers
from webfoot.server.conditions import Decision
from webfoot.server.exchanges import CLIENT_GONE
from webfoot.server.headers import TableHeaders, facts, redirect, tag_of
from webfoot.server.limits import within
from webfoot.server.obtaining import Results
from webfoot.server.problems import COMMON_HEADERS, Reply, lazy_reply
from webfoot.server.queries import MOST_QUERY_BYTES, around, read_posted
from webfoot.server.questions import Asked, Questions, note_asked
from webfoot.server.requests import accepts_gzip, read_request
from webfoot.server.stored import REFUSALS, decide_on, length_headers, refusal
from webfoot.server.telling import tell_reader, without_body
from webfoot.server.transfer import (
    ClientGone,
    File,
    read_body,
    read_whole,
    send_file,
    send_reply,
)
from webfoot.server.visits import visit_of
from webfoot.views import MEDIA_TYPES, TEXTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from webfoot.engine import Engine
    from webfoot.lineage import Admit
    from webfoot.results import Result
    from webfoot.server.holding import Holding
    from webfoot.server.recall import Recall
    from webfoot.server.requests import Request
    from webfoot.server.visits import Visit
    from webfoot.settings import Settings
    from webfoot.store import Blob, Link, Store
    from webfoot.views import View

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
_log = logging.getLogger(__name__)


class DataEndpoint:
    """Answers requests for results.

    Args:
        engine: Gives results.
        store: Gives their bytes.
        holding: Sends on who has waited long enough.
        admit: Counts what SQL calls.
        recall: Is told of the answers.
        settings: How to show errors and caching.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        holding: Holding,
        admit: Admit,
        recall: Recall,
        settings: Settings,
    ) -> None:
        self._engine = engine
        self._store = store
        self._settings = settings
        self._questions = Questions(engine, holding, settings)
        self._results = Results(engine, store, holding, admit)
        self._headers = TableHeaders(engine, settings)
        self._recall = recall

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that this endpoint handles."""
        request = read_request(scope)
        answer = await self._answer(request, visit_of(scope), receive)
        if isinstance(answer, File):
            with contextlib.closing(answer.blob):
                if not answer.is_small:
                    await send_file(answer, receive, send)
                    return
                answer = await read_whole(answer)
        if answer is not None:
            self._recall.keep(scope, answer, request.exchange)
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
        except asyncio.CancelledError:
            # The server stops, and has waited long enough; or the limits of what is around this one
            # were found to be over in the same moment.
            error: Error = RunCancelled("the server is stopping; try again in a moment")
            if request.limits.are_over():
                error = request.limits.reached()
        except Error as known:
            error = known
        except Exception:  # noqa: BLE001  # logged whole, and told as what it is
            _log.exception(
                "a bug in Webfoot: %s %s.%s", request.method, request.name, request.extension
            )
            error = Error("something went wrong in Webfoot itself; the server's log says what")
        return self._refuse(error, request)

    async def _read(self, request: Request, visit: Visit, receive: Receive) -> Reply | File:
        if request.method != "POST":
            asked = await self._questions.of_address(request, visit)
        elif request.sql:
            return await self._query(request, visit, receive)
        else:
            asked = await self._questions.of_inputs(request, visit, receive)
        return await self._get(request, asked, receive)

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

    async def _head(self, request: Request, visit: Visit) -> Reply:
        try:
            asked = await self._questions.of_address(request, visit)
            note_asked(request, asked)
            result = await self._results.peek(asked, request.headers)
            if result is not None:
                view = _encoded(asked.view, request.headers, result)
                shown = await self._results.peek_view(asked, result, view)
                if shown is not None:
                    request.exchange.cache, request.exchange.result = "hit", result
                    return await self._head_of(request, asked, result, shown, view)
        except (Forbidden, UdfNotFound, JobNotFound, UnsupportedFormat):
            raise
        except Error as error:
            # GET will say what is wrong; here it would make DuckDB ask five times more.
            _log.debug("HEAD %s.%s: %s", request.name, request.extension, error)
        return lazy_reply(request.extension)

    async def _head_of(
        self, request: Request, asked: Asked, result: Result, shown: Result, view: View
    ) -> Reply:
        """What GET would say of `shown`, whether it would send the bytes or say where they are.

        A link is for GET alone, and so never given here.
        """
        link = await self._link(request, shown, view)
        decision = decide_on(request.headers, shown, tag_of(shown, link))
        if decision.status in REFUSALS:
            return replace(refusal(decision, shown), body=b"")
        headers = self._headers.of(asked, result, shown, view, link)
        headers += bill_headers(request.exchange.tally)
        if decision.status != HTTPStatus.OK or _tells_length(view, shown):
            headers += length_headers(decision, shown)
        return Reply(decision.status, headers, b"")

    async def _query(self, request: Request, visit: Visit, receive: Receive) -> Reply | File:
        """SQL in the body: answered with a table like any other, or with rows and facts."""
        body = await read_body(receive, MOST_QUERY_BYTES)
        asked = read_posted(request, visit, body, self._engine, self._settings)
        plain = Asked(None, asked.query, asked.view, visit.private)
        if not asked.told:
            return await self._get(request, plain, receive)
        note_asked(request, plain)
        began = time.time()
        found = await self._results.obtain(request, plain, receive)
        assert not isinstance(found, Reply), "who asks SQL is not sent on"
        request.exchange.result = found.result
        shown = await self._results.view(request, plain, found.result, asked.view, receive)
        before, after = around(asked, found.result, time.time() - began, warm=found.warm)
        length = len(before) + shown.size + len(after)
        request.limits.check(length)
        headers = [
            (b"content-type", MEDIA_TYPES["json"].encode()),
            (b"content-length", b"%d" % length),
            (b"cache-control", b"no-store"),
            (b"server-timing", found.timing),
            *COMMON_HEADERS,
            *facts(found.result),
            *bill_headers(request.exchange.tally),
        ]
        whole = Decision(HTTPStatus.OK, 0, shown.size)
        return File(whole, headers, await self._open(shown), before, after)

    async def _get(self, request: Request, asked: Asked, receive: Receive) -> Reply | File:
        note_asked(request, asked)
        found = await self._results.obtain(request, asked, receive)
        if isinstance(found, Reply):
            return found
        result = request.exchange.result = found.result
        view = _encoded(asked.view, request.headers, result)
        shown = await self._results.view(request, asked, result, view, receive)
        link = await self._link(request, shown, view)
        decision = decide_on(request.headers, shown, tag_of(shown, link))
        if decision.status in REFUSALS:
            return refusal(decision, shown)
        headers = self._headers.of(asked, result, shown, view, link)
        headers += [(b"server-timing", found.timing), *bill_headers(request.exchange.tally)]
        if isinstance(asked.call, Query):
            headers.append((b"x-webfoot-warm", b"true" if found.warm else b"false"))
        if found.stale:
            headers.append((b"x-webfoot-stale", b"%d" % (time.time() - result.expires)))
        if link is not None:
            moved = decision.status != HTTPStatus.NOT_MODIFIED
            return redirect(link, headers, request) if moved else Reply(304, headers, b"")
        request.limits.check(decision.length)
        blob = await self._open(shown)
        return File(decision, headers + length_headers(decision, shown), blob)

    async def _open(self, shown: Result) -> Blob:
        blob = await self._store.open(shown)
        if blob is None:  # Evicted between the two: the next attempt runs anew.
            raise ServerBusy("the result was evicted while it was asked for; try again")
        return blob

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


def _encoded(view: View, headers: Mapping[str, str], result: Result) -> View:
    """The view, compressed if it is text and the client asks for that."""
    worth_it = view.extension in TEXTS and result.size >= _COMPRESS_FROM_BYTES
    return replace(view, gzip=True) if worth_it and accepts_gzip(headers) else view


def _tells_length(view: View, shown: Result) -> bool:
    # CSV is read twice by a DuckDB that knows its length, once by one that does not.
    is_parquet = view.extension == "parquet"
    return is_parquet and not LENGTH_UP_TO_BYTES < shown.size < LENGTH_FROM_BYTES
