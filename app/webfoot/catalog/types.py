"""Parameters as DuckDB sees them: their types, their defaults, and their text in a URL."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from webfoot.literals import sql_text
from webfoot.parameters import choices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.parameters import Parameter

_BY_FORMAT = {
    "date": "DATE",
    "date-time": "TIMESTAMP",
    "time": "TIME",
    "duration": "INTERVAL",
    "uuid": "UUID",
}
_BY_TYPE = {"boolean": "BOOLEAN", "integer": "BIGINT", "number": "DOUBLE"}
_BY_CLASS = {bool: "BOOLEAN", int: "BIGINT"}
_OFFSET = re.compile(r"(Z|[+-]\d\d:?\d\d)$")
# ISO 8601 as pydantic writes it: a year has 365 days, and there are no months.
_DURATION = re.compile(r"(-?)P(?:(\d+)Y)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?")
_DAYS_A_YEAR = 365


@dataclass(frozen=True)
class SqlType:
    """The DuckDB type of a parameter.

    Args:
        name: As SQL writes it; of a list, that of its items.
        depth: How many lists it is in.
        declared: Whether a macro's signature names it. A decimal's does not: every DECIMAL has a
            scale, and would add zeros to the author's number or cut it.
    """

    name: str
    depth: int = 0
    declared: bool = True

    def __str__(self) -> str:
        return self.name + "[]" * self.depth

    def listed(self) -> Self:
        """The type of a list of these."""
        return type(self)(self.name, self.depth + 1, self.declared)

    def item(self) -> Self:
        """The type of what is in the list."""
        return type(self)(self.name, self.depth - 1, self.declared)


def type_of(parameter: Parameter) -> SqlType:
    """The DuckDB type of `parameter`."""
    if parameter.shape == "json":
        return SqlType("JSON")
    found = _read(parameter.schema)
    moments = found.name == "TIMESTAMP" and isinstance(parameter.default, str)
    if moments and _OFFSET.search(parameter.default):
        return SqlType("TIMESTAMPTZ", found.depth)
    return found


def _read(schema: Mapping[str, Any]) -> SqlType:
    members = [item for item in schema.get("anyOf", ()) if item.get("type") != "null"]
    if len(members) == 1:
        return _read(members[0])
    if members:  # The only type with two forms: a number, or text that keeps all its digits.
        return SqlType("DECIMAL", declared=False)
    if schema.get("type") == "array":
        return _read(schema.get("items", {"type": "string"})).listed()
    if schema.get("type") == "object" or "$ref" in schema:
        return SqlType("JSON")
    values = choices(schema)
    if values:
        (kind, *others) = {type(value) for value in values}
        return SqlType("VARCHAR" if others else _BY_CLASS.get(kind, "VARCHAR"))
    by_format = _BY_FORMAT.get(str(schema.get("format")))
    return SqlType(by_format or _BY_TYPE.get(str(schema.get("type")), "VARCHAR"))


def literal(value: Any, kind: SqlType) -> str:
    """A default, given in its JSON form, as SQL.

    A constant that DuckDB reads as another type is cast: macros do not cast their defaults.
    """
    if value is None:
        return "NULL"
    if kind.depth:
        items = ", ".join(literal(item, kind.item()) for item in value)
        return f"[{items}]" if items else f"CAST([] AS {kind})" if kind.declared else "[]"
    if kind.name == "JSON":
        return sql_text(json.dumps(value, ensure_ascii=False))
    if kind.name in ("BOOLEAN", "BIGINT", "DOUBLE"):
        return json.dumps(value)
    if kind.name in ("VARCHAR", "DECIMAL"):
        return sql_text(value if isinstance(value, str) else json.dumps(value))
    text = _interval(value) if kind.name == "INTERVAL" else value
    return f"CAST({sql_text(text)} AS {kind.name})"


def _interval(iso: str) -> str:
    found = _DURATION.fullmatch(iso)
    assert found is not None, "defaults are what pydantic wrote"
    sign, years, days, hours, minutes, seconds = found.groups(default="0")
    return (
        f"{sign}{int(years) * _DAYS_A_YEAR + int(days)} days {sign}{hours} hours"
        f" {sign}{minutes} minutes {sign}{seconds} seconds"
    )


def url_value(expression: str, kind: SqlType) -> str:
    """SQL that writes the value of `expression` for a URL; NULL if that is NULL.

    Every byte that means something in a URL, or to DuckDB in a path, is percent-encoded.
    """
    value = _text(expression, kind)
    return f"url_encode(CAST({value} AS VARCHAR))" if _is_json(kind) else f"url_encode({value})"


def _is_json(kind: SqlType) -> bool:
    return bool(kind.depth) or kind.name == "JSON"


def _text(expression: str, kind: SqlType) -> str:
    """SQL of the value: text, or JSON for what a URL writes as JSON."""
    if kind.depth:
        # A parameter's name never begins with `_`; lists in lists each have a name of their own.
        item = f"_{'i' * kind.depth}"
        return f"to_json([{_text(item, kind.item())} FOR {item} IN {expression}])"
    text = f"CAST({expression} AS VARCHAR)"
    if kind.name == "JSON":
        return f"CAST({expression} AS JSON)"
    if kind.name == "TIMESTAMPTZ":
        # Not the text of the reader's time zone: one instant is one call.
        instant = f"make_timestamp(epoch_us(CAST({expression} AS TIMESTAMPTZ)))"
        return f"CAST({instant} AS VARCHAR) || 'Z'"
    if kind.name == "INTERVAL":
        seconds = f"CAST(epoch(CAST({expression} AS INTERVAL)) AS DECIMAL(28, 6))"
        sign = f"CASE WHEN {seconds} < 0 THEN '-PT' ELSE 'PT' END"
        return f"{sign} || CAST(abs({seconds}) AS VARCHAR) || 'S'"
    return text
