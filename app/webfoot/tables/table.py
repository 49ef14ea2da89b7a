"""A finished table in memory: what a call gives to Python."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from webfoot.tables.excerpt import take_excerpt, write_text

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import polars as pl

# With a null among them, pandas makes floats of integers: 2**53 + 1 would become 2**53.
_NULLABLE = {
    pa.int8(): "Int8",
    pa.int16(): "Int16",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.uint8(): "UInt8",
    pa.uint16(): "UInt16",
    pa.uint32(): "UInt32",
    pa.uint64(): "UInt64",
    pa.bool_(): "boolean",
}


class Table:
    """A finished table, which never changes.

    Whatever speaks Arrow's C stream protocol reads it as it is: `duckdb.sql("FROM delays")`,
    `polars.DataFrame(delays)`, `pyarrow.table(delays)`; and a UDF may return it.

    Args:
        data: Anything that speaks that protocol, such as a pyarrow table.
    """

    def __init__(self, data: object) -> None:
        # Not `pa.table(data)`, which imports pandas to see whether it is given a frame.
        stream = None if isinstance(data, pa.Table) else pa.RecordBatchReader.from_stream(data)
        self._arrow: pa.Table = data if stream is None else stream.read_all()

    @classmethod
    def from_parquet(cls, source: bytes | Path) -> Self:
        """Read a Parquet file, or the bytes of one, into memory.

        Raises:
            ValueError: If it is no Parquet file.
            OSError: If the file cannot be read.
        """
        place = pa.BufferReader(source) if isinstance(source, bytes) else source
        with pq.ParquetFile(place) as file:
            return cls(file.read())

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._arrow.column_names)

    @property
    def schema(self) -> pa.Schema:
        """The names and Arrow types of the columns."""
        return self._arrow.schema

    @property
    def nbytes(self) -> int:
        """How much memory it takes, in bytes."""
        return int(self._arrow.nbytes)

    def arrow(self) -> pa.Table:
        """The table in pyarrow."""
        return self._arrow

    def df(self) -> pd.DataFrame:
        """The table in pandas; integers and booleans with nulls in pandas' types that have them."""
        import pandas as pd  # noqa: PLC0415  # half a second, for who uses it

        frame: pd.DataFrame = self._arrow.to_pandas()
        for number, column in enumerate(self._arrow.columns):
            name = _NULLABLE.get(column.type)
            if name is not None and column.null_count:
                kind = pd.api.types.pandas_dtype(name)
                series = column.to_pandas(types_mapper={column.type: kind}.get)
                frame.isetitem(number, series)
        return frame

    def pl(self) -> pl.DataFrame:
        """The table in Polars; UUIDs, which it does not know, as text."""
        import polars as pl  # noqa: PLC0415  # installed by those who use it

        table = self._arrow
        for number, field in enumerate(table.schema):
            if field.type == pa.uuid():
                texts = [value and str(value) for value in table.column(number).to_pylist()]
                table = table.set_column(number, field.name, pa.array(texts, pa.string()))
        return pl.DataFrame(table)

    def sql(self, query: str) -> Table:
        """Ask DuckDB: `table.sql("SELECT count(*) FROM self")`.

        Args:
            query: A text of SQL, in which this table is called `self`.

        Returns:
            The answer; instants in UTC, UUIDs as text.

        Raises:
            ValueError: If the SQL makes no table.
            duckdb.Error: What DuckDB has against it.
        """
        from webfoot.database import query_tables  # noqa: PLC0415  # DuckDB, for who asks it

        return Table(_without_hugeints(query_tables(query, {"self": self._arrow})))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The table as Arrow's C stream: https://arrow.apache.org/docs/format/CDataInterface."""
        return self._arrow.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return len(self._arrow)

    def __repr__(self) -> str:
        excerpt = take_excerpt(self._arrow, rows=10, columns=20, letters=32)
        return write_text(excerpt, shutil.get_terminal_size().columns)

    def _repr_html_(self) -> str:
        from webfoot.templating import render  # noqa: PLC0415  # Jinja, for who looks at it

        excerpt = take_excerpt(self._arrow, rows=20, columns=30, letters=100)
        return render("excerpt.html", it=excerpt)


def _without_hugeints(table: Any) -> pa.Table:
    """DuckDB's sums of integers have 128 bits, which Arrow calls decimals: integers if they fit."""
    for number, field in enumerate(table.schema):
        if field.type == pa.decimal128(38, 0):
            with contextlib.suppress(pa.ArrowInvalid):
                column = table.column(number).cast(pa.int64())
                table = table.set_column(number, field.name, column)
    return table
