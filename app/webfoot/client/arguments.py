"""Python values as a server reads them: as the texts of a query, or as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pydantic_core import PydanticSerializationError, to_jsonable_python

if TYPE_CHECKING:
    from collections.abc import Mapping

# What proxies and load balancers take as a matter of course.
_MOST_QUERY_BYTES = 8_000


def to_plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as JSON values: dates in ISO 8601, models and dataclasses as objects.

    Raises:
        TypeError: If one is something that JSON cannot say; it names the parameter.
    """
    plain = {}
    for name, value in parameters.items():
        try:
            json_value = to_jsonable_python(
                value, by_alias=True, inf_nan_mode="strings", fallback=_from_numpy
            )
            json.dumps(json_value, ensure_ascii=False).encode()
        except (PydanticSerializationError, ValueError, TypeError) as error:
            raise TypeError(
                f"{name} is {value!r}, of {type(value).__name__}, which cannot be sent ({error});"
                " a parameter is a text, a number, a date, or a list or dict of these"
            ) from None
        plain[str(name)] = json_value
    return plain


def to_plain_input(index: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of one of many calls, likewise.

    Raises:
        TypeError: If one is something that JSON cannot say; it names the input, too.
    """
    try:
        return to_plain(given)
    except TypeError as error:
        raise TypeError(f"input {index}: {error}") from None


def _from_numpy(value: Any) -> Any:
    """NumPy's scalars and arrays, and whatever else knows itself in plain Python."""
    if type(value).__name__ == "datetime64":  # In plain Python a count of nanoseconds.
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError("JSON has no such value")


def write_query(plain: Mapping[str, Any]) -> str | None:
    """The parameters as a query string; None if a query cannot say them.

    An empty text in a query means the default, and so there is no null and no empty text in one.
    """
    if any(value is None or value == "" for value in plain.values()):
        return None
    query = urlencode({name: _text(value) for name, value in plain.items()})
    return query if len(query) <= _MOST_QUERY_BYTES else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
