"""The SQL of the whole catalog: a macro for every UDF, and tables that describe them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webfoot.catalog import MACROS_SCHEMA, Kind
from webfoot.catalog.macros import (
    arguments_of,
    distinct,
    each_macro,
    partitioned_macro,
    plain_macro,
)
from webfoot.literals import sql_name, sql_text
from webfoot.parameters import choices

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from webfoot.catalog.macros import Macro
    from webfoot.definition import Udf
    from webfoot.registry import Registry
    from webfoot.results import Reach

_INT64 = (-(2**63), 2**63 - 1)
_UDFS = {
    "name": "VARCHAR",
    "macro": "VARCHAR",
    "each": "VARCHAR",
    "partitioned": "VARCHAR",
    "title": "VARCHAR",
    "description": "VARCHAR",
    "returns": "VARCHAR",
    "url": "VARCHAR",
    "cache_s": "DOUBLE",
    "tags": "VARCHAR[]",
    "partitions": "VARCHAR[]",
    "version": "VARCHAR",
}
_PARAMETERS = {
    "udf": "VARCHAR",
    "name": "VARCHAR",
    "argument": "VARCHAR",
    "position": "INTEGER",
    "type": "VARCHAR",
    "duckdb_type": "VARCHAR",
    "required": "BOOLEAN",
    "default_value": "VARCHAR",
    "help": "VARCHAR",
    "minimum": "DOUBLE",
    "maximum": "DOUBLE",
    "choices": "VARCHAR[]",
    "schema": "VARCHAR",
}


@dataclass(frozen=True)
class _Names:
    """What the macros of a UDF are called; None if there is none."""

    plain: str
    each: str | None
    partitioned: str | None

    def __iter__(self) -> Iterator[str]:
        return filter(None, (self.plain, self.each, self.partitioned))


def catalog_script(
    registry: Registry, base_url: str, lifetimes: Mapping[str, float], kind: Kind
) -> str:
    """The SQL that fills a database with the catalog.

    Args:
        registry: The UDFs.
        base_url: The server's address, without a slash at its end.
        lifetimes: How long results are fresh, in seconds, by UDF.
        kind: For which DuckDB.
    """
    return _joined(_statements(registry, base_url, lifetimes, kind))


def standalone_script(
    registry: Registry, base_url: str, lifetimes: Mapping[str, float], kind: Kind
) -> str:
    """The same to run by hand, again and again: it makes a database in memory called `udfs`.

    There it meets no table of the user's, and macros may have types: most files on a disk are in a
    format that cannot keep those.
    """
    return (
        f"-- The UDFs of {base_url} as table macros.\n"
        + _joined([f"ATTACH IF NOT EXISTS ':memory:' AS {MACROS_SCHEMA}"])
        + _joined(_statements(registry, base_url, lifetimes, kind, f"{MACROS_SCHEMA}."))
    )


def macro_names(registry: Registry, reach: Reach) -> list[str]:
    """What the macros are called of the UDFs that are in reach."""
    names = _names(registry)
    return [name for udf in registry if reach.has_udf(udf) for name in names[udf]]


def partial_script(
    registry: Registry, base_url: str, lifetimes: Mapping[str, float], wanted: Collection[str]
) -> str:
    """So much of the catalog as some statement names: made anew for it, the whole would take long.

    Args:
        registry: The UDFs.
        base_url: See `catalog_script`.
        lifetimes: Those of the UDFs that are told of in the tables, likewise.
        wanted: The names of macros and tables, in lower case.
    """
    names = _names(registry)
    made = (
        _creation(macro, f"{MACROS_SCHEMA}.")
        for udf in registry.values()
        if any(name.lower() in wanted for name in names[udf.name])
        for macro in _macros(udf, names[udf.name], base_url, Kind.TYPED)
        if macro.name.lower() in wanted
    )
    told = [registry[name] for name in lifetimes]
    tables = (
        statement
        for name, statements in _tables(told, names, "", lifetimes, f"{MACROS_SCHEMA}.").items()
        if name in wanted
        for statement in statements
    )
    return _joined([*made, *tables])


def _joined(statements: Iterable[str]) -> str:
    return "".join(f"{statement};\n" for statement in statements)


def _statements(
    registry: Registry,
    base_url: str,
    lifetimes: Mapping[str, float],
    kind: Kind,
    within: str = "",
) -> Iterator[str]:
    names = _names(registry)
    for udf in registry.values():
        for macro in _macros(udf, names[udf.name], base_url, kind):
            yield from _define(macro, within)
    for statements in _tables(registry.values(), names, base_url, lifetimes, within).values():
        yield from statements


def _tables(
    udfs: Iterable[Udf],
    names: Mapping[str, _Names],
    base_url: str,
    lifetimes: Mapping[str, float],
    within: str,
) -> dict[str, Iterator[str]]:
    """What makes the tables that describe UDFs, by their names."""
    told = list(udfs)
    described = (_udf_row(udf, names[udf.name], base_url, lifetimes[udf.name]) for udf in told)
    parameters = (row for udf in told for row in _parameter_rows(udf))
    about = {
        "udfs": (_UDFS, described, "The UDFs, and what their macros are called."),
        "parameters": (_PARAMETERS, parameters, "The parameters of the UDFs."),
    }
    return {name: _table(f"{within}{name}", *content) for name, content in about.items()}


def _names(registry: Registry) -> dict[str, _Names]:
    """Names for all macros; a UDF has its own before another's further forms are named."""
    plain = dict(zip(registry, distinct(registry), strict=True))
    taken = list(plain.values())

    def further(udf: Udf, form: str, *, exists: bool) -> str | None:
        if not exists:
            return None
        (name,) = distinct([f"{plain[udf.name]}_{form}"], taken)
        taken.append(name)
        return name

    return {
        udf.name: _Names(
            plain[udf.name],
            further(udf, "each", exists=bool(udf.parameters)),
            further(udf, "partitioned", exists=bool(udf.options.partitions)),
        )
        for udf in registry.values()
    }


def _macros(udf: Udf, names: _Names, base_url: str, kind: Kind) -> Iterator[Macro]:
    typed = kind is Kind.TYPED
    yield plain_macro(names.plain, udf, base_url, typed=typed)
    if names.each is not None:
        yield each_macro(names.each, udf, base_url, typed=typed)
    if names.partitioned is not None:
        yield partitioned_macro(names.partitioned, udf, base_url, typed=typed)


def _define(macro: Macro, within: str) -> Iterator[str]:
    yield _creation(macro, within)
    name = within + sql_name(macro.name)
    yield f"COMMENT ON MACRO TABLE {name} IS {sql_text(macro.comment)}"


def _creation(macro: Macro, within: str) -> str:
    name = within + sql_name(macro.name)
    return f"CREATE OR REPLACE MACRO {name}({', '.join(macro.arguments)}) AS TABLE {macro.body}"


def _udf_row(udf: Udf, names: _Names, base_url: str, lifetime: float) -> list[Any]:
    return [
        udf.name,
        names.plain,
        names.each,
        names.partitioned,
        udf.title,
        udf.description,
        udf.returns,
        f"{base_url}/udfs/{udf.name}.parquet",
        lifetime,
        list(udf.options.tags),
        list(udf.options.partitions),
        udf.version,
    ]


def _parameter_rows(udf: Udf) -> Iterator[list[Any]]:
    by_name = {argument.parameter.name: argument for argument in arguments_of(udf)}
    for position, parameter in enumerate(udf.parameters.values(), start=1):
        argument = by_name[parameter.name]
        default = parameter.default
        lowest, highest = _bounds(parameter.schema)
        yield [
            udf.name,
            parameter.name,
            argument.name,
            position,
            parameter.type,
            str(argument.kind),
            parameter.required,
            None if default is None else _plain(default),
            parameter.help,
            lowest,
            highest,
            [
                value if isinstance(value, str) else json.dumps(value)
                for value in choices(parameter.schema)
            ],
            json.dumps(parameter.schema, ensure_ascii=False),
        ]


def _plain(value: Any) -> str:
    """A JSON value as a URL has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _bounds(schema: Mapping[str, Any]) -> tuple[Any, Any]:
    """The least and the greatest value; those of 64 bits are no bounds that an author set."""
    lowest = highest = None
    for member in (schema, *schema.get("anyOf", ())):
        lowest = member.get("minimum", member.get("exclusiveMinimum", lowest))
        highest = member.get("maximum", member.get("exclusiveMaximum", highest))
    return (None if lowest == _INT64[0] else lowest), (None if highest == _INT64[1] else highest)


def _table(
    name: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]], comment: str
) -> Iterator[str]:
    declared = ", ".join(f"{sql_name(column)} {kind}" for column, kind in columns.items())
    yield f"CREATE OR REPLACE TABLE {name}({declared})"
    yield f"COMMENT ON TABLE {name} IS {sql_text(comment)}"
    written = ",\n  ".join(f"({', '.join(map(_value, row))})" for row in rows)
    if written:
        yield f"INSERT INTO {name} VALUES\n  {written}"  # nosec B608  # all quoted


def _value(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return f"CAST([{', '.join(map(_value, value))}] AS VARCHAR[])"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"CAST('{value}' AS DOUBLE)"
    return sql_text(value) if isinstance(value, str) else str(value)
