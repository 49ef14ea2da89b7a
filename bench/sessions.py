"""DuckDB sessions as a reader has them: nothing cached, httpfs from the locked package."""

from __future__ import annotations

import importlib.util
import time
from functools import cache
from pathlib import Path

import duckdb


@cache
def httpfs() -> str:
    """Path of the httpfs extension in the installed package."""
    spec = importlib.util.find_spec("duckdb_extension_httpfs")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("duckdb_extension_httpfs")
    return str(next(Path(spec.submodule_search_locations[0]).rglob("*.duckdb_extension")))


def session(**settings: str | int | bool) -> duckdb.DuckDBPyConnection:
    """A fresh in-memory DuckDB with httpfs loaded; its caches are its own."""
    con = duckdb.connect(config={"autoinstall_known_extensions": False})
    con.execute(f"LOAD '{httpfs()}'")
    for name, value in settings.items():
        con.execute(f"SET {name} = '{value}'")
    return con


def all_columns(url: str) -> str:
    """A query that needs every value; no statistics can answer it."""
    return f"SELECT bit_xor(hash(COLUMNS(*))) FROM '{url}'"


def one_column(url: str, column: str = "temperature_c") -> str:
    """A query that needs every value of one column."""
    return f"SELECT bit_xor(hash({column})) FROM '{url}'"


def timed(con: duckdb.DuckDBPyConnection, query: str) -> float:
    """Milliseconds of one query, its result fetched."""
    start = time.perf_counter()
    con.execute(query).fetchall()
    return (time.perf_counter() - start) * 1000
