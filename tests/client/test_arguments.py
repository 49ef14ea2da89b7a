"""What a query string can say, and what it cannot."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest

from webfoot.client.arguments import to_plain, write_query


def test_a_query_says_what_python_means() -> None:
    query = write_query(to_plain({"a": True, "b": 1.5, "c": [1, "é"], "d": "x y&z", "e": {"f": 0}}))
    assert query is not None
    assert parse_qsl(query) == [
        ("a", "true"),
        ("b", "1.5"),
        ("c", '[1, "é"]'),
        ("d", "x y&z"),
        ("e", '{"f": 0}'),
    ]


@pytest.mark.parametrize("value", [None, "", "x" * 9_000])
def test_a_query_cannot_say_null_or_nothing_or_very_much(value: Any) -> None:
    assert write_query({"a": 1, "b": value}) is None


def test_no_parameters_are_an_empty_query() -> None:
    assert write_query({}) == ""


@pytest.mark.parametrize("value", [object(), "\ud800", {"a": object()}, [lambda: 0]])
def test_what_json_cannot_say_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^bad is .*cannot be sent"):
        to_plain({"good": 1, "bad": value})
