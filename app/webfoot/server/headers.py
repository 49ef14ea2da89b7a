"""What is told of a table beside its bytes."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from http import HTTPStatus
from typing import TYPE_CHECKING

from webfoot.jobs import Job
from webfoot.server.conditions import http_date
from webfoot.server.problems import (
    COMMON_HEADERS,
    PREVIEW_POLICY,
    VARY_BY_ASKER,
    Headers,
    Reply,
)
from webfoot.server.stored import etag_of
from webfoot.views import MEDIA_TYPES, TEXTS

if TYPE_CHECKING:
    from webfoot.engine import Engine
    from webfoot.results import Result
    from webfoot.server.questions import Asked
    from webfoot.server.requests import Request
    from webfoot.settings import Settings
    from webfoot.store import Link
    from webfoot.views import View

_REMEMBERED = 10_000
_OF_BYTES = frozenset(
    {
        *(b"content-type", b"etag", b"last-modified", b"accept-ranges", b"content-encoding"),
        *(b"vary", b"content-security-policy"),
    }
)


class TableHeaders:
    """The headers of tables, which HEAD and GET alike say.

    Args:
        engine: Knows how long results are fresh.
        settings: Whether code may change at any moment.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._fixed: OrderedDict[tuple[str, str, bool, str, bool], Headers] = OrderedDict()

    def of(
        self, asked: Asked, result: Result, shown: Result, view: View, link: Link | None
    ) -> Headers:
        """What is said of a view of a result.

        Args:
            asked: What was asked.
            result: The result.
            shown: The view of it.
            view: Which view that is.
            link: Where its bytes are, if not here.
        """
        return [
            *self._fixed_headers(shown, view, tag_of(shown, link), asked.private),
            self._cache_control(asked, result, math.inf if link is None else link.seconds),
            *facts(result),
        ]

    def _fixed_headers(self, shown: Result, view: View, etag: str, private: bool) -> Headers:
        """Those that are the same whenever `shown` is sent as `view`."""
        key = (shown.run, view.extension, view.gzip, etag, private)
        headers = self._fixed.get(key)
        if headers is None:
            headers = [
                (b"content-type", MEDIA_TYPES[view.extension].encode()),
                (b"etag", etag.encode()),
                (b"last-modified", http_date(shown.created).encode()),
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
            self._fixed[key] = headers
            if len(self._fixed) > _REMEMBERED:
                self._fixed.popitem(last=False)
        return headers

    def _cache_control(self, asked: Asked, result: Result, most_s: float) -> tuple[bytes, bytes]:
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


def facts(result: Result) -> Headers:
    """What is known of a result beside its rows."""
    return [
        (b"x-webfoot-run", result.run.encode()),
        (b"x-webfoot-executions", b"%d" % result.executions),
        (b"x-webfoot-rows", b"%d" % result.rows),
        (b"x-webfoot-bytes", b"%d" % result.size),
        *([(b"x-webfoot-failed", b"%d" % result.failed)] if result.failed else []),
        *([(b"x-webfoot-truncated", b"true")] if result.truncated else []),
    ]


def tag_of(shown: Result, link: Link | None) -> str:
    """The tag that readers see on the bytes, by which DuckDB tells one file from another.

    S3 cannot be told to say ours: HEAD here must then say what GET there will.
    """
    return etag_of(shown) if link is None else link.etag


def redirect(link: Link, headers: Headers, request: Request) -> Reply:
    """Send the reader to where the bytes are.

    The headers of the bytes are left out: it is `link` that has them.
    """
    # A POST has done its work: what is there is to be got.
    status = HTTPStatus.SEE_OTHER if request.method == "POST" else HTTPStatus.TEMPORARY_REDIRECT
    told = [(name, value) for name, value in headers if name not in _OF_BYTES]
    own = [
        (b"location", link.url.encode()),
        (b"content-length", b"0"),
        (b"vary", b"Authorization, X-Api-Key, Accept-Encoding"),
    ]
    return Reply(status, [*told, *own], b"")
