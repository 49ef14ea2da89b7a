"""How the answers travel: redirects, connections used again, and many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from webfoot.conformance.probe import (
    OK,
    PARTIAL,
    NotApplicableError,
    Probe,
    Reply,
    Verdict,
    ask,
    every,
    judge,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

THREADS, PARTS = 8, 32
MOVED = frozenset({301, 302, 303, 307, 308})


def redirect(probe: Probe) -> Verdict:
    """Where the URL redirects, HEAD does as well as GET, to a place that both may ask twice.

    Readers ask the first URL again for every range, and each answer leads them anew.
    """
    head = ask(probe.client, "HEAD", probe.url, follow=False)
    get = ask(probe.client, "GET", probe.url, {"Range": "bytes=0-1"}, follow=False)
    if not {head.status, get.status} & MOVED:
        raise NotApplicableError("the URL does not redirect")
    hops = f"HEAD gave {head}, {head.field('Location')}; GET {get}, {get.field('Location')}"
    if not all(hop.status in MOVED and "Location" in hop.headers for hop in (head, get)):
        return judge(ok=False, seen=hops, cure="redirect both with a Location")
    verdict = every((_target(probe, method, hop) for method, hop in _twice(head, get)), hops)
    there = probe.url.join(get.headers["Location"])
    if verdict.outcome == "pass" and there.host != probe.url.host:
        return Verdict("warn", f"{hops}: on another host, DuckDB leaves its Authorization out.")
    return verdict


def _twice(head: Reply, get: Reply) -> list[tuple[str, Reply]]:
    return [("HEAD", head), ("GET", get), ("GET", get)]


def _target(probe: Probe, method: str, hop: Reply) -> Verdict:
    reply = ask(probe.client, method, probe.url.join(hop.headers["Location"]))
    return judge(
        reply.status in {OK, PARTIAL},
        f"{method} {hop.field('Location')} gave {reply}",
        "let HEAD and GET work there, as often as asked (a signed URL is signed for one of them)",
    )


def connection_reuse(probe: Probe) -> Verdict:
    """Several requests travel over one connection, also after answers without a body."""
    events: list[str] = []

    def trace(event: str, _info: Mapping[str, object]) -> None:
        events.append(event)

    replies = [
        ask(
            probe.client,
            method,
            probe.url,
            {**headers, "Connection": "keep-alive"},
            extensions={"trace": trace},
        )
        for method, headers in (
            ("HEAD", {}),
            ("GET", {"Range": "bytes=0-1"}),
            ("GET", {"Range": f"bytes={probe.size}-"}),
            ("GET", {"If-None-Match": "*"}),
            ("GET", {"Range": "bytes=0-1"}),
        )
    ]
    if not events:
        raise NotApplicableError("there are no connections here: the client works in process")
    opened = events.count("connection.connect_tcp.complete")
    lost = sum(not reply.status for reply in replies)
    return judge(
        opened <= 1 and not lost,
        f"{len(replies)} requests opened {opened} new connections, and {lost} had no answer",
        "keep connections open (HTTP/1.1 keep-alive, 75 s), or each request waits for a new one",
    )


def connection_parallel(probe: Probe) -> Verdict:
    """Many ranges at once, as DuckDB and Polars ask, are parts of the same file."""
    step = max(1, probe.size // PARTS)
    starts = range(0, min(probe.size, step * PARTS), step)

    def part(first: int) -> Verdict:
        last = min(first + step, probe.size) - 1
        reply = probe.get({"Range": f"bytes={first}-{last}"})
        same = reply.headers.get("ETag") == probe.whole.headers.get("ETag")
        expected = probe.whole.body if reply.status == OK else probe.whole.body[first : last + 1]
        return judge(
            reply.status in {OK, PARTIAL} and reply.body == expected and same,
            f"One of {len(starts)} ranges, {THREADS} at once, gave {reply}, {reply.field('ETag')}"
            f" and {'the right' if reply.body == expected else 'other'} bytes",
            "serve every request from the same stored bytes",
        )

    with ThreadPoolExecutor(THREADS) as pool:
        verdicts = list(pool.map(part, starts))
    return every(verdicts, f"{len(starts)} ranges, {THREADS} at once, gave the bytes of one file")
