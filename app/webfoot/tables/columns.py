"""Which column types a result may have, and what becomes of the others.

Source: what DuckDB makes of each Arrow type once it is Parquet, measured. A type is kept, or changed
to one that holds the same values, or refused with the column named; never silently bent.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from webfoot.errors import InvalidResult

_REFUSED = {
    "duration": (
        pa.types.is_duration,
        "DuckDB would read it as a bare integer; return seconds as a number",
    ),
    "interval": (pa.types.is_interval, "Parquet has none; return seconds as a number"),
    "union": (pa.types.is_union, "Parquet has none; return one type, or JSON text"),
}
_MOST_DIGITS = 38


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
        raise InvalidResult("the table has no columns; return at least one, also when it has no rows")
    refuse_names(schema.names)
    fields = [pa.field(item.name, _settle(item.type, item.name), item.nullable) for item in schema]
    geo = (schema.metadata or {}).get(b"geo")
    return pa.schema(fields, {b"geo": geo} if geo else None)


def refuse_names(names: list[str]) -> None:
    """Refuse names that SQL could not tell apart, or not say.

    Raises:
        InvalidResult: It names the columns.
    """
    if "" in names:
        raise InvalidResult("a column has an empty name; name it")
    # SQL does not tell `a` from `A`: DuckDB would rename the second.
    for name, count in Counter(name.casefold() for name in names).items():
        if count > 1:
            alike = [repr(other) for other in names if other.casefold() == name]
            raise InvalidResult(f"{count} columns share a name: {', '.join(alike)}; rename them")


def _settle(kind: pa.DataType, name: str) -> pa.DataType:
    for word, (matches, cure) in _REFUSED.items():
        if matches(kind):
            raise InvalidResult(f"column {name!r} is a {word} ({kind}): {cure}")
    if pa.types.is_null(kind):
        return pa.string()  # Nothing but nulls: a type that a join or a comparison can use.
    if pa.types.is_decimal(kind):
        return _settle_decimal(kind, name)
    if pa.types.is_large_string(kind) or kind == pa.string_view():
        return pa.string()
    if pa.types.is_large_binary(kind) or kind == pa.binary_view():
        return pa.binary()
    if pa.types.is_run_end_encoded(kind):
        return _settle(kind.value_type, name)
    if pa.types.is_dictionary(kind):
        return pa.dictionary(pa.int32(), _settle(kind.value_type, name), kind.ordered)
    return _settle_nested(kind, name)


def _settle_decimal(kind: pa.DataType, name: str) -> pa.DataType:
    if kind.precision > _MOST_DIGITS:
        raise InvalidResult(
            f"column {name!r} is {kind}: more than {_MOST_DIGITS} digits read as a wrong number in"
            " DuckDB; cast it to decimal128, or return text"
        )
    return pa.decimal128(kind.precision, kind.scale)


def _settle_nested(kind: pa.DataType, name: str) -> pa.DataType:
    if pa.types.is_struct(kind):
        if kind.num_fields == 0:
            raise InvalidResult(f"column {name!r} is a struct without fields; give it one, or drop it")
        return pa.struct(
            [
                pa.field(part.name, _settle(part.type, f"{name}.{part.name}"), part.nullable)
                for part in kind
            ]
        )
    if pa.types.is_map(kind):
        return pa.map_(_settle(kind.key_type, name), _settle(kind.item_type, name))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_settle(kind.value_type, f"{name}[]"), kind.list_size)
    if _is_list(kind):
        return pa.list_(_settle(kind.value_type, f"{name}[]"))
    return kind


def _is_list(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            pa.types.is_list,
            pa.types.is_large_list,
            pa.types.is_list_view,
            pa.types.is_large_list_view,
        )
    )
