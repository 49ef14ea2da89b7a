"""What a GET's conditions and range ask for: pure functions from headers to a decision.

Source: RFC 9110, sections 13 (conditional requests) and 14 (range requests).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE | re.ASCII)
_TAG = re.compile(r'(W/)?("[^"]*")')
# Longer numbers are no offsets into a file, and slow to read.
_MOST_DIGITS = 19


@dataclass(frozen=True)
class ByteRange:
    """A range as asked for: from `first` to `last`, or the `last` bytes when `first` is None."""

    first: int | None
    last: int | None


# Of what is made for each request, records are named tuples: a frozen dataclass takes four times as
# long to make.


class Decision(NamedTuple):
    """How to answer.

    Args:
        status: 200, 206, 304, 412 or 416.
        start: The first byte to send.
        length: How many to send.
    """

    status: int
    start: int = 0
    length: int = 0


def read_range(header: str | None) -> ByteRange | None:
    """The one range of a Range header; None if it is to be ignored: malformed, or several."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or not match[1] + match[2]:
        return None
    if max(len(match[1]), len(match[2])) > _MOST_DIGITS:
        return None
    first, last = (int(text) if text else None for text in match.groups())
    if first is not None and last is not None and last < first:
        return None
    return ByteRange(first, last)


def decide(
    headers: Mapping[str, str], etag: str, modified: float, size: int, wanted: ByteRange | None
) -> Decision:
    """Decide how to answer a GET or HEAD.

    Args:
        headers: The request's, in lower case.
        etag: The representation's strong entity tag, quoted.
        modified: When it was made, in seconds since 1970.
        size: Its length in bytes.
        wanted: The range that the request asks for.
    """
    if_match = headers.get("if-match")
    if if_match is not None:
        if not _matches(if_match, etag, weakly=False):
            return Decision(412)
    elif (since := _date(headers.get("if-unmodified-since"))) is not None and int(modified) > since:
        return Decision(412)
    if_none_match = headers.get("if-none-match")
    if if_none_match is not None:
        if _matches(if_none_match, etag, weakly=True):
            return Decision(304)
    elif (since := _date(headers.get("if-modified-since"))) is not None and int(modified) <= since:
        return Decision(304)
    if wanted is None or not _range_applies(headers.get("if-range"), etag, modified):
        return Decision(200, 0, size)
    return _within(wanted, size)


def http_date(instant: float) -> str:
    """An instant as HTTP writes it."""
    return formatdate(instant, usegmt=True)


def _within(wanted: ByteRange, size: int) -> Decision:
    if wanted.first is None:
        length = min(wanted.last or 0, size)
        return Decision(206, size - length, length) if length else Decision(416)
    if wanted.first >= size:
        return Decision(416)
    last = size - 1 if wanted.last is None else min(wanted.last, size - 1)
    return Decision(206, wanted.first, last - wanted.first + 1)


def _matches(header: str, etag: str, *, weakly: bool) -> bool:
    if header.strip() == "*":
        return True
    tags = _TAG.findall(header)
    return any(tag == etag and (weakly or not weak) for weak, tag in tags)


def _range_applies(if_range: str | None, etag: str, modified: float) -> bool:
    if if_range is None:
        return True
    if if_range.lstrip().startswith(('"', "W/")):
        return if_range.strip() == etag
    return _date(if_range) == int(modified)


def _date(header: str | None) -> int | None:
    if header is None:
        return None
    try:
        date = parsedate_to_datetime(header)
        # The oldest of HTTP's three forms names no zone, and means GMT as the others do.
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, TypeError):
        return None
