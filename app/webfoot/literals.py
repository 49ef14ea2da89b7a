"""Texts as literals of other languages, so that no value can end its literal and become code."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Words that DuckDB, at one place or another, takes for a name only inside quotes.
_SQL_KEYWORDS = frozenset(
    """
    all analyse analyze and anti any array as asc asof asymmetric at authorization between
    bigint binary bit boolean both by case cast char character check coalesce collate collation
    column columns concurrently constraint create cross dec decimal default deferrable desc
    describe distinct do else end except exists extract false fetch float for foreign freeze
    from full generated glob group grouping grouping_id having if ilike in initially inner inout
    int integer intersect interval into is isnull join lambda lateral leading left like limit
    map national natural nchar none not notnull null nullif numeric offset on only or order out
    outer overlaps overlay pivot pivot_longer pivot_wider placing position positional precision
    primary qualify real references returning right row select semi setof show similar smallint
    some struct substring summarize symmetric table tablesample then time timestamp to trailing
    treat trim true try_cast union unique unpack unpivot using values varchar variadic verbose
    when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces
    xmlparse xmlpi xmlroot xmlserialize xmltable
    """.split()  # noqa: SIM905  # a list of it would be 160 lines
)
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


def sql_text(text: str) -> str:
    """A text in SQL."""
    # What SQL is parsed as ends at a zero byte.
    parts = ("'" + part.replace("'", "''") + "'" for part in text.split("\0"))
    return " || chr(0) || ".join(parts)


def sql_quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def sql_name(name: str) -> str:
    """A name in SQL that people read: bare where that is safe."""
    return name if _PLAIN.fullmatch(name) and name not in _SQL_KEYWORDS else sql_quoted(name)


def python(value: Any) -> str:
    """A JSON value in Python."""
    return repr(value)


def javascript(value: Any) -> str:
    """A JSON value in JavaScript, also inside a page's `<script>`."""
    return json.dumps(value).replace("<", "\\u003c")


def r(text: str) -> str:
    """A text in R."""
    # JSON's escapes are R's, but for characters beyond 16 bits, which JSON writes in two halves.
    written = "".join(
        f"\\U{ord(char):08x}" if ord(char) > 0xFFFF else json.dumps(char)[1:-1]  # noqa: PLR2004  # 16 bits
        for char in text
    )
    return f'"{written}"'


def shell(text: str) -> str:
    """A text in a POSIX shell."""
    return shlex.quote(text)


def formula(text: str) -> str:
    """A text in a formula of Google Sheets or Excel."""
    return '"' + text.replace('"', '""') + '"'


def power_query(value: Mapping[str, str] | str) -> str:
    """A text, or a record of texts, in Power Query's language M."""
    if isinstance(value, str):
        escaped = value.replace("#(", "#(#)(").replace('"', '""')
        for character, name in (("\r", "cr"), ("\n", "lf"), ("\t", "tab")):
            escaped = escaped.replace(character, f"#({name})")
        return f'"{escaped}"'
    fields = (f"#{power_query(name)} = {power_query(text)}" for name, text in value.items())
    return f"[{', '.join(fields)}]"
