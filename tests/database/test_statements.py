"""What SQL names is what DuckDB's tokenizer says, not what a text happens to have in it."""

from __future__ import annotations

import duckdb
import pytest

from webfoot.database.statements import Attachment, attachments, names, words
from webfoot.literals import sql_quoted, sql_text


@pytest.mark.parametrize(
    "sql",
    [
        "FROM 's3://bucket/x.parquet'",
        'FROM "S3://bucket/x.parquet"',
        "SELECT 'é', 1 FROM read_parquet(['a', 's3://bucket/*.parquet'])",
        "COPY t TO $$s3://bucket/x$$",
        "COPY t TO $tag$s3://bucket/x$tag$",
        "SELECT * FROM E's3://x' -- a comment",
        "FROM pg.stations",
        "USE PG",
        'FROM "pg".public.stations',
        "SELECT * FROM a JOIN b USING (n); FROM pg.t",
    ],
)
def test_what_is_named_is_seen(sql: str) -> None:
    assert names(sql, ["s3://"], ["pg"])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "SELECT 'see s3://bucket'",
        "SELECT 1 -- s3://bucket pg",
        "/* FROM pg.t 's3://' */ SELECT 1",
        "SELECT 'pg'",
        "FROM pgx.t",
        "SELECT 'it''s pg'",
        "",
        "SELECT '",
        "not sql at ( all",
    ],
)
def test_what_is_only_written_is_not(sql: str) -> None:
    assert not names(sql, ["s3://"], ["pg"])


def test_words_are_without_their_quotes() -> None:
    text, name = sql_text("it's"), sql_quoted('a "b"')
    found = list(words(f"SELECT {text}, {name}, é FROM t"))
    assert [word.text for word in found if word.kind == "text"] == ["it's"]
    assert [word.text for word in found if word.kind == "name"] == ['a "b"', "é", "t"]


@pytest.mark.parametrize(
    ("sql", "attached"),
    [
        ("ATTACH '/tmp/x.db'", [Attachment("/tmp/x.db", "")]),
        ("attach or replace '/tmp/é''.db' as q", [Attachment("/tmp/é'.db", "")]),
        ("ATTACH IF NOT EXISTS 'x' AS q (READ_ONLY)", [Attachment("x", "")]),
        ("ATTACH 'x' AS q (READ_ONLY, TYPE SQLite)", [Attachment("x", "sqlite")]),
        ("ATTACH '' AS q (TYPE 'postgres', SECRET s)", [Attachment("", "postgres")]),
        ("SELECT 1; ATTACH 'a'; ATTACH 'b'", [Attachment("a", ""), Attachment("b", "")]),
        ("SELECT 'ATTACH ''x'''", []),
        ("DETACH x", []),
    ],
)
def test_what_is_attached_is_told(sql: str, attached: list[Attachment]) -> None:
    with duckdb.connect() as con:
        assert attachments(con, sql) == attached
