"""Which column types a result may have, and what becomes of the others.

Source: what DuckDB makes of each Arrow type once it is Parquet, measured. A type is kept, or
changed to one that holds the same values, or refused with the column named; never silently bent.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from webfoot.errors import InvalidResult

if TYPE_CHECKING:
    from collections.abc import Callable

_REFUSED = {
    "a duration": (
        pa.types.is_duration,
        "DuckDB would read it as a bare integer; return seconds as a number",
    ),
    "an interval": (pa.types.is_interval, "Parquet has none; return seconds as a number"),
    "a union": (pa.types.is_union, "Parquet has none; return one type, or JSON text"),
}
_MOST_DIGITS = 38
# Types that hold the same values in Parquet and DuckDB as in Arrow by way of another one.
_REPLACED = (
    # Nothing but nulls: a type that a join or a comparison can use.
    (pa.types.is_null, pa.string()),
    (pa.types.is_large_string, pa.string()),
    (pa.types.is_string_view, pa.string()),
    (pa.types.is_large_binary, pa.binary()),
    (pa.types.is_binary_view, pa.binary()),
    (pa.types.is_date, pa.date32()),
    (pa.types.is_time32, pa.time32("ms")),
    (pa.types.is_time64, pa.time64("us")),  # DuckDB would cut nanoseconds off.
)
# Extension types that both Parquet and DuckDB know; what others are made of is kept instead.
_KNOWN_EXTENSIONS = ("arrow.uuid", "arrow.json")
# Extension types whose values mean nothing to who does not know the type.
_REFUSED_EXTENSIONS = {
    "pandas.period": "turn it into timestamps with .dt.to_timestamp(), or into text",
    "arrow.opaque": "Arrow has no such type; cast it to one that it has, or to text",
}


def settle(schema: pa.Schema) -> pa.Schema:
    """The schema that a result is stored with.

    Libraries that hold the same data in different Arrow types (polars' string views, pandas' large
    strings) get the same one, so that the same table has the same bytes.

    Args:
        schema: What the UDF returned.

    Returns:
        As many columns of the same names, each of a type that Parquet and DuckDB hold without loss.

    Raises:
        InvalidResult: If there is no column, or one cannot be kept; it names the column.
    """
    if len(schema) == 0:
        raise InvalidResult(
            "the table has no columns; return at least one, also when it has no rows"
        )
    refuse_names(schema.names)
    fields = [pa.field(item.name, _settle(item.type, item.name), item.nullable) for item in schema]
    geo = (schema.metadata or {}).get(b"geo")
    return pa.schema(fields, {b"geo": geo} if geo else None)


def fit(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Give the columns of `batch` the types that `schema` has for them.

    Raises:
        InvalidResult: If a value would change; it names the column.
    """
    if batch.schema.equals(schema):
        return batch
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        try:
            columns.append(_cast(column, field.type))
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise InvalidResult(
                f"column {field.name!r} is {column.type} and cannot be kept as {field.type}:"
                f" {error}; cast it to that first"
            ) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def refuse_names(names: list[str], of: str = "") -> None:
    """Refuse names that SQL could not tell apart, or not say.

    Args:
        names: The names of all columns, or of the fields of one.
        of: That one's name.

    Raises:
        InvalidResult: It names the columns.
    """
    noun = f"fields of column {of!r}" if of else "columns"
    if "" in names:
        raise InvalidResult(f"one of the {noun} has an empty name; name it")
    # SQL does not tell `a` from `A`: DuckDB would rename the second.
    for name, count in Counter(name.casefold() for name in names).items():
        if count > 1:
            alike = [repr(other) for other in names if other.casefold() == name]
            raise InvalidResult(f"{count} {noun} share a name: {', '.join(alike)}; rename them")


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type.equals(kind):
        return column
    if pa.types.is_run_end_encoded(column.type):
        return _cast(pc.run_end_decode(column), kind)
    if isinstance(column.type, pa.BaseExtensionType) and not isinstance(kind, pa.BaseExtensionType):
        return _cast(column.storage, kind)
    if holds(column.type, _has_no_cast):
        return pa.array(column.to_pylist(), kind)
    return column.cast(kind)


def _has_no_cast(kind: pa.DataType) -> bool:
    """Whether pyarrow cannot cast it, or reads past its memory when it does (list views, in 26)."""
    tests = (pa.types.is_list_view, pa.types.is_large_list_view, pa.types.is_run_end_encoded)
    return any(test(kind) for test in tests)


def holds(kind: pa.DataType, test: Callable[[pa.DataType], bool]) -> bool:
    """Whether `kind`, or a type inside it, passes `test`."""
    inner = (kind.field(number).type for number in range(kind.num_fields))
    return test(kind) or any(holds(part, test) for part in inner)


def _settle(kind: pa.DataType, name: str) -> pa.DataType:
    for noun, (matches, cure) in _REFUSED.items():
        if matches(kind):
            raise InvalidResult(f"column {name!r} is {noun} ({kind}): {cure}")
    for matches, replacement in _REPLACED:
        if matches(kind):
            return replacement
    for matches, settle_kind in _RULES:
        if matches(kind):
            return settle_kind(kind, name)
    return kind


def _settle_decimal(kind: pa.DataType, name: str) -> pa.DataType:
    # Parquet counts digits after the point from 0 to all of them; Arrow knows no such bounds.
    scale = max(kind.scale, 0)
    precision = max(kind.precision - min(kind.scale, 0), scale)
    if precision > _MOST_DIGITS:
        raise InvalidResult(
            f"column {name!r} is {kind}: more than {_MOST_DIGITS} digits read as a wrong number in"
            " DuckDB; cast it to decimal128, or return text"
        )
    return pa.decimal128(precision, scale)


def _settle_timestamp(kind: pa.DataType, _: str) -> pa.DataType:
    if kind.unit == "s":  # Parquet has none.
        return pa.timestamp("ms", kind.tz)
    if kind.unit == "ns" and kind.tz is not None:  # DuckDB would cut the nanoseconds off.
        return pa.timestamp("us", kind.tz)
    return kind


def _settle_extension(kind: pa.DataType, name: str) -> pa.DataType:
    cure = _REFUSED_EXTENSIONS.get(kind.extension_name)
    if cure is not None:
        raise InvalidResult(f"column {name!r} is {kind}: {cure}")
    if kind.extension_name in _KNOWN_EXTENSIONS:
        return kind
    return pa.bool_() if kind == pa.bool8() else _settle(kind.storage_type, name)


def _settle_dictionary(kind: pa.DataType, name: str) -> pa.DataType:
    value = _settle(kind.value_type, name)
    # Parquet keeps dictionaries of texts and bytes; others come back as plain values.
    if pa.types.is_string(value) or pa.types.is_binary(value):
        return pa.dictionary(pa.int32(), value, kind.ordered)
    return value


def _settle_struct(kind: pa.DataType, name: str) -> pa.DataType:
    if kind.num_fields == 0:
        raise InvalidResult(f"column {name!r} is a struct without fields; give it one, or drop it")
    refuse_names([part.name for part in kind], name)
    parts = [(part, _settle(part.type, f"{name}.{part.name}")) for part in kind]
    return pa.struct([pa.field(part.name, settled, part.nullable) for part, settled in parts])


def _settle_map(kind: pa.DataType, name: str) -> pa.DataType:
    key = _settle(kind.key_type, f"{name}[key]")
    return pa.map_(key, _settle(kind.item_type, f"{name}[value]"))


def _settle_list(kind: pa.DataType, name: str) -> pa.DataType:
    size = kind.list_size if pa.types.is_fixed_size_list(kind) else -1
    return pa.list_(_settle(kind.value_type, f"{name}[]"), size)


def _is_list(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            pa.types.is_list,
            pa.types.is_large_list,
            pa.types.is_list_view,
            pa.types.is_large_list_view,
            pa.types.is_fixed_size_list,
        )
    )


_RULES: tuple[tuple[Callable[[Any], bool], Callable[[Any, str], pa.DataType]], ...] = (
    (pa.types.is_decimal, _settle_decimal),
    (pa.types.is_timestamp, _settle_timestamp),
    (pa.types.is_dictionary, _settle_dictionary),
    (pa.types.is_run_end_encoded, lambda kind, name: _settle(kind.value_type, name)),
    (lambda kind: isinstance(kind, pa.BaseExtensionType), _settle_extension),
    (pa.types.is_struct, _settle_struct),
    (pa.types.is_map, _settle_map),
    (_is_list, _settle_list),
)
