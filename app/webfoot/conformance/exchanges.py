"""How a server is asked, what it answered, and how a check says what it thinks of that."""

from __future__ import annotations

import socket
import ssl
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

OK, PARTIAL, NOT_MODIFIED, NOT_FOUND, UNSATISFIABLE = 200, 206, 304, 404, 416

# The smallest Parquet file: a magic number, an empty footer, its length, a magic number.
SMALLEST = 12
WIRE_TIMEOUT_S = 5.0
_BROKEN = (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError)

Client = Literal["DuckDB", "DuckDB-Wasm", "Polars", "fsspec", "pandas", "browsers"]
Outcome = Literal["pass", "fail", "warn", "skip"]


class UnusableUrlError(ValueError):
    """Nothing can be checked at this URL: it is no URL, nobody answers, or there is no file."""


class NotApplicableError(Exception):
    """A check has nothing to look at here; the message says why, and the outcome is `skip`."""


@dataclass(frozen=True)
class Verdict:
    """What one check found: an outcome, and one sentence with what was seen and the cure."""

    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class Check:
    """One demand on a server.

    Attributes:
        name: Group and fact, such as `range.suffix`; stable, so that scripts can rely on it.
        clients: Who needs it.
        run: The check itself.
        required: Whether those clients fail without it; else they are only slower or less sure.
    """

    name: str
    clients: tuple[Client, ...]
    run: Callable[[Probe], Verdict]
    required: bool = True


@dataclass(frozen=True)
class Reply:
    """One answer, with its body as it came over the wire: nothing is decompressed.

    Attributes:
        status: The status, or 0 if no answer came.
        headers: The header fields.
        body: As many bytes as came.
        broken: Why the answer ended early, or nothing.
        request: What was asked last, after redirects.
        target: What would be asked next, if redirects were followed. The library has left out
            what another host must not see.
    """

    status: int = 0
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    body: bytes = b""
    broken: str = ""
    request: httpx.Request | None = None
    target: httpx.Request | None = None

    def __str__(self) -> str:
        return str(self.status) if self.status else f"no answer ({self.broken})"

    def field(self, name: str) -> str:
        """Say what the header field `name` is, or that there is none."""
        value = self.headers.get(name)
        return f"no {name}" if value is None else f"{name} {value!r}"


@dataclass(frozen=True)
class Probe:
    """A URL, and the three answers that most checks look at.

    Attributes:
        url: The address under test.
        client: Sends the requests; its headers go with every one.
        cold: HEAD, before anything else was asked. A server may not know the length yet.
        whole: The first plain GET.
        warm: HEAD after it.
    """

    url: httpx.URL
    client: httpx.Client
    cold: Reply
    whole: Reply
    warm: Reply

    @property
    def size(self) -> int:
        """The length of the file in bytes."""
        return len(self.whole.body)

    @property
    def etag(self) -> str:
        """The file's strong ETag; without one the check is not applicable."""
        etag = str(self.whole.headers.get("ETag", ""))
        if not (etag.startswith('"') and etag.isascii()):
            raise NotApplicableError("there is no strong ETag to send, see etag.strong")
        return etag

    def get(self, headers: Mapping[str, str] | None = None) -> Reply:
        """GET the file with these headers."""
        return ask(self.client, "GET", self.url, headers)

    def head(self, headers: Mapping[str, str] | None = None) -> Reply:
        """Ask for the file's headers only."""
        return ask(self.client, "HEAD", self.url, headers)

    def renamed(self, rename: Callable[[str], str]) -> httpx.URL:
        """The same URL with another path; the query stays."""
        path, mark, query = self.url.raw_path.decode("ascii").partition("?")
        return self.url.copy_with(raw_path=(rename(path) + mark + query).encode("ascii"))


def ask(
    client: httpx.Client,
    method: str,
    url: httpx.URL,
    headers: Mapping[str, str] | None = None,
    *,
    follow: bool = True,
    extensions: Mapping[str, Any] | None = None,
) -> Reply:
    """Send one request and read the whole answer, undecoded.

    `Accept-Encoding` is sent only if `headers` has it: DuckDB never sends one. A question whose
    answer may have no body closes its connection, where a body sent by mistake would be taken for
    the next answer.

    Raises:
        httpx.HTTPError: If no connection could be made, or redirects never end.
    """
    given = dict(headers or {})
    request = client.build_request(method, url, headers=given, extensions=dict(extensions or {}))
    if "Accept-Encoding" not in given:
        request.headers.pop("Accept-Encoding", None)
    if method == "HEAD" or any(name.startswith("If-") for name in given):
        request.headers["Connection"] = given.get("Connection", "close")
    return send(client, request, follow=follow)


def send(client: httpx.Client, request: httpx.Request, *, follow: bool) -> Reply:
    """Send a request that is made already, and read the whole answer."""
    try:
        response = client.send(request, stream=True, follow_redirects=follow)
    except _BROKEN as exc:
        return Reply(broken=_reason(exc))
    body, broken = bytearray(), ""
    try:
        for chunk in response.iter_raw():
            body += chunk
    except _BROKEN as exc:
        broken = _reason(exc)
    finally:
        response.close()
    return Reply(
        status=response.status_code,
        headers=response.headers,
        body=bytes(body),
        broken=broken,
        request=response.request,
        target=response.next_request,
    )


def stray_bytes(probe: Probe, method: str, headers: Mapping[str, str] | None = None) -> int:
    """Count the bytes after the header of an answer to HEAD, or of a 304; redirects apart.

    This takes a connection of its own, since an HTTP library never shows them: it reads no body
    there, and trips over it at the next request.

    Raises:
        NotApplicableError: If no such connection can be made, as in process or behind a proxy, or
            if the answer there may have a body.
    """
    assert probe.whole.request is not None, "`observe` lets no other answer through"
    url, fields = probe.whole.request.url, probe.whole.request.headers.copy()
    fields.update({**(headers or {}), "Connection": "close"})
    lines = [b"%b %b HTTP/1.1" % (method.encode("ascii"), url.raw_path)]
    lines += [b"%b: %b" % pair for pair in fields.raw]
    secure = url.scheme == "https"
    host, port = url.host, url.port or (443 if secure else 80)
    try:
        with (
            socket.create_connection((host, port), WIRE_TIMEOUT_S) as plain,
            _secured(plain, host) if secure else nullcontext(plain) as stream,
        ):
            stream.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
            header, payload = _received(stream)
    except OSError as exc:
        raise NotApplicableError(f"no connection of its own to {host}: {exc}") from exc
    if not header:
        raise NotApplicableError(f"{method} had no answer within {WIRE_TIMEOUT_S:g} s")
    status = header.split()[1].decode("latin-1")
    if method != "HEAD" and status != str(NOT_MODIFIED):
        raise NotApplicableError(f"on a connection of its own, {method} gave {status}")
    return len(payload)


def _secured(plain: socket.socket, host: str) -> ssl.SSLSocket:
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def _received(stream: socket.socket) -> tuple[bytes, bytes]:
    """The header, and the first bytes that follow it before the server closes."""
    received = b""
    with suppress(OSError):
        while chunk := stream.recv(65536):
            received += chunk
            if received.partition(b"\r\n\r\n")[2]:
                break
    header, end, payload = received.partition(b"\r\n\r\n")
    return (header, payload) if end else (b"", b"")


def observe(url: str, client: httpx.Client) -> Probe:
    """Ask for the three answers that most checks share: HEAD, GET, HEAD.

    Raises:
        UnusableUrlError: If there is nothing to check.
    """
    target = _parsed(url)
    try:
        cold = ask(client, "HEAD", target)
        whole = ask(client, "GET", target)
        warm = ask(client, "HEAD", target)
    except httpx.HTTPError as exc:
        raise UnusableUrlError(
            f"{url} cannot be reached ({_reason(exc)}): is the address right, and the server up?"
        ) from exc
    if not OK <= whole.status < 300:  # noqa: PLR2004 - any success is worth a look
        raise UnusableUrlError(f"GET {url} gave {whole}; the checks need a Parquet file there.")
    if len(whole.body) < SMALLEST:
        raise UnusableUrlError(
            f"GET {url} gave {len(whole.body)} bytes, fewer than any Parquet file has."
        )
    return Probe(target, client, cold, whole, warm)


def _parsed(url: str) -> httpx.URL:
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL as exc:
        raise UnusableUrlError(f"{url!r} is not a URL: {exc}.") from exc
    if target.scheme not in {"http", "https"} or not target.host:
        raise UnusableUrlError(f"{url!r} is not a URL that begins with http:// or https://.")
    return target


def judge(ok: bool, seen: str, cure: str, *, otherwise: Outcome = "fail") -> Verdict:
    """Pass with what was seen, or else say what was seen and how to mend it."""
    return Verdict("pass", f"{seen}.") if ok else Verdict(otherwise, f"{seen}: {cure}.")


def every(verdicts: Iterable[Verdict], summary: str) -> Verdict:
    """Pass if all do; else the first that does not. Later ones are then not asked for."""
    faults = (verdict for verdict in verdicts if verdict.outcome != "pass")
    return next(faults, Verdict("pass", f"{summary}."))


def _reason(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
