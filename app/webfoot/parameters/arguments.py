"""Arguments, however they arrive, as the one canonical form of a call."""

from __future__ import annotations

import difflib
import json
import math
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ValidationError,
)
from pydantic_core import from_json

from webfoot.errors import InvalidParameters
from webfoot.masking import mask_values

# What Webfoot itself gives a function: a DuckDB, a folder, who asks.
Injected = Literal["connection", "folder", "principal"]
# What is wrong with more parameters than this helps nobody, and would be a long answer.
_MOST_TOLD = 100


@dataclass(frozen=True)
class Parameter:
    """One query parameter of a UDF.

    Args:
        name: Its name in the signature and in the URL.
        type: Its type as a person would write it.
        required: Whether a call must give it.
        default: The default in its JSON form.
        help: The docstring's sentence about it.
        schema: Its JSON schema.
        shape: How text becomes a value: one `scalar`, a `list` of them, or `json`.
    """

    name: str
    type: str
    required: bool
    default: Any
    help: str
    schema: Mapping[str, Any]
    shape: Literal["scalar", "list", "json"]


@dataclass(frozen=True)
class Parameters(Mapping[str, Parameter]):
    """The query parameters of one UDF, in the order of its signature.

    Args:
        by_name: The parameters.
        model: The pydantic model that validates a whole call.
        injected: Parameters that Webfoot fills in itself: name to kind.
    """

    by_name: Mapping[str, Parameter]
    model: type[BaseModel]
    injected: Mapping[str, Injected] = field(default_factory=dict)

    @property
    def personal(self) -> bool:
        """Whether the function is told who asks, so that others have other results."""
        return "principal" in self.injected.values()

    def __getitem__(self, name: str) -> Parameter:
        return self.by_name[name]

    def __iter__(self) -> typing.Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def from_text(self, pairs: Iterable[tuple[str, str]]) -> str:
        """Validate what a query string or a command line says.

        Args:
            pairs: Names and texts; an empty text means the default, a repeated name a list.

        Returns:
            The canonical arguments: JSON with defaults filled in, typed, names sorted.

        Raises:
            InvalidParameters: With one record per parameter at fault.
        """
        texts: dict[str, list[str]] = {}
        for name, text in pairs:
            texts.setdefault(name, [])
            if text != "":
                texts[name].append(text)
        self._refuse_unknown(texts)
        values, errors = {}, []
        for name, given in texts.items():
            if not given:
                continue
            try:
                values[name] = _decode(self[name].shape, given)
            except ValueError as error:
                errors.append(_fault(name, str(error), _printable(",".join(given))))
        if errors:
            raise _invalid(errors)
        return self.from_values(values)

    def from_values(self, values: Mapping[str, Any]) -> str:
        """Validate Python or JSON values; see `from_text` for the rest."""
        self._refuse_unknown(values)
        try:
            arguments = self.model.model_validate(dict(values))
        except ValidationError as error:
            raise _invalid([_read_fault(item) for item in error.errors()]) from None
        try:
            canonical = write_canonical(arguments)
            self.model.model_validate_json(canonical)
        except ValidationError as error:
            faults = [*_unwritable(arguments)] or [_read_fault(item) for item in error.errors()]
            raise _invalid(faults) from None
        except (ValueError, RecursionError):
            raise _invalid([*_unwritable(arguments)]) from None
        return canonical

    def restore(self, canonical: str) -> dict[str, Any]:
        """The typed values that `canonical` stands for, by parameter name."""
        arguments = self.model.model_validate_json(canonical)
        fields = self.model.model_fields
        return {str(info.alias): getattr(arguments, name) for name, info in fields.items()}

    def _refuse_unknown(self, given: Iterable[str]) -> None:
        errors = []
        for name in given:
            if name in self:
                continue
            near = difflib.get_close_matches(name, self, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self) or 'none'}"
            errors.append(_fault(name, f"unknown parameter; {hint}", None))
        if errors:
            raise _invalid(errors)


def _decode(shape: str, texts: Sequence[str]) -> Any:
    if shape == "list":
        if len(texts) > 1:
            return list(texts)
        return _read_json(texts[0]) if texts[0].lstrip().startswith("[") else texts[0].split(",")
    if len(texts) > 1:
        raise ValueError(f"is given {len(texts)} times; give it once")
    return _read_json(texts[0]) if shape == "json" else texts[0]


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error})") from None


def write_canonical(arguments: BaseModel) -> str:
    """The canonical JSON of validated arguments."""
    plain = arguments.model_dump(mode="json", by_alias=True, round_trip=True)
    return json.dumps(
        plain, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )


def _unwritable(arguments: BaseModel) -> Iterable[dict[str, Any]]:
    """The arguments that JSON cannot hold: NaN, half a character, nesting without end."""
    for name, info in type(arguments).model_fields.items():
        try:
            plain = arguments.model_dump(mode="json", include={name}, round_trip=True)
            from_json(json.dumps(plain, allow_nan=False))
        except (ValueError, RecursionError) as error:
            value = _printable(getattr(arguments, name))
            yield _fault(str(info.alias), f"cannot be written as JSON ({error})", value)


def _fault(name: str, message: str, value: Any) -> dict[str, Any]:
    told = mask_values(value, name)
    return {"parameter": _encodable(name), "message": _encodable(message), "value": told}


def _encodable(text: str) -> str:
    """Half a character, which JSON may hold and UTF-8 may not, becomes a question mark."""
    return text.encode(errors="replace").decode()


def _read_fault(item: Any) -> dict[str, Any]:
    where = [str(part) for part in item["loc"]]
    name = where[0] if where else ""
    inside = "".join(f"[{part}]" for part in where[1:])
    message = str(item["msg"]).removeprefix("Value error, ")
    missing = item["type"] == "missing" and not inside
    value = None if missing else _printable(item["input"])
    return _fault(name, "is required" if missing else f"{inside} {message}".strip(), value)


def _printable(value: Any, limit: int = 200) -> Any:
    """What of a value fits into a message and into JSON."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    try:
        text = _encodable(str(value))
    except (ValueError, RecursionError):  # Thousands of digits, or of brackets.
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[:limit] + "…"


def _invalid(errors: Sequence[dict[str, Any]]) -> InvalidParameters:
    sentences = []
    for error in errors:
        got = "" if error["value"] is None else f", got {error['value']!r}"
        sentences.append(f"{error['parameter']}: {error['message']}{got}")
    if len(sentences) > _MOST_TOLD:
        sentences[_MOST_TOLD:] = [f"and {len(sentences) - _MOST_TOLD} more"]
    return InvalidParameters("; ".join(sentences), errors=errors[:_MOST_TOLD])
