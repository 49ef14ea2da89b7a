"""The file itself: its URL, its headers without it, its bytes, and what is not there."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from webfoot.conformance.exchanges import (
    NOT_FOUND,
    OK,
    NotApplicableError,
    Probe,
    Reply,
    Verdict,
    ask,
    every,
    judge,
    stray_bytes,
)

if TYPE_CHECKING:
    import httpx

TYPES = frozenset(
    {
        "application/vnd.apache.parquet",
        "application/x-parquet",
        "application/parquet",
        "application/octet-stream",
        "binary/octet-stream",
    }
)
# PARE ends a file whose footer is encrypted.
MAGICS = (b"PAR1", b"PARE")
ENCODINGS = {"Accept-Encoding": "gzip, deflate, br, zstd"}


def url_extension(probe: Probe) -> Verdict:
    """The path ends in `.parquet`, and the query does not end like another kind of file."""
    query = probe.url.query.decode("ascii")
    misleading = re.search(r"\.(csv|tsv|json|jsonl|ndjson|xlsx)(\.(gz|zst))?$", query)
    ends = query if misleading else probe.url.path
    return judge(
        probe.url.path.endswith(".parquet") and not misleading,
        f"The URL ends in {ends[-24:]!r}",
        "let it end in .parquet, or FROM 'url' takes it for another kind of file",
    )


def head_status(probe: Probe) -> Verdict:
    """HEAD gives 200 whenever GET does."""
    return judge(
        probe.cold.status == probe.warm.status == OK,
        f"HEAD gave {probe.cold} before the first GET and {probe.warm} after it",
        "answer HEAD with 200 wherever GET would; else DuckDB asks up to five times, or gives up",
    )


def head_body(probe: Probe) -> Verdict:
    """Nothing follows the header of an answer to HEAD."""
    stray = stray_bytes(probe, "HEAD")
    return judge(
        not stray,
        f"HEAD sent {f'at least {stray}' if stray else 'no'} bytes of body",
        "send the header only, or the next answer on that connection is garbage",
    )


def head_length(probe: Probe) -> Verdict:
    """HEAD gives the right length, or none at all; 0 is a wrong one."""
    heads = [head for head in (probe.cold, probe.warm) if head.status == OK]
    if not heads:
        raise NotApplicableError("HEAD is not answered, see head.status")
    return every((_length(head, probe.size) for head in heads), _lengths(heads))


def _length(head: Reply, size: int) -> Verdict:
    seen = head.headers.get("Content-Length")
    return judge(
        seen in {None, str(size)},
        f"HEAD gave Content-Length {seen!r} for a file of {size} bytes",
        "leave the field out until the length is known; with 0, fsspec refuses to seek",
    )


def _lengths(heads: list[Reply]) -> str:
    return "HEAD gave " + ", then ".join(head.field("Content-Length") for head in heads)


def get_status(probe: Probe) -> Verdict:
    """GET gives 200; 202 and the like are for jobs, not for files."""
    return judge(
        probe.whole.status == OK,
        f"GET gave {probe.whole}",
        "answer with 200 when the file is ready; no reader waits for a 202",
    )


def get_parquet(probe: Probe) -> Verdict:
    """The file begins and ends as Parquet does."""
    begin, end = probe.whole.body[:4], probe.whole.body[-4:]
    return judge(
        begin == end and begin in MAGICS,
        f"The file begins with {begin!r} and ends with {end!r}",
        "a Parquet file has PAR1 at both ends; this is another format, an error page, or cut short",
    )


def get_length(probe: Probe) -> Verdict:
    """Content-Length is the length of the body."""
    seen, broken = probe.whole.headers.get("Content-Length"), probe.whole.broken
    if seen is None and not broken:
        return Verdict("warn", "GET gave no Content-Length: send it, or a lost end goes unnoticed.")
    return judge(
        seen == str(probe.size),
        f"GET gave {probe.whole.field('Content-Length')} and {probe.size} bytes"
        + (f" ({broken})" if broken else ""),
        "count the bytes that are sent, and send them all",
    )


def get_sized(probe: Probe) -> Verdict:
    """HEAD or, where that does not know it, GET tells the length: fsspec reads nothing without."""
    replies = {"GET": probe.whole}
    if probe.cold.status == OK:
        replies["HEAD"] = probe.cold
    return judge(
        any("Content-Length" in reply.headers for reply in replies.values()),
        "; ".join(
            f"{method} gave {one.field('Content-Length')}" for method, one in replies.items()
        ),
        "send it with one of them at least; fsspec cannot seek in a file of unknown length",
    )


def get_type(probe: Probe) -> Verdict:
    """The content type does not say that this is text."""
    media = str(probe.whole.headers.get("Content-Type", "")).partition(";")[0].strip().lower()
    return judge(
        media in TYPES,
        f"GET gave {probe.whole.field('Content-Type')}",
        "say application/vnd.apache.parquet; proxies compress what calls itself text",
    )


def encoding_unasked(probe: Probe) -> Verdict:
    """Nothing is compressed for a client that did not ask, as DuckDB never does."""
    return _plain(probe.whole, "A GET without Accept-Encoding")


def encoding_whole(probe: Probe) -> Verdict:
    """Parquet is not compressed again, even if the client would take it."""
    return _plain(probe.get(ENCODINGS), "A GET that accepts gzip")


def encoding_range(probe: Probe) -> Verdict:
    """Nor are parts of it."""
    reply = probe.get({**ENCODINGS, "Range": "bytes=0-7"})
    return _plain(reply, "A range that accepts gzip")


def _plain(reply: Reply, what: str) -> Verdict:
    return judge(
        reply.headers.get("Content-Encoding", "identity") == "identity",
        f"{what} gave {reply.field('Content-Encoding')}",
        "switch compression off for Parquet, which is compressed already",
    )


def sibling(probe: Probe) -> httpx.URL:
    """The URL of a file in the same folder that does not exist."""

    def rename(path: str) -> str:
        folder, slash, name = path.rpartition("/")
        return f"{folder}{slash}webfoot-no-such-file{PurePosixPath(name).suffix}"

    return probe.renamed(rename)


def missing_sibling(probe: Probe) -> Verdict:
    """A file that is not there is 404 for HEAD and GET."""
    return _absent(probe, sibling(probe))


def missing_wal(probe: Probe) -> Verdict:
    """The log that DuckDB looks for beside a database it attaches is 404 too."""
    return _absent(probe, probe.renamed(lambda path: f"{path}.wal"))


def _absent(probe: Probe, url: httpx.URL) -> Verdict:
    head, get = (ask(probe.client, method, url) for method in ("HEAD", "GET"))
    return judge(
        head.status == get.status == NOT_FOUND,
        f"For {url.path!r}, which should not exist, HEAD gave {head} and GET {get}",
        "answer 404 to both; DuckDB repeats other errors, and reads what is not an error",
    )
