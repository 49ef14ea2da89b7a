"""The file that nobody can read: DuckDB says its message, and every other reader fails."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webfoot.database.calls import CallDatabase
from webfoot.unreadable import unreadable_parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What is said, and what of it a reader must see.
MESSAGES: dict[str, tuple[str, str]] = {
    "plain": ("min_elevation must be below max, got 900 > 800",) * 2,
    "quotes": ("""it's "odd": 'x' `y` \\ \\n {z} %s""",) * 2,
    "lines": ("first line\n  second line\r\n\tthird",) * 2,
    "unicode": ("höher als 2 469 m ☃ 😀 \u2028 \u202e",) * 2,
    "braces": ('{"columns": {"x": [1, 2]}}, ]]]',) * 2,
    "nul": ("before\0after", "before\ufffdafter"),
    "controls": ("bell \x07 escape \x1b[31m delete \x7f",) * 2,
    "surrogate": ("half \ud83d of a pair", "half ? of a pair"),
    "long": ("0123456789" * 1_024,) * 2,
    "one letter": ("x", "x"),
    "nothing": ("", ""),
    "padded": ("\n\n  padded  \n\n", "padded"),
    "sql": ("'; DROP TABLE x; --",) * 2,
    "a common name": ("geometry", "geometry"),
}

GB = 1_000_000_000


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(message: str) -> Path:
        path = tmp_path / "error.parquet"
        path.write_bytes(unreadable_parquet(message))
        return path

    return write


@pytest.mark.parametrize("name", MESSAGES)
def test_duckdb_says_the_message(name: str, file: Callable[[str], Path]) -> None:
    message, seen = MESSAGES[name]
    path = file(message)
    with duckdb.connect() as con, pytest.raises(duckdb.InvalidInputException) as caught:
        con.sql(f"FROM '{path}'").fetchall()
    # On lines of its own, whatever DuckDB says around it.
    assert f"\n\n  {seen}\n\n" in str(caught.value)


QUERIES = [
    "SELECT count(*) FROM '{}'",
    "DESCRIBE FROM '{}'",
    "SELECT a FROM '{}' WHERE a = 1",
    "FROM read_parquet(['{}', '{}'])",
    "FROM read_parquet(['{}', '{}'], union_by_name = true)",
    "CREATE TABLE t AS FROM '{}'",
    "CREATE VIEW v AS FROM '{}'",
    "FROM read_parquet('{}', file_row_number = true)",
    "FROM read_parquet('{}', hive_partitioning = true) LIMIT 0",
    "FROM parquet_schema('{}')",
]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_fails_alike(query: str, file: Callable[[str], Path]) -> None:
    path = file("the message")
    with duckdb.connect() as con, pytest.raises(duckdb.Error, match="the message"):
        con.sql(query.replace("{}", str(path))).fetchall()


def test_the_second_child_that_is_missing_fails_on_its_own(file: Callable[[str], Path]) -> None:
    path = file("the message")
    with duckdb.connect() as con:
        con.execute("SET enable_geoparquet_conversion = false")
        with pytest.raises(duckdb.Error):
            con.sql(f"FROM '{path}'").fetchall()
        with pytest.raises(duckdb.Error):
            con.sql(f"SELECT count(*) FROM '{path}'").fetchall()


READERS: dict[str, Callable[[Path], object]] = {
    "pyarrow": pq.read_table,
    "pyarrow file": lambda path: pq.ParquetFile(path).read(),
    "pyarrow metadata": pq.read_metadata,
    "pyarrow schema": pq.read_schema,
    "pyarrow dataset": lambda path: pyarrow.dataset.dataset(path).to_table(),
    "polars": pl.read_parquet,
    "polars lazy": lambda path: pl.scan_parquet(path).collect(),
    "polars count": lambda path: pl.scan_parquet(path).select(pl.len()).collect(),
    "polars schema": pl.read_parquet_schema,
    "pandas": pd.read_parquet,
}


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("reader", READERS)
def test_every_other_reader_refuses_it(reader: str, name: str, file: Callable[[str], Path]) -> None:
    path = file(MESSAGES[name][0])
    with pytest.raises((OSError, pa.ArrowException, pl.exceptions.PolarsError)):
        READERS[reader](path)


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.text(max_size=300))
def test_any_text_is_said(tmp_path: Path, message: str) -> None:
    path = tmp_path / "error.parquet"
    path.write_bytes(unreadable_parquet(message))
    said = message.strip().replace("\0", "\ufffd").encode(errors="replace").decode()
    with duckdb.connect() as con, pytest.raises(duckdb.InvalidInputException) as caught:
        con.sql(f"FROM '{path}'").fetchall()
    assert said in str(caught.value)


def test_it_is_small_and_always_the_same() -> None:
    data = unreadable_parquet("x")
    assert data == unreadable_parquet("x")
    assert len(data) < 300
    assert data.startswith(b"PAR1")
    assert data.endswith(b"PAR1")
    assert int.from_bytes(data[-8:-4], "little") == len(data) - 12


# --- over HTTP ---


class Served:
    """Files by name on a port, with the requests that came for them."""

    def __init__(self, files: dict[str, bytes]) -> None:
        requests: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._begin()

            def do_GET(self) -> None:
                self._begin()
                self.wfile.write(files[self.path])

            def _begin(self) -> None:
                requests.append(f"{self.command} {self.path}")
                self.send_response(200)
                self.send_header("Cache-Control", "no-store")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.requests = requests
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def served() -> Iterator[Served]:
    files = {f"/{n}.parquet": unreadable_parquet(m) for n, (m, _) in enumerate(MESSAGES.values())}
    with Served(files) as served:
        yield served


def test_duckdb_asks_once_over_http(served: Served, tmp_path: Path) -> None:
    with CallDatabase(tmp_path) as database, database.connection(GB, httpfs=True) as con:
        for number, (_, seen) in enumerate(MESSAGES.values()):
            served.requests.clear()
            with pytest.raises(duckdb.InvalidInputException) as caught:
                con.sql(f"FROM '{served.url}/{number}.parquet'").fetchall()
            assert f"\n\n  {seen}\n\n" in str(caught.value)
            assert served.requests == [f"HEAD /{number}.parquet", f"GET /{number}.parquet"]


# --- other versions ---

FOLDER = Path(__file__).parents[1] / ".webfoot" / "readers"
READ_ALL = """
import json, sys
from pathlib import Path
import duckdb, duckdb_extension_httpfs
con = duckdb.connect(config={"autoinstall_known_extensions": "false"})
places = duckdb_extension_httpfs.__path__
(file,) = [f for p in places for f in Path(p).rglob("httpfs.duckdb_extension")]
con.execute(f"LOAD '{file}'")
said = []
for path in sys.argv[1:]:
    try:
        con.execute(f"FROM '{path}'").fetchall()
        said.append(None)
    except Exception as error:
        said.append(str(error))
print(json.dumps(said))
"""


def python_with(*requirements: str) -> Path:
    """An interpreter that has these packages; made once, and kept."""
    folder = FOLDER / "-".join(requirements).replace("==", "-")
    python = folder / "bin" / "python"
    done = folder / "done"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        done.touch()
    return python


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("1.3.2", "has neither num_children nor type set"),
        ("1.4.4", "has neither num_children nor type set"),
        ("1.5.5", "is not an object"),
    ],
)
def test_other_duckdbs_say_the_message(
    version: str, words: str, served: Served, tmp_path: Path
) -> None:
    python = python_with(f"duckdb=={version}", f"duckdb-extension-httpfs=={version}")
    places = []
    for number, (message, _) in enumerate(MESSAGES.values()):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(unreadable_parquet(message))
        places += [str(path), f"{served.url}/{number}.parquet"]
    output = subprocess.run(
        [python, "-c", READ_ALL, *places], capture_output=True, text=True, check=True
    ).stdout
    said = json.loads(output)
    for number, (_, seen) in enumerate(MESSAGES.values()):
        for text in said[2 * number : 2 * number + 2]:
            assert f"\n\n  {seen}\n\n" in text
            assert words in text
    # One request for the length, one for the bytes, and no other try.
    assert len(served.requests) == 2 * len(MESSAGES)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fastparquet_refuses_it(tmp_path: Path) -> None:
    python = python_with("fastparquet", "pandas<3")
    code = "import sys, fastparquet; fastparquet.ParquetFile(sys.argv[1]).to_pandas()"
    for number, (message, _) in enumerate(MESSAGES.values()):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(unreadable_parquet(message))
        done = subprocess.run(
            [python, "-c", code, path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "Error" in done.stderr.splitlines()[-1] or "Traceback" in done.stderr
        assert "ModuleNotFoundError" not in done.stderr
