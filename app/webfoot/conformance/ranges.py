"""Parts of the file, as the readers ask for them."""

from __future__ import annotations

import re

from webfoot.conformance.exchanges import (
    OK,
    PARTIAL,
    UNSATISFIABLE,
    NotApplicableError,
    Probe,
    Reply,
    Verdict,
    every,
    judge,
)

REFUSED = (400, UNSATISFIABLE)


def partial(probe: Probe, wanted: str, first: int, last: int) -> Verdict:
    """Ask for `bytes=wanted`, and expect exactly the bytes `first` to `last` of the file."""
    reply = probe.get({"Range": f"bytes={wanted}"})
    part = probe.whole.body[first : last + 1]
    place = f"bytes {first}-{last}/{probe.size}"
    fields = (reply.headers.get("Content-Range"), reply.headers.get("Content-Length"))
    seen = f"Range: bytes={wanted} gave {reply}, {reply.field('Content-Range')}"
    if reply.status != PARTIAL:
        return judge(ok=False, seen=seen, cure=f"answer 206 with {place!r}")
    if fields != (place, str(len(part))):
        seen = f"{seen}, {reply.field('Content-Length')}"
        return judge(ok=False, seen=seen, cure=f"expected {place!r} and {len(part)} bytes")
    return judge(reply.body == part, seen, "send the bytes that the whole file has there")


def range_announced(probe: Probe) -> Verdict:
    """`Accept-Ranges: bytes` is there; fsspec takes `none` at its word.

    A HEAD that does not know the length yet need not say it.
    """
    heads = [head for head in (probe.cold, probe.warm) if head.status == OK]
    told = [head for head in heads if {"content-length", "accept-ranges"} & set(head.headers)]
    replies = [("GET", probe.whole), *(("HEAD", head) for head in told)]
    return every(
        (
            judge(
                reply.headers.get("Accept-Ranges") == "bytes",
                f"{method} gave {reply.field('Accept-Ranges')}",
                "send Accept-Ranges: bytes",
                otherwise="fail" if "Accept-Ranges" in reply.headers else "warn",
            )
            for method, reply in replies
        ),
        "Accept-Ranges is bytes",
    )


def range_first(probe: Probe) -> Verdict:
    """The two bytes by which DuckDB finds out whether there are ranges."""
    return partial(probe, "0-1", 0, 1)


def range_middle(probe: Probe) -> Verdict:
    """A part from the middle."""
    first, last = probe.size // 3, probe.size // 2
    return partial(probe, f"{first}-{last}", first, last)


def range_open(probe: Probe) -> Verdict:
    """All from a byte on."""
    first = probe.size * 2 // 3
    return partial(probe, f"{first}-", first, probe.size - 1)


def range_suffix(probe: Probe) -> Verdict:
    """The last bytes, with which Polars begins."""
    count = probe.size // 2
    return partial(probe, f"-{count}", probe.size - count, probe.size - 1)


def range_long_suffix(probe: Probe) -> Verdict:
    """More last bytes than there are: Polars asks for 262,144 of any file."""
    return partial(probe, f"-{probe.size + 262_144}", 0, probe.size - 1)


def range_past_end(probe: Probe) -> Verdict:
    """A part that would go on after the end."""
    first = probe.size // 2
    return partial(probe, f"{first}-{probe.size + 9}", first, probe.size - 1)


def range_unsatisfiable(probe: Probe) -> Verdict:
    """A part that begins after the end is refused with the length of the file."""
    reply = probe.get({"Range": f"bytes={probe.size}-{probe.size + 9}"})
    place = f"bytes */{probe.size}"
    return judge(
        reply.status == UNSATISFIABLE and reply.headers.get("Content-Range") == place,
        f"A start beyond the end gave {reply}, {reply.field('Content-Range')}",
        f"answer 416 with Content-Range {place!r}",
    )


def range_unit(probe: Probe) -> Verdict:
    """A unit that nobody knows is ignored."""
    return whole(probe, {"Range": "webfoot=0-1"})


def range_malformed(probe: Probe) -> Verdict:
    """A range that makes no sense is ignored, or refused."""
    return whole(probe, {"Range": "bytes=webfoot"})


def whole(probe: Probe, headers: dict[str, str]) -> Verdict:
    """Ask with `headers`, and expect the whole file; to be refused is a warning."""
    reply = probe.get(headers)
    sent = ", ".join(f"{name}: {value}" for name, value in headers.items())
    return judge(
        reply.status == OK and reply.body == probe.whole.body,
        f"{sent} gave {reply} and {len(reply.body)} bytes",
        "answer 200 with the whole file",
        otherwise="warn" if reply.status in REFUSED else "fail",
    )


def range_multi(probe: Probe) -> Verdict:
    """Two parts at once give the whole file, or both parts; one of them is only tolerable."""
    headers = {"Range": "bytes=0-1,4-7"}
    reply = probe.get(headers)
    if reply.status != PARTIAL:
        return whole(probe, headers)
    expected = [(0, 1), (4, 7)]
    got = _parts(reply)
    right = got is not None and all(
        probe.whole.body[first : last + 1] == content for first, last, content in got
    )
    places = [(first, last) for first, last, _ in got or ()]
    return judge(
        right and places == expected,
        f"Two ranges at once gave 206 with the parts {places}",
        "answer 200 with the whole file, or multipart/byteranges with both parts",
        otherwise="warn" if right and places else "fail",
    )


def _parts(reply: Reply) -> list[tuple[int, int, bytes]] | None:
    """The parts of a 206 as first byte, last byte and content; None if it cannot be read."""
    kind = str(reply.headers.get("Content-Type", ""))
    boundary = re.fullmatch(r'multipart/byteranges;\s*boundary="?([^"]+)"?', kind)
    if not boundary:
        place = _place(str(reply.headers.get("Content-Range", "")))
        return place and [(*place, reply.body)]
    parts = []
    for part in reply.body.split(b"--" + boundary[1].encode(errors="replace"))[1:-1]:
        header, _, content = part.partition(b"\r\n\r\n")
        place = _place(header.decode("latin-1"))
        if not place:
            return None
        parts.append((*place, content.removesuffix(b"\r\n")))
    return parts


def _place(text: str) -> tuple[int, int] | None:
    found = re.search(r"bytes (\d+)-(\d+)/", text)
    return (int(found[1]), int(found[2])) if found else None


def head_range(probe: Probe) -> Verdict:
    """HEAD with a range says 206 and the length, or 200 and no length yet.

    DuckDB-Wasm opens a file in this way, and believes the length of a 206.
    """
    if probe.warm.status != OK:
        raise NotApplicableError("HEAD is not answered, see head.status")
    reply = probe.head({"Range": "bytes=0-"})
    length = reply.headers.get("Content-Length")
    good = {PARTIAL: str(probe.size), OK: None}
    wrong = reply.status == PARTIAL or length == "0"
    return judge(
        reply.status in good and length == good[reply.status],
        f"HEAD with Range: bytes=0- gave {reply}, {reply.field('Content-Length')}",
        "answer 206 with the length, or 200 without, or DuckDB-Wasm reads whole files",
        otherwise="fail" if wrong else "warn",
    )
