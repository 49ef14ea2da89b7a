"""Which types a parameter may have, and how each reads text: plainly, without guessing."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from webfoot.errors import DefinitionError

_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}
_INT64 = Field(ge=-(2**63), le=2**63 - 1)
_SCALARS = {float, str, Decimal, UUID, timedelta}
_MOMENTS = {date, datetime, time}


def strict(annotation: Any, name: str) -> Any:
    """The type as pydantic shall read it: no guessing from text that is not plainly meant."""
    annotation = _bare(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        return Annotated[(strict(inner, name), *metadata)]
    if is_union(annotation):
        return _strict_optional(annotation, name)
    if origin is Literal:
        return _one_of(annotation)
    if origin in (list, Sequence) or annotation is list:
        items = get_args(annotation) or (str,)
        return list[strict(items[0], name)]  # type: ignore[misc]  # built at run time
    return annotation if _is_json(annotation) else _strict_scalar(annotation, name)


def _strict_optional(annotation: Any, name: str) -> Any:
    members = [member for member in get_args(annotation) if member is not type(None)]
    if len(members) != 1:
        raise DefinitionError(
            f"{name} may be one of several types ({annotation}), and text cannot tell which;"
            " choose one type, or one type and None"
        )
    return strict(members[0], name) | None


def _strict_scalar(annotation: Any, name: str) -> Any:
    if annotation is bool:
        return Annotated[bool, BeforeValidator(_read_bool)]
    if annotation is int:
        # 64 bits are what SQL and Arrow hold; more would fail later and less clearly.
        return Annotated[int, _INT64]
    if isinstance(annotation, type) and annotation in _MOMENTS:
        return Annotated[annotation, BeforeValidator(_refuse_number)]
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _member_of(annotation)
    if isinstance(annotation, type) and annotation in _SCALARS:
        return annotation
    raise DefinitionError(
        f"{name} has the type {name_of(annotation)}, which cannot come from a URL; use int,"
        " float, bool, str, date, datetime, time, timedelta, Decimal, UUID, Literal, an Enum, a"
        " list of these, a dict or a pydantic model"
    )


def _read_bool(value: Any) -> Any:
    text = value.strip().lower() if isinstance(value, str) else value
    if isinstance(text, bool):
        return text
    if str(text) in _TRUE:
        return True
    if str(text) in _FALSE:
        return False
    raise ValueError("is neither true/1/yes/on nor false/0/no/off")


def _refuse_number(value: Any) -> Any:
    """Pydantic reads "20240101" as seconds since 1970; a person means a date."""
    if isinstance(value, str) and value.strip().lstrip("+-").replace(".", "", 1).isdigit():
        raise ValueError(
            "is a number; write it in ISO 8601, like 2024-01-31, 12:00:00 or 2024-01-31T12:00:00"
        )
    if not isinstance(value, str | date | time):
        raise ValueError("is no date or time; write it as ISO 8601 text")  # noqa: TRY004  # pydantic's way
    return value


def _one_of(annotation: Any) -> Any:
    """A Literal, whose values text gives as Python writes them, and true and false as people do."""
    values = [value for value in get_args(annotation) if value is not None]
    for value in values:
        if isinstance(value, enum.Enum):
            raise DefinitionError(
                f"Literal[{value}] holds a member of an Enum; use the Enum, or its values"
            )
    by_text = {
        str(value).lower() if isinstance(value, bool) else str(value): value for value in values
    }
    # A text that is itself a value stands for no other.
    by_text |= {value: value for value in values if isinstance(value, str)}

    def read(value: Any) -> Any:
        return by_text.get(value, value) if isinstance(value, str) else value

    return Annotated[annotation, BeforeValidator(read)]


def _member_of(cls: type[enum.Enum]) -> Any:
    """An enum, given by a member's value or name, and kept by the text of its value."""
    written = {member: _member_text(member) for member in cls}
    if len(set(written.values())) < len(written):
        raise DefinitionError(
            f"two members of {cls.__name__} have values that text cannot tell apart; change one"
        )
    by_text = dict(cls.__members__) | {text: member for member, text in written.items()}

    def read(value: Any) -> Any:
        if isinstance(value, cls) and value in written:
            return value
        if str(value) in by_text:
            return by_text[str(value)]
        raise ValueError(f"is none of {', '.join(written.values())}")

    return Annotated[
        cls,
        BeforeValidator(read),
        PlainSerializer(written.__getitem__, return_type=str),
        WithJsonSchema({"type": "string", "enum": list(written.values())}),
    ]


def _member_text(member: enum.Enum) -> str:
    """The value, unless it is an object whose text could differ from one process to the next."""
    plain = isinstance(member.value, str | int | float | Decimal | date | time | UUID)
    return str(member.value) if plain else member.name


def _is_json(annotation: Any) -> bool:
    bare = get_origin(annotation) or annotation
    return bare in (dict, Mapping) or (
        isinstance(bare, type) and (issubclass(bare, BaseModel) or is_dataclass(bare))
    )


def shape_of(annotation: Any) -> Literal["scalar", "list", "json"]:
    """How text becomes a value of the type: as one scalar, a list of them, or JSON."""
    annotation = _bare(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return shape_of(get_args(annotation)[0])
    if is_union(annotation):
        return shape_of(next(item for item in get_args(annotation) if item is not type(None)))
    if origin in (list, Sequence) or annotation is list:
        return "list"
    return "json" if _is_json(annotation) else "scalar"


def name_of(annotation: Any) -> str:
    """The type as a person would write it."""
    annotation = _bare(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return name_of(get_args(annotation)[0])
    if is_union(annotation):
        return " | ".join(name_of(item) for item in get_args(annotation))
    if annotation is type(None):
        return "None"
    if origin is Literal:
        return " | ".join(repr(value) for value in get_args(annotation))
    if origin is not None:
        inner = ", ".join(name_of(item) for item in get_args(annotation))
        return f"{origin.__name__}[{inner}]"
    return getattr(annotation, "__name__", str(annotation))


def _bare(annotation: Any) -> Any:
    """The type itself, behind a `NewType` or an alias."""
    while True:
        if isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def is_union(annotation: Any) -> bool:
    """Whether the type is one of several."""
    return get_origin(annotation) in (Union, types.UnionType)
