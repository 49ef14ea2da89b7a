"""What a text of SQL names, as DuckDB's own tokenizer sees it: paths, catalogs, files to attach."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# A string in each way to write one; what follows it, a comment say, is no part of it.
_TEXT = re.compile(
    r"""'(?P<plain>(?:[^']|'')*)'|[eE]'(?P<escaped>(?:[^'\\]|''|\\.)*)'|\$(\w*)\$(?P<raw>.*?)\$\3\$""",
    re.DOTALL,
)
_NAME = re.compile(r""""(?P<quoted>(?:[^"]|"")*)"|(?P<bare>[^\s"]+)""")


@dataclass(frozen=True)
class Word:
    """A word of SQL.

    Args:
        text: Without its quotes.
        kind: `text` (a string), `name` (an identifier, quoted or not) or `other`.
    """

    text: str
    kind: str


@dataclass(frozen=True)
class Attachment:
    """What an ATTACH attaches.

    Args:
        path: As it is written.
        type: Its TYPE, in lower case; empty if none is given.
    """

    path: str
    type: str


def words(sql: str) -> Iterator[Word]:
    """The words of a text of SQL, comments left out."""
    whole = sql.encode()
    tokens = duckdb.tokenize(sql)
    starts = [start for start, _ in tokens] + [len(whole)]
    for (start, kind), end in zip(tokens, starts[1:], strict=True):
        piece = whole[start:end].decode(errors="replace")
        if kind == duckdb.token_type.string_const and (text := _TEXT.match(piece)):
            written = text["plain"] or text["escaped"] or text["raw"] or ""
            yield Word(written.replace("''", "'"), "text")
        elif kind == duckdb.token_type.identifier and (name := _NAME.match(piece)):
            yield Word(name["bare"] or name["quoted"].replace('""', '"'), "name")
        else:
            yield Word(piece.strip(), "other")


def names(sql: str, paths: Collection[str], identifiers: Collection[str]) -> bool:
    """Whether SQL names a path that begins like one of `paths`, or one of the `identifiers`.

    Args:
        sql: The text.
        paths: Such as `s3://`, in lower case.
        identifiers: Such as the name of a catalog, in lower case.
    """
    beginnings = tuple(paths)
    for word in words(sql):
        text = word.text.lower()
        # Many keywords are good names.
        if word.kind != "text" and text in identifiers:
            return True
        # DuckDB reads FROM "s3://…", too.
        if word.kind != "other" and text.startswith(beginnings):
            return True
    return False


def attachments(connection: duckdb.DuckDBPyConnection, sql: str) -> list[Attachment]:
    """What the ATTACH statements of a text attach.

    Raises:
        duckdb.ParserException: If it is no SQL.
    """
    return [
        _read(statement.query)
        for statement in connection.extract_statements(sql)
        if statement.type == duckdb.StatementType.ATTACH
    ]


def _read(sql: str) -> Attachment:
    found = list(words(sql))
    path = next((word.text for word in found if word.kind == "text"), "")
    kind = ""
    for option, value in itertools.pairwise(found):
        if option.text.lower() == "type" and value.kind != "other":
            kind = value.text.lower()
    return Attachment(path, kind)
