"""Any text survives as a literal of any language: it stays a text, and the same one."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webfoot import literals

HOSTILE = [
    *("", "'", '"', "\\", "`", "$HOME", "$(id)", "`id`", "${x}", "a'b\"c", "';DROP TABLE x;--"),
    *(
        "\n",
        "\r\n",
        "\t",
        "é",
        "🦆",
        "\u2028",
        "\u202e",
        "</script>",
        "<!--",
        "#(lf)",
        "#(#)",
        "%41",
    ),
    *("\\n", "\\u0041", "a\\", "'''", '"""', "{x}", "-- x", "/* x */", "~-;", "&", "=1+1", "\x7f"),
]
TEXTS = st.text(st.characters(codec="utf-8"))
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@given(TEXTS)
def test_sql_text(text: str) -> None:
    assert duckdb.execute(f"SELECT {literals.sql_text(text)}").fetchall() == [(text,)]


@given(TEXTS.filter(lambda name: name and "\0" not in name))
def test_sql_names(name: str) -> None:
    for written in (literals.sql_name(name), literals.sql_quoted(name)):
        assert duckdb.sql(f"SELECT 1 AS {written}").columns == [name]


def test_a_name_is_bare_where_a_person_would_write_it_so() -> None:
    assert literals.sql_name("min_elevation") == "min_elevation"
    assert literals.sql_name("a1") == "a1"
    assert literals.sql_name("Größe") == '"Größe"'
    assert literals.sql_name("1a") == '"1a"'


def test_every_keyword_of_duckdb_is_a_name_of_macros_and_parameters() -> None:
    keywords = duckdb.sql("SELECT keyword_name FROM duckdb_keywords()").fetchall()
    with duckdb.connect() as con:
        for (keyword,) in keywords:
            # DuckDB has functions of its own for these two, quoted or not.
            if keyword in ("if", "unpack"):
                continue
            name = literals.sql_name(keyword)
            con.execute(f"CREATE OR REPLACE MACRO {name}({name} := 1) AS TABLE SELECT {name} AS x")
            assert con.execute(f"FROM memory.{name}({name} := 2)").fetchall() == [(2,)]


@given(JSON_VALUES)
def test_python(value: Any) -> None:
    written = literals.python(value)
    assert ast.literal_eval(written) == value
    assert "\n" not in written


def test_javascript() -> None:
    # One start of node for all of them.
    code = "".join(f"console.log(JSON.stringify({literals.javascript(text)}));" for text in HOSTILE)
    ran = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in ran.stdout.split("\n")[:-1]] == HOSTILE
    assert "</script" not in code
    assert "<!--" not in code


@given(JSON_VALUES)
def test_javascript_is_json_too(value: Any) -> None:
    assert json.loads(literals.javascript(value)) == value


def test_shell() -> None:
    code = "".join(f"printf '%s\\0' {literals.shell(text)};" for text in HOSTILE)
    ran = subprocess.run(["bash", "-c", code], capture_output=True, check=True)
    assert ran.stdout.decode().split("\0")[:-1] == HOSTILE


@given(TEXTS)
def test_shell_words(text: str) -> None:
    assert shlex.split(literals.shell(text)) == [text]


@given(TEXTS)
def test_formulas(text: str) -> None:
    written = literals.formula(text)
    assert re.fullmatch(r'"(?:[^"]|"")*"', written)
    assert written[1:-1].replace('""', '"') == text


def read_m(literal: str) -> str:
    """A text literal of Power Query, read as its specification says."""
    assert re.fullmatch(r'"(?:[^"\r\n]|"")*"', literal)
    names = {"cr": "\r", "lf": "\n", "tab": "\t", "#": "#"}

    def unescape(match: re.Match[str]) -> str:
        return "".join(names[name] for name in match[1].split(","))

    return re.sub(r"#\(([^)]*)\)", unescape, literal[1:-1].replace('""', '"'))


@given(TEXTS)
def test_power_query(text: str) -> None:
    assert read_m(literals.power_query(text)) == text


def test_power_query_records() -> None:
    assert literals.power_query({"a": "1", 'say "b"': "#(lf)"}) == (
        '[#"a" = "1", #"say ""b""" = "#(#)(lf)"]'
    )
    assert literals.power_query({}) == "[]"


def read_r(literal: str) -> str:
    """A text literal of R, whose escapes for characters are these."""

    def unescape(match: re.Match[str]) -> str:
        code, letter = match[1] or match[2], match[3]
        if code:
            return chr(int(code, 16))
        return {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}.get(letter, letter)

    return re.sub(r"\\(?:u([0-9a-f]{4})|U([0-9a-f]{8})|(.))", unescape, literal[1:-1])


@given(TEXTS)
def test_r(text: str) -> None:
    written = literals.r(text)
    assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', written)
    assert written.isascii()
    assert read_r(written) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts(text: str) -> None:
    assert duckdb.execute(f"SELECT {literals.sql_text(text)}").fetchall() == [(text,)]
    assert ast.literal_eval(literals.python(text)) == text
    assert read_m(literals.power_query(text)) == text
    assert read_r(literals.r(text)) == text
