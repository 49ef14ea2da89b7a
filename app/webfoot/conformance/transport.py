"""How the answers travel: redirects, connections used again, and many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from webfoot.conformance.exchanges import (
    OK,
    PARTIAL,
    NotApplicableError,
    Probe,
    Reply,
    Verdict,
    ask,
    every,
    judge,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

THREADS, PARTS = 8, 32
MOVED = frozenset({301, 302, 303, 307, 308})


def redirect(probe: Probe) -> Verdict:
    """Where the URL redirects, HEAD does as well as GET, to a place that both may ask twice.

    Readers ask the first URL again for every range, and each answer leads them anew. HEAD may also
    be answered without a redirect, with the ETag that GET finds there: DuckDB compares the two.
    """
    head = ask(probe.client, "HEAD", probe.url, follow=False)
    get = ask(probe.client, "GET", probe.url, {"Range": "bytes=0-1"}, follow=False)
    if not {head.status, get.status} & MOVED:
        raise NotApplicableError("the URL does not redirect")
    hops = f"HEAD gave {head}, {head.field('Location')}; GET {get}, {get.field('Location')}"
    answered = head.status == OK and head.headers.get("ETag") == probe.whole.headers.get("ETag")
    if get.target is None or not (head.target or answered):
        cure = "redirect both with a Location, or answer HEAD with the ETag that GET finds there"
        return judge(ok=False, seen=hops, cure=cure)
    targets = (head.target, get.target, get.target)
    verdict = every((_arrives(probe, target) for target in targets if target is not None), hops)
    if verdict.outcome == "pass" and get.target.url.host != probe.url.host:
        return Verdict("warn", f"{hops}: on another host, DuckDB leaves its Authorization out.")
    return verdict


def _arrives(probe: Probe, target: httpx.Request) -> Verdict:
    reply = send(probe.client, target, follow=True)
    return judge(
        reply.status in {OK, PARTIAL},
        f"{target.method} {target.url} gave {reply}",
        "let HEAD and GET work there, as often as asked (a signed URL is signed for one of them)",
    )


def connection_reuse(probe: Probe) -> Verdict:
    """Several requests travel over one connection, also after answers without a body."""
    events: list[str] = []

    def trace(event: str, _info: Mapping[str, object]) -> None:
        events.append(event)

    def reuse(method: str, headers: Mapping[str, str]) -> Reply:
        headers = {**headers, "Connection": "keep-alive"}
        return ask(probe.client, method, probe.url, headers, extensions={"trace": trace})

    requests: tuple[tuple[str, Mapping[str, str]], ...] = (
        ("HEAD", {}),
        ("GET", {"Range": f"bytes={probe.size}-"}),
        ("GET", {"If-None-Match": "*"}),
        ("GET", {"Range": "bytes=0-1"}),
    )
    reuse("GET", {"Range": "bytes=0-1"})
    if not events:
        raise NotApplicableError("there are no connections here: the client works in process")
    events.clear()
    lost = sum(not reuse(method, headers).status for method, headers in requests)
    opened = events.count("connection.connect_tcp.complete")
    return judge(
        not (opened or lost),
        f"{len(requests)} more requests opened {opened} more connections; {lost} had no answer",
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
