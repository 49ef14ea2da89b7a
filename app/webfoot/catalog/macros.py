"""A UDF's table macros: the SQL that turns arguments into URLs."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from webfoot.catalog.types import SqlType, literal, type_of, url_value
from webfoot.literals import sql_name, sql_text
from webfoot.parameters import partition_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from webfoot.definition import Udf
    from webfoot.parameters import Parameter

_NULL = "NULL"
# Every macro has a parameter, and its URL needs it: DuckDB reads a URL that is sure as soon as the
# macro is made, and so would run the UDF whenever a catalog is written.
_LIMIT = "'_limit=' || CAST(_limit AS VARCHAR)"


@dataclass(frozen=True)
class Argument:
    """A parameter of a UDF as its macros take it.

    Args:
        name: What the macros call it: SQL does not tell `a` from `A`, Python does.
        parameter: The parameter.
        kind: Its DuckDB type.
    """

    name: str
    parameter: Parameter
    kind: SqlType


@dataclass(frozen=True)
class Macro:
    """A table macro.

    Args:
        name: Its name, not quoted.
        arguments: Each with its type, if it is declared, and its default, as SQL.
        body: A SELECT.
        comment: What it does, for people.
    """

    name: str
    arguments: Sequence[str]
    body: str
    comment: str


def distinct(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """The names, numbered where SQL, which does not look at case, would take two for one."""
    used = {name.lower() for name in taken}
    found = []
    for name in names:
        free = name
        for number in itertools.count(2):
            if free.lower() not in used:
                break
            free = f"{name}_{number}"
        used.add(free.lower())
        found.append(free)
    return found


def arguments_of(udf: Udf) -> list[Argument]:
    """What the macros of `udf` take: required ones first, as SQL wants it."""
    parameters = sorted(udf.parameters.values(), key=lambda parameter: not parameter.required)
    names = distinct(parameter.name for parameter in parameters)
    return [
        Argument(name, parameter, type_of(parameter))
        for name, parameter in zip(names, parameters, strict=True)
    ]


def plain_macro(name: str, udf: Udf, base_url: str, *, typed: bool) -> Macro:
    """The macro that makes one call.

    Args:
        name: Its name.
        udf: The UDF.
        base_url: The server's address.
        typed: Whether the signature has types.
    """
    arguments = arguments_of(udf)
    pairs = [*_pairs(udf, arguments, typed=typed), _LIMIT]
    return Macro(
        name,
        _declarations(arguments, typed=typed),
        _read(_url(_file(udf, base_url), pairs), "hive_partitioning = false"),
        _comment(udf, arguments),
    )


def each_macro(name: str, udf: Udf, base_url: str, *, typed: bool) -> Macro:
    """The macro that takes lists and makes a call for every combination, in one request.

    A parameter that is given varies and is a column of the table, even with a list of one; one that
    is left out has the UDF's default.
    """
    arguments = arguments_of(udf)
    given = [
        f"CASE WHEN {sql_name(a.name)} IS NOT NULL THEN {sql_text(quote(a.parameter.name))} END"
        for a in arguments
    ]
    pairs = [
        f"'_each=' || nullif(concat_ws(',', {', '.join(given)}), '')",
        *(_repeated(udf, argument, typed=typed) for argument in arguments),
        "CASE WHEN _partial THEN '_partial=allow' END",
    ]
    return Macro(
        name,
        [
            *(_signed(a.name, a.kind.listed(), _NULL, typed=typed) for a in arguments),
            _signed("_partial", SqlType("BOOLEAN"), "false", typed=typed),
        ],
        _read(_url(_file(udf, base_url), pairs), "hive_partitioning = false"),
        f"{udf.title or udf.name} Takes lists, and calls every combination of their values in one"
        " request; what is given is a column. _partial := true keeps the others when some fail,"
        " and tells why in the column _error.",
    )


def partitioned_macro(name: str, udf: Udf, base_url: str, *, typed: bool) -> Macro:
    """The macro that reads one file per combination of partitions, of which filters skip some."""
    partitions = udf.options.partitions
    arguments = arguments_of(udf)
    others = [a for a in arguments if a.parameter.name not in partitions]
    kinds = {a.parameter.name: a.kind for a in arguments if a.parameter.name in partitions}
    values = [partition_values(udf.parameters[partition]) for partition in partitions]
    paths = ", ".join(
        sql_text("/".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in pairs))
        for pairs in (
            list(zip(partitions, combination, strict=True))
            for combination in itertools.product(*values)
        )
    )
    folder = f"{base_url}/udfs/{quote(udf.name)}/"
    file = f"{sql_text(folder)} || _path || '/data.parquet'"
    url = _url(file, [*_pairs(udf, others, typed=typed), _LIMIT])
    types = ", ".join(f"{sql_text(p)}: {sql_text(str(kinds[p]))}" for p in partitions)
    return Macro(
        name,
        _declarations(others, typed=typed),
        _read(
            f"[{url} FOR _path IN [{paths}]]",
            f"hive_partitioning = true, hive_types = {{{types}}}",
        ),
        f"{udf.title or udf.name} All values of {', '.join(partitions)}, which are columns: a WHERE"
        " on them decides which calls are made, besides the first, whose columns are the table's.",
    )


def _file(udf: Udf, base_url: str) -> str:
    """SQL of the address of the UDF's table."""
    return sql_text(f"{base_url}/udfs/{quote(udf.name)}.parquet")


def _read(source: str, options: str) -> str:
    return f"FROM read_parquet({source}, {options})"


def _url(address: str, pairs: Sequence[str]) -> str:
    """SQL of a URL: `concat_ws` leaves out what is NULL, as a parameter that is not given."""
    return f"concat_ws('?', {address}, nullif(concat_ws('&', {', '.join(pairs)}), ''))"


def _pairs(udf: Udf, arguments: Sequence[Argument], *, typed: bool) -> list[str]:
    return [
        f"{sql_text(quote(a.parameter.name) + '=')} || "
        + url_value(_not_empty(sql_name(a.name), udf, a, typed=typed), a.kind)
        for a in arguments
    ]


def _repeated(udf: Udf, argument: Argument, *, typed: bool) -> str:
    """SQL that gives a parameter once for every item of its list; a null item is the default."""
    name = sql_name(argument.name)
    pair = quote(argument.parameter.name) + "="
    item = url_value(_not_empty("_item", udf, argument, typed=typed), argument.kind)
    empty = f"{udf.name}: the list of {argument.name} is empty; leave it out for the default"
    return (
        f"CASE WHEN len({name}) = 0 THEN error({sql_text(empty)})"
        f" ELSE {sql_text(pair)} || array_to_string("
        f"[coalesce({item}, '') FOR _item IN {name}], {sql_text('&' + pair)}) END"
    )


def _not_empty(expression: str, udf: Udf, argument: Argument, *, typed: bool) -> str:
    """The argument, unless it is an empty text: a URL has no other way to say the default.

    Silently, somebody who asks for the rows with an empty name would get those of the default.
    """
    kind, default = argument.kind, argument.parameter.default
    textual = kind.name == "VARCHAR" or not (typed and kind.declared)
    if kind.depth or kind.name == "JSON" or not textual:
        return expression
    text = f"CAST({expression} AS VARCHAR)"
    if default == "":
        return f"nullif({text}, '')"
    known = "it has none" if argument.parameter.required else f"that is {_shown(default)}"
    message = (
        f"{udf.name}: {argument.name} cannot be an empty text, which in a URL means the default"
        f" ({known}); pass NULL for the default"
    )
    return f"CASE WHEN {text} = '' THEN error({sql_text(message)}) ELSE {text} END"


def _shown(default: Any) -> str:
    return "none" if default is None else json.dumps(default, ensure_ascii=False)


def _declarations(arguments: Sequence[Argument], *, typed: bool) -> list[str]:
    declared = []
    for argument in arguments:
        default = literal(argument.parameter.default, argument.kind)
        # DuckDB before 1.4 takes an argument by name only if it has a default, and only so.
        required = argument.parameter.required and typed
        given = None if required else default
        declared.append(_signed(argument.name, argument.kind, given, typed=typed))
    return [*declared, _signed("_limit", SqlType("BIGINT"), _NULL, typed=typed)]


def _signed(name: str, kind: SqlType, default: str | None, *, typed: bool) -> str:
    declared = f" {kind}" if typed and kind.declared else ""
    return sql_name(name) + declared + ("" if default is None else f" := {default}")


def _comment(udf: Udf, arguments: Sequence[Argument]) -> str:
    lines = [udf.title or udf.name]
    lines += [
        f"  {a.name} ({a.parameter.type}): {' '.join(a.parameter.help.split())}".rstrip(": ")
        for a in arguments
    ]
    lines.append("  _limit (int): At most this many rows.")
    if udf.returns:
        lines.append(f"  Returns: {' '.join(udf.returns.split())}")
    return "\n".join(lines)
