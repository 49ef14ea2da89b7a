"""A call means the same however it arrives, and what it cannot mean is refused by name."""

from __future__ import annotations

import enum
import json
import math
import string
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional
from uuid import UUID
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType

from webfoot.errors import DefinitionError, InvalidParameters
from webfoot.parameters import Parameters, read_signature

if typing.TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_NO_DEFAULT: Any = object()


class Color(enum.Enum):
    """Values that are not the names."""

    RED = "red"
    DEEP_BLUE = "deep blue"


class Level(enum.IntEnum):
    """Whole numbers."""

    LOW = 1
    HIGH = 2


class Swapped(enum.Enum):
    """Each value is the other's name."""

    A = "B"
    B = "A"


class Kept(enum.Enum):
    """Values whose text differs from one process to the next."""

    ONE = object()
    TWO = (1, 2)


class Alike(enum.Enum):
    """Values that text cannot tell apart."""

    NUMBER = 1
    TEXT = "1"


class Box(BaseModel):
    """A model with a default and a nested list."""

    west: float
    east: float = 180.0
    days: list[date] = []


@dataclass
class Point:
    """A dataclass."""

    x: float
    y: float = 0.0


Metres = NewType("Metres", float)
Ids = NewType("Ids", list[int])
Shape = NewType("Shape", Box)
Names = TypeAliasType("Names", list[str])

A_UUID = UUID("12345678-1234-5678-1234-567812345678")


def parameters_of(annotation: object, default: object = _NO_DEFAULT) -> Parameters:
    """The parameters of a function of one parameter, `x`."""

    def function(x: object) -> None:
        """Do nothing."""

    function.__annotations__ = {"x": annotation} if annotation is not _NO_DEFAULT else {}
    function.__defaults__ = None if default is _NO_DEFAULT else (default,)
    return read_signature(function, {})


def canonical(parameters: Parameters, *texts: str) -> Any:
    """What `?x=…` means, as JSON."""
    return json.loads(parameters.from_text([("x", text) for text in texts]))["x"]


def refusal(parameters: Parameters, *texts: str) -> InvalidParameters:
    """How `?x=…` is refused."""
    with pytest.raises(InvalidParameters) as caught:
        parameters.from_text([("x", text) for text in texts])
    return caught.value


# Each row: a type; its good texts, with the Python value and the JSON that they mean; its bad
# texts, with a part of the message.
TABLE: list[tuple[Any, list[tuple[str, Any, Any]], list[tuple[str, str]]]] = [
    (
        int,
        [
            ("5", 5, 5),
            ("-5", -5, -5),
            (" 7 ", 7, 7),
            ("1.0", 1, 1),
            ("007", 7, 7),
            (str(2**63 - 1), 2**63 - 1, 2**63 - 1),
            (str(-(2**63)), -(2**63), -(2**63)),
        ],
        [
            ("five", "valid integer"),
            ("1.5", "valid integer"),
            ("1e3", "valid integer"),
            ("true", "valid integer"),
            ("nan", "valid integer"),
            (str(2**63), "less than or equal to 9223372036854775807"),
            (str(-(2**63) - 1), "greater than or equal to -9223372036854775808"),
            ("9" * 5000, "exceeded maximum size"),
        ],
    ),
    (
        float,
        [("5", 5.0, 5.0), ("-0.5", -0.5, -0.5), ("1e3", 1000.0, 1000.0), (" .5 ", 0.5, 0.5)],
        [
            ("x", "valid number"),
            ("nan", "finite"),
            ("inf", "finite"),
            ("-Infinity", "finite"),
            ("1e400", "finite"),
            ("1,5", "valid number"),
        ],
    ),
    (
        bool,
        [
            *[(text, True, True) for text in ("true", "1", "yes", "on", "True", "YES", " on ")],
            *[(text, False, False) for text in ("false", "0", "no", "off", "False", "Off")],
        ],
        [(text, "neither true/1/yes/on nor false/0/no/off") for text in ("t", "y", "2", "maybe")],
    ),
    (
        str,
        [
            ("a", "a", "a"),
            (" a ", " a ", " a "),
            ("5", "5", "5"),
            ("null", "null", "null"),
            ("naïve ☃ 𝄞", "naïve ☃ 𝄞", "naïve ☃ 𝄞"),
            ("a,b", "a,b", "a,b"),
            ("\0", "\0", "\0"),
        ],
        [("\ud800", "cannot be written as JSON")],
    ),
    (
        date,
        [
            ("2024-01-31", date(2024, 1, 31), "2024-01-31"),
            ("2024-01-31T00:00:00", date(2024, 1, 31), "2024-01-31"),
        ],
        [
            ("20240131", "is a number; write it in ISO 8601, like 2024-01-31"),
            ("2024", "is a number"),
            (" -1.5 ", "is a number"),
            ("1e5", "valid date"),
            ("2024-02-30", "valid date"),
            ("31/01/2024", "valid date"),
            ("2024-01-31T12:00:00", "zero time"),
            ("today", "valid date"),
        ],
    ),
    (
        datetime,
        [
            ("2024-01-31", datetime(2024, 1, 31), "2024-01-31T00:00:00"),  # noqa: DTZ001  # as given
            ("2024-01-31T12:00", datetime(2024, 1, 31, 12), "2024-01-31T12:00:00"),  # noqa: DTZ001  # as given
            (
                "2024-01-31 12:00:00.5Z",
                datetime(2024, 1, 31, 12, 0, 0, 500_000, UTC),
                "2024-01-31T12:00:00.500000Z",
            ),
            (
                "2024-01-31T12:00:00+05:30",
                datetime(2024, 1, 31, 12, tzinfo=timezone(timedelta(hours=5, minutes=30))),
                "2024-01-31T12:00:00+05:30",
            ),
        ],
        [
            ("1706702400", "is a number"),
            ("2024-01-31T25:00", "datetime"),
            ("nan", "valid datetime"),
        ],
    ),
    (
        time,
        [
            ("12:30", time(12, 30), "12:30:00"),
            ("12:30:15.25", time(12, 30, 15, 250_000), "12:30:15.250000"),
            ("12:30Z", time(12, 30, tzinfo=UTC), "12:30:00Z"),
        ],
        [("12", "12:00:00"), ("45000", "is a number"), ("25:00", "hour"), ("noon", "time")],
    ),
    (
        timedelta,
        [
            ("PT1H30M", timedelta(hours=1, minutes=30), "PT1H30M"),
            ("1:30:00", timedelta(hours=1, minutes=30), "PT1H30M"),
            ("P2D", timedelta(days=2), "P2D"),
            ("-PT1S", timedelta(seconds=-1), "-PT1S"),
            ("PT0.000001S", timedelta(microseconds=1), "PT0.000001S"),
        ],
        [("soon", "timedelta"), ("3600", "timedelta"), ("P10000000000D", "too large")],
    ),
    (
        Decimal,
        [
            ("1.10", Decimal("1.10"), "1.10"),
            ("0.1", Decimal("0.1"), "0.1"),
            ("1" + "0" * 40 + ".1", Decimal("1" + "0" * 40 + ".1"), "1" + "0" * 40 + ".1"),
            ("1e400", Decimal("1E+400"), "1E+400"),
        ],
        [("x", "decimal"), ("NaN", "finite"), ("Infinity", "finite"), ("1,1", "decimal")],
    ),
    (
        UUID,
        [
            (str(A_UUID), A_UUID, str(A_UUID)),
            (A_UUID.hex, A_UUID, str(A_UUID)),
            (str(A_UUID).upper(), A_UUID, str(A_UUID)),
        ],
        [("123", "UUID"), ("g" * 32, "UUID")],
    ),
    (
        Literal["mean", "max"],
        [("mean", "mean", "mean")],
        [("MEAN", "'mean' or 'max'"), ("min", "'mean' or 'max'")],
    ),
    (
        Literal[1, 2, True, "1"],
        [("1", "1", "1"), ("2", 2, 2), ("true", True, True)],
        [("3", "Input should be"), ("yes", "Input should be")],
    ),
    (
        Color,
        [
            ("red", Color.RED, "red"),
            ("RED", Color.RED, "red"),
            ("deep blue", Color.DEEP_BLUE, "deep blue"),
            ("DEEP_BLUE", Color.DEEP_BLUE, "deep blue"),
        ],
        [("green", "is none of red, deep blue"), ("Red", "is none of"), ("Color.RED", "none of")],
    ),
    (
        Level,
        [("1", Level.LOW, "1"), ("HIGH", Level.HIGH, "2")],
        [("3", "is none of 1, 2"), ("1.0", "is none of")],
    ),
    (Swapped, [("A", Swapped.B, "A"), ("B", Swapped.A, "B")], [("C", "is none of B, A")]),
    (Kept, [("ONE", Kept.ONE, "ONE")], [("<object>", "is none of ONE, TWO")]),
    (int | None, [("5", 5, 5)], [("null", "valid integer"), ("None", "valid integer")]),
    (Optional[date], [("2024-01-31", date(2024, 1, 31), "2024-01-31")], [("1", "is a number")]),  # noqa: UP045  # the older spelling
    (
        list[int],
        [
            ("1,2", [1, 2], [1, 2]),
            ("1", [1], [1]),
            ("[1, 2]", [1, 2], [1, 2]),
            (" [] ", [], []),
            ("1, 2", [1, 2], [1, 2]),
        ],
        [
            ("1,x", "[1] Input should be a valid integer"),
            ("1,", "[1] Input should be a valid integer"),
            ("[1", "is not JSON"),
            ("[" * 100_000, "is not JSON"),
            ('["a"]', "[0]"),
            (str(2**63), "[0] Input should be less than"),
        ],
    ),
    (list, [("a,b", ["a", "b"], ["a", "b"])], [("[a]", "is not JSON")]),
    (
        Sequence[date],
        [
            (
                "2024-01-31,2024-02-01",
                [date(2024, 1, 31), date(2024, 2, 1)],
                ["2024-01-31", "2024-02-01"],
            )
        ],
        [("2024-01-31,5", "[1] is a number")],
    ),
    (list[Color], [("red,DEEP_BLUE", [Color.RED, Color.DEEP_BLUE], ["red", "deep blue"])], []),
    (list[Literal[1, 2]], [("1,2", [1, 2], [1, 2])], [("1,3", "[1] Input should be 1 or 2")]),
    (
        list[Decimal],
        [
            ("0.10,2", [Decimal("0.10"), Decimal(2)], ["0.10", "2"]),
            (
                '["0.12345678901234567890"]',
                [Decimal("0.12345678901234567890")],
                ["0.12345678901234567890"],
            ),
        ],
        [],
    ),
    (
        list[list[int]],
        [("[[1, 2], [], [3]]", [[1, 2], [], [3]], [[1, 2], [], [3]])],
        [("1,2", "list")],
    ),
    (list[int | None], [("[1, null]", [1, None], [1, None])], [("1,null", "[1]")]),
    (list[int] | None, [("1,2", [1, 2], [1, 2])], [("null", "[0]")]),
    (Optional[list[str]], [("a", ["a"], ["a"])], []),  # noqa: UP045  # the older spelling
    (
        dict[str, Any],
        [
            ("{}", {}, {}),
            (
                '{"b": 1, "a": [null, {"d": 1.5}]}',
                {"b": 1, "a": [None, {"d": 1.5}]},
                {"a": [None, {"d": 1.5}], "b": 1},
            ),
            (
                '{"n": 123456789012345678901234567890}',
                {"n": 123456789012345678901234567890},
                {"n": 123456789012345678901234567890},
            ),
        ],
        [
            ("a", "is not JSON"),
            ("[1]", "valid dictionary"),
            ('{"a": NaN}', "cannot be written as JSON"),
            ('{"a": 1e999}', "cannot be written as JSON"),
            ('{"a": "\\ud800"}', "cannot be written as JSON"),
            ('{"a":' * 250 + "1" + "}" * 250, "cannot be written as JSON"),
            ('{"a":' * 900 + "1" + "}" * 900, "cannot be written as JSON"),
            ('{"a":' * 100_000, "is not JSON"),
            ('{"a": ' + "9" * 5000 + "}", "is not JSON"),
        ],
    ),
    (dict[str, int], [('{"a": 1}', {"a": 1}, {"a": 1})], [('{"a": "x"}', "[a] Input should be")]),
    (dict[str, float], [('{"a": 1}', {"a": 1.0}, {"a": 1.0})], [('{"a": NaN}', "finite")]),
    (Mapping[str, int], [('{"a": 1}', {"a": 1}, {"a": 1})], []),
    (
        Box,
        [
            (
                '{"west": 1, "days": ["2024-01-31"]}',
                Box(west=1.0, days=[date(2024, 1, 31)]),
                {"west": 1.0, "east": 180.0, "days": ["2024-01-31"]},
            )
        ],
        [
            ('{"east": 1}', "[west] Field required"),
            ('{"west": "x"}', "[west] Input should be a valid number"),
            ('{"west": NaN}', "cannot be written as JSON"),
            ("west", "is not JSON"),
        ],
    ),
    (Point, [('{"x": 1}', Point(1.0), {"x": 1.0, "y": 0.0})], [('{"z": 1}', "[x] Field required")]),
    (
        list[Point],
        [('[{"x": 1}]', [Point(1.0)], [{"x": 1.0, "y": 0.0}])],
        [('[{"x": "a"}]', "[0][x]")],
    ),
    (Metres, [("1", 1.0, 1.0)], [("x", "valid number")]),
    (Ids, [("1,2", [1, 2], [1, 2])], [("x", "[0]")]),
    (
        Shape,
        [('{"west": 1}', Box(west=1.0), {"west": 1.0, "east": 180.0, "days": []})],
        [("1", "Box")],
    ),
    (Names, [("a,b", ["a", "b"], ["a", "b"])], []),
    (
        Annotated[int, Field(ge=0, lt=10)],
        [("0", 0, 0), ("9", 9, 9)],
        [("-1", "greater than or equal to 0"), ("10", "less than 10")],
    ),
    (
        Annotated[int | None, Field(ge=0)],
        [("0", 0, 0)],
        [("-1", "greater than or equal to 0")],
    ),
    (Annotated[float, Field(gt=0)], [("0.1", 0.1, 0.1)], [("0", "greater than 0")]),
    (Annotated[str, Field(pattern="^a+$")], [("aa", "aa", "aa")], [("b", "pattern")]),
    (
        Annotated[date, Field(ge=date(2024, 1, 1))],
        [("2024-01-01", date(2024, 1, 1), "2024-01-01")],
        [("2023-12-31", "greater than or equal to")],
    ),
    (
        Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=2)],
        [("1,2", [1, 2], [1, 2])],
        [("1,-2", "[1] Input should be greater"), ("1,2,3", "at most 2 items")],
    ),
]

GOOD = [(row[0], *good) for row in TABLE for good in row[1]]
BAD = [(row[0], *bad) for row in TABLE for bad in row[2]]


@pytest.mark.parametrize(("annotation", "text", "value", "plain"), GOOD, ids=str)
def test_good_texts_mean_a_typed_value(
    annotation: object, text: str, value: object, plain: object
) -> None:
    parameters = parameters_of(annotation)
    arguments = parameters.from_text([("x", text)])
    assert json.loads(arguments) == {"x": plain}
    restored = parameters.restore(arguments)["x"]
    assert restored == value
    assert type(restored) is type(value)


@pytest.mark.parametrize(("annotation", "text", "message"), BAD, ids=lambda item: str(item)[:40])
def test_bad_texts_are_refused_by_parameter_and_value(
    annotation: object, text: str, message: str
) -> None:
    error = refusal(parameters_of(annotation), text)
    assert message in error.detail
    assert error.detail.startswith("x: ")
    assert error.errors
    assert {item["parameter"] for item in error.errors} == {"x"}
    assert all("got " in part for part in error.detail.split("; x: "))
    json.dumps(error.problem(), allow_nan=False, ensure_ascii=False).encode()
    assert len(error.detail) < 2000


@pytest.mark.parametrize(("annotation", "text", "value", "plain"), GOOD, ids=str)
def test_text_python_values_and_json_are_the_same_call(
    annotation: object, text: str, value: object, plain: object
) -> None:
    parameters = parameters_of(annotation)
    arguments = parameters.from_text([("x", text)])
    assert parameters.from_values({"x": value}) == arguments
    assert parameters.from_values({"x": plain}) == arguments
    assert parameters.from_values(parameters.restore(arguments)) == arguments


@pytest.mark.parametrize(
    ("annotation", "value", "plain"),
    [
        (float, 1, 1.0),
        (float, Decimal("0.1"), 0.1),
        (int, 1.0, 1),
        (int, Level.HIGH, 2),
        (str, 5, "5"),
        (str, 1.5, "1.5"),
        (str, "", ""),
        (bool, 1, True),
        (bool, "off", False),
        (Decimal, 0.1, "0.1"),
        (Decimal, 1, "1"),
        (date, datetime(2024, 1, 31), "2024-01-31"),  # noqa: DTZ001  # as given
        (datetime, date(2024, 1, 31), "2024-01-31T00:00:00"),
        (
            datetime,
            datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
            "2024-07-01T12:00:00+02:00",
        ),
        (timedelta, 90, "PT1M30S"),
        (Level, 1, "1"),
        (Color, "RED", "red"),
        (int | None, None, None),
        (list[int] | None, None, None),
        (list[int], (1, 2), [1, 2]),
        (list[int], ["1", 2.0], [1, 2]),
        (list[int], range(2), [0, 1]),
        (dict[str, Any], {"a": (1, date(2024, 1, 31))}, {"a": [1, "2024-01-31"]}),
        (Box, {"west": "1"}, {"west": 1.0, "east": 180.0, "days": []}),
        (Literal[1, "a"], 1, 1),
    ],
)
def test_python_values_are_brought_to_the_type(
    annotation: object, value: object, plain: object
) -> None:
    assert json.loads(parameters_of(annotation).from_values({"x": value})) == {"x": plain}


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, None, "valid integer"),
        (int, 1.5, "fractional"),
        (int, [1], "valid integer"),
        (float, math.nan, "finite"),
        (float, math.inf, "finite"),
        (float, 10**400, "valid number"),
        (str, True, "valid string"),
        (str, ["a"], "valid string"),
        (bool, 2, "neither"),
        (bool, None, "neither"),
        (date, 1706702400, "is no date or time; write it as ISO 8601 text"),
        (date, Decimal(5), "is no date or time"),
        (datetime, 1.5, "is no date or time"),
        (time, b"5", "is no date or time"),
        (timedelta, math.nan, "timedelta"),
        (Decimal, math.nan, "finite"),
        (Color, 5, "is none of"),
        (Level, 3, "is none of"),
        (Color, None, "is none of"),
        (list[int], "1,2", "valid list"),
        (list[int], 1, "valid list"),
        (list[int], {"a": 1}, "valid list"),
        (dict[str, Any], {"a": math.nan}, "cannot be written as JSON"),
        (dict[str, Any], {"a": object()}, "cannot be written as JSON"),
        (dict[str, Any], {"a": b"\xff"}, "cannot be written as JSON"),
        (Point, Point(math.nan), "cannot be written as JSON"),
        (Literal["a"], 1, "Input should be 'a'"),
    ],
)
def test_bad_python_values_are_refused(annotation: object, value: object, message: str) -> None:
    with pytest.raises(InvalidParameters) as caught:
        parameters_of(annotation).from_values({"x": value})
    assert message in caught.value.detail
    assert caught.value.errors[0]["parameter"] == "x"
    json.dumps(caught.value.problem(), allow_nan=False)


@pytest.mark.parametrize("annotation", [int, float, bool, Color, dict[str, Any]])
def test_a_number_too_long_to_write_is_refused(annotation: object) -> None:
    huge = 10**5000
    with pytest.raises(InvalidParameters, match=r"^x: ") as caught:
        parameters_of(annotation).from_values(
            {"x": {"a": huge} if annotation == dict[str, Any] else huge}
        )
    json.dumps(caught.value.problem())


# Absent, empty, unknown, repeated.


def two(a: int, b: Literal["x", "y"] = "x", c: int | None = None) -> None:
    """Take two or three."""


TWO = read_signature(two, {})


@pytest.mark.parametrize(
    "pairs",
    [
        [("a", "1")],
        [("a", "1"), ("b", "")],
        [("a", "1"), ("b", "x")],
        [("a", "1"), ("b", ""), ("c", "")],
        [("b", "x"), ("a", "1")],
        [("a", ""), ("a", "1")],
    ],
)
def test_an_absent_or_empty_parameter_means_its_default(pairs: list[tuple[str, str]]) -> None:
    assert TWO.from_text(pairs) == '{"a":1,"b":"x","c":null}'


@pytest.mark.parametrize("pairs", [[], [("a", "")], [("b", "x")]])
def test_a_required_parameter_must_be_given(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidParameters) as caught:
        TWO.from_text(pairs)
    assert caught.value.detail == "a: is required"
    assert caught.value.errors == [{"parameter": "a", "message": "is required", "value": None}]


def test_an_unknown_parameter_is_refused_and_the_nearest_named() -> None:
    def function(min_elevation: int = 500, interval: int = 50) -> None: ...

    pair = read_signature(function, {})
    with pytest.raises(InvalidParameters) as caught:
        pair.from_text([("min_elevaton", "5"), ("zzz", "")])
    assert caught.value.detail == (
        "min_elevaton: unknown parameter; did you mean 'min_elevation'?;"
        " zzz: unknown parameter; known: min_elevation, interval"
    )
    with pytest.raises(InvalidParameters, match="zzz: unknown parameter; known: min_elevation"):
        pair.from_values({"zzz": None})
    with pytest.raises(InvalidParameters, match="a: unknown parameter; known: none"):
        read_signature(lambda: None, {}).from_text([("a", "1")])


@pytest.mark.parametrize("name", ["p0", "", "\ud800", "_limit", "model_config", "x" * 10_000])
def test_no_name_is_known_but_the_signature_s(name: str) -> None:
    with pytest.raises(InvalidParameters, match="unknown parameter") as caught:
        TWO.from_values({"a": 1, name: 2})
    caught.value.detail.encode()


def test_every_parameter_at_fault_is_named() -> None:
    with pytest.raises(InvalidParameters) as caught:
        TWO.from_text([("a", "one"), ("b", "z")])
    assert [item["parameter"] for item in caught.value.errors] == ["a", "b"]


@pytest.mark.parametrize("annotation", [int, str, bool, date, Color, dict[str, Any], Box])
def test_a_single_value_is_given_once(annotation: object) -> None:
    error = refusal(parameters_of(annotation), "{}", "{}")
    assert error.detail == "x: is given 2 times; give it once, got '{},{}'"


def test_a_list_is_repeated_or_comma_separated_or_json() -> None:
    texts = parameters_of(list[str])
    assert canonical(texts, "a", "b") == ["a", "b"]
    assert canonical(texts, "a,b") == ["a", "b"]
    assert canonical(texts, '["a", "b"]') == ["a", "b"]
    assert canonical(texts, "a,b", "c") == ["a,b", "c"]
    assert canonical(texts, "", "c") == ["c"]


def test_a_function_without_parameters_has_one_call() -> None:
    none = read_signature(lambda: None, {})
    assert none.from_text([]) == none.from_values({}) == "{}"
    assert none.restore("{}") == {}
    assert len(none) == 0


def test_two_alike_members_of_a_literal_are_told_apart() -> None:
    one = parameters_of(Literal[1, "1"])
    assert json.loads(one.from_values({"x": 1})) == {"x": 1}
    assert one.restore('{"x":1}') == {"x": 1}
    assert json.loads(one.from_values({"x": "1"})) == {"x": "1"}


def test_canonical_json_is_compact_sorted_and_readable() -> None:
    def function(b: str, a: dict[str, int]) -> None: ...

    arguments = read_signature(function, {}).from_values({"b": "naïve", "a": {"z": 1, "y": 2}})
    assert arguments == '{"a":{"y":2,"z":1},"b":"naïve"}'


# Any input whatever.

ANNOTATIONS = list({str(row[0]): row[0] for row in TABLE}.values())
PARAMETERS = [parameters_of(annotation) for annotation in ANNOTATIONS]

LIKELY = st.one_of(
    st.text(),
    st.text(string.digits + "+-.,:TZPeE_ ", max_size=20),
    st.sampled_from([good[1] for good in GOOD] + [bad[1] for bad in BAD if len(bad[1]) < 1000]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ).map(json.dumps),
    st.datetimes(timezones=st.none() | st.timezones()).map(str),
    st.timedeltas().map(str),
    st.decimals().map(str),
)


@settings(deadline=None)
@given(parameters=st.sampled_from(PARAMETERS), texts=st.lists(LIKELY, min_size=1, max_size=3))
def test_any_text_is_a_call_that_restores_or_is_refused(
    parameters: Parameters, texts: list[str]
) -> None:
    try:
        arguments = parameters.from_text([("x", text) for text in texts])
    except InvalidParameters as error:
        json.dumps(error.problem(), allow_nan=False, ensure_ascii=False).encode()
    else:
        assert parameters.from_values(parameters.restore(arguments)) == arguments
        assert parameters.from_values(json.loads(arguments)) == arguments
        arguments.encode()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(parameters=st.sampled_from(PARAMETERS), value=JSON_VALUES)
def test_any_json_is_a_call_that_restores_or_is_refused(
    parameters: Parameters, value: object
) -> None:
    try:
        arguments = parameters.from_values({"x": value})
    except InvalidParameters as error:
        json.dumps(error.problem(), allow_nan=False, ensure_ascii=False).encode()
    else:
        assert parameters.from_values(parameters.restore(arguments)) == arguments
        json.loads(arguments, parse_constant=pytest.fail)


def four(a: int = 1, b: str = "x", c: bool = True, d: float = 1.5) -> None:
    """Take four."""


MANY = read_signature(four, {})


@settings(deadline=None)
@given(
    values=st.fixed_dictionaries(
        {},
        optional={
            "a": st.integers(-(2**63), 2**63 - 1),
            "b": st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            "c": st.booleans(),
            "d": st.floats(allow_nan=False, allow_infinity=False),
        },
    ),
    data=st.data(),
)
def test_the_order_of_pairs_does_not_matter(values: dict[str, Any], data: st.DataObject) -> None:
    pairs = [(name, str(value)) for name, value in values.items()]
    shuffled = data.draw(st.permutations(pairs))
    assert MANY.from_text(shuffled) == MANY.from_text(pairs) == MANY.from_values(values)


@settings(deadline=None)
@given(
    moment=st.datetimes(timezones=st.none() | st.timezones()),
    span=st.timedeltas(),
    number=st.decimals(allow_nan=False, allow_infinity=False),
)
def test_typed_values_come_back_exactly(moment: datetime, span: timedelta, number: Decimal) -> None:
    def function(moment: datetime, span: timedelta, number: Decimal, day: date) -> None: ...

    parameters = read_signature(function, {})
    given_values = {"moment": moment, "span": span, "number": number, "day": moment.date()}
    restored = parameters.restore(parameters.from_values(given_values))
    # A time zone comes back as its offset, which is written in whole minutes.
    offset = moment.utcoffset() or timedelta()
    if offset % timedelta(minutes=1) == timedelta():
        assert restored["moment"].isoformat() == moment.isoformat()
    assert restored["span"] == span
    assert str(restored["number"]) == str(number)
    assert restored["day"] == moment.date()


# What a parameter is described as.


@pytest.mark.parametrize(
    ("annotation", "name", "shape"),
    [
        (int, "int", "scalar"),
        (date | None, "date | None", "scalar"),
        (Annotated[int, Field(ge=0)], "int", "scalar"),
        (Literal["a", 1], "'a' | 1", "scalar"),
        (Color, "Color", "scalar"),
        (list, "list", "list"),
        (list[int], "list[int]", "list"),
        (list[int] | None, "list[int] | None", "list"),
        (Sequence[date], "Sequence[date]", "list"),
        (list[list[int]], "list[list[int]]", "list"),
        (dict[str, int], "dict[str, int]", "json"),
        (Box, "Box", "json"),
        (Box | None, "Box | None", "json"),
        (Point, "Point", "json"),
        (Metres, "float", "scalar"),
        (Ids, "list[int]", "list"),
        (Shape, "Box", "json"),
        (Names, "list[str]", "list"),
    ],
)
def test_a_type_is_named_as_a_person_writes_it(annotation: object, name: str, shape: str) -> None:
    parameter = parameters_of(annotation)["x"]
    assert (parameter.type, parameter.shape) == (name, shape)
    assert parameter.required
    assert parameter.default is None
    assert "default" not in parameter.schema
    assert "title" not in parameter.schema


@pytest.mark.parametrize(
    ("annotation", "default", "plain"),
    [
        (int, 5, 5),
        (float, 1, 1.0),
        (bool, False, False),
        (Color, Color.RED, "red"),
        (Level, Level.LOW, "1"),
        (list[Level], [Level.LOW], ["1"]),
        (date, date(2024, 1, 31), "2024-01-31"),
        (timedelta, timedelta(hours=1), "PT1H"),
        (Decimal, Decimal("1.10"), "1.10"),
        (UUID, A_UUID, str(A_UUID)),
        (int | None, None, None),
        (Annotated[int | None, Field(ge=0)], None, None),
        (list[int], (1, 2), [1, 2]),
        (Box, Box(west=1), {"west": 1.0, "east": 180.0, "days": []}),
        (Literal[1, 2], 2, 2),
    ],
)
def test_a_default_has_the_json_form_of_its_type(
    annotation: object, default: object, plain: object
) -> None:
    parameters = parameters_of(annotation, default)
    parameter = parameters["x"]
    assert not parameter.required
    assert parameter.default == plain
    assert type(parameter.default) is type(plain)
    assert parameter.schema["default"] == plain
    assert parameters.from_values({"x": parameter.default}) == parameters.from_values({})


@pytest.mark.parametrize(
    ("default", "name"),
    [
        (5, "int"),
        (0.5, "float"),
        (True, "bool"),
        ("a", "str"),
        (date(2024, 1, 31), "date"),
        (timedelta(1), "timedelta"),
        (Decimal(1), "Decimal"),
        (Color.RED, "Color"),
        ([1, 2], "list[int]"),
        ([], "list[str]"),
        ({"a": 1}, "dict"),
        (Point(1.0), "Point"),
    ],
)
def test_a_default_tells_the_type(default: object, name: str) -> None:
    parameters = parameters_of(_NO_DEFAULT, default)
    assert parameters["x"].type == name
    assert parameters.restore(parameters.from_text([]))["x"] == default


def test_bounds_stand_in_the_schema() -> None:
    assert parameters_of(Annotated[int, Field(ge=0, le=9)])["x"].schema == {
        "type": "integer",
        "minimum": 0,
        "maximum": 9,
    }
    assert parameters_of(Color)["x"].schema == {"type": "string", "enum": ["red", "deep blue"]}
    assert "$defs" in parameters_of(Box)["x"].schema


def test_help_comes_from_the_docstring_s_sentences() -> None:
    parameters = read_signature(two, {"a": "The first."})
    assert [(p.name, p.help) for p in parameters.values()] == [
        ("a", "The first."),
        ("b", ""),
        ("c", ""),
    ]


def test_names_that_pydantic_uses_itself_are_names_like_any_other() -> None:
    def function(
        json: int,
        copy: str = "a",
        schema: str = "b",
        model_config: int = 2,
        self: int = 4,
        p0: int = 5,
    ) -> None: ...

    parameters = read_signature(function, {})
    arguments = parameters.from_text([("json", "1"), ("p0", "6"), ("self", "7")])
    assert parameters.restore(arguments) == {
        "json": 1,
        "copy": "a",
        "schema": "b",
        "model_config": 2,
        "self": 7,
        "p0": 6,
    }


# Injection.


def written_as_text(  # one of each
    a: int,
    con: DuckDBPyConnection,
    other: DuckDBPyConnection | None = None,
    b: Annotated[float, Field(ge=0)] = 0.5,
    c: list[Color] | None = None,
    folder: Path = Path(),
) -> None:
    """Have annotations that are text, one of a name that only a type checker imports."""


def test_annotations_may_be_text() -> None:
    assert isinstance(written_as_text.__annotations__["a"], str)
    parameters = read_signature(written_as_text, {})
    assert {name: p.type for name, p in parameters.items()} == {
        "a": "int",
        "b": "float",
        "c": "list[Color] | None",
    }
    assert parameters.injected == {"con": "connection", "other": "connection", "folder": "folder"}


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (duckdb.DuckDBPyConnection, "connection"),
        (duckdb.DuckDBPyConnection | None, "connection"),
        (Annotated[duckdb.DuckDBPyConnection, "private"], "connection"),
        ("duckdb.DuckDBPyConnection", "connection"),
        ("unknown.DuckDBPyConnection | None", "connection"),
        (Path, "folder"),
        (Path | None, "folder"),
        (Annotated[Path, "of scratch files"], "folder"),
    ],
)
def test_what_webfoot_fills_in_is_no_query_parameter(annotation: object, kind: str) -> None:
    parameters = parameters_of(annotation, None)
    assert parameters.injected == {"x": kind}
    assert dict(parameters) == {}
    with pytest.raises(InvalidParameters, match="unknown parameter"):
        parameters.from_text([("x", "1")])


def test_text_annotations_are_read_where_the_function_was_written() -> None:
    elsewhere: dict[str, Any] = {"__name__": "elsewhere", "Shade": Color}
    exec("def function(x: 'Shade'): ...", elsewhere)
    inner = elsewhere["function"]

    def wrapper(*args: object, **named: object) -> None: ...

    wrapper.__wrapped__ = inner  # type: ignore[attr-defined]  # as functools.wraps does
    assert read_signature(wrapper, {})["x"].type == "Color"


# Refusals at load, each with its cure.


def function_from(source: str) -> types.FunctionType:
    scope = {**vars(typing), "Field": Field, "math": math}
    code = compile(f"def function({source}): ...", "source", "exec", dont_inherit=True)
    exec(code, scope)
    function = scope["function"]
    assert isinstance(function, types.FunctionType)
    return function


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("*names", "*names cannot come from a URL; name each parameter, or take a list"),
        ("**options", "**options cannot come from a URL; name each parameter, or take a dict"),
        ("x: int, /", "x is positional-only, and a URL gives names; remove the '/'"),
        ("_x: int", "_x begins with '_', as Webfoot's own query parameters do; rename it to x"),
        ("__: int", "__ begins with '_', as Webfoot's own query parameters do; rename it to value"),
        ("_1: int", "rename it to value"),
        ("x", "x has neither a type nor a default that tells one; annotate it, for example x: int"),
        ("x=None", "x has neither a type nor a default that tells one; annotate it"),
        ("x=[1, 'a']", "x has neither a type nor a default that tells one; annotate it"),
        ("x: int = Field(3, ge=0)", "write x: Annotated[type, Field(…)] = default"),
        ("x: int | str", "x may be one of several types (int | str), and text cannot tell which"),
        ("x: list[int | str]", "choose one type, or one type and None"),
        ("x: bytes", "x has the type bytes, which cannot come from a URL; use int, float, bool"),
        ("x: tuple[int, int]", "x has the type tuple[int, int], which cannot come from a URL; use"),
        ("x: Any", "x has the type Any, which cannot come from a URL; use int"),
        ("x: [int]", "x has the type [<class 'int'>], which cannot come from a URL; use int"),
        ("x: {}", "x has the type {}, which cannot come from a URL; use int"),
        ("x: 5", "x has the type 5, which cannot come from a URL; use int"),
        ("x: None", "x has the type None, which cannot come from a URL; use int"),
        ("x=(1, 2)", "x has the type tuple, which cannot come from a URL; use int"),
        ("x: 'Unknown'", "x: Unknown cannot be resolved"),
        ("x: 'Unknown'", "import the name at the top of the file, outside `if TYPE_CHECKING`"),
        ("x: 'math.Unknown'", "x: math.Unknown cannot be resolved"),
        ("x: 'list[int'", "x: list[int is no type"),
        ("x: 'list[int'", "write one, for example x: int"),
        ("x: int = 'a'", "the default of x is not what its type allows: Input should be a valid"),
        ("x: int = 'a'", "got 'a'; change it"),
        ("x: list[int] = None", "got None; add `| None` to the type"),
        ("x: float = math.nan", "the default of x is not what its type allows"),
        ("x: int, y: Annotated[int, Field(ge=5)] = 3", "the default of y is not what its type"),
        ("x: dict = {'a': math.nan}", "a default cannot be checked and written as JSON"),
        ("x: Annotated[int, Field(min_length=3)] = 5", "change it, or the bounds of its type"),
        (
            "x: Annotated[str, Field(pattern='(')] = 'a'",
            "a parameter's type cannot come from a URL",
        ),
    ],
)
def test_a_signature_that_a_url_cannot_give_is_refused_with_the_cure(
    source: str, message: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        read_signature(function_from(source), {})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Alike, "two members of Alike have values that text cannot tell apart; change one"),
        (Literal[Color.RED], "holds a member of an Enum; use the Enum, or its values"),
    ],
)
def test_a_type_that_text_cannot_mean_is_refused(annotation: object, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parameters_of(annotation)
    assert message in str(caught.value)
