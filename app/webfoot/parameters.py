"""A UDF's parameters: from its signature to typed, canonical arguments.

One pydantic model per UDF validates for every caller. Text (a query string, a command line) is
first decoded by the parameter's type; Python values and JSON go to the same model, so that the same
call is the same call however it arrives.
"""

from __future__ import annotations

import difflib
import enum
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PydanticSchemaGenerationError,
    PydanticUserError,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic_core import SchemaError, from_json

from webfoot.errors import DefinitionError, InvalidParameters

_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}
_INT64 = Field(ge=-(2**63), le=2**63 - 1)
_SCALARS = {float, str, Decimal, UUID, timedelta}
_MOMENTS = {date, datetime, time}


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
    injected: Mapping[str, Literal["connection", "folder"]] = field(default_factory=dict)

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
            canonical = _write(arguments)
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


def read_signature(function: Callable[..., Any], help_texts: Mapping[str, str]) -> Parameters:
    """Build the parameters of `function`.

    Args:
        function: The UDF.
        help_texts: What its docstring says of each parameter.

    Raises:
        DefinitionError: If a call could not give a parameter by name and type; it names the cure.
    """
    injected: dict[str, Literal["connection", "folder"]] = {}
    fields: dict[str, Any] = {}
    drafts: list[tuple[inspect.Parameter, Any]] = []
    for parameter in inspect.signature(function).parameters.values():
        _refuse_kind(parameter)
        annotation = _annotation(function, parameter)
        kind = _injection(annotation)
        if kind is not None:
            injected[parameter.name] = kind
            continue
        # Fields have names of their own: a parameter may be called `json`, `copy` or `schema`.
        fields[f"p{len(drafts)}"] = (_strict(annotation, parameter.name), _field(parameter))
        drafts.append((parameter, annotation))
    model = _build_model(function.__name__, fields)
    defaults = _read_defaults(function.__name__, fields)
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return Parameters(
        by_name={
            parameter.name: _describe(parameter, annotation, schema, defaults, help_texts)
            for parameter, annotation in drafts
        },
        model=model,
        injected=injected,
    )


def _refuse_kind(parameter: inspect.Parameter) -> None:
    name = parameter.name
    if parameter.kind is parameter.VAR_POSITIONAL:
        raise DefinitionError(
            f"*{name} cannot come from a URL; name each parameter, or take a list"
        )
    if parameter.kind is parameter.VAR_KEYWORD:
        raise DefinitionError(
            f"**{name} cannot come from a URL; name each parameter, or take a dict"
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise DefinitionError(
            f"{name} is positional-only, and a URL gives names; remove the '/' from the signature"
        )
    if name.startswith("_"):
        bare = name.strip("_")
        raise DefinitionError(
            f"{name} begins with '_', as Webfoot's own query parameters do; rename it to"
            f" {bare if bare.isidentifier() else 'value'}"
        )
    if isinstance(parameter.default, FieldInfo):
        raise DefinitionError(
            f"{name} has a Field as its default, which a direct call would receive; write"
            f" {name}: Annotated[type, Field(…)] = default"
        )


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        told = _type_of(parameter.default)
        if told is None:
            raise DefinitionError(
                f"{parameter.name} has neither a type nor a default that tells one; annotate it,"
                f" for example {parameter.name}: int"
            )
        return told
    if not isinstance(annotation, str):
        return annotation
    try:
        scope = types.SimpleNamespace(__annotations__={"it": annotation}, __wrapped__=None)
        names = {**vars(typing), **getattr(inspect.unwrap(function), "__globals__", {})}
        return typing.get_type_hints(scope, globalns=names, include_extras=True)["it"]
    except (SyntaxError, TypeError) as error:
        raise DefinitionError(
            f"{parameter.name}: {annotation} is no type ({error}); write one, for example"
            f" {parameter.name}: int"
        ) from error
    except (NameError, AttributeError) as error:
        # `if TYPE_CHECKING: import duckdb` leaves this one name unresolved, and it is enough.
        if _names_connection(annotation):
            return annotation
        raise DefinitionError(
            f"{parameter.name}: {annotation} cannot be resolved ({error}); import the name at the"
            " top of the file, outside `if TYPE_CHECKING`"
        ) from error


def _injection(annotation: Any) -> Literal["connection", "folder"] | None:
    members = [item for item in get_args(annotation) if item is not type(None)]
    if get_origin(annotation) is Annotated or (_is_union(annotation) and len(members) == 1):
        return _injection(members[0])
    # By name, so that reading a signature does not import DuckDB.
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    if _names_connection(str(name)):
        return "connection"
    if isinstance(annotation, type) and issubclass(annotation, Path):
        return "folder"
    return None


def _names_connection(annotation: str) -> bool:
    return "DuckDBPyConnection" in re.findall(r"\w+", annotation)


def _type_of(default: Any) -> Any:
    """The type that a default tells, or None."""
    if default is None or default is inspect.Parameter.empty:
        return None
    if not isinstance(default, list):
        return type(default)
    kinds = {type(item) for item in default} or {str}
    return list[kinds.pop()] if len(kinds) == 1 else None  # type: ignore[misc]  # built at run time


def _field(parameter: inspect.Parameter) -> Any:
    default = ... if parameter.default is parameter.empty else parameter.default
    return Field(default, alias=parameter.name)


def _build_model(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        arbitrary_types_allowed=False,
        coerce_numbers_to_str=True,
        # NaN is refused when it is written; by default it would turn into null.
        ser_json_inf_nan="constants",
        ser_json_timedelta="iso8601",
        validate_default=True,
    )
    try:
        model: type[BaseModel] = create_model(name, __config__=config, **fields)
        model.model_json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError, SchemaError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DefinitionError(f"a parameter's type cannot come from a URL: {reason}") from error
    return model


def _read_defaults(name: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The defaults in their JSON form, by parameter name."""
    model = _build_model(name, {k: item for k, item in fields.items() if not item[1].is_required()})
    try:
        canonical = _write(model.model_validate({}))
        model.model_validate_json(canonical)
    except ValidationError as error:
        item = error.errors()[0]
        where = str(item["loc"][0])
        parameter = fields[where][1].alias if where in fields else where
        cure = "change it" if item["input"] is not None else "add `| None` to the type"
        message = str(item["msg"]).removeprefix("Value error, ")
        raise DefinitionError(
            f"the default of {parameter} is not what its type allows: {message}, got"
            f" {item['input']!r}; {cure}"
        ) from error
    except (TypeError, ValueError) as error:
        raise DefinitionError(
            f"a default cannot be checked and written as JSON: {error}; change it, or the bounds of"
            " its type"
        ) from error
    defaults: dict[str, Any] = json.loads(canonical)
    return defaults


def _write(arguments: BaseModel) -> str:
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


def _bare(annotation: Any) -> Any:
    """The type itself, behind a `NewType` or an alias."""
    while True:
        if isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _strict(annotation: Any, name: str) -> Any:
    """The type as pydantic shall read it: no guessing from text that is not plainly meant."""
    annotation = _bare(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        return Annotated[(_strict(inner, name), *metadata)]
    if _is_union(annotation):
        return _strict_optional(annotation, name)
    if origin is Literal:
        return _one_of(annotation)
    if origin in (list, Sequence) or annotation is list:
        items = get_args(annotation) or (str,)
        return list[_strict(items[0], name)]  # type: ignore[misc]  # built at run time
    return annotation if _is_json(annotation) else _strict_scalar(annotation, name)


def _strict_optional(annotation: Any, name: str) -> Any:
    members = [member for member in get_args(annotation) if member is not type(None)]
    if len(members) != 1:
        raise DefinitionError(
            f"{name} may be one of several types ({annotation}), and text cannot tell which;"
            " choose one type, or one type and None"
        )
    return _strict(members[0], name) | None


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
        f"{name} has the type {_type_name(annotation)}, which cannot come from a URL; use int,"
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


def _shape(annotation: Any) -> Literal["scalar", "list", "json"]:
    annotation = _bare(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return _shape(get_args(annotation)[0])
    if _is_union(annotation):
        return _shape(next(item for item in get_args(annotation) if item is not type(None)))
    if origin in (list, Sequence) or annotation is list:
        return "list"
    return "json" if _is_json(annotation) else "scalar"


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


def _describe(
    parameter: inspect.Parameter,
    annotation: Any,
    schema: Mapping[str, Any],
    defaults: Mapping[str, Any],
    help_texts: Mapping[str, str],
) -> Parameter:
    own = dict(schema["properties"][parameter.name])
    own.pop("title", None)
    # The schema's own would be the author's value, say 1 for 1.0.
    own.pop("default", None)
    if parameter.name in defaults:
        own["default"] = defaults[parameter.name]
    if "$defs" in schema and "$ref" in json.dumps(own):
        own["$defs"] = schema["$defs"]
    return Parameter(
        name=parameter.name,
        type=_type_name(annotation),
        required=parameter.name not in defaults,
        default=own.get("default"),
        help=help_texts.get(parameter.name, ""),
        schema=own,
        shape=_shape(annotation),
    )


def _type_name(annotation: Any) -> str:
    annotation = _bare(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type_name(get_args(annotation)[0])
    if _is_union(annotation):
        return " | ".join(_type_name(item) for item in get_args(annotation))
    if annotation is type(None):
        return "None"
    if origin is Literal:
        return " | ".join(repr(value) for value in get_args(annotation))
    if origin is not None:
        inner = ", ".join(_type_name(item) for item in get_args(annotation))
        return f"{origin.__name__}[{inner}]"
    return getattr(annotation, "__name__", str(annotation))


def _fault(name: str, message: str, value: Any) -> dict[str, Any]:
    return {"parameter": _encodable(name), "message": _encodable(message), "value": value}


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
    return InvalidParameters("; ".join(sentences), errors=errors)
