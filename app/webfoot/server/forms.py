"""The form that calls a UDF: one field per parameter, filled in from a query string."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from webfoot.errors import InvalidParameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from webfoot.definition import Udf
    from webfoot.parameters import Parameter

Control = Literal[
    "text", "number", "date", "datetime-local", "time", "textarea", "select", "checkboxes"
]
_BY_FORMAT: Mapping[str, Control] = {
    "date": "date",
    "date-time": "datetime-local",
    "time": "time",
}
# What a browser's field can hold; of anything else, say a time with an offset, it shows nothing.
_CLOCK = r"\d\d:\d\d(:\d\d(\.\d{1,3})?)?"
_HOLDS: Mapping[Control, re.Pattern[str]] = {
    "number": re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII),
    "date": re.compile(r"\d{4}-\d\d-\d\d", re.ASCII),
    "datetime-local": re.compile(rf"\d{{4}}-\d\d-\d\dT{_CLOCK}", re.ASCII),
    "time": re.compile(_CLOCK, re.ASCII),
}
# A text that may be longer than this has room for lines.
_LONG_TEXT = 200
_LONG_JSON = 40
# Bounds that every whole number has say nothing about this one.
_LEAST, _MOST = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class Field:
    """One parameter as a person fills it in.

    Args:
        name: The parameter.
        type: Its type as a person would write it.
        help: The docstring's sentence about it.
        control: What kind of field.
        values: What stands in it; several only if several boxes may be ticked.
        default: What an empty field means; empty if that is no value, or required.
        required: Whether it must be filled in.
        choices: What may be chosen, in `select` and `checkboxes`.
        attributes: Further attributes of the HTML element.
        hint: What its type cannot say: bounds, how to write a list.
        error: What is wrong with the value.
    """

    name: str
    type: str
    help: str
    control: Control
    values: tuple[str, ...]
    default: str
    required: bool
    choices: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""
    error: str = ""

    @property
    def value(self) -> str:
        """What stands in a field that has one value."""
        return self.values[0] if self.values else ""


@dataclass(frozen=True)
class Form:
    """The fields of a UDF, and what is wrong with values that have no field.

    Args:
        fields: One per parameter, in the order of the signature.
        errors: Each a sentence.
    """

    fields: tuple[Field, ...]
    errors: tuple[str, ...] = ()


def read_form(udf: Udf, given: Sequence[tuple[str, str]]) -> Form:
    """Lay out the form of `udf`.

    Args:
        udf: The UDF.
        given: Names and texts of a query string. A name without a text is as good as none; so is
            a required parameter that is missing, before anybody has asked for the table.
    """
    texts: dict[str, list[str]] = {}
    for name, text in given:
        if text:
            texts.setdefault(name, []).append(text)
    errors = _faults(udf, [pair for pair in given if pair[1]])
    fields = tuple(
        _read_field(parameter, texts.get(name, ()), errors.get(name, ""))
        for name, parameter in udf.parameters.items()
    )
    strange = [name for name in errors if name not in udf.parameters]
    return Form(fields, tuple(f"{name}: {errors[name]}" for name in strange))


def _faults(udf: Udf, given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What is wrong with the values, by parameter."""
    try:
        udf.parameters.from_text(given)
    except InvalidParameters as error:
        return {
            fault["parameter"]: _sentence(fault)
            for fault in error.errors
            # What is only missing will be filled in.
            if fault["value"] is not None or fault["parameter"] not in udf.parameters
        }
    return {}


def _sentence(fault: Mapping[str, Any]) -> str:
    got = "" if fault["value"] is None else f", got {fault['value']!r}"
    return f"{fault['message']}{got}"


def _read_field(parameter: Parameter, given: Sequence[str], error: str) -> Field:
    schema = _without_null(parameter.schema)
    control = _control(parameter, schema, given)
    default = "" if parameter.default is None else _write(parameter, parameter.default)
    choices = _choices(schema) or _choices(schema.get("items", {}))
    if control == "checkboxes":
        values = tuple(_text(item) for item in _items(given) or parameter.default or ())
    else:
        # Several texts of one name are a list, which one field holds with commas or as JSON.
        values = (_join(given) if len(given) > 1 else "".join(given) or default,)
    return Field(
        name=parameter.name,
        type=parameter.type,
        help=parameter.help,
        control=control,
        values=values,
        default=default,
        required=parameter.required,
        choices=choices,
        attributes=_attributes(control, schema),
        hint=_hint(parameter, control, schema),
        error=error,
    )


def _without_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of the value itself; one of several types, as of a Decimal, has no bounds."""
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    if not options:
        return schema
    return options[0] if len(options) == 1 else {}


def _control(parameter: Parameter, schema: Mapping[str, Any], given: Sequence[str]) -> Control:
    if parameter.shape == "json":
        return "textarea"
    if parameter.shape == "list":
        choices = _choices(schema.get("items", {}))
        # A single text is cut at its commas.
        return "checkboxes" if choices and not any("," in text for text in choices) else "text"
    if _choices(schema):
        return "select"
    control = _BY_FORMAT.get(schema.get("format", ""), "text")
    if schema.get("type") in ("integer", "number"):
        control = "number"
    texts = [*given, "" if parameter.default is None else _text(parameter.default)]
    if control in _HOLDS and all(_HOLDS[control].fullmatch(text) for text in texts if text):
        return control
    long = schema.get("maxLength", 0) > _LONG_TEXT or any("\n" in text for text in texts)
    return "textarea" if long else "text"


def _choices(schema: Mapping[str, Any]) -> tuple[str, ...]:
    if schema.get("type") == "boolean":
        return ("true", "false")
    listed = [schema["const"]] if "const" in schema else schema.get("enum", ())
    return tuple(_text(value) for value in listed if value is not None)


def _text(value: Any) -> str:
    """A JSON value as a query string has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _write(parameter: Parameter, default: Any) -> str:
    if parameter.shape == "list":
        return _join([_text(item) for item in default])
    if parameter.shape == "json":
        text = json.dumps(default, ensure_ascii=False)
        return json.dumps(default, ensure_ascii=False, indent=2) if len(text) > _LONG_JSON else text
    return _text(default)


def _join(texts: Sequence[str]) -> str:
    """A list as one text: with commas, or as JSON where these would cut an item."""
    plain = all(text and "," not in text and not text.startswith("[") for text in texts)
    return ",".join(texts) if plain else json.dumps(texts, ensure_ascii=False)


def _items(given: Sequence[str]) -> Sequence[Any]:
    """The items of a list, given as the server takes it: repeated, with commas, or as JSON."""
    if len(given) != 1:
        return given
    if not given[0].lstrip().startswith("["):
        return given[0].split(",")
    try:
        items: list[Any] = json.loads(given[0])
    except (ValueError, RecursionError):
        return given
    return items


def _attributes(control: Control, schema: Mapping[str, Any]) -> dict[str, str]:
    if control == "number":
        whole = schema["type"] == "integer"
        found = {"step": "1" if whole else "any"}
        for bound, attribute, beside in (("minimum", "min", 1), ("maximum", "max", -1)):
            exclusive = schema.get(f"exclusiveM{bound[1:]}")
            if whole and exclusive is not None:
                found[attribute] = str(exclusive + beside)
            elif _tells(schema.get(bound)):
                found[attribute] = str(schema[bound])
        return found
    if control in ("datetime-local", "time"):
        return {"step": "1"}
    length = schema.get("maxLength")
    return {"maxlength": str(length)} if length and control in ("text", "textarea") else {}


def _tells(bound: float | None) -> bool:
    return bound is not None and bound not in (_LEAST, _MOST)


def _hint(parameter: Parameter, control: Control, schema: Mapping[str, Any]) -> str:
    parts = [_bounds(schema)]
    if parameter.shape == "list" and control == "text":
        parts += [_count(schema), "separated by commas, or JSON"]
        inner = _bounds(schema.get("items", {}))
        parts.append(inner and f"each {inner}")
    elif control == "textarea" and parameter.shape == "json":
        parts.append("JSON")
    elif control == "checkboxes":
        parts.append("none ticked means the default" if parameter.default else "")
    return "; ".join(part for part in parts if part)


def _bounds(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    parts = []
    if _tells(low) and _tells(high):
        parts.append(f"{low} to {high}")
    else:
        parts += [f"at least {low}"] if _tells(low) else []
        parts += [f"at most {high}"] if _tells(high) else []
    words = {
        "exclusiveMinimum": "above {}",
        "exclusiveMaximum": "below {}",
        "multipleOf": "a multiple of {}",
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
        "pattern": "like {}",
    }
    parts += [text.format(schema[key]) for key, text in words.items() if key in schema]
    return ", ".join(parts)


def _count(schema: Mapping[str, Any]) -> str:
    fewest, most = schema.get("minItems", 0), schema.get("maxItems")
    if most is None:
        return f"at least {fewest} values" if fewest else ""
    return f"{most} values" if fewest == most else f"{fewest} to {most} values"
