"""Every error crosses the wire and arrives as what it was."""

from __future__ import annotations

import json
import pickle
import re
from typing import Any

import pytest

from webfoot import errors
from webfoot.errors import DefinitionError, Error, InvalidParameters, RunError, SettingsError

CLASSES: list[type[Error]] = [Error, *Error.classes.values()]

# What a class needs beyond its detail, and what each must then carry.
FIELDS: dict[str, dict[str, Any]] = {
    "invalid-parameters": {"errors": [{"parameter": "n", "message": "is no number", "value": "x"}]},
    "server-busy": {"retry_after_s": 7},
    "memory-exceeded": {"limit_bytes": 2_000_000_000},
    "udf-timeout": {"timeout_s": 1.5},
    "result-too-large": {"limit_bytes": 4_700_000},
    "deadline-reached": {"limit_s": 28.5},
}


def example(cls: type[Error], *, full: bool) -> Error:
    error = cls("what happened, 'ü'", **(FIELDS.get(cls.code, {}) if full else {}))
    if full:
        error.udf, error.run = "contours", "0123"
    return error


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.code)
def test_an_error_makes_the_round_trip(cls: type[Error], full: bool) -> None:
    error = example(cls, full=full)
    problem = json.loads(json.dumps(error.problem()))
    again = Error.from_problem(problem)
    assert type(again) is cls
    assert vars(again) == vars(error)
    assert str(again) == str(error) == error.detail
    assert again.problem() == problem
    for name, value in FIELDS.get(cls.code, {}).items():
        assert name in cls.fields
        if full:
            assert problem[name] == getattr(again, name) == value


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.code)
def test_a_problem_has_the_members_of_rfc_9457(cls: type[Error]) -> None:
    problem = example(cls, full=True).problem()
    assert problem["type"] == f"urn:webfoot:{cls.code}"
    assert problem["code"] == cls.code
    assert problem["title"] == cls.title != ""
    assert problem["status"] == cls.status
    assert 400 <= cls.status < 600
    assert (problem["udf"], problem["run"]) == ("contours", "0123")


def test_an_error_that_knows_no_udf_or_run_names_none() -> None:
    assert set(Error("x").problem()) == {"type", "title", "status", "code", "detail"}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.code)
def test_an_error_survives_pickling(cls: type[Error]) -> None:
    error = example(cls, full=True)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert vars(again) == vars(error)


def test_the_traceback_stays_out_of_the_problem_and_is_read_where_it_was_added() -> None:
    error = Error("x", traceback="File secret.py")
    assert "secret" not in json.dumps(error.problem())
    again = Error.from_problem(error.problem() | {"traceback": error.traceback})
    assert again.traceback == "File secret.py"


@pytest.mark.parametrize(
    "problem",
    [
        {},
        {"code": "from-the-future", "detail": "x"},
        {"code": None},
        {"code": ["a"]},
        {"status": 418},
    ],
)
def test_a_problem_of_unknown_kind_is_an_error_all_the_same(problem: dict[str, Any]) -> None:
    error = Error.from_problem(problem)
    assert type(error) is Error
    assert error.detail == problem.get("detail", "")


def test_no_two_classes_share_a_code() -> None:
    codes = [
        value.code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, Error)
    ]
    assert len(codes) == len(set(codes))
    assert set(codes) == {Error.code, *Error.classes}


def test_one_except_catches_all() -> None:
    assert all(issubclass(cls, Error) for cls in CLASSES)
    failures = {cls.code for cls in CLASSES if issubclass(cls, RunError)}
    assert "udf-failed" in failures
    assert "invalid-parameters" not in failures
    assert not issubclass(DefinitionError, Error)
    assert issubclass(DefinitionError, TypeError)
    assert issubclass(SettingsError, ValueError)


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    rows = re.findall(r"[├└]── (\w+) +(\d{3})", errors.__doc__ or "")
    written = {name: int(status) for name, status in rows}
    assert written == {cls.__name__: cls.status for cls in CLASSES if cls is not Error}


def test_the_errors_of_invalid_parameters_are_copies() -> None:
    record = {"parameter": "n", "message": "m", "value": 1}
    error = InvalidParameters("n: m", errors=[record])
    record["value"] = 2
    assert error.errors == [{"parameter": "n", "message": "m", "value": 1}]
