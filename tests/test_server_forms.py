"""The form of a UDF: a field for each type, filled in from a query string."""

from __future__ import annotations

import enum
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import Field as Bound

from webfoot import udf
from webfoot.definition import definition_of
from webfoot.server.forms import Field, read_form

if TYPE_CHECKING:
    from collections.abc import Callable

    from webfoot.definition import Udf


NOON = datetime.fromisoformat("2024-01-31T12:00:00")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "deep blue"


def define(function: Callable[..., object]) -> Udf:
    record = definition_of(udf(function))
    assert record is not None
    return record


def field_of(annotation: Any, default: Any = ..., *given: str) -> Field:
    """The only field of a UDF whose parameter `it` has this type and default."""

    def made(it: Any) -> None: ...

    made.__annotations__ = {"it": annotation, "return": None}
    made.__defaults__ = None if default is ... else (default,)
    form = read_form(define(made), [("it", text) for text in given])
    (field,) = form.fields
    return field


@pytest.mark.parametrize(
    ("annotation", "default", "control", "value"),
    [
        (int, 3, "number", "3"),
        (float, 0.5, "number", "0.5"),
        (float, 1e20, "number", "1e+20"),
        (int | None, None, "number", ""),
        (bool, False, "select", "false"),
        (str, "a b", "text", "a b"),
        (str, "two\nlines", "textarea", "two\nlines"),
        (Annotated[str, Bound(max_length=5000)], "", "textarea", ""),
        (Decimal, Decimal("1.50"), "text", "1.50"),
        (date, date(2024, 1, 31), "date", "2024-01-31"),
        (date | None, None, "date", ""),
        (
            datetime,
            datetime.fromisoformat("2024-01-31T12:00:00"),
            "datetime-local",
            "2024-01-31T12:00:00",
        ),
        (time, time(9), "time", "09:00:00"),
        (timedelta, timedelta(hours=1), "text", "PT1H"),
        (Literal["a", "b", 3], "a", "select", "a"),
        (Colour, Colour.RED, "select", "red"),
        (list[int], [1, 2], "text", "1,2"),
        (list[str], ["a,b", "c"], "text", '["a,b", "c"]'),
        (list[Colour], [Colour.RED], "checkboxes", "red"),
        (list[Literal["a,b", "c"]], ["c"], "text", "c"),
        (dict[str, int], {"a": 1}, "textarea", '{"a": 1}'),
    ],
)
def test_a_type_has_its_field_with_the_default_in_it(
    annotation: Any, default: Any, control: str, value: str
) -> None:
    field = field_of(annotation, default)
    assert (field.control, field.value) == (control, value)
    assert not field.required


@pytest.mark.parametrize(
    ("annotation", "attributes", "hint"),
    [
        (int, {"step": "1"}, ""),
        (float, {"step": "any"}, ""),
        (Annotated[int, Bound(ge=0, le=10)], {"step": "1", "min": "0", "max": "10"}, "0 to 10"),
        (Annotated[int, Bound(gt=0)], {"step": "1", "min": "1"}, "above 0"),
        (Annotated[float, Bound(gt=0, lt=1)], {"step": "any"}, "above 0, below 1"),
        (Annotated[int, Bound(le=9)] | None, {"step": "1", "max": "9"}, "at most 9"),
        (Annotated[str, Bound(max_length=5)], {"maxlength": "5"}, "at most 5 characters"),
        (Annotated[str, Bound(pattern="^[a-z]+$")], {}, "like ^[a-z]+$"),
        (
            Annotated[list[float], Bound(min_length=4, max_length=4)],
            *({}, "4 values; separated by commas, or JSON"),
        ),
        (
            list[Annotated[int, Bound(ge=1)]],
            *({}, "separated by commas, or JSON; each at least 1"),
        ),
        (time, {"step": "1"}, ""),
    ],
)
def test_bounds_are_told_to_the_browser_and_to_people(
    annotation: Any, attributes: dict[str, str], hint: str
) -> None:
    field = field_of(annotation)
    assert field.required
    assert (field.attributes, field.hint) == (attributes, hint)


@pytest.mark.parametrize(
    ("annotation", "given", "control", "values"),
    [
        (int, ("7",), "number", ("7",)),
        # A browser's field for numbers would show nothing.
        (int, ("seven",), "text", ("seven",)),
        (date, ("soon",), "text", ("soon",)),
        (datetime, ("2024-01-31T12:00:00Z",), "text", ("2024-01-31T12:00:00Z",)),
        (datetime, ("2024-01-31T12:00",), "datetime-local", ("2024-01-31T12:00",)),
        (list[int], ("1", "2"), "text", ("1,2",)),
        (list[str], ("a,b", "c"), "text", ('["a,b", "c"]',)),
        (list[Colour], ("red", "deep blue"), "checkboxes", ("red", "deep blue")),
        (list[Colour], ("red,deep blue",), "checkboxes", ("red", "deep blue")),
        (list[Colour], ('["red"]',), "checkboxes", ("red",)),
        (list[Colour], ("[red",), "checkboxes", ("[red",)),
        (str, ("a\nb",), "textarea", ("a\nb",)),
    ],
)
def test_what_is_given_stands_in_the_field(
    annotation: Any, given: tuple[str, ...], control: str, values: tuple[str, ...]
) -> None:
    field = field_of(annotation, ..., *given)
    assert (field.control, field.values) == (control, values)


def test_what_is_wrong_is_told_at_the_field_and_what_is_missing_is_not() -> None:
    def made(needed: int, few: Annotated[int, Bound(le=3)] = 1) -> None: ...

    form = read_form(define(made), [("few", "9"), ("few", "")])
    needed, few = form.fields
    assert needed.error == ""
    assert few.error == "Input should be less than or equal to 3, got '9'"
    assert form.errors == ()


def test_what_has_no_field_is_told_by_the_form() -> None:
    def made(few: int = 1) -> None: ...

    form = read_form(define(made), [("fwe", "9")])
    assert form.errors == ("fwe: unknown parameter; did you mean 'few'?",)
