"""What Google Sheets makes of a formula: as much of its language as our snippets use.

A cell is None if it is blank. IMPORTDATA fetches as Google does: a plain GET that follows
redirects, with no header of ours.
"""

from __future__ import annotations

import csv
import datetime
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TOKEN = re.compile(r'\s*("(?:[^"]|"")*"|[A-Z]+[0-9]+\b|[A-Z]+(?=\()|[&=(),;])')
# IMPORTDATA is said to fail beyond this.
MOST_BYTES = 2_000_000


@dataclass(frozen=True)
class Locale:
    """How a sheet writes: what separates arguments, its decimal point, its truths."""

    separator: str
    point: str
    truths: tuple[str, str]


ENGLISH = Locale(",", ".", ("TRUE", "FALSE"))
GERMAN = Locale(";", ",", ("WAHR", "FALSCH"))


def evaluate(formula: str, cells: Mapping[str, Any], locale: Locale = ENGLISH) -> Any:
    """The value of a formula, which begins with `=`."""
    assert formula.startswith("=")
    assert len(formula) <= 50_000
    reader = _Reader(_tokens(formula[1:]), cells, locale)
    value = reader.expression()
    assert reader.tokens == [], "the formula goes on"
    return value


def fetch(url: str) -> list[list[str]]:
    """What IMPORTDATA shows of a URL."""
    with urlopen(url) as response:
        text = response.read(MOST_BYTES + 1)
    assert len(text) <= MOST_BYTES, "Resource at url contents exceeded maximum size"
    return list(csv.reader(io.StringIO(text.decode(), newline=""), strict=True))


def _tokens(text: str) -> list[str]:
    found, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None, f"no formula: {text[position:]}"
        found.append(match[1])
        position = match.end()
    return found


class _Reader:
    def __init__(self, tokens: list[str], cells: Mapping[str, Any], locale: Locale) -> None:
        self.tokens = tokens
        self._cells = cells
        self._locale = locale

    def expression(self) -> Any:
        value = self._concatenation()
        if self._take("="):
            other = self._concatenation()
            return value is None if other == "" and value in (None, "") else value == other
        return value

    def _concatenation(self) -> Any:
        value = self._atom()
        while self._take("&"):
            value = self._text(value) + self._text(self._atom())
        return value

    def _atom(self) -> Any:
        token = self.tokens.pop(0)
        if token.startswith('"'):
            return token[1:-1].replace('""', '"')
        if not self._take("("):
            return self._cells.get(token)
        arguments = [self.expression()]
        while self._take(self._locale.separator):
            arguments.append(self.expression())
        assert self._take(")"), f"{token} is not closed, or is for another locale"
        return self._functions[token](self, *arguments)

    def _take(self, token: str) -> bool:
        taken = bool(self.tokens) and self.tokens[0] == token
        if taken:
            del self.tokens[0]
        return taken

    def _text(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, bool):
            return self._locale.truths[not value]
        if isinstance(value, datetime.date):
            return value.strftime("%A, %d %B")  # However the cell shows it.
        if isinstance(value, float):
            return str(value).replace(".", self._locale.point)
        return str(value)

    def _encode(self, value: Any) -> str:
        return quote(self._text(value), safe="")

    def _if(self, condition: Any, then: Any, otherwise: Any) -> Any:
        assert isinstance(condition, bool), "#VALUE!"
        return then if condition else otherwise

    def _substitute(self, value: Any, old: str, new: str) -> str:
        return self._text(value).replace(old, new)

    def _format(self, value: Any, pattern: str) -> str:
        value = value or datetime.date(1899, 12, 30)
        assert isinstance(value, datetime.date | datetime.time)
        for ours, theirs in (("yyyy-mm-dd", "%Y-%m-%d"), ("hh:mm:ss", "%H:%M:%S")):
            pattern = pattern.replace(ours, theirs)
        return value.strftime(pattern)

    def _import(self, url: str, delimiter: str = ",", locale: str = "") -> list[list[str]]:
        # Without a locale, it is the sheet's: 1.5 would then be the first of May.
        assert locale == "en_US" or self._locale.point == "."
        assert delimiter == ","
        return fetch(url)

    _functions: Mapping[str, Callable[..., Any]] = {
        "ENCODEURL": _encode,
        "IF": _if,
        "IMPORTDATA": _import,
        "SUBSTITUTE": _substitute,
        "TEXT": _format,
    }
