"""Views of a result: another format, or a selection of its rows and columns.

A view is asked for by an extension and by query parameters that begin with `_`. Its own key holds
the result's key and ETag, so that it is derived once and stored like any other result.
"""

from __future__ import annotations

import csv
import difflib
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from webfoot.errors import InvalidParameters, UnsupportedFormat
from webfoot.masking import mask_values
from webfoot.results import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from webfoot.results import Column, Result

MEDIA_TYPES: Mapping[str, str] = {
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8; header=present",
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "arrow": "application/vnd.apache.arrow.stream",
    "html": "text/html; charset=utf-8",
    "geojson": "application/geo+json",
}
# Formats that are text: worth compressing, unlike the others, which are compressed inside.
TEXTS = frozenset({"csv", "json", "ndjson", "html", "geojson"})
OPTIONS: Mapping[str, str] = {
    "_limit": "At most this many rows.",
    "_offset": "Leave out this many rows first.",
    "_columns": "Only these columns, in this order, separated by commas, quoted as in CSV.",
    "_order": "Sort by these columns, likewise; a leading `-` or a trailing `desc` sorts down.",
    "_for": "CSV for a spreadsheet, `sheets` or `excel`: no cell can be run as a formula, and what"
    " is too large is cut, with a note. Means `_errors=inline`; `excel` means `_bom=1`, too.",
    "_errors": "`inline`: an error is CSV as well, so that its message is seen in the sheet.",
    "_bom": "`1`: CSV that begins with a byte order mark, by which Excel knows UTF-8.",
    "_exact": "`1`: JSON in which a number is a text if no double has it: an integer beyond 2⁵³, a"
    " decimal of more than 15 digits. JavaScript would read another number.",
}
# A preview is read by a person: more rows than this help nobody, and cost the browser.
ROWS_IN_PREVIEW = 1000
# Query parameters that people and tools append only to get past a cache.
CACHE_BUSTERS = frozenset({"_", "_cb", "_ts", "_t", "_nocache", "_cachebust", "_dc", "_hop"})
# Part of every view's key: to be raised when a format's bytes change.
_FORMATS_VERSION = "2"
# What options may say that only some formats have...
CHOICES: Mapping[str, Sequence[str]] = {
    "_for": ("sheets", "excel"),
    "_errors": ("inline",),
    "_bom": ("0", "1"),
    "_exact": ("0", "1"),
}
# ...which are CSV, if not these.
_FORMATS_OF: Mapping[str, Sequence[str]] = {"_exact": ("json", "ndjson", "geojson")}
# Options that may be repeated, which continues the list.
_LISTS = frozenset({"_columns", "_order"})
_MOST_ROWS = 2**63 - 1
_MOST_DIGITS = 19


@dataclass(frozen=True)
class View:
    """What part of a result is asked for, and how it is written.

    Args:
        extension: One of `MEDIA_TYPES`.
        limit: At most this many rows; None for all.
        offset: Rows left out first.
        columns: Only these, in this order; empty for all.
        order: Columns to sort by, and whether down.
        spreadsheet: What CSV is made safe and small enough for: `sheets`, `excel` or None.
        bom: Whether CSV begins with a byte order mark.
        gzip: Whether the bytes are compressed, for a client that asks for it.
        exact: Whether JSON has texts in place of numbers that no double has.
    """

    extension: str
    limit: int | None = None
    offset: int = 0
    columns: tuple[str, ...] = ()
    order: tuple[tuple[str, bool], ...] = ()
    spreadsheet: str | None = None
    bom: bool = False
    gzip: bool = False
    exact: bool = False

    @property
    def canonical(self) -> bool:
        """Whether it is the result's own file."""
        return self.extension == "parquet" and not self.selects

    @property
    def selects(self) -> bool:
        """Whether it is anything but all rows and columns as they are."""
        return bool(self.limit is not None or self.offset or self.columns or self.order)

    def key(self, result: Result) -> str:
        """The key of this view of `result`."""
        # Both: equal bytes may be those of somebody who is not to know.
        return digest("view", _FORMATS_VERSION, result.key, result.etag, repr(astuple(self)))

    def check(self, columns: Sequence[Column]) -> None:
        """Refuse columns that the result does not have.

        Raises:
            InvalidParameters: It names the nearest.
        """
        known = [column.name for column in columns]
        asked = [("_columns", name) for name in self.columns]
        asked += [("_order", name) for name, _ in self.order]
        for option, name in asked:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
                raise refuse(option, f"the result has no column {name!r}; {hint}", name)


def read_view(extension: str, pairs: Iterable[tuple[str, str]]) -> View:
    """Read a view from an extension and the query parameters that begin with `_`.

    Raises:
        UnsupportedFormat: If there is no such extension.
        InvalidParameters: If an option is unknown or has no sense.
    """
    if extension not in MEDIA_TYPES:
        raise UnsupportedFormat(
            f"there is no format {extension!r}; use one of {', '.join(MEDIA_TYPES)}"
        )
    given: dict[str, str] = {}
    for name, text in pairs:
        if name in CACHE_BUSTERS or not text:
            continue
        if name not in OPTIONS:
            raise refuse(name, f"is no option of Webfoot's; known: {', '.join(OPTIONS)}", text)
        if name in given and name not in _LISTS:
            raise refuse(name, "is given twice; give it once", text)
        if name in CHOICES:
            _check_choice(name, text, extension)
        given[name] = f"{given[name]},{text}" if name in given else text
    limit, spreadsheet = given.get("_limit"), given.get("_for")
    columns = _names("_columns", given.get("_columns", ""))
    if len(set(columns)) < len(columns):
        raise refuse("_columns", "names a column twice; name it once", given["_columns"])
    order = tuple(_direction(name) for name in _names("_order", given.get("_order", "")))
    if len({name for name, _ in order}) < len(order):
        raise refuse("_order", "names a column twice; name it once", given["_order"])
    return View(
        extension=extension,
        limit=None if limit is None else read_count("_limit", limit),
        offset=read_count("_offset", given.get("_offset", "0")),
        columns=columns,
        order=order,
        spreadsheet=spreadsheet,
        bom=given.get("_bom", "1" if spreadsheet == "excel" else "0") == "1",
        exact=given.get("_exact") == "1",
    )


def _names(option: str, text: str) -> tuple[str, ...]:
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        message = f"must be column names separated by commas, quoted as in CSV ({error})"
        raise refuse(option, message, text) from None
    return tuple(name.strip() for row in rows for name in row if name.strip())


def _direction(name: str) -> tuple[str, bool]:
    rest, _, last = name.rpartition(" ")
    if rest.strip() and last.lower() in ("asc", "desc"):
        return rest.strip(), last.lower() == "desc"
    return name.removeprefix("-"), name.startswith("-")


def read_count(option: str, text: str) -> int:
    """Read how many rows an option means.

    Raises:
        InvalidParameters: If it is no such number.
    """
    # Not `isdigit` alone: it takes digits of every script, some of which `int` does not read.
    digits = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    if not digits or int(text) > _MOST_ROWS:
        raise refuse(option, "must be a whole number of rows, 0 or more", text)
    return int(text)


def _check_choice(option: str, text: str, extension: str) -> None:
    formats = _FORMATS_OF.get(option, ("csv",))
    if extension not in formats:
        told = " and ".join(f".{name}" for name in formats)
        raise refuse(option, f"is for {told} only; leave it out, or ask for .{formats[0]}", text)
    if text not in CHOICES[option]:
        raise refuse(option, f"must be {' or '.join(CHOICES[option])}", text)


def refuse(option: str, message: str, value: str) -> InvalidParameters:
    """What is wrong with one of Webfoot's own parameters."""
    value = mask_values(value, option)
    fault = {"parameter": option, "message": message, "value": value}
    return InvalidParameters(f"{option}: {message}, got {value!r}", errors=[fault])
