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
from webfoot.tables.columns import fit, holds, refuse_names
from webfoot.tables.parquet import BYTES_A_GROUP, ROWS_A_GROUP

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
    UUID: pa.uuid(),
}
# DuckDB hands these to Arrow as something else, without a word.
_LOST_IN_ARROW = {
    "TIME WITH TIME ZONE": "Arrow would lose its zone; cast it to TIME or to VARCHAR",
    "BIT": "Arrow has no such type; cast it to VARCHAR",
}


@dataclass(frozen=True)
class Batches:
    """A table as a stream: its schema is known, its batches are made as they are asked for."""

    schema: pa.Schema
    stream: Iterator[pa.RecordBatch]


def to_batches(
    value: object, returns: object = None, query: Callable[[str], object] | None = None
) -> Batches:
    """Turn what a UDF returned into Arrow batches.

    Args:
        value: A pyarrow Table, RecordBatch or RecordBatchReader; anything with `__arrow_c_stream__`
            (polars, a DuckDB relation); a pandas DataFrame or Series; rows as a list of dicts,
            dataclasses or pydantic models; a dict of columns; a text of SQL; a list of, or an
            iterator over any of these; a scalar, which is one row.
        returns: The function's return annotation: it gives a list of typed rows its schema when
            the list is empty.
        query: Runs a text of SQL and gives its table.

    Raises:
        InvalidResult: If it is none of these, or its values have no common type.
    """
    if value is None:
        raise InvalidResult("it returned None; return a table (did you forget `return`?)")
    if isinstance(value, str):
        if query is None:
            raise InvalidResult("it returned a text, and there is no DuckDB session to run it on")
        found = query(value)
        if found is None:
            raise InvalidResult("its SQL makes no table; let it end with a SELECT")
        return to_batches(found, returns)
    if isinstance(value, list | tuple) and value and _is_arrow(value[0]):
        value = iter(value)
    if isinstance(value, Iterator) and not _is_arrow(value):
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
    if isinstance(value, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(value.schema, [value])
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return pa.Table.from_arrays([value], names=["value"]).to_reader()
    if type(value).__module__.lstrip("_").split(".")[0] == "duckdb":
        return read_duckdb(value)
    # pandas speaks Arrow's protocol too, but would let an unnamed index leak into the table.
    if _is_pandas(value) or not hasattr(value, "__arrow_c_stream__"):
        return None
    try:
        return pa.RecordBatchReader.from_stream(value)
    except pa.ArrowInvalid:  # Not a table: one column, say a polars Series.
        column = pa.chunked_array(value)
        name = str(getattr(value, "name", "") or "value")
        return pa.Table.from_arrays([column], names=[name]).to_reader()


def read_duckdb(value: Any, rows: int = ROWS_A_GROUP) -> pa.RecordBatchReader:
    """The rows of a relation, or of a connection that has just executed something.

    Args:
        value: The relation, or the connection.
        rows: How many a batch has.

    Raises:
        InvalidResult: If it has none, or a column of a type that Arrow would lose.
    """
    if not hasattr(value, "to_arrow_reader"):
        raise InvalidResult(f"it returned DuckDB's {type(value).__name__}, which is no table")
    described = value.description or []
    for name, kind, *_ in described:
        cure = _LOST_IN_ARROW.get(str(kind))
        if cure is not None:
            raise InvalidResult(f"column {name!r} is {kind}: {cure}")
    return value.to_arrow_reader(rows)


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
    frame = value
    if not hasattr(value, "columns"):
        frame = value.to_frame(name="value" if value.name is None else value.name)
    unnamed = [level for level, name in enumerate(frame.index.names) if name is None]
    keeps_index = len(unnamed) < frame.index.nlevels
    if keeps_index and unnamed:
        frame = frame.droplevel(unnamed)
    index_names = [str(name) for name in frame.index.names] if keeps_index else []
    names = [str(name) for name in frame.columns]
    refuse_names(names + index_names)
    if names != list(frame.columns):  # Arrow would warn of names that are no texts.
        frame = frame.set_axis(names, axis="columns")
    if keeps_index:
        frame = frame.rename_axis(index=index_names)
    try:
        return pa.Table.from_pandas(frame, preserve_index=keeps_index)
    except (pa.ArrowException, ValueError, TypeError) as error:
        # Arrow ends its message with the column: "Conversion failed for column x with type object".
        raise InvalidResult(f"{' '.join(str(part) for part in error.args)}; {_MIXED}") from error


_MIXED = "give the column one type, for example with .astype(str)"


def _from_mapping(value: Mapping[Any, Any]) -> pa.Table:
    columns = {str(name): column for name, column in value.items()}
    if columns and all(_is_cell(column) for column in columns.values()):
        return _from_rows([columns], None)
    lengths = {
        name: len(column)
        for name, column in columns.items()
        if hasattr(column, "__len__") and not _is_cell(column) and not isinstance(column, Mapping)
    }
    if len(set(lengths.values())) > 1 or len(lengths) < len(columns):
        told = ", ".join(f"{name}: {lengths.get(name, 'a single value')}" for name in columns)
        raise InvalidResult(
            f"the columns of the dict are not equally long ({told}); if it is one row, return it in"
            " a list"
        )
    return _columns(columns, {})


def _from_list(rows: list[Any], row_type: type | None) -> pa.Table:
    kinds = {_is_row(row) for row in rows}
    if len(kinds) > 1:
        raise InvalidResult("the list mixes rows with single values; return rows only")
    return _columns({"value": rows}, {}) if kinds == {False} else _from_rows(rows, row_type)


def _from_rows(rows: Sequence[Any], row_type: type | None) -> pa.Table:
    types_by_name = _schema_of(row_type)
    plain = [_row(row) for row in rows]
    names = dict.fromkeys(itertools.chain(types_by_name, *plain))
    if not names and not rows:
        raise InvalidResult(
            "it returned an empty list, which has no columns; return a table with a schema, or"
            " annotate the function with `-> list[Row]`, where Row is a dataclass"
        )
    return _columns({name: [row.get(name) for row in plain] for name in names}, types_by_name)


def _columns(
    columns: Mapping[str, Any], types_by_name: Mapping[str, pa.DataType | None]
) -> pa.Table:
    arrays = [_array(values, name, types_by_name.get(name)) for name, values in columns.items()]
    return pa.Table.from_arrays(arrays, names=list(columns))


def _array(values: Any, name: str, kind: pa.DataType | None) -> pa.Array | pa.ChunkedArray:
    try:
        if hasattr(values, "__arrow_c_stream__") and not _is_pandas(values):
            return pa.chunked_array(values)
        if not isinstance(values, Sequence) or isinstance(values, range):
            return pa.array(values, type=kind, from_pandas=_is_pandas(values) or None)
        cells = [_cell(value) for value in values]
        # An annotation says nothing of zones: the values do.
        zoned = kind == pa.timestamp("us") and any(getattr(cell, "tzinfo", None) for cell in cells)
        return pa.array(cells, type=None if zoned else kind)
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
        raise InvalidResult(
            f"column {name!r}: {error}; give it one type that Arrow knows"
        ) from error


def _cell(value: Any) -> Any:
    """A value as pyarrow reads it: dataclasses and models as dicts, enums as their values."""
    if isinstance(value, enum.Enum):
        return value.value
    if _is_row(value) and not isinstance(value, Mapping):
        value = _row(value)
    if isinstance(value, dict):
        return {name: _inner(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_inner(item) for item in value]
    return value


def _inner(value: Any) -> Any:
    # pyarrow makes UUIDs columns, but no parts of one.
    return str(value) if isinstance(value, UUID) else _cell(value)


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


def _schema_of(row_type: type | None) -> dict[str, pa.DataType | None]:
    """The columns that a row's class declares; None where the type is not a plain one."""
    if row_type is None:
        return {}
    if dataclasses.is_dataclass(row_type):
        names = [field.name for field in dataclasses.fields(row_type)]
    elif hasattr(row_type, "model_fields"):
        names = list(row_type.model_fields)
    elif typing.is_typeddict(row_type) or hasattr(row_type, "_fields"):
        names = list(row_type.__annotations__)
    else:
        return {}
    try:
        hints = typing.get_type_hints(row_type)
    except Exception:  # noqa: BLE001  # names under `if TYPE_CHECKING` are missing at run time
        hints = {}
    return {name: _arrow_type(hints.get(name)) for name in names}


def _arrow_type(hint: Any) -> pa.DataType | None:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [item for item in typing.get_args(hint) if item is not type(None)]
        return _arrow_type(members[0]) if len(members) == 1 else None
    if typing.get_origin(hint) is list:
        inner = _arrow_type(typing.get_args(hint)[0])
        return None if inner in (None, pa.uuid()) else pa.list_(inner)
    if typing.get_origin(hint) is typing.Literal:
        return _common_type(typing.get_args(hint))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _common_type([member.value for member in hint])
    return _ARROW_TYPES.get(hint)


def _common_type(values: Iterable[object]) -> pa.DataType | None:
    kinds = {type(value) for value in values}
    return _ARROW_TYPES.get(kinds.pop()) if len(kinds) == 1 else None


def _from_iterator(value: Iterator[Any], returns: object) -> Batches:
    """Batches that a generator yields: the first ones give the schema, the rest must fit it."""
    row_type = _row_type(returns)
    batches = (batch for item in _gather(value) for batch in _read_item(item, row_type))
    first, schema = _read_first(batches)
    if schema is None:
        columns = _schema_of(row_type)
        if not columns:
            raise InvalidResult(
                "it yielded nothing, which has no columns; yield an empty table that has a schema"
            )
        schema = pa.schema([(name, kind or pa.null()) for name, kind in columns.items()])
    return Batches(schema, _with_schema(schema, itertools.chain(first, batches)))


def _gather(items: Iterable[Any]) -> Iterator[Any]:
    """Single rows and values gathered into lists; whatever is more than a row as it comes."""
    rows: list[Any] = []
    names: dict[str, None] = {}
    for item in items:
        single = _is_single(item)
        if rows and (not single or len(rows) == _ROWS_A_BATCH):
            yield _complete(rows, names)
            rows = []
        if single:
            rows.append(item)
        else:
            yield item
    if rows:
        yield _complete(rows, names)


def _complete(rows: list[Any], names: dict[str, None]) -> list[Any]:
    """Rows with all the columns that rows had before them, also where none of these has one."""
    if not _is_row(rows[0]):
        return rows
    if not names:
        names.update(dict.fromkeys(name for row in rows if _is_row(row) for name in _row(row)))
    return [dict.fromkeys(names) | _row(rows[0]), *rows[1:]]


def _is_single(item: Any) -> bool:
    """Whether it is one row or one value, and not a dict of columns."""
    if isinstance(item, Mapping):
        return any(_is_cell(value) or isinstance(value, Mapping) for value in item.values())
    return _is_row(item) or _is_cell(item)


def _read_item(item: Any, row_type: type | None) -> Iterator[pa.RecordBatch]:
    reader = _read_arrow(item) or _table(item, list[row_type] if row_type else None).to_reader()  # type: ignore[valid-type]  # made at run time
    empty = True
    for batch in _stream(reader):
        empty = False
        yield batch
    if empty:  # Its schema counts.
        yield pa.RecordBatch.from_arrays(
            [pa.nulls(0, field.type) for field in reader.schema], schema=reader.schema
        )


def _read_first(
    batches: Iterator[pa.RecordBatch],
) -> tuple[list[pa.RecordBatch], pa.Schema | None]:
    """As many batches as it takes to know the schema, but no more than a row group.

    A column of nothing but nulls has no type yet: it takes that of the first batch which has one.
    """
    first: list[pa.RecordBatch] = []
    schema: pa.Schema | None = None
    rows = held = 0
    for batch in batches:
        first.append(batch)
        schema = batch.schema if schema is None else _adopt(schema, batch.schema)
        rows, held = rows + len(batch), held + batch.nbytes
        if rows >= ROWS_A_GROUP or held >= BYTES_A_GROUP or not _holds_null(schema):
            break
    return first, schema


def _adopt(schema: pa.Schema, other: pa.Schema) -> pa.Schema:
    """`schema` with the types of `other` in place of its null types."""
    if set(schema.names) != set(other.names):
        return schema
    try:
        return pa.unify_schemas([schema, other])
    except pa.ArrowException:  # They differ in more than that; the message comes with the batch.
        return schema


def _holds_null(schema: pa.Schema) -> bool:
    return any(holds(field.type, pa.types.is_null) for field in schema)


def _with_schema(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for number, batch in enumerate(batches, start=1):
        if sorted(batch.schema.names) != sorted(schema.names):
            raise InvalidResult(
                f"batch {number} has the columns {', '.join(batch.schema.names)}, and those before"
                f" it {', '.join(schema.names)}; yield batches with the same columns"
            )
        try:
            yield fit(batch.select(schema.names), schema)
        except InvalidResult as error:
            raise InvalidResult(
                f"batch {number}: {error.detail}; yield batches of one schema"
            ) from error


def _is_arrow(value: object) -> bool:
    return isinstance(value, pa.RecordBatch) or hasattr(value, "__arrow_c_stream__")


def _is_pandas(value: object) -> bool:
    """Whether it is a frame or a series, also of a library built on pandas.

    By module name, so that pandas is not imported for results that do not need it.
    """
    modules = {base.__module__.split(".")[0] for base in type(value).__mro__}
    return "pandas" in modules and hasattr(value, "iloc")


def _is_numpy(value: object) -> bool:
    return type(value).__module__ == "numpy"


def _is_numpy_scalar(value: object) -> bool:
    return _is_numpy(value) and getattr(value, "shape", None) == () and hasattr(value, "item")


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
