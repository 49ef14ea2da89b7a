"""The first rows of a statement, by a statement around it: no row is made that nobody wants."""

from __future__ import annotations

import re

import duckdb

_LINE = re.compile(r"^LINE (\d+):", re.MULTILINE)


def select(sql: str, limit: int | None) -> str:
    """The rows of a statement; it is on lines of its own, where DuckDB points at its mistakes."""
    most = "" if limit is None else f" LIMIT {limit}"
    return f"FROM (\n{without_end(sql)}\n){most}"


def without_end(sql: str) -> str:
    """The statement without the semicolons at its end, and what is a comment behind them."""
    whole = sql.encode()
    end = len(whole)
    for start, _ in reversed(duckdb.tokenize(sql)):
        if whole[start : start + 1] != b";":
            break
        end = start
    return whole[:end].decode()


def as_written(message: str) -> str:
    """What DuckDB says of a selection, with the lines as the user counts them."""
    return _LINE.sub(lambda line: f"LINE {int(line[1]) - 1}:", message)
