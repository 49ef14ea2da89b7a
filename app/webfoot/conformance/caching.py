"""Whether the same file is known again: validators, conditions, and repeated reads."""

from __future__ import annotations

import re
from contextlib import suppress
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING

from webfoot.conformance.exchanges import (
    NOT_MODIFIED,
    PARTIAL,
    NotApplicableError,
    Probe,
    Verdict,
    ask,
    every,
    judge,
    stray_bytes,
)
from webfoot.conformance.ranges import whole

if TYPE_CHECKING:
    from collections.abc import Mapping

OTHER = '"webfoot-other"'


def etag_strong(probe: Probe) -> Verdict:
    """There is an ETag that vouches for every byte."""
    etag = str(probe.whole.headers.get("ETag", ""))
    return judge(
        re.fullmatch(r'"[\x21\x23-\x7e]+"', etag) is not None,
        f"GET gave {probe.whole.field('ETag')}",
        "send a strong ETag in double quotes, such as a hash of the bytes; without one "
        "parts of an old and a new file get mixed",
    )


def etag_same(probe: Probe) -> Verdict:
    """The file, its parts and, where it says one, HEAD have the same ETag."""
    etag = probe.whole.headers.get("ETag")
    if etag is None:
        raise NotApplicableError("there is no ETag, see etag.strong")
    replies = {
        "206": probe.get({"Range": "bytes=0-1"}),
        "HEAD before the first GET": probe.cold,
        "HEAD after it": probe.warm,
    }
    return every(
        (
            judge(
                reply.headers.get("ETag") == etag,
                f"200 gave ETag {etag!r}, {what} gave {reply.field('ETag')}",
                "send the same on both; DuckDB stops when it changes between two requests",
            )
            for what, reply in replies.items()
            if "ETag" in reply.headers or reply.status == PARTIAL
        ),
        f"200, 206 and HEAD gave ETag {etag!r}",
    )


def last_modified(probe: Probe) -> Verdict:
    """Last-Modified is there, in the one form that every client reads; Polars reads no other."""
    seen = str(probe.whole.headers.get("Last-Modified", ""))
    if not seen:
        return Verdict("warn", "GET gave no Last-Modified: send it, or DuckDB asks once more.")
    fixed = ""
    with suppress(ValueError):
        fixed = format_datetime(parsedate_to_datetime(seen), usegmt=True)
    return judge(
        seen == fixed,
        f"GET gave {probe.whole.field('Last-Modified')}",
        "send it like 'Mon, 02 Jan 2006 15:04:05 GMT', weekday and all; Polars refuses another",
    )


def cache_control(probe: Probe) -> Verdict:
    """It is said how long the file may be kept."""
    return judge(
        bool(probe.whole.headers.get("Cache-Control")),
        f"GET gave {probe.whole.field('Cache-Control')}",
        "say how long the file may be kept (no-cache, max-age=…), or every cache guesses",
    )


def if_range_match(probe: Probe) -> Verdict:
    """A part of the file we know is given as a part."""
    reply = probe.get({"Range": "bytes=4-7", "If-Range": probe.etag})
    return judge(
        reply.status == PARTIAL and reply.body == probe.whole.body[4:8],
        f"If-Range with the right ETag gave {reply}",
        "answer 206; else a download cannot be taken up again",
    )


def if_range_other(probe: Probe) -> Verdict:
    """A part of another file is not: the new file comes whole."""
    return whole(probe, {"Range": "bytes=4-7", "If-Range": OTHER})


def if_none_match(probe: Probe) -> Verdict:
    """A file we have is not sent again, but named again."""
    headers = {"If-None-Match": probe.etag}
    verdict = _unmodified(probe, headers)
    with suppress(NotApplicableError):
        if verdict.outcome == "pass" and (stray := stray_bytes(probe, "GET", headers)):
            seen = f"304 was followed by at least {stray} bytes of body"
            cure = "send the header only, or the next answer on that connection is garbage"
            return judge(ok=False, seen=seen, cure=cure)
    return verdict


def if_none_match_forms(probe: Probe) -> Verdict:
    """`*`, lists and weak tags are understood too; proxies make the last two."""
    forms = ("*", f"{OTHER}, {probe.etag}", f"W/{probe.etag}")
    return every(
        (_unmodified(probe, {"If-None-Match": form}) for form in forms),
        "If-None-Match with *, a list and a weak tag gave 304",
    )


def if_none_match_other(probe: Probe) -> Verdict:
    """Another file is sent, whatever its date says: browsers send both."""
    headers = {"If-None-Match": OTHER}
    if date := probe.whole.headers.get("Last-Modified"):
        headers["If-Modified-Since"] = date
    return whole(probe, headers)


def if_modified_since(probe: Probe) -> Verdict:
    """A file that has not changed since its date is not sent again."""
    date = probe.whole.headers.get("Last-Modified")
    if date is None:
        raise NotApplicableError("there is no Last-Modified, see last-modified")
    return _unmodified(probe, {"If-Modified-Since": date})


def _unmodified(probe: Probe, headers: Mapping[str, str]) -> Verdict:
    reply = probe.get(headers)
    ((name, value),) = headers.items()
    same = reply.headers.get("ETag") == probe.whole.headers.get("ETag")
    return judge(
        reply.status == NOT_MODIFIED and same,
        f"{name}: {value} gave {reply}, {reply.field('ETag')}",
        "answer 304 with the file's ETag and no body",
    )


def repeat(probe: Probe) -> Verdict:
    """A second GET gives the same bytes and ETag.

    A server that says `no-store` may give others: it promises nothing, and the check is skipped.
    Most readers need several requests for one file, so such a file must be sent whole at once.
    """
    again = probe.get()
    same = again.body == probe.whole.body
    tags = {reply.headers.get("ETag") for reply in (probe.whole, again)}
    if not same and "no-store" in str(again.headers.get("Cache-Control", "")).lower():
        raise NotApplicableError("two GETs gave other bytes, as Cache-Control: no-store allows")
    return judge(
        again.status == probe.whole.status and same and len(tags) == 1,
        f"A second GET gave {'the same' if same else 'other'} bytes, "
        f"{probe.whole.field('ETag')}, then {again.field('ETag')}",
        "keep a result for as long as its ETag is known, or no ranged read can be right",
    )


def query_order(probe: Probe) -> Verdict:
    """The order of the parameters is no part of the question."""
    pairs = probe.url.query.decode("ascii").split("&")
    names = [_name(pair) for pair in pairs]
    if len(set(names)) == 1:
        raise NotApplicableError("the URL has fewer than two parameters")
    # The sort is stable, since the order of one parameter's values may mean something.
    pairs.sort(key=_name, reverse=names == sorted(names))
    url = probe.url.copy_with(query="&".join(pairs).encode("ascii"))
    reply = ask(probe.client, "GET", url)
    return judge(
        reply.body == probe.whole.body,
        f"The same parameters in another order gave {reply} and {len(reply.body)} bytes",
        "sort the parameters before looking for a result, or it is made twice",
    )


def _name(pair: str) -> str:
    return pair.partition("=")[0]
