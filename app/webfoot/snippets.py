"""What to paste where: one call of a UDF, written for each kind of reader.

Values travel percent-encoded inside URLs and as literals elsewhere (`literals`), so that no value
can change what a snippet does.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from webfoot import literals
from webfoot.catalog.macros import arguments_of
from webfoot.catalog.types import literal, type_of
from webfoot.errors import InvalidParameters
from webfoot.parameters import choices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from webfoot.catalog.macros import Argument
    from webfoot.definition import Udf
    from webfoot.parameters import Parameter

# Stands in a text for a value that nobody has chosen yet, as Python's own `...` does among values.
_TO_BE_FILLED_IN = "…"
_SHELL_PAGE = "https://shell.duckdb.org/#queries=v0,"
# The shell's own shorthand: what SQL has much of, for what URLs need not escape, and back.
_SHELL_SWAPS = str.maketrans(" -;~", "- ~;")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# How the text of a cell's date or time is written, by the type of the parameter.
_SHEET_MOMENTS = {
    "DATE": "yyyy-mm-dd",
    "TIMESTAMP": "yyyy-mm-dd hh:mm:ss",
    "TIMESTAMPTZ": "yyyy-mm-dd hh:mm:ss",
    "TIME": "hh:mm:ss",
}
_FIRST_ROW = 2
_IF_ASKED = "If the server asks for one."
_MOST_ALTERNATIVES = 3


@dataclass(frozen=True)
class Snippet:
    """Something to copy.

    Args:
        name: What it is, in one word; no two of a UDF's share it.
        title: The same for people.
        language: What it is written in: `url`, `sql`, `python`, `shell`, `formula`, `m`,
            `javascript` or `r`.
        text: What to copy.
        note: What to know before pasting it; may be empty.
    """

    name: str
    title: str
    language: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class _Call:
    """One call of a UDF as a reader writes it.

    Args:
        udf: The UDF.
        base_url: The server's address, without a slash at its end.
        texts: The parameters of the call in the signature's order, as text; of one that is still to
            be filled in, none.
        values: The same, as JSON values where the call is valid; `...` for what is to be filled in.
        valid: Whether it is.
    """

    udf: Udf
    base_url: str
    texts: Mapping[str, Sequence[str]]
    values: Mapping[str, Any]
    valid: bool

    def url(self, extension: str, **options: str) -> str:
        """The result's address."""
        pairs = [f"{name}={text}" for name, text in options.items()]
        for name, texts in self.texts.items():
            key = quote(name, safe="")
            pairs += [f"{key}={_encode(text)}" for text in texts] or [f"{key}={_TO_BE_FILLED_IN}"]
        path = f"{self.base_url}/udfs/{quote(self.udf.name, safe='')}.{extension}"
        return f"{path}?{'&'.join(pairs)}" if pairs else path

    def arguments(self) -> list[Argument]:
        """The parameters of the call as the catalog's macros take them."""
        return [a for a in arguments_of(self.udf) if a.parameter.name in self.values]


def snippets(
    udf: Udf, base_url: str, arguments: Iterable[tuple[str, str]] = ()
) -> tuple[Snippet, ...]:
    """One call of `udf` for every kind of reader.

    Args:
        udf: The UDF.
        base_url: The server's address as its readers write it, without a slash at its end.
        arguments: Names and texts as in a query string: an empty text means the default, a
            repeated name a list. What is wrong with a value is said where the snippet is used.
            A required parameter that has none is shown as `…`.
    """
    given: dict[str, list[str]] = {}
    for name, text in arguments:
        if text:
            given.setdefault(name, []).append(text)
    wanted = [n for n, parameter in udf.parameters.items() if n in given or parameter.required]
    texts = {name: given.get(name, []) for name in wanted}
    try:
        pairs = [(name, text) for name, found in texts.items() for text in found]
        canonical = json.loads(udf.parameters.from_text(pairs))
        call = _Call(udf, base_url, texts, {name: canonical[name] for name in texts}, valid=True)
    except InvalidParameters:
        values = {name: _unchecked(udf.parameters[name], found) for name, found in texts.items()}
        call = _Call(udf, base_url, texts, values, valid=False)
    return (
        Snippet("url", "URL", "url", call.url("parquet"), "As .csv, .json, .arrow and more, too."),
        *_duckdb(call),
        *_python(call),
        *_spreadsheets(call),
        *_others(call),
    )


def _unchecked(parameter: Parameter, texts: Sequence[str]) -> Any:
    """What a value probably is, while a call is not complete or not valid."""
    if not texts:
        return ...
    if parameter.shape == "list":
        return list(texts) if len(texts) > 1 else texts[0].split(",")
    if type_of(parameter).name in ("BIGINT", "DOUBLE") and _NUMBER.fullmatch(texts[0]):
        return json.loads(texts[0].lstrip("+"))
    return texts[0]


def _duckdb(call: _Call) -> Iterator[Snippet]:
    url = literals.sql_text(call.url("parquet"))
    yield Snippet("duckdb", "DuckDB", "sql", f"FROM {url};")
    attach = (
        f"ATTACH IF NOT EXISTS {literals.sql_text(f'{call.base_url}/catalog.duckdb')} AS udfs;\n"
    )
    plain = {a.name: _sql(call, a, call.values[a.parameter.name]) for a in call.arguments()}
    yield Snippet(
        "duckdb-attach",
        "DuckDB, every UDF as a function",
        "sql",
        f"{attach}FROM udfs.{_sql_call(call.udf.name, plain)};",
    )
    several = _several(call)
    if several is not None:
        lists = {name: [value] for name, value in call.values.items()} | dict([several])
        each = {
            a.name: f"[{', '.join(_sql(call, a, value) for value in lists[a.parameter.name])}]"
            for a in arguments_of(call.udf)
            if a.parameter.name in lists
        }
        yield Snippet(
            "duckdb-each",
            "DuckDB, many calls at once",
            "sql",
            f"{attach}FROM udfs.{_sql_call(f'{call.udf.name}_each', each)};",
            "One request. The inputs come back as columns beside the rows.",
        )
    scope = literals.sql_text(f"{call.base_url}/")
    yield Snippet(
        "duckdb-secret",
        "DuckDB, with a key",
        "sql",
        f"CREATE SECRET webfoot (TYPE http, BEARER_TOKEN 'your key', SCOPE {scope});\nFROM {url};",
        f"{_IF_ASKED} SCOPE keeps it from all other servers.",
    )
    yield Snippet(
        "duckdb-shell",
        "DuckDB in the browser",
        "url",
        shell_link(f"FROM {url};"),
        "Opens DuckDB's own shell, which reads from here: nothing to install. The server must be"
        " one that your browser can reach, by https or on this machine.",
    )


def _sql_call(macro: str, arguments: Mapping[str, str]) -> str:
    named = ", ".join(f"{literals.sql_name(name)} := {sql}" for name, sql in arguments.items())
    return f"{literals.sql_name(macro)}({named})"


def _sql(call: _Call, argument: Argument, value: Any) -> str:
    """A value as SQL of the type that the catalog gives the argument."""
    if value is ...:
        return _TO_BE_FILLED_IN
    if call.valid:
        return literal(value, argument.kind)
    if isinstance(value, list):
        return f"[{', '.join(_sql(call, argument, item) for item in value)}]"
    return literals.sql_text(value) if isinstance(value, str) else json.dumps(value)


def shell_link(sql: str) -> str:
    """The address that opens DuckDB's shell in a browser and runs `sql`."""
    return _SHELL_PAGE + quote(sql.translate(_SHELL_SWAPS), safe="-~")


def _python(call: _Call) -> Iterator[Snippet]:
    client = f"import webfoot\n\nclient = webfoot.Client({literals.python(call.base_url)})\n"
    name = literals.python(call.udf.name)
    values = "".join(f", {key}={_python_value(value)}" for key, value in call.values.items())
    run = f"table = client.run({name}{values}).df()"
    yield Snippet("python", "Python", "python", f"{client}{run}", "Or .pl(), .arrow(), .sql(…).")
    known = client.replace(")\n", ", token='your key')\n")
    yield Snippet("python-key", "Python, with a key", "python", f"{known}{run}", _IF_ASKED)
    several = _several(call)
    if several is not None:
        inputs = [{**call.values, several[0]: value} for value in several[1]]
        lines = "".join(f"    {_python_record(record)},\n" for record in inputs)
        yield Snippet(
            "python-map",
            "Python, many calls at once",
            "python",
            f"{client}inputs = [\n{lines}]\ntable = client.map({name}, inputs).df()",
            "The inputs come back as columns beside the rows.",
        )
    url = literals.python(call.url("parquet"))
    yield Snippet(
        "pandas", "pandas", "python", f"import pandas as pd\n\ntable = pd.read_parquet({url})"
    )
    yield Snippet(
        "polars", "Polars", "python", f"import polars as pl\n\ntable = pl.read_parquet({url})"
    )
    stream = literals.python(call.url("arrow"))
    yield Snippet(
        "pyarrow",
        "PyArrow",
        "python",
        "from urllib.request import urlopen\n\nimport pyarrow as pa\n\n"
        f"with urlopen({stream}) as stream:\n"
        "    table = pa.ipc.open_stream(stream).read_all()",
    )


def _python_value(value: Any) -> str:
    return _TO_BE_FILLED_IN if value is ... else literals.python(value)


def _python_record(record: Mapping[str, Any]) -> str:
    items = (f"{literals.python(key)}: {_python_value(value)}" for key, value in record.items())
    return f"{{{', '.join(items)}}}"


def _spreadsheets(call: _Call) -> Iterator[Snippet]:
    cells = ", ".join(
        f"B{row} is {name}" + (f" ({', '.join(call.texts[name])})" if call.texts.get(name) else "")
        for row, name in enumerate(call.udf.parameters, _FIRST_ROW)
    )
    note = f"{cells}; an empty cell means the default. " if cells else ""
    reachable = (
        "Google must be able to reach this server; it asks again every hour. If the server asks for"
        " a key, put a share link in the place of the address."
    )
    yield Snippet(
        "sheets",
        "Google Sheets",
        "formula",
        f"=IMPORTDATA({_sheet_url(call, ',')})",
        note + reachable,
    )
    yield Snippet(
        "sheets-semicolon",
        "Google Sheets, where numbers have a decimal comma",
        "formula",
        # Without a locale, Sheets would read 1.5 as the first of May.
        f'=IMPORTDATA({_sheet_url(call, ";")};",";"en_US")',
        note + reachable,
    )
    yield Snippet(
        "excel",
        "Excel, Power Query",
        "m",
        _power_query(call),
        "Data, Get Data, Blank Query, Advanced Editor. Numbers stay numbers in every locale.",
    )
    yield Snippet(
        "excel-url",
        "Excel, from the web",
        "url",
        call.url("csv", _for="excel"),
        "Data, From Web; or open it.",
    )


def _power_query(call: _Call) -> str:
    path = f"udfs/{quote(call.udf.name, safe='')}.json"
    query = {name: _as_one(texts) for name, texts in call.texts.items()}
    options = [
        f"RelativePath = {literals.power_query(path)}",
        *([f"Query = {literals.power_query(query)}"] if query else []),
        # Left to itself, Excel would tell the status and not the message.
        "ManualStatusHandling = {404, 422, 500, 507}",
    ]
    joined = ",\n        ".join(options)
    return (
        "let\n"
        f"    Answer = Web.Contents({literals.power_query(call.base_url)}, [\n"
        f"        {joined}\n"
        "    ]),\n"
        "    Content = Json.Document(Answer),\n"
        "    Failed = Value.Metadata(Answer)[Response.Status] >= 400,\n"
        "    Rows = if Failed then error Content[detail] else Table.FromRecords(Content)\n"
        "in\n"
        "    Rows"
    )


def _as_one(texts: Sequence[str]) -> str:
    """The texts of a parameter as one: Power Query gives each once."""
    if not texts:
        return _TO_BE_FILLED_IN
    return texts[0] if len(texts) == 1 else json.dumps(texts, ensure_ascii=False)


def _sheet_url(call: _Call, separator: str) -> str:
    """An expression that makes the URL from the cells B2, B3, … of the sheet."""
    address = f"{call.base_url}/udfs/{quote(call.udf.name, safe='')}.csv?_for=sheets"
    parts = []
    for row, (name, parameter) in enumerate(call.udf.parameters.items(), _FIRST_ROW):
        parts.append(literals.formula(f"{address}&{quote(name, safe='')}="))
        parts.append(_cell(parameter, f"B{row}", separator))
        address = ""
    return "&".join(parts) if parts else literals.formula(address)


def _cell(parameter: Parameter, cell: str, separator: str) -> str:
    """The cell's value as the parameter's type writes it, percent-encoded; nothing if empty."""
    kind = str(type_of(parameter))
    if kind in _SHEET_MOMENTS:
        # A date in a cell is a number in the cell's own format; an empty one would be 1899.
        text = f'TEXT({cell}{separator}"{_SHEET_MOMENTS[kind]}")'
        return f'IF({cell}=""{separator}""{separator}ENCODEURL({text}))'
    if kind == "BOOLEAN":
        # Sheets writes TRUE in the sheet's language.
        return f'IF({cell}=""{separator}""{separator}IF({cell}{separator}"true"{separator}"false"))'
    if kind in ("DOUBLE", "DECIMAL") and separator == ";":
        return f'ENCODEURL(SUBSTITUTE({cell};",";"."))'
    return f"ENCODEURL({cell})"


def _others(call: _Call) -> Iterator[Snippet]:
    url = literals.shell(call.url("csv"))
    yield Snippet("curl", "curl", "shell", f"curl --location --fail-with-body {url}")
    header = "--header 'Authorization: Bearer your key'"
    shown = f"curl --location --fail-with-body {header} {url}"
    yield Snippet("curl-key", "curl, with a key", "shell", shown, _IF_ASKED)
    rows = literals.javascript(call.url("json"))
    yield Snippet(
        "javascript",
        "JavaScript",
        "javascript",
        f"const response = await fetch({rows});\n"
        "const rows = await response.json();\n"
        "if (!response.ok) throw new Error(rows.detail);\n"
        "console.table(rows);",
    )
    table = literals.r(call.url("parquet"))
    yield Snippet("r", "R", "r", f"table <- arrow::read_parquet({table})")


def _encode(text: str) -> str:
    """A value inside a URL.

    A dot, but for a number's, is encoded too: DuckDB and pandas take what a URL ends in for the
    file's extension, also behind the question mark.
    """
    if _NUMBER.fullmatch(text):
        return quote(text, safe="")
    return quote(text, safe="").replace(".", "%2E")


def _several(call: _Call) -> tuple[str, list[Any]] | None:
    """A parameter to fan out over, and values for it; None if there is none that has two."""
    scalars = [p for p in call.udf.parameters.values() if p.shape == "scalar"]
    # One that the reader has set is one that the reader cares about.
    scalars.sort(key=lambda parameter: parameter.name not in call.values)
    for parameter in scalars:
        values = _alternatives(parameter, call.values.get(parameter.name, ...))
        if len(values) > 1:
            return parameter.name, values
    return None


def _alternatives(parameter: Parameter, chosen: Any) -> list[Any]:
    """A few values for a parameter, the chosen one first."""
    found = [value for value in (chosen, parameter.default) if value not in (..., None, "")]
    members = [m for m in parameter.schema.get("anyOf", ()) if m.get("type") != "null"]
    schema = members[0] if len(members) == 1 else parameter.schema
    if str(type_of(parameter)) == "BOOLEAN":
        found += [True, False]
    elif choices(schema):
        found += choices(schema)
    elif schema.get("type") == "integer":
        found += _integers(schema, found)
    distinct = {json.dumps(value): value for value in found}
    return list(distinct.values())[:_MOST_ALTERNATIVES]


def _integers(schema: Mapping[str, Any], found: Sequence[Any]) -> list[int]:
    """The first integers that are allowed, or the one after the one that is found."""
    lowest = max(schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
    first = found[0] + 1 if found and isinstance(found[0], int) else lowest
    highest = min(schema.get("maximum", first + 1), schema.get("exclusiveMaximum", first + 2) - 1)
    return [value for value in (first, first + 1) if value <= highest]
