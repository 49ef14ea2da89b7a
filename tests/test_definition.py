"""`@udf` leaves the function alone and writes down what it is."""

from __future__ import annotations

import asyncio
import functools
import math
import pickle
from dataclasses import FrozenInstanceError
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import pytest

from webfoot import udf
from webfoot.definition import Options, Udf, definition_of
from webfoot.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from duckdb import DuckDBPyConnection


@udf
def plain(n: int = 3, day: date = date(2024, 1, 31)) -> list[int]:
    """Whole numbers, smallest first.

    As many as are asked for.

    Args:
        n: How many.
        day: Of no consequence.

    Returns:
        One row per number.
    """
    return list(range(n))


@udf(cache="1h", timeout=30, memory="2GB", version="2", tags=["numbers"])
def optioned(con: DuckDBPyConnection, n: int) -> int:
    return n


@udf()
async def waiting(n: int = 1) -> int:
    """A coroutine function."""
    await asyncio.sleep(0)
    return n


def known(function: object) -> Udf:
    record = definition_of(function)
    assert record is not None
    return record


def test_the_function_comes_back_unchanged() -> None:
    def bare(n: int) -> int:
        return n

    assert udf(bare) is bare
    assert udf(cache=0)(bare) is bare
    assert assert_type(plain(2), list[int]) == [0, 1]
    assert plain.__name__ == "plain"
    assert pickle.loads(pickle.dumps(plain)) is plain
    assert asyncio.run(waiting(5)) == 5


def test_the_record_holds_what_the_docstring_and_the_signature_say() -> None:
    record = known(plain)
    assert record.name == "plain"
    assert record.title == "Whole numbers, smallest first."
    assert record.description == "As many as are asked for."
    assert record.returns == "One row per number."
    assert [(p.name, p.type, p.default, p.help) for p in record.parameters.values()] == [
        ("n", "int", 3, "How many."),
        ("day", "date", "2024-01-31", "Of no consequence."),
    ]
    assert record.function is plain
    assert record.file == Path(__file__)
    assert (
        Path(__file__).read_text(encoding="utf-8").splitlines()[record.line].startswith("def plain")
    )


def test_the_record_is_frozen() -> None:
    record = known(plain)
    with pytest.raises(FrozenInstanceError):
        record.name = "other"  # type: ignore[misc]  # what is refused
    with pytest.raises(FrozenInstanceError):
        record.options.cache_s = 1  # type: ignore[misc]  # what is refused


def test_options_are_read() -> None:
    assert known(plain).options == Options()
    assert known(optioned).options == Options(3600, 30, 2_000_000_000, "2", ("numbers",))
    assert known(optioned).parameters.injected == {"con": "connection"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"cache": 0}, Options(cache_s=0)),
        ({"cache": "10m"}, Options(cache_s=600)),
        ({"cache": "forever"}, Options(cache_s=math.inf)),
        ({"timeout": 0.5}, Options(timeout_s=0.5)),
        ({"memory": 10**9}, Options(memory_bytes=10**9)),
        ({"version": 2}, Options(version="2")),
        ({"tags": "one"}, Options(tags=("one",))),
        ({"tags": ("a", "b")}, Options(tags=("a", "b"))),
        ({"stale": "1d"}, Options(stale_s=86_400)),
        ({"stale": "forever"}, Options(stale_s=math.inf)),
    ],
)
def test_an_option_is_written_as_one_likes(options: dict[str, Any], expected: Options) -> None:
    @udf(**options)
    def function() -> None: ...

    assert known(function).options == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": "soon"}, "@udf: a duration is written like '30s', '10m', '1h30m' or 'forever'"),
        ({"cache": -1}, "@udf: a duration is 0 or more, got -1"),
        ({"cache": True}, "@udf: a duration is a number of seconds or text like '10m', got True"),
        ({"timeout": 0}, "@udf: a timeout must be above 0"),
        ({"timeout": [1]}, "@udf: a duration is a number of seconds or text like '10m', got [1]"),
        ({"memory": "big"}, "@udf: a size is written like '512MB' or '2GiB', got 'big'"),
        ({"memory": 1.5e9}, "@udf: a size is a whole number of bytes or text like '512MB'"),
        ({"memory": 0}, "@udf: a size must be positive, got 0"),
        ({"stale": "old"}, "@udf: a duration is written like '30s', '10m', '1h30m' or 'forever'"),
    ],
)
def test_a_bad_option_is_refused_with_the_cure(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        udf(**options)
    assert str(caught.value).startswith(message)


def test_a_bad_signature_names_the_function() -> None:
    with pytest.raises(
        DefinitionError, match=r"^broken: \*names cannot come from a URL; name each"
    ):

        @udf
        def broken(*names: str) -> None: ...


class Callable_:  # noqa: N801  # what it stands for has the name
    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("1h", "@udf takes a plain function, got str; put it above `def`"),
        (Callable_(), "@udf takes a plain function, got Callable_"),
        (functools.partial(print), "below decorators that replace the function"),
        (staticmethod(print), "@udf takes a plain function, got staticmethod"),
        (Callable_, "@udf takes a plain function, got type"),
        (lambda: None, "a UDF's name is its URL and cannot be '<lambda>'; name the function"),
    ],
)
def test_only_a_named_function_can_be_a_udf(target: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        udf(target)
    assert message in str(caught.value)


def test_a_name_that_begins_with_an_underscore_is_refused() -> None:
    with pytest.raises(DefinitionError, match="cannot be '_hidden'; name the function"):

        @udf
        def _hidden() -> None: ...


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Stands for any decorator that replaces a function and says so."""

    @functools.wraps(function)
    def wrapper(*args: Any, **named: Any) -> Any:
        return function(*args, **named)

    return wrapper


def test_a_decorator_below_is_part_of_the_function() -> None:
    @udf
    @counted
    def inner(n: int = 1) -> int:
        """Say one."""
        return n

    record = known(inner)
    assert record.function is inner
    assert list(record.parameters) == ["n"]
    assert (record.title, record.file) == ("Say one.", Path(__file__))
    assert (
        Path(__file__).read_text(encoding="utf-8").splitlines()[record.line - 1].strip() == "@udf"
    )


def test_a_decorator_above_is_no_udf() -> None:
    @counted
    @udf
    def inner(n: int = 1) -> int:
        return n

    assert definition_of(inner) is None
    assert definition_of(functools.cache(udf(lambda_free))) is None


def lambda_free(n: int = 1) -> int:
    return n


@pytest.mark.parametrize(
    "value", [None, 5, "plain", Path, print, Callable_(), test_options_are_read]
)
def test_what_is_not_decorated_has_no_record(value: object) -> None:
    assert definition_of(value) is None


def test_decorating_registers_nothing() -> None:
    before = dict(vars(udf))
    udf(lambda_free)
    assert vars(udf) == before
