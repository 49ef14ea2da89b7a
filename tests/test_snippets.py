"""Every snippet does what it says: each that can run here is run, against a real server."""

from __future__ import annotations

import ast
import codecs
import csv
import io
import json
import re
import shlex
import subprocess
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode
from urllib.request import urlopen

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server_process import EVERY_TYPE, INLINE, Server, connect, serve, write_udfs
from tests.sheet_formulas import ENGLISH, GERMAN, Locale, evaluate
from tests.test_literals import TEXTS, read_m

from webfoot import literals, udf
from webfoot.catalog.types import type_of
from webfoot.definition import definition_of
from webfoot.registry import Registry, load
from webfoot.snippets import shell_link, snippets
from webfoot.sources import read
from webfoot.spreadsheets import SPREADSHEETS, neutral

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from webfoot.definition import Udf

EXAMPLES = Path(__file__).parent.parent / "udfs"
ECHO = """
    from webfoot import udf

    @udf
    def echo(number: int = 0, many: list[str] = [], text: str = "none"):
        return [{"text": text, "number": number, "many": "|".join(many)}]

    @udf
    def needs(what: int, how: str = "so"):
        return [{"what": what, "how": how}]
"""
HOSTILE = [
    *(
        "'\"\\`$HOME $(id) ${x} %41 + a&b=c#d?e",
        "';DROP TABLE x;--",
        "a\r\n\tb\n",
        " é 🦆\u2028\x00",
    ),
    *("</script> #(lf) ~-;, …", "x.csv", "*[a-z]{a,b}?/k=v/../..", "=1+1"),
]


@dataclass(frozen=True)
class Case:
    """A call: a UDF and texts for its parameters."""

    udf: str
    arguments: tuple[tuple[str, str], ...] = ()


CASES = [
    Case("contours"),
    Case("contours", (("min_elevation", "700"), ("interval", "100"))),
    Case("collatz", (("largest", "9"),)),
    Case("days"),
    Case("days", (("since", "2013-12-30"),)),
    Case("delays", (("month", "1"), ("origin", "JFK"))),
    Case("delays", (("carriers", "AA,UA"), ("carriers", "B6"))[:1]),
    Case("delays", (("carriers", "AA"), ("carriers", "B6"))),
    Case("taxi_cells", (("resolution", "7"), ("bounds", "-74.1,40.6,-73.9,40.8"))),
    Case("numbers", (("whole", "-7"), ("real", "1e-3"), ("exact", "12.5"), ("yes", "on"))),
    Case("texts", (("kind", "b c"), ("colour", "deep blue"))),
    Case("texts", (("id", "urn:uuid:12345678-1234-5678-1234-567812345678"),)),
    Case("moments", (("at", "2024-02-29 23:59:58"), ("clock", "09:30"), ("span", "P1DT2H"))),
    Case("moments", (("day", "2024-02-29"), ("until", "2024-03-01"))),
    Case(
        "lists", (("numbers", "[3, 4]"), ("words", "a"), ("words", "b,c"), ("days", "2024-01-31"))
    ),
    Case("objects", (("tree", '{"name": "o\'k", "children": [{"name": "x"}]}'),)),
    Case("größe", (("länge", "3"),)),
    Case("nothing"),
    Case("needs", (("what", "5"),)),
    *(Case("echo", (("number", "1"), ("text", text))) for text in HOSTILE),
    Case(
        "echo",
        (("many", "a'b"), ("many", 'c,"d')),
    ),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    files = {path.stem: path.read_text() for path in EXAMPLES.glob("*.py")}
    folder = write_udfs(tmp_path_factory.mktemp("s"), **files, every_type=EVERY_TYPE, echoes=ECHO)
    with serve(folder, *INLINE) as running:
        yield running


@pytest.fixture(scope="module")
def registry(server: Server) -> Registry:
    return load(read(server.folder))


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


@dataclass(frozen=True)
class Found:
    """The snippets of a case, and the table that each of them shall show."""

    case: Case
    texts: dict[str, str]
    table: pa.Table

    def rows(self) -> list[tuple[Any, ...]]:
        return rows_of(self.table)


def fetch_table(server: Server, name: str, pairs: Sequence[tuple[str, str]]) -> pa.Table:
    query = urlencode([pair for pair in pairs if pair[1]])
    with urlopen(f"{server.url}/udfs/{quote(name)}.parquet?{query}") as response:
        return pq.read_table(io.BytesIO(response.read()))


@pytest.fixture(scope="module", params=CASES, ids=str)
def found(request: pytest.FixtureRequest, server: Server, registry: Registry) -> Found:
    case: Case = request.param
    texts = {s.name: s.text for s in snippets(registry[case.udf], server.url, case.arguments)}
    return Found(case, texts, fetch_table(server, case.udf, case.arguments))


def rows_of(table: pa.Table | pd.DataFrame | pl.DataFrame) -> list[tuple[Any, ...]]:
    rows = table  # DuckDB finds it by its name.
    assert len(rows) >= 0
    return duckdb.sql("FROM rows").fetchall()


# --- run ---


@pytest.mark.parametrize("name", ["duckdb", "duckdb-attach", "duckdb-shell"])
def test_duckdb(name: str, found: Found, con: duckdb.DuckDBPyConnection) -> None:
    sql = found.texts[name]
    if name == "duckdb-shell":
        (sql,) = queries_of(sql)
    assert con.execute(sql).fetchall() == found.rows()


def queries_of(link: str) -> list[str]:
    """What DuckDB's shell runs when it is opened by a link; see its `shell.ts`."""
    address, _, fragment = link.partition("#")
    assert address == "https://shell.duckdb.org/"
    version, *queries = fragment.split(",")
    assert version == "queries=v0"
    swaps = str.maketrans(" -;~", "- ~;")
    return [unquote(query, errors="strict").translate(swaps) for query in queries]


def test_duckdb_with_a_key(server: Server, registry: Registry) -> None:
    texts = {s.name: s.text for s in snippets(registry["days"], server.url)}
    with connect() as con:
        assert con.execute(texts["duckdb-secret"]).fetchall()
        ((scope,),) = con.execute("SELECT scope FROM duckdb_secrets()").fetchall()
    assert scope == [f"{server.url}/"]


def test_many_calls_at_once(found: Found, server: Server, con: duckdb.DuckDBPyConnection) -> None:
    if "duckdb-each" not in found.texts:
        assert "python-map" not in found.texts
        return
    listed = re.search(r"inputs = (\[.*?^\])", found.texts["python-map"], re.DOTALL | re.MULTILINE)
    assert listed is not None
    inputs: list[dict[str, Any]] = ast.literal_eval(listed[1])
    assert len(inputs) > 1
    expected = pa.concat_tables(
        fetch_table(server, found.case.udf, [(k, written(v)) for k, v in record.items()])
        for record in inputs
    )
    names = ", ".join(f'"{name}"' for name in expected.column_names)
    sql = found.texts["duckdb-each"].replace("FROM", f"SELECT {names} FROM").rstrip(";")
    assert con.execute(sql).fetchall() == rows_of(expected)
    table = run_python(found.texts["python-map"])
    assert rows_of(table[expected.column_names]) == rows_of(expected.to_pandas())


def written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def run_python(code: str) -> Any:
    names: dict[str, Any] = {}
    exec(code, names)
    if "client" in names:
        names["client"].close()
    return names["table"]


@pytest.mark.parametrize("name", ["python", "python-key", "pandas", "polars", "pyarrow"])
def test_python(name: str, found: Found) -> None:
    table = run_python(found.texts[name])
    frames = dict.fromkeys(("python", "python-key", "pandas"), pd.DataFrame)
    kinds = {**frames, "polars": pl.DataFrame}
    assert isinstance(table, kinds.get(name, pa.Table))
    plain = name in ("polars", "pyarrow")
    assert rows_of(table) == (found.rows() if plain else rows_of(found.table.to_pandas()))


@pytest.fixture(scope="module")
def scripted(
    server: Server, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> dict[Case, tuple[str, str]]:
    """What curl and Node print for each case, with one start of a shell and of Node for all."""
    folder = tmp_path_factory.mktemp("printed")
    curl, node = [], ['import {writeFileSync} from "node:fs";']
    for number, case in enumerate(CASES):
        texts = {s.name: s.text for s in snippets(registry[case.udf], server.url, case.arguments)}
        curl.append(f"{texts['curl']} >{number}.csv")
        shown = f'writeFileSync("{number}.json", JSON.stringify(rows))'
        node.append(f"{{ {texts['javascript'].replace('console.table(rows)', shown)} }}")
    bash = ["bash", "-euc", "\n".join(curl)]
    subprocess.run(bash, cwd=folder, capture_output=True, check=True)
    (folder / "script.mjs").write_text("\n".join(node))
    subprocess.run(["node", "script.mjs"], cwd=folder, capture_output=True, check=True)
    return {
        case: (
            (folder / f"{number}.csv").read_bytes().decode(),
            (folder / f"{number}.json").read_text(),
        )
        for number, case in enumerate(CASES)
    }


def test_curl(found: Found, scripted: dict[Case, tuple[str, str]]) -> None:
    header, *records = read_csv(scripted[found.case][0])
    assert header == found.table.column_names
    for record, row in zip(records, found.table.to_pylist(), strict=True):
        assert all(map(same, record, row.values()))


def read_csv(text: str) -> list[list[str]]:
    csv.field_size_limit(10_000_000)  # A whole mountain range can be one polygon.
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def same(cell: str, value: Any) -> bool:
    """Whether a cell shows a value."""
    if value is None:
        return cell == ""
    if isinstance(value, bool):
        return cell.lower() == str(value).lower()
    if isinstance(value, int | float | Decimal):
        return float(cell) == float(value)
    return cell == str(value)


def test_javascript(found: Found, scripted: dict[Case, tuple[str, str]]) -> None:
    assert json.loads(scripted[found.case][1]) == as_json(found.table)


def as_json(table: pa.Table) -> list[dict[str, Any]]:
    return json.loads(json.dumps(table.to_pylist(), default=str))  # type: ignore[no-any-return]  # as it is


def test_an_error_is_an_error_in_a_script(server: Server, registry: Registry) -> None:
    given = [("min_elevation", "9000")]
    texts = {s.name: s.text for s in snippets(registry["contours"], server.url, given)}
    curl = subprocess.run(["bash", "-c", texts["curl"]], capture_output=True, check=False)
    assert curl.returncode == 22
    assert "must be below" in json.loads(curl.stdout)["detail"]
    command = ["node", "--input-type=module", "-e", texts["javascript"]]
    node = subprocess.run(command, capture_output=True, text=True, check=False)
    assert node.returncode == 1
    assert "Error: min_elevation must be below" in node.stderr


# --- simulated: Google Sheets, Excel ---


@pytest.mark.parametrize(
    ("name", "locale"), [("sheets", ENGLISH), ("sheets-semicolon", GERMAN)], ids=["en", "de"]
)
def test_sheets(name: str, locale: Locale, found: Found, registry: Registry) -> None:
    udf = registry[found.case.udf]
    given: dict[str, list[str]] = {}
    for parameter, text in found.case.arguments:
        given.setdefault(parameter, []).append(text)
    # What is not given has an empty cell, and so its default.
    cells = {
        f"B{row}": typed(udf, parameter, given[parameter])
        for row, parameter in enumerate(udf.parameters, 2)
        if parameter in given
    }
    header, *records = evaluate(found.texts[name], cells, locale)
    assert header == found.table.column_names
    longest = SPREADSHEETS["sheets"].most_characters
    if records and records[0][0].startswith("NOTE: "):
        del records[0]
    for record, row in zip(records, found.table.to_pylist(), strict=True):
        for cell, value in zip(record, row.values(), strict=True):
            shown = neutral(value) if isinstance(value, str) else value
            if isinstance(shown, str) and len(shown) > longest:
                shown = shown[: longest - 1] + "…"
            assert same(cell, shown)


def typed(udf: Udf, name: str, texts: list[str]) -> Any:
    """What a person would have in a cell."""
    if len(texts) > 1:
        return json.dumps(texts)
    kinds: dict[str, Callable[[str], Any]] = {
        "BIGINT": int,
        "DOUBLE": float,
        "DECIMAL": float,
        "BOOLEAN": lambda text: text == "on",
        "DATE": date.fromisoformat,
        "TIMESTAMP": datetime.fromisoformat,
        "TIME": time.fromisoformat,
    }
    return kinds.get(str(type_of(udf.parameters[name])), str)(texts[0])


def test_an_error_is_seen_in_the_sheet(server: Server, registry: Registry) -> None:
    texts = {s.name: s.text for s in snippets(registry["contours"], server.url)}
    for cell, message in ((9000, "min_elevation must be below 1077"), ("=1", "min_elevation: ")):
        (header,), (shown,) = evaluate(texts["sheets"], {"B2": cell})
        assert header == "error"
        assert shown.startswith(f"contours: {message}")


def test_excel_from_the_web(found: Found) -> None:
    with urlopen(found.texts["excel-url"]) as response:
        text = response.read()
    assert text.startswith(codecs.BOM_UTF8)
    header, *records = read_csv(text.decode("utf-8-sig"))
    assert header == found.table.column_names
    assert len(records) - records[0][0].startswith("NOTE: ") == len(found.table)


def test_excel_power_query(found: Found) -> None:
    text = found.texts["excel"]
    (where,) = re.findall(rf"Web\.Contents\(({M_TEXT}), \[\s+RelativePath = ({M_TEXT}),", text)
    _, _, rest = text.partition("Query = [")
    pairs = re.findall(rf"#({M_TEXT}) = ({M_TEXT})", rest)
    query = urlencode([(read_m(name), read_m(value)) for name, value in pairs])
    with urlopen(f"{'/'.join(map(read_m, where))}?{query}") as response:
        assert json.load(response) == as_json(found.table)


M_TEXT = r'"(?:[^"]|"")*"'


# --- any text ---


@udf
def anything(text: str = "", whole: int = 0, many: list[str] | None = None) -> None:
    """Takes anything."""


ANYTHING = definition_of(anything)
PAIRS = st.lists(st.tuples(st.sampled_from(["text", "many"]), TEXTS.filter(bool)), max_size=3)
BASES = st.just("https://host") | st.text(st.characters(min_codepoint=33, max_codepoint=126)).map(
    "https://h/{}".format
)


@given(PAIRS, BASES)
def test_no_value_and_no_address_changes_what_a_snippet_does(
    pairs: list[tuple[str, str]], base_url: str
) -> None:
    assert ANYTHING is not None
    texts = {s.name: s.text for s in snippets(ANYTHING, base_url, pairs)}
    url = texts["url"]
    given_ = [pair for name in ("text", "many") for pair in pairs if pair[0] == name]
    path, _, query = url[len(base_url) :].partition("?")
    assert path == "/udfs/anything.parquet"
    assert parse_qsl(query, strict_parsing=bool(query)) == given_
    assert not re.search(r"\.[a-z]\w*$", query, re.IGNORECASE)
    assert duckdb.extract_statements(texts["duckdb"])[0].query == texts["duckdb"]
    assert texts["duckdb"] == f"FROM {literals.sql_text(url)};"
    assert len(duckdb.extract_statements(texts["duckdb-attach"])) == 2
    assert len(duckdb.extract_statements(texts["duckdb-secret"])) == 2
    assert queries_of(texts["duckdb-shell"]) == [texts["duckdb"]]
    for name in ("python", "python-key", "pandas", "polars", "pyarrow"):
        constants = [
            n.value for n in ast.walk(ast.parse(texts[name])) if isinstance(n, ast.Constant)
        ]
        assert {url, url.replace(".parquet", ".arrow"), base_url} & set(map(str, constants))
    csv_url, json_url = url.replace(".parquet", ".csv"), url.replace(".parquet", ".json")
    assert shlex.split(texts["curl"]) == ["curl", "--location", "--fail-with-body", csv_url]
    shown = ["--header", "Authorization: Bearer your key", csv_url]
    assert shlex.split(texts["curl-key"]) == ["curl", "--location", "--fail-with-body", *shown]
    assert json.loads(texts["javascript"].partition("fetch(")[2].partition(");\n")[0]) == json_url


def test_what_is_still_to_be_filled_in_is_marked() -> None:
    @udf
    def needs(whole: int, few: int = 3) -> None: ...

    definition = definition_of(needs)
    assert definition is not None
    texts = {s.name: s.text for s in snippets(definition, "https://h", [("few", "4")])}
    assert texts["url"] == "https://h/udfs/needs.parquet?whole=…&few=4"
    assert texts["duckdb-attach"].endswith("FROM udfs.needs(whole := …, few := 4);")
    assert texts["python"].endswith('client.run("needs", whole=…, few=4).df()'.replace('"', "'"))


def test_names_are_distinct_and_what_is_unknown_is_left_out() -> None:
    assert ANYTHING is not None
    made = snippets(ANYTHING, "https://h", [("nothing", "1"), ("text", "")])
    assert len({snippet.name for snippet in made}) == len(made)
    assert all(snippet.title and snippet.text for snippet in made)
    assert made[0].text == "https://h/udfs/anything.parquet"


def test_a_link_to_the_shell_is_as_short_as_the_shell_itself_makes_it() -> None:
    assert shell_link("FROM x;") == "https://shell.duckdb.org/#queries=v0,FROM-x~"
