"""`webfoot.conformance` names each fault of a server, and finds none in a good one.

Every server here is real: it listens on loopback, answers as a good one does, and then one fault
spoils the answer. What the checks say is compared whole, so a fault must not be named twice either.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest
from click.testing import CliRunner

from webfoot.conformance import CHECKS, CLIENTS, Finding, UnusableUrlError, check, exchanges
from webfoot.conformance.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

    Fault = Callable[["Request", "Answer"], None]
    When = Callable[["Request", "Answer"], bool]

FILE = b"PAR1" + bytes(range(256)) * 8 + b"PAR1"
SIZE = len(FILE)
ETAG = '"0123456789abcdef"'
DATE = "Mon, 02 Jan 2006 15:04:05 GMT"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, Accept-Ranges, ETag",
}


# A good server.


@dataclass
class Request:
    """What was asked; `nth` counts the plain GETs."""

    method: str
    path: str
    query: str
    headers: Message
    nth: int = 0

    @property
    def plain(self) -> bool:
        special = {"range", "origin", "accept-encoding", "if-none-match", "if-modified-since"}
        return self.method == "GET" and not special & {name.lower() for name in self.headers}


@dataclass
class Answer:
    """What is answered; `stray` sends the body where there must be none."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    stray: bool = False


def static(request: Request) -> Answer:
    """Serve one file as a good static server does."""
    if request.method == "OPTIONS":
        allowed = {"Access-Control-Allow-Headers": "Authorization, If-None-Match, Range"}
        return Answer(204, CORS | allowed)
    if request.path != "/file.parquet":
        return Answer(404, dict(CORS), b"not here")
    headers = CORS | {
        "Content-Type": "application/vnd.apache.parquet",
        "ETag": ETAG,
        "Last-Modified": DATE,
        "Cache-Control": "no-cache",
        "Accept-Ranges": "bytes",
    }
    known = request.headers.get("If-None-Match")
    since = request.headers.get("If-Modified-Since")
    if (known == "*" or ETAG in known) if known else since == DATE:
        return Answer(304, headers, FILE)
    if request.headers.get("If-Range", ETAG) != ETAG:
        return Answer(200, headers, FILE)
    return part(headers, request.headers.get("Range", ""))


def part(headers: dict[str, str], wanted: str) -> Answer:
    """Serve the file, or the one range of it that is wanted."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted)
    if not found or found[0] == "bytes=-":
        return Answer(200, headers, FILE)
    first = int(found[1]) if found[1] else max(0, SIZE - int(found[2]))
    last = min(int(found[2]), SIZE - 1) if found[1] and found[2] else SIZE - 1
    if first >= SIZE:
        return Answer(416, headers | {"Content-Range": f"bytes */{SIZE}"}, b"too far")
    place = {"Content-Range": f"bytes {first}-{last}/{SIZE}"}
    return Answer(206, headers | place, FILE[first : last + 1])


def good(request: Request, answer: Answer) -> None:
    """Change nothing."""


class Handler(BaseHTTPRequestHandler):
    """Writes what `static` answers, once the server's fault has had its way with it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def respond(self) -> None:
        url = urlsplit(self.path)
        request = Request(self.command, url.path, url.query, self.headers)
        if request.plain:
            self.server.plain += 1
            request.nth = self.server.plain
        answer = static(request)
        self.server.fault(request, answer)
        bodiless = self.command == "HEAD" or answer.status in {204, 304}
        if answer.status not in {204, 304} and "Transfer-Encoding" not in answer.headers:
            answer.headers.setdefault("Content-Length", str(len(answer.body)))
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if answer.stray or not bodiless:
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_OPTIONS = respond  # noqa: N815 - names that http.server looks for

    def log_message(self, *_args: object) -> None:
        """Keep the test's output clean."""


class Server(ThreadingHTTPServer):
    """A server with one fault."""

    request_queue_size = 64

    def __init__(self, fault: Fault) -> None:
        self.fault, self.plain = fault, 0
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_args: object) -> None:
        """Say nothing of connections that the client gave up."""


@contextmanager
def serving(fault: Fault = good) -> Iterator[str]:
    """Serve on loopback; gives the address of the server."""
    with Server(fault) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    # Connections are judged by whether they are kept: the client gives none up by itself.
    limits = httpx.Limits(keepalive_expiry=60)
    with httpx.Client(trust_env=False, timeout=60, limits=limits) as client:
        yield client


def faults(findings: tuple[Finding, ...]) -> dict[str, str]:
    """What did not pass, apart from the two checks that few URLs are fit for."""
    return {
        finding.name: finding.outcome
        for finding in findings
        if finding.outcome != "pass"
        and (finding.name, finding.outcome) not in {("redirect", "skip"), ("query.order", "skip")}
    }


# Faults, and which answers they spoil.


def always(request: Request, answer: Answer) -> bool:
    return True


def plain(request: Request, answer: Answer) -> bool:
    return request.plain and answer.status == 200


def head(request: Request, answer: Answer) -> bool:
    return request.method == "HEAD" and answer.status < 400


def status(*codes: int) -> When:
    return lambda _request, answer: answer.status in codes


def asks(method: str = "GET", **headers: str) -> When:
    """The request has these headers; `If_Range=".*"` is a regular expression."""
    patterns = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request, _answer: (
        request.method == method
        and all(
            re.search(pattern, request.headers.get(name, "-")) for name, pattern in patterns.items()
        )
    )


def put(name: str, value: str, when: When = always) -> Fault:
    """Set a header, or with an empty value leave it out."""

    def fault(request: Request, answer: Answer) -> None:
        if when(request, answer):
            answer.headers[name] = value

    return fault


def give(code: int, when: When, body: bytes = FILE, **headers: str) -> Fault:
    """Answer something else."""

    def fault(request: Request, answer: Answer) -> None:
        if when(request, answer):
            answer.status, answer.body = code, body
            answer.headers.update({name.replace("_", "-"): headers[name] for name in headers})

    return fault


def compress(when: When) -> Fault:
    def fault(request: Request, answer: Answer) -> None:
        if when(request, answer) and request.method == "GET":
            answer.body = gzip.compress(answer.body)
            answer.headers["Content-Encoding"] = "gzip"

    return fault


def stray(when: When) -> Fault:
    def fault(request: Request, answer: Answer) -> None:
        answer.stray = when(request, answer)

    return fault


def other_bytes(when: When) -> Fault:
    def fault(request: Request, answer: Answer) -> None:
        if when(request, answer):
            answer.body = answer.body[::-1]

    return fault


def both(*several: Fault) -> Fault:
    def fault(request: Request, answer: Answer) -> None:
        for one in several:
            one(request, answer)

    return fault


def ignores_range(request: Request, answer: Answer) -> None:
    if answer.status in {206, 416} and request.path == "/file.parquet":
        answer.status, answer.body = 200, FILE
        answer.headers.pop("Content-Range")


def replaced(old: bytes, new: bytes) -> Fault:
    def fault(request: Request, answer: Answer) -> None:
        answer.body = answer.body.replace(old, new)

    return fault


def exact_tags_only(request: Request, answer: Answer) -> None:
    """Compare If-None-Match as one string, as many a handwritten server does."""
    if request.headers.get("If-None-Match", ETAG) != ETAG:
        answer.status, answer.body = 200, FILE


def date_first(request: Request, answer: Answer) -> None:
    if request.headers.get("If-Modified-Since") == DATE:
        answer.status = 304


def busy() -> Fault:
    """Mix files up as soon as two are asked for at once."""
    lock = threading.Lock()

    def fault(request: Request, answer: Answer) -> None:
        if answer.status != 206:
            return
        if lock.acquire(blocking=False):
            time.sleep(0.005)
            lock.release()
        else:
            answer.body = answer.body[::-1]

    return fault


def multipart(request: Request, answer: Answer) -> None:
    """Answer two ranges with two parts."""
    if "," in request.headers.get("Range", ""):
        parts = ((0, 1), (4, 7))
        body = b"".join(
            b"--xyz\r\nContent-Range: bytes %d-%d/%d\r\n\r\n%b\r\n"
            % (first, last, SIZE, FILE[first : last + 1])
            for first, last in parts
        )
        answer.status, answer.body = 206, b"\r\n" + body + b"--xyz--\r\n"
        answer.headers["Content-Type"] = "multipart/byteranges; boundary=xyz"


def lazy(request: Request, answer: Answer) -> None:
    """Tell HEAD neither a length nor an ETag before the file is made, as `GET` does."""
    if request.method == "HEAD" and answer.status < 300:
        answer.status = 200
        unknown = ("Content-Length", "ETag", "Last-Modified", "Accept-Ranges")
        answer.headers |= dict.fromkeys(unknown, "")
        answer.headers.pop("Content-Range", None)


def chunked_lazy(request: Request, answer: Answer) -> None:
    """Send no length with HEAD; a chunk says that there may be a body, were it a GET."""
    lazy(request, answer)
    if request.method == "HEAD" and answer.status == 200:
        answer.headers["Transfer-Encoding"] = "chunked"


def at_first(fault: Fault) -> Fault:
    """Spoil the first answer only."""
    spoiled: list[Request] = []

    def once(request: Request, answer: Answer) -> None:
        if not spoiled:
            spoiled.append(request)
            fault(request, answer)

    return once


def chunked(request: Request, answer: Answer) -> None:
    if request.method == "GET" and answer.status == 200:
        answer.headers["Transfer-Encoding"] = "chunked"
        answer.body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer.body), answer.body)


def cut_chunks(request: Request, answer: Answer) -> None:
    if plain(request, answer):
        chunked(request, answer)
        answer.body = answer.body.removesuffix(b"0\r\n\r\n")
        answer.headers["Connection"] = "close"


def cut_short(request: Request, answer: Answer) -> None:
    if plain(request, answer):
        answer.headers |= {"Content-Length": str(SIZE + 9), "Connection": "close"}


def echo_origin(request: Request, answer: Answer) -> None:
    answer.headers["Access-Control-Allow-Origin"] = request.headers.get("Origin", "")


def unit_ignored(request: Request, answer: Answer) -> None:
    if request.headers.get("Range", "").startswith("webfoot"):
        answer.status, answer.body = 206, FILE[:2]


ORIGIN = "Access-Control-Allow-Origin"
EXPOSE = "Access-Control-Expose-Headers"
ALLOW = "Access-Control-Allow-Headers"
NO_TAG = "if-range.same if-none-match.same if-none-match.forms"
RANGES = "range.first range.middle range.open range.suffix range.long-suffix range.past-end"
ALL_CORS = "cors.origin cors.expose cors.preflight-range cors.preflight-authorization cors.errors"
suffix = asks(Range="bytes=-")


def no_parquet(request: Request, answer: Answer) -> None:
    if answer.status in {200, 206}:
        answer.body = answer.body.translate(bytes.maketrans(b"P", b"Q"))


FAULTS: dict[str, tuple[Fault, dict[str, str]]] = {
    "HEAD is 405": (
        give(405, asks("HEAD")),
        {"fail": "head.status missing.sibling missing.wal", "skip": "head.length head.range"},
    ),
    "HEAD is 404": (
        give(404, head),
        {"fail": "head.status", "skip": "head.length head.range"},
    ),
    "HEAD is 500 until GET": (at_first(give(500, head)), {"fail": "head.status"}),
    "HEAD has a body": (stray(head), {"warn": "head.body connection.reuse"}),
    "HEAD has length 0": (
        put("Content-Length", "0", head),
        {"fail": "head.length head.range"},
    ),
    "HEAD has another length": (
        put("Content-Length", "99", asks("HEAD", Range="^-$")),
        {"fail": "head.length"},
    ),
    "HEAD ignores ranges": (
        give(200, asks("HEAD", Range="bytes")),
        {"warn": "head.range"},
    ),
    "HEAD refuses ranges": (give(400, asks("HEAD", Range="bytes")), {"warn": "head.range"}),
    "HEAD gives a part's length": (
        put("Content-Length", "1", asks("HEAD", Range="bytes")),
        {"fail": "head.range"},
    ),
    "GET is 202": (give(202, plain), {"fail": "get.status"}),
    "GET is chunked": (chunked, {"warn": "get.length"}),
    "no length anywhere": (both(lazy, chunked), {"fail": "get.sized", "warn": "get.length"}),
    "GET breaks off": (cut_short, {"fail": "get.length"}),
    "GET breaks off between chunks": (cut_chunks, {"fail": "get.length"}),
    "GET says text": (put("Content-Type", "text/plain", plain), {"warn": "get.type"}),
    "GET says nothing": (put("Content-Type", "", plain), {"warn": "get.type"}),
    "GET is no Parquet": (no_parquet, {"fail": "get.parquet"}),
    "bytes change": (
        other_bytes(lambda request, _answer: request.nth > 1),
        {"fail": "get.repeat"},
    ),
    "ETag changes": (
        put("ETag", '"2"', lambda request, _answer: request.nth > 1),
        {"fail": "get.repeat"},
    ),
    "bytes change, and no-store": (
        both(
            put("Cache-Control", "no-store"),
            other_bytes(lambda request, _answer: request.nth > 1),
        ),
        {"skip": "get.repeat"},
    ),
    "compresses always": (
        put("Content-Encoding", "gzip", plain),
        {"fail": "encoding.unasked"},
    ),
    "compresses when asked": (
        compress(lambda request, _answer: "gzip" in request.headers.get("Accept-Encoding", "")),
        {"warn": "encoding.whole encoding.range"},
    ),
    "compresses parts": (
        compress(status(206)),
        {
            "fail": f"{RANGES} if-range.same connection.parallel",
            "warn": "encoding.range",
        },
    ),
    "weak ETag": (put("ETag", f"W/{ETAG}"), {"fail": "etag.strong", "skip": NO_TAG}),
    "no ETag": (put("ETag", ""), {"fail": "etag.strong", "skip": f"etag.same {NO_TAG}"}),
    "unquoted ETag": (put("ETag", "abc"), {"fail": "etag.strong", "skip": NO_TAG}),
    "HEAD has another ETag": (put("ETag", '"2"', head), {"fail": "etag.same"}),
    "parts have another ETag": (
        put("ETag", '"2"', status(206)),
        {"fail": "etag.same connection.parallel"},
    ),
    "parts have no ETag": (
        put("ETag", "", status(206)),
        {"fail": "etag.same connection.parallel"},
    ),
    "no Last-Modified": (
        put("Last-Modified", ""),
        {"warn": "last-modified", "skip": "if-modified-since"},
    ),
    "Last-Modified in ISO 8601": (
        put("Last-Modified", "2006-01-02T15:04:05Z"),
        {"fail": "last-modified", "warn": "if-modified-since"},
    ),
    "Last-Modified on the wrong weekday": (
        put("Last-Modified", "Sun, 02 Jan 2006 15:04:05 GMT"),
        {"fail": "last-modified", "warn": "if-modified-since"},
    ),
    "no Cache-Control": (put("Cache-Control", ""), {"warn": "cache-control"}),
    "no Accept-Ranges": (put("Accept-Ranges", ""), {"warn": "range.announced"}),
    "no Accept-Ranges on HEAD": (put("Accept-Ranges", "", head), {"warn": "range.announced"}),
    "denies ranges on HEAD": (put("Accept-Ranges", "none", head), {"fail": "range.announced"}),
    "denies ranges": (put("Accept-Ranges", "none"), {"fail": "range.announced"}),
    "ignores ranges": (
        ignores_range,
        {
            "fail": f"{RANGES} range.unsatisfiable if-range.same",
            "warn": "head.range",
        },
    ),
    "no bytes=0-1": (give(200, asks(Range="^bytes=0-1$")), {"fail": "range.first"}),
    "off by one": (
        put("Content-Range", f"bytes 0-2/{SIZE}", asks(Range="^bytes=0-1$")),
        {"fail": "range.first"},
    ),
    "total unknown": (
        put("Content-Range", "bytes 0-1/*", asks(Range="^bytes=0-1$")),
        {"fail": "range.first"},
    ),
    "other bytes": (
        other_bytes(asks(Range=f"^bytes={SIZE // 3}-")),
        {"fail": "range.middle"},
    ),
    "no open range": (
        give(416, asks(Range=r"^bytes=\d+-$", If_Range="^-$")),
        {"fail": "range.open"},
    ),
    "no suffix": (give(200, suffix), {"fail": "range.suffix range.long-suffix"}),
    "no long suffix": (
        give(416, asks(Range=r"bytes=-\d{6}")),
        {"fail": "range.long-suffix"},
    ),
    "refuses to stop at the end": (
        give(416, asks(Range=f"-{SIZE + 9}$")),
        {"fail": "range.past-end"},
    ),
    "no length in 416": (
        put("Content-Range", "", status(416)),
        {"fail": "range.unsatisfiable"},
    ),
    "answers 200 beyond the end": (give(200, status(416)), {"fail": "range.unsatisfiable"}),
    "takes any unit": (unit_ignored, {"warn": "range.unit"}),
    "refuses malformed ranges": (
        give(416, asks(Range="bytes=webfoot")),
        {"warn": "range.malformed"},
    ),
    "stumbles over malformed ranges": (
        give(500, asks(Range="bytes=webfoot")),
        {"warn": "range.malformed"},
    ),
    "first of two ranges": (
        give(206, asks(Range=","), FILE[:2], Content_Range=f"bytes 0-1/{SIZE}"),
        {"warn": "range.multi"},
    ),
    "two ranges without a place": (
        give(206, asks(Range=","), FILE[:2]),
        {"warn": "range.multi"},
    ),
    "refuses two ranges": (give(416, asks(Range=",")), {"warn": "range.multi"}),
    "two parts with other bytes": (
        both(multipart, other_bytes(asks(Range=","))),
        {"warn": "range.multi"},
    ),
    "two parts, one without a place": (
        both(multipart, replaced(b"bytes 4-7", b"somewhere")),
        {"warn": "range.multi"},
    ),
    "two parts": (multipart, {}),
    "If-Range never matches": (give(200, asks(If_Range='"')), {"fail": "if-range.same"}),
    "If-Range always matches": (
        give(206, asks(If_Range="other"), FILE[4:8]),
        {"fail": "if-range.other"},
    ),
    "If-Range gives a part as the whole": (
        give(200, asks(If_Range="other"), FILE[4:8]),
        {"fail": "if-range.other"},
    ),
    "If-None-Match is ignored": (
        give(200, asks(If_None_Match="[^-]")),
        {"fail": "if-none-match.same if-none-match.forms"},
    ),
    "If-None-Match is compared as text": (exact_tags_only, {"fail": "if-none-match.forms"}),
    "If-Modified-Since comes first": (date_first, {"fail": "if-none-match.other"}),
    "If-Modified-Since is ignored": (
        give(200, asks(If_Modified_Since="GMT", If_None_Match="^-$")),
        {"warn": "if-modified-since"},
    ),
    "304 without an ETag": (
        put("ETag", "", status(304)),
        {"fail": "if-none-match.same if-none-match.forms", "warn": "if-modified-since"},
    ),
    "304 has a body": (
        stray(status(304)),
        {"fail": "if-none-match.same", "warn": "connection.reuse"},
    ),
    "every path is a page": (give(200, status(404)), {"fail": "missing.sibling missing.wal"}),
    "missing files are forbidden": (
        give(403, status(404)),
        {"fail": "missing.sibling missing.wal"},
    ),
    "the log is a page": (
        give(200, lambda request, _answer: request.path.endswith(".wal")),
        {"fail": "missing.wal"},
    ),
    "mixes up what is asked at once": (busy(), {"fail": "connection.parallel"}),
    "closes each connection": (put("Connection", "close"), {"warn": "connection.reuse"}),
    "no CORS": (
        both(*(put(name, "") for name in (ORIGIN, EXPOSE, ALLOW))),
        {"fail": ALL_CORS, "warn": "cors.null"},
    ),
    "CORS twice": (
        put(ORIGIN, "*, *", asks(Range="0-1$")),
        {"fail": "cors.origin", "warn": "cors.null"},
    ),
    "CORS without Vary": (
        echo_origin,
        {"warn": f"{ALL_CORS} cors.null".replace("cors.expose ", "")},
    ),
    "CORS for one page": (
        put(ORIGIN, "", asks(Origin="null")),
        {"warn": "cors.null"},
    ),
    "exposes no ETag": (
        put(EXPOSE, "Content-Length, Content-Range, Accept-Ranges"),
        {"fail": "cors.expose"},
    ),
    "allows any header": (put(ALLOW, "*"), {"fail": "cors.preflight-authorization"}),
    "allows a token only": (put(ALLOW, "authorization"), {"fail": "cors.preflight-range"}),
    "asks a token of a preflight": (
        give(401, asks("OPTIONS")),
        {"fail": "cors.preflight-range cors.preflight-authorization"},
    ),
    "no CORS on 404": (put(ORIGIN, "", status(404)), {"fail": "cors.errors"}),
    "no CORS on 416": (put(ORIGIN, "", status(416)), {"fail": "cors.errors"}),
}


# Checks that need another URL are shown to fail further down.
ELSEWHERE = {"url.extension", "redirect", "query.order"}


def grouped(outcomes: dict[str, str]) -> dict[str, str]:
    return {name: outcome for outcome, names in outcomes.items() for name in names.split()}


@pytest.mark.parametrize(("fault", "outcomes"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_named(fault: Fault, outcomes: dict[str, str], client: httpx.Client) -> None:
    with serving(fault) as address:
        assert faults(check(f"{address}/file.parquet", client)) == grouped(outcomes)


def test_every_check_can_fail() -> None:
    named = {
        name
        for _fault, outcomes in FAULTS.values()
        for outcome in ("fail", "warn")
        for name in outcomes.get(outcome, "").split()
    }
    assert named | ELSEWHERE == {one.name for one in CHECKS}


def test_only_required_checks_fail() -> None:
    required = {one.name for one in CHECKS if one.required}
    for _fault, outcomes in FAULTS.values():
        assert set(outcomes.get("fail", "").split()) <= required


def test_every_client_needs_something() -> None:
    assert {client for one in CHECKS for client in one.clients} == set(CLIENTS)


@pytest.mark.parametrize("server", [good, lazy, at_first(lazy), chunked_lazy])
def test_good_servers_pass(server: Fault, client: httpx.Client) -> None:
    """One with a file, and two that do not know what HEAD asks about before the first GET."""
    with serving(server) as address:
        findings = check(f"{address}/file.parquet", client)
    assert faults(findings) == {}
    assert [finding.name for finding in findings] == [one.name for one in CHECKS]


def test_a_fault_is_told_with_its_value_and_cure(client: httpx.Client) -> None:
    with serving(put("ETag", f"W/{ETAG}")) as address:
        findings = {one.name: one for one in check(f"{address}/file.parquet", client)}
    assert findings["etag.strong"] == Finding(
        name="etag.strong",
        clients=("DuckDB", "browsers"),
        required=True,
        outcome="fail",
        detail=f"GET gave ETag 'W/{ETAG}': send a strong ETag in double quotes, such as a hash of "
        "the bytes; without one parts of an old and a new file get mixed.",
    )


# Other URLs.


@pytest.mark.parametrize(
    ("query", "outcome"),
    [("n=1", "pass"), ("n=1.5", "pass"), ("b=x.csv", "warn"), ("b=x.json.gz", "warn")],
)
def test_the_query_must_not_end_like_a_file(query: str, outcome: str, client: httpx.Client) -> None:
    with serving() as address:
        findings = check(f"{address}/file.parquet?{query}", client)
    assert faults(findings) == ({} if outcome == "pass" else {"url.extension": outcome})


def by_order(request: Request, answer: Answer) -> None:
    if answer.status == 200 and request.query in {"b=2&a=1", "a=2&a=1&b=3"}:
        answer.body = answer.body[::-1]


@pytest.mark.parametrize(
    ("query", "outcome"),
    [("a=1", "skip"), ("a=1&a=2", "skip"), ("a=1&b=2", "warn"), ("b=3&a=2&a=1", "warn")],
)
def test_the_order_of_parameters_is_tried(query: str, outcome: str, client: httpx.Client) -> None:
    url = f"/file.parquet?{query}"
    with serving(by_order) as address, serving() as better:
        found = {one.name: one.outcome for one in check(address + url, client)}
        fine = {one.name: one.outcome for one in check(better + url, client)}
    assert found["query.order"] == outcome
    assert fine["query.order"] == ("pass" if outcome == "warn" else "skip")


def moved(location: str = "/file.parquet", when: When = always) -> Fault:
    """Redirect `/moved.parquet`."""

    def fault(request: Request, answer: Answer) -> None:
        if request.path == "/moved.parquet" and when(request, answer):
            answer.status, answer.body = 302, b"elsewhere"
            port = request.headers["Host"].partition(":")[2]
            answer.headers["Location"] = location.replace("PORT", port)

    return fault


def one_time() -> Fault:
    """Redirect to an address that works once."""
    used: list[str] = []
    tickets = count()

    def fault(request: Request, answer: Answer) -> None:
        moved(f"/file.parquet?ticket={next(tickets)}")(request, answer)
        if request.query:
            if request.query in used:
                answer.status = 403
            used.append(request.query)

    return fault


def get_moved(**headers: str) -> Fault:
    """Redirect GET alone, and answer HEAD as for what is there, but for `headers`."""

    def fault(request: Request, answer: Answer) -> None:
        if request.method != "HEAD":
            moved()(request, answer)
        elif request.path == "/moved.parquet":
            there = static(dataclasses.replace(request, path="/file.parquet"))
            answer.status, answer.body = there.status, there.body
            answer.headers = there.headers | headers

    return fault


@pytest.mark.parametrize(
    ("server", "outcomes"),
    [
        (moved(), {"fail": ""}),
        (moved("http://localhost:PORT/file.parquet"), {"warn": "redirect"}),
        (
            moved(when=lambda request, _answer: request.method != "HEAD"),
            {"fail": "head.status redirect", "skip": "head.length head.range"},
        ),
        (
            both(give(403, head), moved()),
            {"fail": "head.status redirect", "skip": "head.length head.range"},
        ),
        (one_time(), {"fail": "redirect"}),
        (get_moved(), {"fail": ""}),
        (get_moved(ETag='"ours"'), {"fail": "redirect etag.same"}),
    ],
    ids=[
        *("to here", "to another host", "GET only", "signed for GET", "once"),
        *("HEAD answered", "HEAD answered with another tag"),
    ],
)
def test_redirects_are_tried(server: Fault, outcomes: dict[str, str], client: httpx.Client) -> None:
    with serving(server) as address:
        findings = check(f"{address}/moved.parquet", client)
    preflights = {"cors.preflight-range", "cors.preflight-authorization"}
    found = {name: seen for name, seen in faults(findings).items() if name not in preflights}
    assert found == grouped(outcomes)


def test_a_token_is_not_shown_to_another_host() -> None:
    seen: list[str | None] = []

    def elsewhere(request: Request, answer: Answer) -> None:
        moved("http://localhost:PORT/file.parquet")(request, answer)
        if request.path == "/file.parquet":
            seen.append(request.headers.get("Authorization"))

    token = {"Authorization": "Bearer let-me-in"}
    with serving(elsewhere) as address, httpx.Client(headers=token, trust_env=False) as bearer:
        check(f"{address}/moved.parquet", bearer)
    assert len(seen) > 50
    assert set(seen) == {None}


# URLs at which there is nothing to check.


def raises(request: Request, answer: Answer) -> None:
    """Close the connection without a word."""
    raise ConnectionError


UNUSABLE: dict[str, tuple[Fault, str, str]] = {
    "no such file": (good, "/other.parquet", r"GET .*/other.parquet gave 404; the checks need"),
    "forbidden": (give(403, always), "/file.parquet", "gave 403;"),
    "no target": (put("Location", ""), "/moved.parquet", "gave 404;"),
    "redirects to itself": (
        moved("/moved.parquet"),
        "/moved.parquet",
        r"cannot be reached \(TooManyRedirects: .*\): is the address right",
    ),
    "redirects to nonsense": (
        moved("http://nowhere:port/"),
        "/moved.parquet",
        r"gave no answer \(RemoteProtocolError: .*\);",
    ),
    "says nothing": (raises, "/file.parquet", r"gave no answer \(RemoteProtocolError: .*\);"),
    "empty": (give(200, always, b""), "/file.parquet", "gave 0 bytes, fewer than any"),
}


@pytest.mark.parametrize(("server", "path", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_nothing_to_check(server: Fault, path: str, message: str, client: httpx.Client) -> None:
    with serving(server) as address, pytest.raises(UnusableUrlError, match=message):
        check(address + path, client)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("htp://localhost/a.parquet", r"'htp://localhost/a.parquet' is not a URL that begins with"),
        ("localhost:8000/a.parquet", "begins with http:// or https://"),
        ("data/a.parquet", "begins with http:// or https://"),
        ("http:///a.parquet", "begins with http:// or https://"),
        ("http://localhost:port/a.parquet", "is not a URL: Invalid port"),
    ],
)
def test_what_is_no_url_is_said_so(url: str, message: str, client: httpx.Client) -> None:
    with pytest.raises(UnusableUrlError, match=message):
        check(url, client)


# Clients that are not on the network.


def in_process(request: httpx.Request) -> httpx.Response:
    """Answer as `static` does, without a server."""
    headers = Message()
    for name, value in request.headers.items():
        headers[name] = value
    answer = static(Request(request.method, request.url.path, "", headers))
    body = b"" if request.method == "HEAD" or answer.status == 304 else answer.body
    stream = httpx.ByteStream(body)
    length = {"Content-Length": str(len(answer.body))}
    return httpx.Response(answer.status, headers=answer.headers | length, stream=stream)


def test_connections_are_not_judged_in_process() -> None:
    with closed_port() as port, httpx.Client(transport=httpx.MockTransport(in_process)) as client:
        findings = check(f"http://127.0.0.1:{port}/file.parquet", client)
    skipped = "head.body connection.reuse"
    assert faults(findings) == grouped({"skip": skipped})


def test_a_body_is_not_waited_for(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "WIRE_TIMEOUT_S", 0.05)
    heads, checked = count(), threading.Event()

    def slow(request: Request, answer: Answer) -> None:
        if request.method == "HEAD" and next(heads) == 2:
            checked.wait(30)

    with serving(slow) as address:
        findings = {one.name: one for one in check(f"{address}/file.parquet", client)}
        checked.set()
    assert findings["head.body"].detail == "Not applicable: HEAD had no answer within 0.05 s."


def test_a_server_lost_on_the_way_fails_what_follows() -> None:
    asked = count()

    def leave(request: httpx.Request) -> httpx.Response:
        if next(asked) > 2:
            raise httpx.ConnectError("Connection refused")
        return in_process(request)

    with closed_port() as port, httpx.Client(transport=httpx.MockTransport(leave)) as client:
        findings = {one.name: one for one in check(f"http://127.0.0.1:{port}/file.parquet", client)}
    assert findings["head.length"].outcome == "pass"
    assert findings["range.first"].detail == (
        "The server could not be asked (ConnectError: Connection refused): see its log."
    )


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of this machine that is taken, and where nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


# The command.


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner(env={"NO_PROXY": "*", **environment}).invoke(main, arguments)


def test_the_command_prints_a_table_and_succeeds() -> None:
    with serving() as address:
        result = run(f"{address}/file.parquet")
    assert result.exit_code == 0
    assert result.stderr == ""
    for one in CHECKS:
        assert re.search(rf"(pass|skip)  {one.name} ", result.stdout)
    assert re.search(r"Range: bytes=0-1 gave 206, Content-Range 'bytes 0-1/2056'\.", result.stdout)
    assert "45 pass, 0 fail, 0 warn, 2 skip\n" in result.stdout
    assert [line.split() for line in result.stdout.splitlines()[-6:]] == [
        [client, "suits"] for client in CLIENTS
    ]


def test_the_command_is_coloured_on_a_terminal() -> None:
    with serving(give(200, asks(Range="bytes=-"))) as address:
        result = run(f"{address}/file.parquet", FORCE_COLOR="1", COLUMNS="80")
    assert "\x1b[1;31mfail" in result.stdout
    assert (
        max(len(line) for line in re.sub(r"\x1b\[[0-9;]*m", "", result.stdout).splitlines()) <= 80
    )


def test_the_command_fails_when_a_required_check_does() -> None:
    with serving(give(200, asks(Range="bytes=-"))) as address:
        result = run(f"{address}/file.parquet")
    assert result.exit_code == 1
    assert re.search(r"fail  range.suffix +Polars +Range: bytes=-1028 gave 200", result.stdout)
    assert "  Polars       unmet: range.suffix, range.long-suffix\n" in result.stdout
    assert "  DuckDB       suits\n" in result.stdout


def test_the_command_succeeds_with_warnings() -> None:
    with serving(put("Cache-Control", "")) as address:
        result = run(f"{address}/file.parquet")
    assert result.exit_code == 0
    assert re.search(r"warn  cache-control +better for browsers", result.stdout)


def test_the_command_says_when_it_is_no_parquet() -> None:
    with serving(no_parquet) as address:
        result = run(f"{address}/file.parquet")
    assert result.exit_code == 1
    assert re.search(r"fail  get.parquet +everyone +The file begins with b'QAR1'", result.stdout)


def test_the_report_is_for_programs() -> None:
    with serving(put("ETag", "", status(206))) as address:
        url = f"{address}/file.parquet"
        result = run("--json", url)
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["url"], report["ok"]) == (url, False)
    assert report["clients"] == {
        "DuckDB": False,
        "DuckDB-Wasm": False,
        "Polars": False,
        "fsspec": True,
        "pandas": True,
        "browsers": False,
    }
    assert [one["name"] for one in report["findings"]] == [one.name for one in CHECKS]
    assert report["findings"][1] == {
        "name": "head.status",
        "clients": ["DuckDB", "DuckDB-Wasm"],
        "required": True,
        "outcome": "pass",
        "detail": "HEAD gave 200 before the first GET and 200 after it.",
    }


def test_the_command_says_that_nobody_answers() -> None:
    with closed_port() as port:
        result = run("--json", f"http://127.0.0.1:{port}/file.parquet")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "cannot be reached (ConnectError: " in result.stderr


def test_the_command_does_not_wait_for_ever() -> None:
    ended = threading.Event()

    def slow(request: Request, answer: Answer) -> None:
        ended.wait(30)

    with serving(slow) as address:
        result = run(f"{address}/file.parquet", "--timeout", "0.1")
        ended.set()
    assert result.exit_code == 2
    assert "gave no answer (ReadTimeout: timed out)" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'URL'"),
        (["htp://localhost/a.parquet"], "is not a URL"),
        (["http://localhost/a.parquet", "--jsn"], "No such option '--jsn'"),
        (["http://localhost/a.parquet", "-H", "token"], "'token' is no header: write"),
        (["http://localhost/a.parquet", "-H", "a: b\nc"], "is no header"),
        (["http://localhost/a.parquet", "--timeout", "0"], "0.0 is not in the range x>0"),
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_headers_go_with_every_request() -> None:
    def guarded(request: Request, answer: Answer) -> None:
        if request.headers.get("Authorization") != "Bearer let-me-in":
            answer.status = 401

    with serving(guarded) as address:
        url = f"{address}/file.parquet"
        assert run(url).exit_code == 2
        assert run(url, "--header", "Authorization: Bearer let-me-in").exit_code == 0


def test_one_allowed_origin_will_do() -> None:
    def particular(request: Request, answer: Answer) -> None:
        allowed = request.headers.get("Origin") == "https://my.page"
        answer.headers |= {ORIGIN: "https://my.page" if allowed else "", "Vary": "origin"}

    with serving(particular) as address:
        url = f"{address}/file.parquet"
        assert run(url).exit_code == 1
        assert run(url, "-H", "Origin: https://my.page").exit_code == 0


def test_the_module_runs_and_needs_no_server() -> None:
    """It is for checking other people's servers too, so it must not load ours."""
    code = "import sys, webfoot.conformance.__main__; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"fastapi", "pyarrow", "duckdb", "pandas", "webfoot.server"} & set(modules)
    shown = subprocess.run(
        [sys.executable, "-m", "webfoot.conformance", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Exits with 0 if every required check passes" in shown


# Webfoot's own server: its data URLs are checked here too.
