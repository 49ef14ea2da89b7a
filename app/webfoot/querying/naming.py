"""What a statement may name, and what has to be made for it: nothing else is there when it runs.

A sandbox refuses files and settings by itself. That it is never asked for them is the first of two
walls: no function that reads, and no table that tells of the instance, gets as far as DuckDB.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webfoot.catalog import MACROS_SCHEMA, macro_names
from webfoot.errors import QueryFailed, QueryRefused
from webfoot.literals import sql_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import duckdb

    from webfoot.datasets import Dataset
    from webfoot.querying.gate import Name, Statement
    from webfoot.registry import Registry
    from webfoot.results import Reach

# The catalog of the datasets.
LAKE_SCHEMA = "lake"
# The tables that tell what there is, and where they are.
_LISTS = {"udfs": MACROS_SCHEMA, "parameters": MACROS_SCHEMA, "datasets": LAKE_SCHEMA}
# Table functions of DuckDB's own that make rows of their arguments and of nothing else. All others
# read files, memory, settings, or other SQL.
_ROWS_OF_ARGUMENTS = frozenset(
    {
        *("generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"),
        *("icu_calendar_names", "pg_timezone_names"),
    }
)
# Functions of DuckDB's own that tell of the instance, read SQL, or write: what is left of the list
# that `tests/querying/test_naming.py` looks through.
_TELLTALES = frozenset(
    {"current_setting", "getenv", "json_serialize_plan", "pg_get_viewdef", "write_log"}
)
# Those of the optimizer's, which expect no strangers.
_INTERNAL = "__internal"
_SYSTEM = frozenset({"information_schema", "pg_catalog", "system", "temp"})
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Needs:
    """What a statement rests on.

    Args:
        catalog: Macros and tables of the UDFs' catalog, in lower case.
        views: Datasets, by the names that the statement has for them.
        lists_datasets: Whether it asks which there are.
    """

    catalog: frozenset[str]
    views: Mapping[str, Dataset]
    lists_datasets: bool


@dataclass(frozen=True)
class Names:
    """What there is to name.

    Args:
        macros: The macros of the UDFs in reach.
        datasets: The datasets in reach.
    """

    macros: Collection[str]
    datasets: Sequence[Dataset]

    @classmethod
    def within(cls, reach: Reach, registry: Registry, lake: Iterable[Dataset]) -> Names:
        """What is in reach."""
        datasets = [dataset for dataset in lake if reach.has_dataset(dataset.name)]
        return cls(macro_names(registry, reach), datasets)


def find_needs(statement: Statement, names: Names, connection: duckdb.DuckDBPyConnection) -> Needs:
    """What has to be made for a statement.

    Args:
        statement: The statement.
        names: What it may name.
        connection: Tells what DuckDB has of its own.

    Raises:
        QueryRefused: If the statement names anything of DuckDB's that it may not have.
        QueryFailed: If it names what does not exist.
    """
    for function in sorted(statement.functions):
        if function in _TELLTALES or function.startswith(_INTERNAL):
            raise QueryRefused(f"the function {function} is not for SQL over HTTP")
    macros = {name.lower() for name in names.macros}
    used = {
        function.name.lower()
        for function in sorted(statement.table_functions, key=str)
        if not _is_own_function(function, names.macros, macros, connection)
    }
    lists: set[str] = set()
    views: dict[str, Dataset] = {}
    datasets = {dataset.name.lower(): dataset for dataset in names.datasets}
    # A URL that is declared stands for its dataset.
    places = {dataset.location: dataset for dataset in names.datasets if dataset.is_remote}
    own_views = _own_views(connection)
    for table in sorted(statement.tables, key=str):
        found = table.name.lower()
        # Whatever else the statement calls so: where that does not reach, this would be meant.
        if found in own_views or _SYSTEM.intersection(part.lower() for part in table.within):
            raise QueryRefused(f"{table} tells of the server, and is not for SQL over HTTP")
        if found in datasets and _is_in(table, LAKE_SCHEMA):
            views[found] = datasets[found]
        elif table.name in places and not table.within:
            views[table.name] = places[table.name]
        elif found in _LISTS and _is_in(table, _LISTS[found]):
            lists.add(found)
        elif table.within or found not in statement.defined or not _WORD.fullmatch(found):
            raise _unknown_table(table, names)
    return Needs(frozenset(used | lists), views, "datasets" in lists)


def _is_own_function(
    function: Name,
    macros: Collection[str],
    lowered: Collection[str],
    connection: duckdb.DuckDBPyConnection,
) -> bool:
    """Whether a table function is one of DuckDB's that may be used, and not a macro.

    Raises:
        QueryRefused: If it is one that may not be used.
        QueryFailed: If there is none.
    """
    name = function.name.lower()
    if name in lowered and _is_in(function, MACROS_SCHEMA):
        return False
    if name in _ROWS_OF_ARGUMENTS and not function.within:
        return True
    functions = "SELECT 1 FROM duckdb_functions() WHERE lower(function_name) ="
    if connection.execute(f"{functions} {sql_text(name)} LIMIT 1").fetchone():
        raise QueryRefused(
            f"the function {function} is not for SQL over HTTP; a query reads UDFs, such as"
            f" FROM {next(iter(macros), 'name')}(), and datasets"
        )
    raise QueryFailed(
        f"there is no table function {function}; " + _hint(function.name, macros, "FROM udfs")
    )


def _unknown_table(table: Name, names: Names) -> QueryRefused | QueryFailed:
    if not _WORD.fullmatch(table.name):
        return QueryRefused(
            f"{table.name!r} is not for SQL over HTTP: no files, and no URLs; FROM datasets lists"
            " the tables, FROM udfs the functions"
        )
    told = f"there is no table {table}; "
    if table.name.lower() in {macro.lower() for macro in names.macros}:
        return QueryFailed(told + f"it is a function: FROM {table}()")
    known = [dataset.name for dataset in names.datasets]
    return QueryFailed(told + _hint(table.name, known, "FROM datasets"))


def _hint(name: str, known: Iterable[str], lists: str) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"{lists} lists those that there are"


def _is_in(name: Name, schema: str) -> bool:
    """Whether a name is written as one of a catalog whose only schema is `main`."""
    return tuple(part.lower() for part in name.within) in ((), (schema,), (schema, "main"))


def _own_views(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """DuckDB's own views that have a name without a schema."""
    rows: list[Any] = connection.execute(
        "SELECT lower(view_name) FROM duckdb_views()"
        " WHERE internal AND schema_name <> 'information_schema'"
    ).fetchall()
    return {name for (name,) in rows}
