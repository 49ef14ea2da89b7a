"""Many tables become one: the inputs that gave them as columns, each table a row group of its own.

Used where a fan-out is answered with one file, and where its tables are put together in memory.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from webfoot.errors import InvalidResult
from webfoot.files import HashedFile
from webfoot.quantities import shorten
from webfoot.results import Column, Draft
from webfoot.tables.columns import settle
from webfoot.tables.parquet import ROWS_A_GROUP, codec_for, open_writer

if TYPE_CHECKING:
    from pathlib import Path

# Where a stitched file tells what came of each input.
METADATA_KEY = b"webfoot"
ERROR_COLUMN = "_error"
# Small files are read while their schemas are: opening one costs more than what is in it.
_HELD_FILE_BYTES = 64 << 10
_HELD_BYTES = 16 << 20
_HELD_CELLS = 20_000
# What the metadata tell of an input that failed.
_MOST_DETAIL = 1_000
_MOST_FAULTS = 10
# A schema, and whether a column under it says nothing about its type.
_Told: TypeAlias = tuple[pa.Schema, Callable[[str], bool]]


@dataclass(frozen=True)
class Part:
    """What came of one input.

    Args:
        values: The input, typed, by parameter.
        path: The Parquet file of its result; None if it failed.
        problem: Why it failed, as a problem document.
    """

    values: Mapping[str, Any]
    path: Path | None = None
    problem: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Layout:
    """The columns of a stitched table.

    Args:
        inputs: Parameter to the name of its column.
        fields: The fields of the inputs, in order.
        result: The schema of what the inputs gave.
        error: The name of the column that tells why an input failed; empty if there is none.
    """

    inputs: Mapping[str, str]
    fields: tuple[pa.Field, ...]
    result: pa.Schema
    error: str = ""

    @property
    def schema(self) -> pa.Schema:
        error = [pa.field(self.error, pa.string())] if self.error else []
        nullable = [field.with_nullable(True) for field in self.result]
        fields = [*self.fields, *(nullable if self.error else self.result), *error]
        return pa.schema(fields, self.result.metadata)

    def place(self, table: pa.Table, values: Sequence[pa.Scalar]) -> pa.Table:
        """A result's rows, with the values of its input before them."""
        schema, rows = self.schema, len(table)
        columns = [pa.repeat(value, rows) for value in values]
        columns += [_column(table, field) for field in self.result]
        columns += [pa.nulls(rows, pa.string())] if self.error else []
        return pa.Table.from_arrays(columns, schema=schema)

    def failure(self, message: str, values: Sequence[pa.Scalar]) -> pa.Table:
        """One row that tells why an input failed."""
        schema = self.schema
        columns = [pa.repeat(value, 1) for value in values]
        columns += [pa.nulls(1, field.type) for field in self.result]
        columns.append(pa.array([message], pa.string()))
        return pa.Table.from_arrays(columns, schema=schema)


def combine(inputs: Sequence[Mapping[str, Any]], tables: Sequence[pa.Table | None]) -> pa.Table:
    """Put tables under each other, with the inputs that gave them as first columns.

    Args:
        inputs: One record for each table; all names given in any become columns. An input named
            like a column of the results becomes `input_` and its name.
        tables: As many tables; None for an input that gave none.

    Raises:
        InvalidResult: If the tables' columns of one name have types that no type can hold.
    """
    pairs = zip(inputs, tables, strict=True)
    kept = [(values, table) for values, table in pairs if table is not None]
    schemas = [(table.schema, _all_null(table)) for _, table in kept]
    names = list(dict.fromkeys(name for values in inputs for name in values))
    layout, scalars = _lay_out([values for values, _ in kept], names, schemas, errors=False)
    placed = [layout.place(table, values) for (_, table), values in zip(kept, scalars, strict=True)]
    return pa.concat_tables(placed) if placed else layout.schema.empty_table()


def first_of_each(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The rows of a table, of those that are alike in the columns `names` only the first.

    Raises:
        KeyError: If there is no such column.
    """
    # Longer than any column's name, and so none of theirs.
    number = "#" * (1 + max(map(len, table.column_names), default=0))
    numbered = table.append_column(number, pa.array(range(len(table)), pa.int64()))
    kept = numbered.group_by(list(names), use_threads=False).aggregate([(number, "min")])
    first = kept.column(f"{number}_min")
    return table.take(first.take(pc.array_sort_indices(first)))


def stitch(parts: Sequence[Part], target: Path, *, errors: bool) -> Draft:
    """Write the results of many inputs as one Parquet file; see `combine`.

    At least one row group for each input that has rows, none shared. What came of each input
    is in the file's metadata: `{"inputs": [{"rows": 3}, {"problem": {…}}, …], "columns": {…}}`.

    Args:
        parts: What came of each input, in order.
        target: Where to write.
        errors: Whether a last column tells why inputs failed, each of which then has one row.

    Raises:
        InvalidResult: If the results' columns of one name have types that no type can hold.
        OSError: If the disk is full.
    """
    readers = list(_readers(parts))
    schemas = [(reader.schema, reader.all_null) for reader in readers if reader.rows is not None]
    names = list(dict.fromkeys(name for part in parts for name in part.values))
    values = [part.values for part in parts]
    layout, scalars = _lay_out(values, names, schemas, errors=errors)
    outcomes = [
        {"rows": reader.rows} if part.problem is None else {"problem": _brief(part.problem)}
        for part, reader in zip(parts, readers, strict=True)
    ]
    note = json.dumps({"inputs": outcomes, "columns": dict(layout.inputs)}, default=str)
    metadata = {**(layout.schema.metadata or {}), METADATA_KEY: note}
    schema, rows = layout.schema.with_metadata(metadata), 0
    cells = sum(reader.rows or 0 for reader in readers) * len(schema) // max(len(readers), 1)
    with (
        HashedFile(target) as file,
        open_writer(pa.PythonFile(file, "w"), schema, codec_for(cells)) as writer,
    ):
        for part, reader, known in zip(parts, readers, scalars, strict=True):
            if part.problem is not None:
                groups: Iterable[pa.Table] = ()
                if errors:
                    groups = [layout.failure(str(part.problem.get("detail", "")), known)]
            else:
                groups = (layout.place(group, known) for group in reader.groups())
            for group in groups:
                writer.write_table(group.replace_schema_metadata(metadata), ROWS_A_GROUP)
                rows += len(group)
    columns = tuple(Column(field.name, str(field.type)) for field in schema)
    return Draft(file.etag(), file.size, rows, columns)


def _brief(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A problem as the metadata tell it: every reader of the file reads them."""
    brief = {name: value for name, value in problem.items() if name != "failures"}
    if "errors" in brief:
        brief["errors"] = brief["errors"][:_MOST_FAULTS]
    if "detail" in brief:
        brief["detail"] = shorten(str(brief["detail"]), _MOST_DETAIL)
    return brief


@dataclass(frozen=True)
class _Reader:
    """A result's file, read at once if it is small, row group by row group if it is not."""

    path: Path | None
    schema: pa.Schema | None
    rows: int | None
    held: pa.Table | None

    def all_null(self, name: str) -> bool:
        """Whether the column says nothing about its type."""
        if self.held is not None:
            return _all_null(self.held)(name)
        assert self.path is not None, "only readers of files are asked"
        with pq.ParquetFile(self.path) as file:
            return all(_all_null(group)(name) for group in _row_groups(file, [name]))

    def groups(self) -> Iterator[pa.Table]:
        if self.held is not None:
            yield from [self.held] if len(self.held) else []
        elif self.path is not None:
            with pq.ParquetFile(self.path) as file:
                yield from _row_groups(file)


def _readers(parts: Sequence[Part]) -> Iterator[_Reader]:
    sizes = [0 if part.path is None else part.path.stat().st_size for part in parts]
    small = [size <= _HELD_FILE_BYTES for size in sizes]
    held = itertools.accumulate(
        size if fits else 0 for size, fits in zip(sizes, small, strict=True)
    )
    whole = [fits and so_far <= _HELD_BYTES for fits, so_far in zip(small, held, strict=True)]
    yield from map(_reader, parts, whole)


def _reader(part: Part, whole: bool) -> _Reader:
    if part.path is None:
        return _Reader(None, None, None, None)
    # In one read: Arrow's own file costs twice that, and threads gain nothing.
    source = pa.BufferReader(part.path.read_bytes()) if whole else part.path
    with pq.ParquetFile(source) as file:
        # A small file may be a large table: a million equal values take a few hundred bytes.
        whole = whole and file.metadata.num_rows * file.metadata.num_columns <= _HELD_CELLS
        held = file.read(use_threads=False) if whole else None
        return _Reader(part.path, file.schema_arrow, file.metadata.num_rows, held)


def _row_groups(file: pq.ParquetFile, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
    for number in range(file.num_row_groups):
        yield file.read_row_group(number, columns=names)


def _all_null(table: pa.Table) -> Callable[[str], bool]:
    return lambda name: table.column(name).null_count == len(table)


def _lay_out(
    inputs: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    schemas: Sequence[_Told],
    *,
    errors: bool,
) -> tuple[_Layout, list[list[pa.Scalar]]]:
    result = _unify(schemas)
    taken = {name.casefold() for name in result.names}
    columns: dict[str, str] = {}
    for name in names:
        column = name
        while column.casefold() in taken:
            column = f"input_{column}"
        taken.add(column.casefold())
        columns[name] = column
    arrays = {name: _typed([values.get(name) for values in inputs]) for name in names}
    fields = tuple(pa.field(columns[name], arrays[name].type) for name in names)
    error = ERROR_COLUMN if errors else ""
    while error in taken:
        error += "_"
    scalars = [[arrays[name][number] for name in names] for number in range(len(inputs))]
    return _Layout(columns, fields, result, error), scalars


def _typed(values: Sequence[Any]) -> pa.Array:
    """Values of one parameter as a column; of several types, or of none that is known, as JSON."""
    # Arrow would cut times off dates, and zones off times, to have one type.
    kinds = {(type(value), getattr(value, "tzinfo", None) is None) for value in values}
    kinds.discard((type(None), True))
    if len(kinds) > 1 and not {kind for kind, _ in kinds} <= {int, float}:
        return _as_texts(values)
    try:
        array = pa.array(values)
        field = settle(pa.schema([pa.field("value", array.type)])).field(0)
        return array.cast(field.type)
    except (pa.ArrowException, InvalidResult, TypeError, ValueError, OverflowError):
        return _as_texts(values)


def _as_texts(values: Sequence[Any]) -> pa.Array:
    texts = [
        None if value is None else json.dumps(value, ensure_ascii=False, default=str)
        for value in values
    ]
    return pa.array(texts, pa.string())


def _unify(schemas: Sequence[_Told]) -> pa.Schema:
    """One schema that holds them all: all columns, in the order in which they first appear."""
    distinct: dict[pa.Schema, list[Callable[[str], bool]]] = {}
    for schema, all_null in schemas:
        distinct.setdefault(schema.remove_metadata(), []).append(all_null)
    if len(distinct) <= 1:
        only = next(iter(distinct), pa.schema([]))
        same = len({schema.metadata and schema.metadata.get(b"geo") for schema, _ in schemas}) == 1
        geo = (schemas[0][0].metadata or {}).get(b"geo") if same else None
        return only.with_metadata({b"geo": geo} if geo else None)
    try:
        return _loosen(pa.unify_schemas(list(distinct), promote_options="permissive"), distinct)
    except pa.ArrowException:
        settled = [_typeless(schema, tests) for schema, tests in distinct.items()]
    for name in dict.fromkeys(name for schema in settled for name in schema.names):
        fields = [schema.field(name) for schema in settled if name in schema.names]
        fields = [field for field in fields if not pa.types.is_null(field.type)]
        for first, second in pairwise(fields):
            try:
                pa.unify_schemas(
                    [pa.schema([first]), pa.schema([second])], promote_options="permissive"
                )
            except pa.ArrowException:
                raise InvalidResult(
                    f"column {name!r} is {first.type} for one input and {second.type} for another,"
                    " and no type holds both; cast it in the UDF"
                ) from None
    return _loosen(settle(pa.unify_schemas(settled, promote_options="permissive")), settled)


def _loosen(schema: pa.Schema, of: Iterable[pa.Schema]) -> pa.Schema:
    """The schema, with nulls allowed in columns that not all of the others have."""
    schemas = list(of)
    for number, field in enumerate(schema):
        if not all(field.name in other.names for other in schemas):
            schema = schema.set(number, field.with_nullable(True))
    return schema


def _typeless(schema: pa.Schema, tests: Sequence[Callable[[str], bool]]) -> pa.Schema:
    """The schema, with no type for columns of nothing but nulls: any other's will do."""
    fields = [
        pa.field(field.name, pa.null()) if all(test(field.name) for test in tests) else field
        for field in schema
    ]
    return pa.schema(fields)


def _column(table: pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    column = table.column(field.name)
    if column.type.equals(field.type):
        return column
    if column.null_count == len(column):
        return pa.nulls(len(column), field.type)
    try:
        return column.cast(field.type)
    except pa.ArrowException as error:
        raise InvalidResult(
            f"column {field.name!r} is {column.type} for one input, and as {field.type}, which"
            f" others need, it would change: {error}; cast it in the UDF"
        ) from error
