"""Partitions: parameters whose few values are the folders of a hive-shaped path."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from webfoot.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from webfoot.parameters.arguments import Parameter

# DuckDB lists every combination before it looks which ones a query needs.
MOST_COMBINATIONS = 4_096


def check_partitions(parameters: Mapping[str, Parameter], partitions: Sequence[str]) -> None:
    """Refuse partitions that cannot be listed.

    Raises:
        DefinitionError: It names the cure.
    """
    sizes = {}
    for name in partitions:
        if name not in parameters:
            raise DefinitionError(
                f"partitions names {name!r}, which is no parameter; the function has"
                f" {', '.join(parameters) or 'none'}"
            )
        sizes[name] = len(partition_values(parameters[name]))
    if len(sizes) < len(partitions):
        raise DefinitionError(f"partitions names a parameter twice: {', '.join(partitions)}")
    combinations = math.prod(sizes.values())
    if combinations > MOST_COMBINATIONS:
        counted = " x ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise DefinitionError(
            f"partitions has {combinations:,} combinations ({counted}), and at most"
            f" {MOST_COMBINATIONS:,} can be listed; take fewer partitions, or narrower bounds"
        )


def partition_values(parameter: Parameter) -> Sequence[str]:
    """All values that a partition may have, as a URL writes them.

    Raises:
        DefinitionError: If its type does not say which they are.
    """
    listed = choices(parameter.schema)
    if listed:
        return [value if isinstance(value, str) else json.dumps(value) for value in listed]
    for schema in (parameter.schema, *parameter.schema.get("anyOf", ())):
        if schema.get("type") == "boolean":
            return ["false", "true"]
        if schema.get("type") == "integer":
            return _integers(parameter.name, schema)
    raise DefinitionError(
        f"the partition {parameter.name} has the type {parameter.type}, whose values cannot be"
        " listed; use a Literal, an Enum, a bool, or an int with bounds:"
        " Annotated[int, Field(ge=1, le=12)]"
    )


def choices(schema: Mapping[str, Any]) -> list[Any]:
    """The values that an Enum or a Literal may have, without null; empty for other types."""
    for member in (schema, *schema.get("anyOf", ())):
        values = member.get("enum", [member["const"]] if "const" in member else [])
        if values:
            return [value for value in values if value is not None]
    return []


def _integers(name: str, schema: Mapping[str, int]) -> Sequence[str]:
    first = max(schema["minimum"], schema.get("exclusiveMinimum", -math.inf) + 1)
    last = min(schema["maximum"], schema.get("exclusiveMaximum", math.inf) - 1)
    if not 0 <= last - first < MOST_COMBINATIONS:
        raise DefinitionError(
            f"the partition {name} may be any int from {first} to {last}, which cannot be listed;"
            f" bound it: {name}: Annotated[int, Field(ge=1, le=12)]"
        )
    step = schema.get("multipleOf", 1)
    return [str(value) for value in range(int(first), int(last) + 1) if value % step == 0]
