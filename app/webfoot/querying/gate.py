"""A text of SQL → the one statement of it that may run, and the names that it uses.

DuckDB's own parser reads the text: a first word, or a pattern, says little of what SQL does
(`WITH … INSERT`, `EXPLAIN ANALYZE INSERT`, `SELECT 1; DROP …`), and forbids what is harmless
(`OFFSET`, a table called `asset`). What is run is what was read, and nothing else of the text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from webfoot.errors import Error, QueryFailed, QueryRefused
from webfoot.literals import sql_text
from webfoot.querying.selection import select

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# DuckDB reads comments in comments in a time that grows with the square of their number, minutes of
# it for a long text, and looks at no interruption meanwhile.
_MOST_COMMENTS_IN_COMMENTS = 100
_COMMENT = re.compile(r"/\*|\*/")
_ALLOWED = "SQL here is one SELECT, or an EXPLAIN of one without ANALYZE"


@dataclass(frozen=True)
class Name:
    """A table, or a table function, as a statement names it.

    Args:
        name: Its own name.
        within: The catalog and the schema that are named before it, if any.
    """

    name: str
    within: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((*self.within, self.name))


@dataclass(frozen=True)
class Statement:
    """A statement that may run.

    Args:
        sql: What is to be run, with the user's text in it from the second line on.
        tables: The tables that it names, those that it defines itself included.
        table_functions: The functions that it names in place of tables.
        functions: All other functions, in lower case.
        defined: What it defines itself, in WITH, in lower case.
    """

    sql: str
    tables: frozenset[Name]
    table_functions: frozenset[Name]
    functions: frozenset[str]
    defined: frozenset[str]


def read_statement(connection: duckdb.DuckDBPyConnection, sql: str, limit: int | None) -> Statement:
    """Read the one statement of a text, without running anything of it.

    Args:
        connection: Whose parser reads.
        sql: The text.
        limit: How many rows are wanted; None for all.

    Raises:
        QueryRefused: If it is anything but one SELECT, or an EXPLAIN of one.
        QueryFailed: If it is no SQL.
    """
    _check_comments(sql)
    parsed = _parse(connection, sql)
    if parsed is None:
        explained = _explained(connection, sql)
        return _name_all(f"EXPLAIN\n{explained}", _parse_one(connection, explained))
    _check_count(len(parsed))
    chosen = select(sql, limit)
    # Once more, as it will be run: it is the names in there that count.
    return _name_all(chosen, _parse_one(connection, chosen))


def _check_comments(sql: str) -> None:
    depth = 0
    for mark in _COMMENT.finditer(sql):
        depth = depth + 1 if mark[0] == "/*" else max(depth - 1, 0)
        if depth > _MOST_COMMENTS_IN_COMMENTS:
            raise QueryRefused(
                f"the SQL has more than {_MOST_COMMENTS_IN_COMMENTS} comments in each other; close"
                " them, or give a text that has such marks as a parameter"
            )


def _parse_one(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """The syntax tree of a text that is one SELECT.

    Raises:
        QueryRefused: If it is not.
        QueryFailed: If it is no SQL.
    """
    parsed = _parse(connection, sql)
    if parsed is None or len(parsed) != 1:
        raise QueryRefused(f"{_ALLOWED}; this is more, or something else")
    return parsed[0]


def _parse(connection: duckdb.DuckDBPyConnection, sql: str) -> list[Any] | None:
    """The syntax trees of a text of SELECTs; None if it has other statements.

    Raises:
        QueryFailed: If it is no SQL.
    """
    # Not as a parameter: with the first of these, DuckDB imports pandas, for half a second.
    found = connection.execute(f"SELECT json_serialize_sql({sql_text(sql)})").fetchone()
    assert found is not None, "a SELECT without a FROM has a row"
    try:
        told = json.loads(found[0])
    except RecursionError:
        raise QueryRefused(
            "the SQL is nested deeper than is read here; write long chains of operators as lists,"
            " such as x IN (1, 2, 3)"
        ) from None
    if not told["error"]:
        statements: list[Any] = told["statements"]
        return statements
    if told["error_type"] == "not implemented":
        return None
    _statements(sql)  # It shows where, too.
    raise QueryFailed(told["error_message"])


def _statements(sql: str) -> Sequence[duckdb.Statement]:
    """The statements of a text, of any kind.

    Raises:
        QueryRefused: If there is more to reading them than a parser does.
        QueryFailed: If it is no SQL.
    """
    # Of its own, and locked: to say what is in IMPORT DATABASE, DuckDB reads the files that it
    # imports.
    with duckdb.connect(config={"enable_external_access": "false"}) as parser:
        try:
            return parser.extract_statements(sql)
        except duckdb.ParserException as error:
            raise QueryFailed(str(error)) from error
        except duckdb.Error as error:
            raise QueryRefused(f"{_ALLOWED}, and this is something else") from error


def _explained(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """What an EXPLAIN is about.

    Raises:
        QueryRefused: If the text is no EXPLAIN, or one that has options, or runs what it explains.
    """
    statements = _statements(sql)
    kinds = [statement.type for statement in statements]
    if len(kinds) > 1 and not any(statement.query for statement in statements):
        raise QueryRefused(
            "a PIVOT needs the values that become columns: PIVOT … ON name IN ('a', 'b') USING …"
        )
    _check_count(len(kinds))
    if kinds[0] != duckdb.StatementType.EXPLAIN:
        # DuckDB takes what a PRAGMA shows for a SELECT.
        is_select = kinds[0] == duckdb.StatementType.SELECT
        told = "PRAGMA" if is_select else kinds[0].name.replace("_", " ")
        raise QueryRefused(f"{_ALLOWED}, and this is {told}")
    _, (start, _), *_ = duckdb.tokenize(sql)
    rest = sql.encode()[start:].decode()
    try:
        _parse_one(connection, rest)
    except Error as error:  # What follows are options, or no SELECT.
        raise QueryRefused(f"{_ALLOWED}; write EXPLAIN SELECT …, without options") from error
    return rest


def _check_count(statements: int) -> None:
    if statements != 1:
        told = f"has {statements} statements" if statements else "has no statement"
        raise QueryRefused(f"{_ALLOWED}, and this text {told}")


def _name_all(sql: str, parsed: Any) -> Statement:
    tables, table_functions, functions, defined = set(), set(), set(), set()
    for node in _nodes(parsed):
        kind = node.get("type")
        if kind == "BASE_TABLE":
            within = _given(node["catalog_name"], node["schema_name"])
            tables.add(Name(node["table_name"], within))
        elif kind == "TABLE_FUNCTION":
            function = node["function"]
            within = _given(function.get("catalog", ""), function["schema"])
            # Taken away, so that it is not met again as a function that is none of a table's.
            table_functions.add(Name(function.pop("function_name"), within))
        elif kind == "SHOW_REF" and node["query"] is None:
            raise QueryRefused(
                "SHOW lists nothing here; FROM udfs lists the functions, FROM datasets the tables,"
                " and DESCRIBE tells the columns of one"
            )
        elif "function_name" in node:
            functions.add(node["function_name"].lower())
        if "cte_map" in node:
            defined |= {entry["key"].lower() for entry in node["cte_map"]["map"]}
    return Statement(
        sql,
        frozenset(tables),
        frozenset(table_functions),
        frozenset(functions),
        frozenset(defined),
    )


def _given(*names: str) -> tuple[str, ...]:
    return tuple(filter(None, names))


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All objects of a tree."""
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
