"""The clients people read a result with; each reads all of a URL and gives its number of rows."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import fsspec
import pandas as pd
import polars as pl
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import duckdb


def rows_in(con: duckdb.DuckDBPyConnection, url: str) -> int:
    """Read a URL in a session."""
    return con.execute(f"FROM '{url}'").fetch_arrow_table().num_rows


def rows_at_once(sessions: Sequence[duckdb.DuckDBPyConnection], url: str) -> int:
    """Read a URL in several sessions that begin at the same moment; gives all their rows."""
    start = threading.Barrier(len(sessions))

    def one(con: duckdb.DuckDBPyConnection) -> int:
        start.wait()
        return rows_in(con, url)

    with ThreadPoolExecutor(len(sessions)) as pool:
        return sum(pool.map(one, sessions))


def polars(url: str) -> int:
    return pl.scan_parquet(url).collect().height


def pandas(url: str) -> int:
    return len(pd.read_parquet(url))


def pyarrow(url: str) -> int:
    with fsspec.open(url) as file:
        return pq.read_table(file).num_rows


CLIENTS: dict[str, Callable[[str], int]] = {
    "Polars": polars,
    "pandas": pandas,
    "pyarrow + fsspec": pyarrow,
}
