"""What a page from another origin may see: Cross-Origin Resource Sharing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webfoot.conformance.content import sibling
from webfoot.conformance.exchanges import Probe, Reply, Verdict, ask, every, judge

if TYPE_CHECKING:
    from collections.abc import Iterable

ORIGIN = "https://webfoot.example"
EXPOSED = ("Content-Length", "Content-Range", "Accept-Ranges", "ETag")


def cors_origin(probe: Probe) -> Verdict:
    """HEAD, GET and ranges may be read by a page elsewhere.

    If only certain origins may: give the client one of them as its `Origin` header.
    """
    origin = _origin(probe)
    return every(_answers(probe, origin), f"Origin {origin} may read HEAD, GET and ranges")


def cors_null(probe: Probe) -> Verdict:
    """So it may by a page without an origin: a local file, or a frame in a sandbox."""
    return every(_answers(probe, "null"), "Origin null may read HEAD, GET and ranges")


def _answers(probe: Probe, origin: str) -> Iterable[Verdict]:
    yield _allowed("HEAD", probe.head({"Origin": origin}), origin)
    yield _allowed("GET", probe.get({"Origin": origin}), origin)
    yield _allowed("A range", probe.get({"Origin": origin, "Range": "bytes=0-1"}), origin)


def _allowed(what: str, reply: Reply, origin: str) -> Verdict:
    name = "Access-Control-Allow-Origin"
    allowed = reply.headers.get(name)
    if allowed not in {"*", origin}:
        seen = f"{what} with Origin: {origin} gave {reply.field(name)}"
        return judge(ok=False, seen=seen, cure=f"send {name}: *, once")
    return judge(
        allowed == "*" or "Origin" in _listed(reply, "Vary"),
        f"{what} with Origin: {origin} gave {reply.field(name)}, {reply.field('Vary')}",
        "send Vary: Origin too, or a cache gives one page's answer to another",
        otherwise="warn",
    )


def cors_expose(probe: Probe) -> Verdict:
    """The headers that a reader of ranges lives by are shown to the page."""
    reply = probe.get({"Origin": _origin(probe), "Range": "bytes=0-1"})
    name = "Access-Control-Expose-Headers"
    exposed = _listed(reply, name)
    hidden = [field for field in EXPOSED if not {field.title(), "*"} & exposed]
    return judge(
        not hidden,
        f"A range gave {reply.field(name)}",
        f"name {', '.join(hidden)} there",
    )


def preflight_range(probe: Probe) -> Verdict:
    """A page may send `Range` (the browser asks first for `bytes=-n`) and `If-None-Match`."""
    return _preflight(probe, ("If-None-Match", "Range"), wildcard="*")


def preflight_authorization(probe: Probe) -> Verdict:
    """A page may send a token: `*` does not cover `Authorization`."""
    return _preflight(probe, ("Authorization",), wildcard="Authorization")


def _preflight(probe: Probe, names: tuple[str, ...], *, wildcard: str) -> Verdict:
    origin = _origin(probe)
    reply = ask(
        probe.client,
        "OPTIONS",
        probe.url,
        {
            "Origin": origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": ",".join(names).lower(),
        },
        follow=False,
    )
    name = "Access-Control-Allow-Headers"
    allowed = _listed(reply, name)
    refused = [header for header in names if not {header.title(), wildcard} & allowed]
    verdict = _allowed(f"OPTIONS ({reply})", reply, origin)
    if verdict.outcome != "pass":
        return verdict
    return judge(
        200 <= reply.status < 300 and not refused,  # noqa: PLR2004 - any success will do
        f"OPTIONS for {', '.join(names)} gave {reply}, {reply.field(name)}",
        f"answer 204 without asking for a token, and name {', '.join(names)} there",
    )


def cors_errors(probe: Probe) -> Verdict:
    """A page may read why it failed."""
    origin = {"Origin": _origin(probe)}
    past = f"bytes={probe.size}-"
    return every(
        (
            _allowed(f"{reply}", reply, origin["Origin"])
            for reply in (
                ask(probe.client, "GET", sibling(probe), origin),
                probe.get({**origin, "Range": past}),
            )
        ),
        "A page may read errors",
    )


def _origin(probe: Probe) -> str:
    return str(probe.client.headers.get("Origin", ORIGIN))


def _listed(reply: Reply, name: str) -> set[str]:
    """The items of a header field that is a list, in title case."""
    return {item.strip().title() for item in str(reply.headers.get(name, "")).split(",")}
