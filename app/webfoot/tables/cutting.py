"""A stitched table is cut apart again: what came of each input."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webfoot.tables.stitching import METADATA_KEY
from webfoot.tables.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa


@dataclass(frozen=True)
class Piece:
    """What came of one input.

    Args:
        values: The input as its columns have it; empty if it has no rows.
        table: The result, without the columns of the inputs.
        problem: Why there is none, as a problem document.
    """

    values: Mapping[str, Any]
    table: Table | None = None
    problem: Mapping[str, Any] | None = None


def cut(file: bytes) -> list[Piece]:
    """Cut the Parquet file of a fan-out whose failures have rows into what came of each input.

    Raises:
        ValueError: If it is no such file.
    """
    whole = Table.from_parquet(file).arrow()
    note = (whole.schema.metadata or {}).get(METADATA_KEY)
    if note is None:
        raise ValueError("the Parquet file does not say which of its rows are of which input")
    told = json.loads(note)
    results = _results(whole, set(told["columns"].values()))
    pieces, start = [], 0
    for outcome in told["inputs"]:
        problem = outcome.get("problem")
        if problem is not None:
            pieces.append(Piece({}, problem=problem))
            start += 1
            continue
        rows = outcome["rows"]
        values = {
            name: whole.column(column)[start].as_py()
            for name, column in told["columns"].items()
            if rows
        }
        pieces.append(Piece(values, Table(results.slice(start, rows))))
        start += rows
    return pieces


def _results(whole: pa.Table, inputs: set[str]) -> pa.Table:
    """The columns between those of the inputs, which come first, and the errors, which are last."""
    names = [name for name in whole.column_names[:-1] if name not in inputs]
    metadata = {key: text for key, text in whole.schema.metadata.items() if key != METADATA_KEY}
    return whole.select(names).replace_schema_metadata(metadata or None)
