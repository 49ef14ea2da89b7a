"""What part of a result is asked for: read from the extension and the query."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webfoot.errors import InvalidParameters, UnsupportedFormat
from webfoot.results import Column, Result
from webfoot.views import CACHE_BUSTERS, MEDIA_TYPES, OPTIONS, TEXTS, View, read_view

COLUMNS = (Column("alpha", "int64"), Column("beta", "string"))
RESULT = Result(
    key="key",
    run="run",
    extension="parquet",
    etag="0" * 64,
    size=1,
    rows=1,
    columns=COLUMNS,
    seconds=0.1,
    created=0.0,
    expires=1.0,
    executions=1,
)

READ: list[tuple[list[tuple[str, str]], View]] = [
    ([], View("csv")),
    ([("_limit", "0")], View("csv", limit=0)),
    ([("_limit", "007")], View("csv", limit=7)),
    ([("_limit", str(2**63 - 1))], View("csv", limit=2**63 - 1)),
    ([("_offset", "5")], View("csv", offset=5)),
    ([("_limit", ""), ("_columns", ""), ("_order", "")], View("csv")),
    ([("_columns", "b,a")], View("csv", columns=("b", "a"))),
    ([("_columns", " b , a ,")], View("csv", columns=("b", "a"))),
    ([("_columns", "b"), ("_columns", "a")], View("csv", columns=("b", "a"))),
    ([("_columns", '"a,b", "say ""x""",c"d')], View("csv", columns=("a,b", 'say "x"', 'c"d'))),
    ([("_columns", "a,A")], View("csv", columns=("a", "A"))),
    ([("_columns", "größe,☃")], View("csv", columns=("größe", "☃"))),
    ([("_order", "a,-b")], View("csv", order=(("a", False), ("b", True)))),
    ([("_order", "a desc, b ASC")], View("csv", order=(("a", True), ("b", False)))),
    ([("_order", "-a"), ("_order", "b")], View("csv", order=(("a", True), ("b", False)))),
    ([("_order", "my  column desc")], View("csv", order=(("my  column", True),))),
    ([("_order", "-x asc")], View("csv", order=(("-x", False),))),
    ([("_order", "desc")], View("csv", order=(("desc", False),))),
    ([("_order", '"a,b desc"')], View("csv", order=(("a,b", True),))),
    ([(name, "123") for name in sorted(CACHE_BUSTERS)], View("csv")),
    ([("_for", "sheets")], View("csv", spreadsheet="sheets")),
    ([("_for", "excel")], View("csv", spreadsheet="excel", bom=True)),
    ([("_for", "excel"), ("_bom", "0")], View("csv", spreadsheet="excel")),
    ([("_bom", "1")], View("csv", bom=True)),
    ([("_errors", "inline")], View("csv")),
    ([("_for", ""), ("_errors", ""), ("_bom", "")], View("csv")),
]


@pytest.mark.parametrize(("pairs", "view"), READ)
def test_options_are_read(pairs: list[tuple[str, str]], view: View) -> None:
    assert read_view("csv", pairs) == view


REFUSED = [
    ("_limit", "-1", "0 or more"),
    ("_limit", "1.5", "whole number"),
    ("_limit", "ten", "whole number"),
    ("_limit", " 5", "whole number"),
    ("_limit", "1e3", "whole number"),
    ("_limit", "٣", "whole number"),
    ("_limit", "²", "whole number"),
    ("_limit", str(2**63), "whole number"),
    ("_limit", "9" * 5000, "whole number"),
    ("_offset", "-1", "0 or more"),
    ("_offset", "NaN", "whole number"),
    ("_columns", "a,b,a", "names a column twice"),
    ("_columns", '"a', "quoted as in CSV"),
    ("_columns", '"a"b', "quoted as in CSV"),
    ("_columns", "a\nb", "quoted as in CSV"),
    ("_order", '"a', "quoted as in CSV"),
    ("_order", "a,b,-a", "names a column twice"),
    ("_limits", "5", "no option of Webfoot's; known: _limit"),
    ("_LIMIT", "5", "no option"),
    ("_x", "5", "no option"),
    ("_for", "sheets", "for .csv only; leave it out, or ask for .csv"),
    ("_errors", "inline", "for .csv only"),
    ("_bom", "1", "for .csv only"),
    ("_exact", "1", "for .json and .ndjson and .geojson only; leave it out, or ask for .json"),
]


@pytest.mark.parametrize(("name", "text", "message"), REFUSED)
def test_what_has_no_sense_is_refused_with_its_value(name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidParameters, match=message) as caught:
        read_view("parquet", [(name, text)])
    assert caught.value.errors[0]["parameter"] == name
    assert caught.value.errors[0]["value"] == text
    assert name in caught.value.detail
    assert repr(text) in caught.value.detail


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("_for", "numbers", "must be sheets or excel"),
        ("_for", "Sheets", "must be sheets or excel"),
        ("_errors", "yes", "must be inline"),
        ("_bom", "true", "must be 0 or 1"),
    ],
)
def test_an_option_of_csv_has_few_values(name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidParameters, match=f"{name}: {message}, got {text!r}"):
        read_view("csv", [(name, text)])


def test_json_can_be_exact() -> None:
    assert read_view("json", [("_exact", "1")]) == View("json", exact=True)
    assert read_view("ndjson", [("_exact", "0")]) == View("ndjson")
    with pytest.raises(InvalidParameters, match="must be 0 or 1"):
        read_view("json", [("_exact", "yes")])


@pytest.mark.parametrize("name", ["_limit", "_offset", "_bom"])
def test_what_is_no_list_is_given_once(name: str) -> None:
    with pytest.raises(InvalidParameters, match="given twice"):
        read_view("csv", [(name, "1"), (name, "1")])


@given(st.sampled_from(sorted(OPTIONS)), st.text())
def test_no_text_gives_another_error(name: str, text: str) -> None:
    try:
        view = read_view("csv", [(name, text)])
    except InvalidParameters:
        return
    assert all(view.columns)
    assert isinstance(view.key(RESULT), str)


@pytest.mark.parametrize("extension", ["", "CSV", "xlsx", "parquet.csv", ".csv"])
def test_an_unknown_extension_is_refused_with_the_known(extension: str) -> None:
    with pytest.raises(UnsupportedFormat, match=r"parquet, csv, json") as caught:
        read_view(extension, [])
    assert repr(extension) in caught.value.detail


def test_only_the_whole_parquet_file_is_the_results_own() -> None:
    assert View("parquet").canonical
    selections = (View("csv"), View("parquet", limit=5), View("parquet", limit=0))
    assert not any(view.canonical for view in (*selections, View("parquet", offset=1)))
    assert not View("parquet", columns=("alpha",)).canonical
    assert not View("parquet", order=(("alpha", False),)).canonical


def test_every_difference_has_its_own_key() -> None:
    views = [
        *(View(extension) for extension in MEDIA_TYPES),
        View("csv", limit=1),
        View("csv", limit=0),
        View("csv", offset=1),
        View("csv", columns=("alpha", "beta")),
        View("csv", columns=("beta", "alpha")),
        View("csv", columns=("alpha, beta",)),
        View("csv", order=(("alpha", True),)),
        View("csv", order=(("alpha", False),)),
        View("csv", spreadsheet="sheets"),
        View("csv", spreadsheet="excel"),
        View("csv", bom=True),
        View("csv", gzip=True),
    ]
    other = dataclasses.replace(RESULT, etag="1" * 64)
    keys = {view.key(result) for view in views for result in (RESULT, other)}
    assert len(keys) == 2 * len(views)
    assert View("csv", limit=1).key(RESULT) == View("csv", limit=1).key(RESULT)


def test_unknown_columns_are_refused_with_the_nearest() -> None:
    View("csv", columns=("alpha",), order=(("beta", True),)).check(COLUMNS)
    with pytest.raises(InvalidParameters, match=r"_columns: .*'alhpa'; did you mean 'alpha'\?"):
        View("csv", columns=("alhpa",)).check(COLUMNS)
    with pytest.raises(InvalidParameters, match=r"_order: .*'zzz'; it has alpha, beta"):
        View("csv", order=(("zzz", False),)).check(COLUMNS)
    with pytest.raises(InvalidParameters, match="did you mean 'alpha'"):
        View("csv", columns=("Alpha",)).check(COLUMNS)


def test_texts_are_formats() -> None:
    assert set(MEDIA_TYPES) > TEXTS
    assert not TEXTS & {"parquet", "arrow"}
