"""Whatever a UDF returns, as a stream of Arrow batches."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import itertools
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from webfoot.errors import InvalidResult
from webfoot.tables.columns import refuse_names

_SCALARS = (bool, int, float, str, bytes, Decimal, UUID, datetime.date, datetime.time, enum.Enum)
# Rows that a generator yields one at a time are gathered into batches of this many.
_ROWS_A_BATCH = 10_000
_ARROW_TYPES: dict[Any, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    datetime.date: pa.date32(),
    datetime.datetime: pa.timestamp("us"),
    datetime.time: pa.time64("us"),
}


@dataclass(frozen=True)
class Batches:
    """A table as a stream: its schema is known, its batches are made as they are asked for."""

    schema: pa.Schema
    stream: Iterator[pa.RecordBatch]


def to_batches(value: object, returns: object = None, query: Callable[[str], object] | None = None) -> Batches:
    """Turn what a UDF returned into Arrow batches.

    Args:
        value: A pyarrow Table, RecordBatch or RecordBatchReader; anything with `__arrow_c_stream__`
            (polars, a DuckDB relation); a pandas DataFrame or Series; rows as a list of dicts,
            dataclasses or pydantic models; a dict of columns; a text of SQL; an iterator over any of
            these; a scalar, which is one row.
        returns: The function's return annotation: it gives a list of typed rows its schema when the
            list is empty.
        query: Runs a text of SQL and gives its table.

    Raises:
        InvalidResult: If it is none of these, or its values have no common type.
    """
    if value is None:
        raise InvalidResult("it returned None; return a table (did you forget `return`?)")
    if isinstance(value, str):
        if query is None:
            raise InvalidResult("it returned SQL text inside a generator; return the text itself")
        return to_batches(query(value), returns)
    if isinstance(value, Iterator) and not isinstance(value, pa.RecordBatchReader):
        return _from_iterator(value, returns)
    reader = _read_arrow(value)
    if reader is None:
        reader = _table(value, returns).to_reader()
    return Batches(reader.schema, _stream(reader))


def _stream(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidResult(f"its batches could not be read: {error}") from error


def _read_arrow(value: Any) -> pa.RecordBatchReader | None:
    if isinstance(value, pa.RecordBatchReader):
        return value
    if isinstance(value, pa.Table):
        return value.to_reader()
    if isinstance(value, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(value.schema, [value])
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return pa.table({"value": value}).to_reader()
    # pandas speaks Arrow's protocol too, but would let an unnamed index leak into the table.
    if _is_pandas(value) or not hasattr(value, "__arrow_c_stream__"):
        return None
    try:
        return pa.RecordBatchReader.from_stream(value)
    except pa.ArrowInvalid:  # Not a table: one column, say a polars Series.
        column = pa.chunked_array(value)
        return pa.table({str(getattr(value, "name", "") or "value"): column}).to_reader()


def _table(value: Any, returns: object) -> pa.Table:
    if _is_pandas(value):
        return _from_pandas(value)
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if _is_row(value):
        return _from_rows([value], type(value))
    if isinstance(value, _SCALARS) or _is_numpy_scalar(value):
        return _columns({"value": [value]}, {})
    if _is_numpy(value):
        return _columns({"value": value}, {})
    if isinstance(value, Sequence | set | frozenset):
        return _from_list(list(value), _row_type(returns))
    raise InvalidResult(
        f"it returned {_article(type(value).__name__)}, which is no table; return an Arrow table, a"
        " DataFrame, a DuckDB relation, a list of dicts, a dict of columns, or batches of these"
    )


def _from_pandas(value: Any) -> pa.Table:
    frame = value if hasattr(value, "columns") else value.to_frame(value.name or "value")
    refuse_names([str(name) for name in frame.columns])
    try:
        return pa.Table.from_pandas(frame, preserve_index=any(frame.index.names))
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        # Arrow ends its message with the column: "Conversion failed for column x with type object".
        raise InvalidResult(f"{' '.join(str(part) for part in error.args)}; {_MIXED}") from error


_MIXED = "give the column one type, for example with .astype(str)"


def _from_mapping(value: Mapping[Any, Any]) -> pa.Table:
    columns = {str(name): column for name, column in value.items()}
    if columns and all(_is_cell(column) for column in columns.values()):
        return _from_rows([columns], None)
    lengths = {name: len(c) for name, c in columns.items() if hasattr(c, "__len__") and not _is_cell(c)}
    if len(set(lengths.values())) > 1 or len(lengths) < len(columns):
        told = ", ".join(f"{name}: {lengths.get(name, 'a single value')}" for name in columns)
        raise InvalidResult(f"the columns of the dict are not equally long ({told})")
    return _columns(columns, {})


def _from_list(rows: list[Any], row_type: type | None) -> pa.Table:
    if rows and not _is_row(rows[0]):
        if any(_is_row(row) for row in rows):
            raise InvalidResult("the list mixes rows with single values; return rows only")
        return _columns({"value": rows}, {})
    return _from_rows(rows, row_type)


def _from_rows(rows: Sequence[Any], row_type: type | None) -> pa.Table:
    types_by_name = _schema_of(row_type)
    plain = [_row(row) for row in rows]
    names = dict.fromkeys(itertools.chain(types_by_name, *plain))
    if not names and not rows:
        raise InvalidResult(
            "it returned an empty list, which has no columns; return a table with a schema, or annotate"
            " the function with `-> list[Row]`, where Row is a dataclass"
        )
    return _columns({name: [row.get(name) for row in plain] for name in names}, types_by_name)


def _columns(columns: Mapping[str, Any], types_by_name: Mapping[str, pa.DataType]) -> pa.Table:
    arrays = {}
    for name, values in columns.items():
        arrays[str(name)] = _array(values, str(name), types_by_name.get(name))
    return pa.table(arrays)


def _array(values: Any, name: str, kind: pa.DataType | None) -> pa.Array:
    cells = [_cell(value) for value in values] if isinstance(values, Sequence) else values
    try:
        return pa.array(cells, type=kind, from_pandas=_is_pandas(values) or None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise InvalidResult(f"column {name!r}: {error}; give it one type that Arrow knows") from error


def _cell(value: Any) -> Any:
    """A value as pyarrow reads it: dataclasses and models as dicts, enums as their values."""
    if isinstance(value, enum.Enum):
        return value.value
    if _is_row(value) and not isinstance(value, Mapping):
        value = _row(value)
    if isinstance(value, dict):
        return {name: _cell(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cell(item) for item in value]
    return value


def _is_row(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        or (dataclasses.is_dataclass(value) and not isinstance(value, type))
        or hasattr(value, "model_dump")
        or (isinstance(value, tuple) and hasattr(value, "_asdict"))
    )


def _row(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(name): cell for name, cell in value.items()}
    if hasattr(value, "model_dump"):
        return dict(value.model_dump())
    if hasattr(value, "_asdict"):
        return dict(value._asdict())
    return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, _SCALARS) or _is_numpy_scalar(value)


def _row_type(returns: object) -> type | None:
    items = typing.get_args(returns)
    return items[0] if items and isinstance(items[0], type) else None


def _schema_of(row_type: type | None) -> dict[str, pa.DataType]:
    """The columns that a row's class declares, as far as its types are plain."""
    if row_type is None or not (
        dataclasses.is_dataclass(row_type)
        or hasattr(row_type, "model_fields")
        or typing.is_typeddict(row_type)
    ):
        return {}
    declared = {name: _arrow_type(hint) for name, hint in typing.get_type_hints(row_type).items()}
    return {name: kind for name, kind in declared.items() if kind is not None}


def _arrow_type(hint: Any) -> pa.DataType | None:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [item for item in typing.get_args(hint) if item is not type(None)]
        return _arrow_type(members[0]) if len(members) == 1 else None
    if typing.get_origin(hint) is list:
        inner = _arrow_type(typing.get_args(hint)[0])
        return None if inner is None else pa.list_(inner)
    return _ARROW_TYPES.get(hint)


def _from_iterator(value: Iterator[Any], returns: object) -> Batches:
    """Batches that a generator yields: the first one gives the schema, the rest must fit it."""
    row_type = _row_type(returns)
    pieces = (piece for item in _gather(value) for piece in _pieces(item, row_type))
    first = next(pieces, None)
    if first is None:
        columns = _schema_of(row_type)
        if not columns:
            raise InvalidResult(
                "it yielded nothing, which has no columns; yield an empty table that has a schema"
            )
        return Batches(pa.schema(list(columns.items())), iter(()))
    return Batches(first.schema, _same_schema(first, pieces))


def _pieces(item: Any, row_type: type | None) -> Iterator[pa.RecordBatch]:
    reader = _read_arrow(item) or _table(item, list[row_type] if row_type else None).to_reader()  # type: ignore[valid-type]
    batches = list(reader)
    yield from batches or [pa.RecordBatch.from_pylist([], schema=reader.schema)]


def _gather(items: Iterable[Any]) -> Iterator[Any]:
    """Single rows gathered into lists; whatever is more than a row as it comes."""
    rows: list[Any] = []
    for item in items:
        if _is_single_row(item):
            rows.append(item)
            if len(rows) < _ROWS_A_BATCH:
                continue
        if rows:
            yield rows
        if not _is_single_row(item):
            yield item
        rows = []
    if rows:
        yield rows


def _is_single_row(item: Any) -> bool:
    if isinstance(item, Mapping):
        return all(_is_cell(value) for value in item.values())
    return _is_row(item)


def _same_schema(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    for number, batch in enumerate(rest, start=2):
        if batch.schema.equals(first.schema):
            yield batch
            continue
        if batch.schema.names != first.schema.names:
            raise InvalidResult(
                f"batch {number} has the columns {batch.schema.names}, the first has"
                f" {first.schema.names}; yield batches with the same columns"
            )
        yield _cast(batch, first.schema, number)


def _cast(batch: pa.RecordBatch, schema: pa.Schema, number: int) -> pa.RecordBatch:
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        try:
            columns.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InvalidResult(
                f"column {field.name!r} is {column.type} in batch {number} and {field.type} in the first"
                f" ({error}); yield batches of one schema"
            ) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _is_pandas(value: object) -> bool:
    """By module name, so that pandas is not imported for results that do not need it."""
    return type(value).__module__.split(".")[0] == "pandas"


def _is_numpy(value: object) -> bool:
    return type(value).__module__ == "numpy"


def _is_numpy_scalar(value: object) -> bool:
    return _is_numpy(value) and getattr(value, "shape", None) == () and hasattr(value, "item")


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
