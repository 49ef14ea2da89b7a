"""A function's signature as parameters; what no URL could give is refused, with the cure."""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticSchemaGenerationError,
    PydanticUserError,
    ValidationError,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic_core import SchemaError

from webfoot.access.principal import Principal
from webfoot.errors import DefinitionError
from webfoot.parameters.arguments import Injected, Parameter, Parameters, write_canonical
from webfoot.parameters.types import is_union, name_of, shape_of, strict

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def read_signature(function: Callable[..., Any], help_texts: Mapping[str, str]) -> Parameters:
    """Build the parameters of `function`.

    Args:
        function: The UDF.
        help_texts: What its docstring says of each parameter.

    Raises:
        DefinitionError: If a call could not give a parameter by name and type; it names the cure.
    """
    injected: dict[str, Injected] = {}
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
        fields[f"p{len(drafts)}"] = (strict(annotation, parameter.name), _field(parameter))
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


def _injection(annotation: Any) -> Injected | None:
    members = [item for item in get_args(annotation) if item is not type(None)]
    if get_origin(annotation) is Annotated or (is_union(annotation) and len(members) == 1):
        return _injection(members[0])
    # By name, so that reading a signature does not import DuckDB.
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    if _names_connection(str(name)):
        return "connection"
    if isinstance(annotation, type) and issubclass(annotation, Path):
        return "folder"
    return "principal" if annotation is Principal else None


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
        canonical = write_canonical(model.model_validate({}))
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
        type=name_of(annotation),
        required=parameter.name not in defaults,
        default=own.get("default"),
        help=help_texts.get(parameter.name, ""),
        schema=own,
        shape=shape_of(annotation),
    )
