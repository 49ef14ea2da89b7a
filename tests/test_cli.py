"""The command line: what it prints, writes and exits with; and what its process does."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import duckdb
import httpx
import polars as pl
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from tests.server_process import COUNT, INLINE, eventually, serve, write_udfs

from webfoot.cli import commands

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.command_line import CommandLine

    Refused = Callable[..., str]

WEBFOOT = [sys.executable, "-m", "webfoot"]
UDFS = '''
    import time
    from typing import Annotated
    from pydantic import Field
    from webfoot import InvalidParameters, udf
    from ._count import count

    @udf
    def squares(rows: Annotated[int, Field(ge=0)] = 3, name: str = "a|b"):
        """The first square numbers."""
        count(f"squares {rows}")
        return [{"number": i, "square": i * i, "name": name, "gone": None} for i in range(rows)]

    @udf
    def fails(why: str):
        """Fails, and says why."""
        print("printed before it failed")
        raise ValueError(why)

    @udf
    def refuses():
        raise InvalidParameters("low must be below high, got 9 > 8")

    @udf
    def wide():
        return [{f"a_column_with_the_number_{i}": "x" * 30 for i in range(20)}]

    @udf
    def lingers():
        time.sleep(1)
        return [{"a": 1}]
'''

CALLING = """
    import webfoot
    from webfoot import udf

    @udf
    def leaf(n: int):
        return [{"n": n}]

    @udf
    def parent():
        return webfoot.map("leaf", [1, 2, 3], over="n")
"""


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("cli")
    write_udfs(parent, _count=COUNT, tables=UDFS)
    return parent


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty folder to work in."""
    return tmp_path


def webfoot(at: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as a process in a folder, with a store there."""
    return subprocess.run(
        [*WEBFOOT, *arguments],
        cwd=at,
        env={**os.environ, "WEBFOOT_STORE": str(at / "store")},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.fixture
def refused(here: CommandLine) -> Refused:
    """What a command says that is at fault itself."""

    def run(at: Path, *arguments: str) -> str:
        done = here(at, *arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.stderr

    return run


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal_of(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    assert done.returncode == code, done
    assert "site-packages" not in done.stderr
    assert done.stdout == ""
    return done.stderr


# run


def test_run_shows_a_table_and_says_what_it_took(parent: Path) -> None:
    done = webfoot(parent, "run", "squares", "rows=4")
    shown = output_of(done)
    for text in ("number", "int64", "square", "9", "a|b", "null"):
        assert text in shown
    assert "4 rows" in done.stderr
    assert re.search(r" ran in [\d.]+s with \d+(\.\d+)? MB of memory, ", done.stderr)
    again = webfoot(parent, "run", "squares", "rows=4")
    assert output_of(again) == shown
    assert "stored earlier" in again.stderr
    assert "\x1b" not in shown + done.stderr


def test_run_in_a_pipe_cuts_nothing(parent: Path) -> None:
    shown = output_of(webfoot(parent, "run", "wide"))
    assert "a_column_with_the_number_19" in shown
    assert shown.count("x" * 30) == 20
    assert "…" not in shown


def test_run_shows_the_first_rows_and_how_to_see_more(parent: Path, here: CommandLine) -> None:
    done = here(parent, "run", "squares", "rows=100")
    assert "1521" in output_of(done)
    assert "1600" not in done.stdout
    assert "40 rows shown" in done.stderr
    more = here(parent, "run", "squares", "rows=100", "_offset=98", "_columns=square")
    assert "9604" in output_of(more)
    assert "number" not in more.stdout


@pytest.mark.parametrize("extension", ["csv", "json", "ndjson", "parquet", "arrow", "html"])
def test_formats_are_printed_or_written_alike(
    parent: Path, tmp_path: Path, extension: str, here: CommandLine
) -> None:
    file = tmp_path / f"out.{extension}"
    written = here(parent, "run", "squares", "--output", str(file))
    assert output_of(written) == ""
    assert str(file) in written.stderr
    again = here(parent, "run", "squares", "--format", extension)
    printed = again.stdout.encode(errors="surrogateescape")
    assert printed == file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    if extension == "parquet":
        assert pq.read_table(file).num_rows == 3
    elif extension == "arrow":
        assert pl.read_ipc_stream(io.BytesIO(printed)).height == 3
    elif extension == "html":
        assert b"3 rows" in printed
    else:
        reader = "csv" if extension == "csv" else "json"
        assert duckdb.sql(f"SELECT sum(square) FROM read_{reader}('{file}')").fetchall() == [(5,)]


def test_format_wins_over_the_ending(parent: Path, tmp_path: Path, here: CommandLine) -> None:
    file = tmp_path / "out.txt"
    output_of(here(parent, "run", "squares", "--format", "csv", "--output", str(file)))
    assert file.read_text().startswith("number,square")


def test_rerun_runs_again(parent: Path, here: CommandLine) -> None:
    for options in ((), (), ("--rerun",)):
        output_of(here(parent, "run", "squares", "rows=7", *options))
    assert (parent / "counts.txt").read_text().splitlines().count("squares 7") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["squares", "rows"], "parameters are written key=value, got 'rows'"),
        (["squares", "rows=x"], "rows: Input should be a valid integer"),
        (["squares", "rows=-1"], "rows: Input should be greater than or equal to 0, got '-1'"),
        (["squares", "row=1"], "row: unknown parameter; did you mean 'rows'?"),
        (["squares", "_limit=x"], "_limit: must be a whole number of rows"),
        (["squares", "_columns=sqare"], "did you mean 'square'?"),
        (["sqares"], "there is no UDF 'sqares'; did you mean 'squares'?"),
        (["refuses"], "low must be below high, got 9 > 8"),
        (["fails"], "why: is required"),
        (["squares", "--format", "xlsx"], "'xlsx' is not one of"),
        (["squares", "--output", "x"], "x has no ending that names a format"),
        (["squares", "--output", "missing/x.csv"], "there is no folder missing"),
        (["squares", "--output", "udfs"], "is a directory"),
        (["squares", "--fromat", "csv"], "--format"),
        (["squares", "--runner", "threads"], "choose processes or inline"),
        (["squares", "--folder", "missing"], "there is no folder missing/"),
        ([], "Missing argument 'NAME'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_run_refuses_what_is_wrong_with_the_command(
    parent: Path, refused: Refused, arguments: list[str], message: str
) -> None:
    assert message in refused(parent, "run", *arguments)


def test_a_udf_that_fails_shows_its_authors_frames_and_prints(parent: Path) -> None:
    told = refusal_of(webfoot(parent, "run", "fails", "why=the moon"), code=1)
    assert 'tables.py", line ' in told
    assert "in fails" in told
    assert "printed before it failed" in told
    assert told.rstrip().endswith("ValueError: the moon")
    assert "app/webfoot" not in told


@pytest.mark.parametrize("runner", ["inline", "processes"])
def test_run_runs_what_a_udf_calls(home: Path, here: CommandLine, runner: str) -> None:
    write_udfs(home, calling=CALLING)
    arguments = "run", "parent", "--runner", runner, "--output", "all.csv"
    output_of(here(home, *arguments))
    assert (home / "all.csv").read_text().split() == ["input_n,n", "1,1", "2,2", "3,3"]


def test_inline_runs_in_the_terminal_itself(parent: Path) -> None:
    done = webfoot(parent, "run", "fails", "why=sun", "--runner", "inline")
    assert done.returncode == 1
    assert "printed before it failed" in done.stdout


def test_data_cannot_steer_the_terminal(parent: Path, here: CommandLine) -> None:
    shown = output_of(here(parent, "run", "squares", "rows=1", "name=\x1b[31mred\x07"))
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "red" in shown


def test_binary_formats_are_not_for_a_terminal(parent: Path) -> None:
    _, shown = in_terminal(parent, "run", "squares", "--format", "parquet")
    assert "parquet is not for a terminal; add --output FILE" in shown


def test_a_terminal_sees_progress_and_a_pipe_does_not(parent: Path) -> None:
    code, shown = in_terminal(parent, "run", "lingers")
    assert code == 0
    assert "lingers runs…" in shown
    piped = webfoot(parent, "run", "lingers", "--rerun")
    assert "runs…" not in piped.stdout + piped.stderr


def test_a_pipe_that_closes_is_no_traceback(parent: Path) -> None:
    command = f"{' '.join(WEBFOOT)} run squares rows=200000 --format csv | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=parent,
        env={**os.environ, "WEBFOOT_STORE": str(parent / "store")},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout.strip() == "number,square,name,gone"
    assert "Traceback" not in done.stderr


def in_terminal(at: Path, *arguments: str) -> tuple[int, str]:
    """Run it in a terminal of 100 columns; its exit code and what the terminal got."""
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,
        "WEBFOOT_STORE": str(at / "store"),
        "COLUMNS": "100",
        "TERM": "xterm",
    }
    with subprocess.Popen(
        [*WEBFOOT, *arguments], cwd=at, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 40)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # How Linux says that the other end is closed.
                break
            if not piece:
                break
            shown += piece
        code = process.wait(40)
    os.close(ours)
    return code, shown.decode(errors="replace")


# estimate


def test_estimate_measures_a_run_and_then_goes_by_the_records(
    parent: Path, home: Path, here: CommandLine
) -> None:
    command = ["estimate", "squares", "--folder", str(parent / "udfs")]
    done = here(home, *command, "rows=70")
    shown = output_of(done)
    for text in ("512 MiB", "1,769 MiB", "x86_64", "arm64"):
        assert text in shown
    assert "from 1 call on this machine, with at most" in done.stderr
    assert "prices of 2024" in done.stderr
    assert "from 1 call on" in here(home, *command).stderr
    assert "from 1 call on" in here(home, *command, "rows=71").stderr
    assert "from 2 calls on" in here(home, *command).stderr
    assert "from 1 call on" in here(home, *command, "--rerun").stderr
    counts = (parent / "counts.txt").read_text().splitlines()
    assert [counts.count(f"squares {rows}") for rows in (70, 71)] == [1, 1]


def test_estimate_counts_the_calls_that_a_call_makes(home: Path) -> None:
    write_udfs(home, calling=CALLING)
    # A process of its own: the memory of this one, after other tests, is no function's.
    done = webfoot(home, "estimate", "parent", "--memory", "1024", "--json")
    [found] = json.loads(output_of(done))
    assert (found["mib"], found["fits"]) == (1024, True)
    requests = 4 * (0.2e-6 + 3 * 5e-6 + 2 * 0.4e-6)
    compute = found["billed_ms"] / 1000
    assert found["usd"]["x86_64"] == pytest.approx(requests + compute * 0.0000166667)
    assert found["usd"]["arm64"] == pytest.approx(requests + compute * 0.0000133334)


def test_estimate_refuses_what_no_function_can_be_given(parent: Path, refused: Refused) -> None:
    assert "128<=x<=10240" in refused(parent, "estimate", "squares", "--memory", "64")
    assert "key=value" in refused(parent, "estimate", "squares", "rows")
    assert "nothing" in refused(parent, "estimate", "nothing")


# query


def test_query_shows_a_table_with_types_and_what_it_took(parent: Path) -> None:
    done = webfoot(parent, "query", "FROM squares(rows := 4) SELECT square, name, gone")
    shown = output_of(done).splitlines()
    assert shown == [
        "┏━━━━━━━━┳━━━━━━━━━┳━━━━━━━━━┓",
        "┃ square ┃ name    ┃ gone    ┃",
        "┃ BIGINT ┃ VARCHAR ┃ VARCHAR ┃",
        "┡━━━━━━━━╇━━━━━━━━━╇━━━━━━━━━┩",
        "│      0 │ a|b     │ null    │",
        "│      1 │ a|b     │ null    │",
        "│      4 │ a|b     │ null    │",
        "│      9 │ a|b     │ null    │",
        "└────────┴─────────┴─────────┘",
    ]
    assert re.fullmatch(r"4 rows in [\d.]+ ?m?s\n", done.stderr), done.stderr


def test_query_shows_the_first_rows_and_how_to_see_more(parent: Path, here: CommandLine) -> None:
    done = here(parent, "query", "FROM range(1_000_000_000) t(i)")
    assert "│     39 │" in output_of(done)
    assert "│     40 │" not in done.stdout
    assert "--limit N shows more" in done.stderr
    more = here(parent, "query", "FROM range(1_000_000_000) t(i);", "--limit", "42")
    assert "│     41 │" in output_of(more)
    assert "--limit" not in more.stderr


@pytest.mark.parametrize("extension", ["csv", "json", "ndjson", "parquet", "markdown"])
def test_query_prints_and_writes_alike(
    parent: Path, tmp_path: Path, extension: str, here: CommandLine
) -> None:
    sql = "FROM squares(rows := 30) SELECT square, name"
    file = tmp_path / f"out.{extension}"
    written = here(parent, "query", sql, "--output", str(file), "--limit", "3")
    assert output_of(written) == ""
    assert "3 rows in " in written.stderr
    assert f"written to {file}" in written.stderr
    again = here(parent, "query", sql, "--format", extension, "--limit", "3")
    printed = again.stdout.encode(errors="surrogateescape")
    if extension == "parquet":
        assert pq.read_table(io.BytesIO(printed)) == pq.read_table(file)
        assert pq.read_table(file)["square"].to_pylist() == [0, 1, 4]
    else:
        assert printed == file.read_bytes()
        first = {
            "csv": b"square,name\n0,a|b\n",
            "json": b'[\n\t{"square":0,"name":"a|b"},\n',
            "ndjson": b'{"square":0,"name":"a|b"}\n',
            "markdown": b"| square | name |\n| --- | --- |\n| 0 | a\\|b |\n",
        }
        assert printed.startswith(first[extension])
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_query_runs_a_call_once_and_takes_lists(parent: Path, here: CommandLine) -> None:
    sql = 'SELECT "rows", count(*) FROM squares_each(rows := [5, 6]) GROUP BY ALL ORDER BY ALL'
    done = here(parent, "query", sql, "--format", "csv")
    assert output_of(done).splitlines()[1:] == ["5,5", "6,6"]
    here(parent, "query", "FROM squares(rows := 11), squares(rows := 11)")
    assert (parent / "counts.txt").read_text().splitlines().count("squares 11") == 1


def test_query_asks_a_server_that_runs(parent: Path, home: Path, here: CommandLine) -> None:
    with serve(parent / "udfs", *INLINE, store=parent / "store") as server:
        done = here(home, "query", "SELECT count(*) AS n FROM squares()", "--url", server.url)
        assert "│      3 │" in output_of(done)
        failed = here(home, "query", "FROM fails('the stars')", "--url", f"{server.url}/")
        assert refusal_of(failed, code=1).strip() == "fails: ValueError: the stars"


def test_query_reads_standard_input(parent: Path, here: CommandLine) -> None:
    sql = "FROM squares(rows := 2) SELECT square -- the end"
    done = here(parent, "query", "-", "--format", "csv", given=sql)
    assert done.stdout == "square\n0\n1\n"


def test_query_tells_a_udf_s_failure_as_run_does(parent: Path, refused: Refused) -> None:
    told = refusal_of(webfoot(parent, "query", "FROM fails(why := 'the moon')"), code=1)
    assert "printed before it failed" in told
    assert 'tables.py", line ' in told
    assert told.rstrip().endswith("fails: ValueError: the moon")
    assert "Geoparquet" not in told
    assert "http://" not in told
    shown = refused(parent, "query", "FROM refuses()")
    assert shown == "refuses: low must be below high, got 9 > 8\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["FROM squares(-1)"], "squares: rows: Input should be greater than or equal to 0"),
        (["FROM squares('x')"], "squares(rows BIGINT := 3, name VARCHAR := 'a|b'"),
        (["FROM sqares()"], 'Did you mean "squares"?\n\nLINE 1: FROM sqares()'),
        (["FORM x"], "LINE 1: FORM x"),
        (["SELECT 1,\n x"], "LINE 2:  x"),
        (["SET threads = 1", "--format", "csv"], "the SQL makes no table to write"),
        (["SELECT 1", "--output", "x"], "x has no ending that names a format"),
        (["SELECT 1", "--output", "missing/x.csv"], "there is no folder missing"),
        (["SELECT 1", "--url", "here"], "--url is written like https://host/prefix, got 'here'"),
        (["SELECT 1", "--url", "http://h", "--folder", "x"], "give one of them"),
        (["SELECT 1", "--url", "http://127.0.0.1:9"], "there is no catalog at http://127.0.0.1:9"),
        (["SELECT 1", "--folder", "missing"], "there is no folder missing/"),
        (["SELECT 1", "--limit", "-1"], "--limit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_query_refuses_what_is_wrong_with_the_command(
    parent: Path, refused: Refused, arguments: list[str], message: str
) -> None:
    assert message in refused(parent, "query", *arguments)


@pytest.mark.parametrize(
    ("form", "shown"), [("csv", "n\n2\n"), ("markdown", "| n |\n| --- |\n| 2 |\n")]
)
def test_of_several_statements_query_shows_the_last(
    parent: Path, here: CommandLine, form: str, shown: str
) -> None:
    sql = "CREATE TEMP TABLE kept AS FROM squares(2); SELECT count() AS n FROM kept;"
    assert output_of(here(parent, "query", sql, "--format", form)) == shown


def test_query_takes_sql_that_makes_no_table(parent: Path, here: CommandLine) -> None:
    assert output_of(here(parent, "query", "SET threads = 2")) == ""


def test_query_data_cannot_steer_the_terminal(parent: Path, here: CommandLine) -> None:
    shown = output_of(here(parent, "query", "SELECT chr(27) || '[31m' AS \"a\x1b[0m\""))
    assert "\x1b" not in shown


# list and check


def test_list_is_for_people_and_for_scripts(parent: Path, here: CommandLine) -> None:
    shown = output_of(here(parent, "list"))
    assert 'rows: int = 3, name: str = "a|b"' in shown
    assert "The first square numbers." in shown
    listed = json.loads(output_of(here(parent, "list", "udfs", "--json")))
    assert [udf["name"] for udf in listed] == ["fails", "lingers", "refuses", "squares", "wide"]
    assert listed[3]["parameters"] == ["rows", "name"]
    assert listed[3]["version"]


def test_check_fails_if_a_file_is_not_served(home: Path, here: CommandLine) -> None:
    write_udfs(home, good="from webfoot import udf\n@udf\ndef good():\n    return []\n")
    assert output_of(here(home, "check")) == "1 UDF, no problems\n"
    write_udfs(home, bad="import nothing_of_this_name\n")
    told = refusal_of(here(home, "check"), code=1)
    assert "bad.py: ModuleNotFoundError" in told
    assert 'bad.py", line 1' in told
    listed = here(home, "list")
    assert "good" in output_of(listed)
    assert "bad.py" in listed.stderr


def test_an_empty_folder_is_told_how_to_begin(
    home: Path, refused: Refused, here: CommandLine
) -> None:
    write_udfs(home)
    assert "webfoot new NAME" in output_of(here(home, "list"))
    for command in ("list", "check", "serve"):
        told = refused(home, command, "missing")
        assert "there is no folder missing/" in told
        assert "webfoot new NAME" in told


# new


def test_new_writes_a_udf_that_runs(home: Path, here: CommandLine) -> None:
    told = output_of(here(home, "new", "first_try"))
    assert told == "udfs/first_try.py is written; try: webfoot run first_try rows=3\n"
    assert output_of(here(home, "check")) == "1 UDF, no problems\n"
    assert "16" in output_of(here(home, "run", "first_try"))
    elsewhere = output_of(here(home, "new", "other", "--folder", "more"))
    command = elsewhere.rpartition("try: webfoot ")[2].split()
    assert "4" in output_of(here(home, *command))


def test_what_new_writes_is_clean(home: Path, here: CommandLine) -> None:
    output_of(here(home, "new", "first_try"))
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "ALL", "--ignore"]
    ignored = "INP001,D203,D212,COM812,D413,D213,FA102,CPY001"
    done = subprocess.run(
        [*ruff, ignored, "udfs"], cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "name",
    ["1st", "two words", "a-b", "_hidden", "", "class", "None", "range", "udf", "a/b", "x.py"],
)
def test_new_refuses_a_name_that_cannot_be(home: Path, refused: Refused, name: str) -> None:
    assert name in refused(home, "new", name)
    assert not (home / "udfs").exists()


def test_new_overwrites_nothing(home: Path, refused: Refused, here: CommandLine) -> None:
    output_of(here(home, "new", "mine"))
    (home / "udfs" / "mine.py").write_text("precious")
    assert "exists; choose another name" in refused(home, "new", "mine")
    assert (home / "udfs" / "mine.py").read_text() == "precious"
    (home / "file").write_text("")
    refused(home, "new", "mine", "--folder", "file")


# serve


def test_a_port_in_use_is_told(parent: Path, refused: Refused) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        told = refused(parent, "serve", "--port", port)
    assert f"cannot listen on 127.0.0.1:{port}" in told
    assert "--port" in told


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--timeout", "soon", "a duration is written like '30s'"),
        ("--timeout", "-1s", "duration"),
        ("--cache", "10 parsecs", "a duration is written like"),
        ("--memory", "much", "a size is written like '512MB'"),
        ("--memory", "0", "a size must be positive"),
        ("--store-size", "10 elephants", "a size is written like"),
        ("--workers", "many", "write a whole number, 1 or more"),
        ("--workers", "0", "write a whole number, 1 or more"),
        ("--queue", "-3", "write a whole number, 1 or more"),
        ("--port", "http", "'http' is not a valid integer range"),
        ("--port", "70000", "is not in the range"),
        ("--host", "no.such.host.invalid", "cannot listen on"),
        ("--runner", "threads", "choose processes or inline"),
        ("--relaod", "", "--reload"),
    ],
)
def test_serve_refuses_values_that_cannot_be(
    parent: Path, refused: Refused, option: str, value: str, message: str
) -> None:
    told = refused(parent, "serve", option, *([value] if value else []))
    assert message in told
    assert option in told or option == "--relaod" or "cannot listen" in message


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_serve_says_where_it_is_and_stops_at_once(parent: Path) -> None:
    command = [
        *WEBFOOT,
        "serve",
        "--port",
        "0",
        "--store",
        str(parent / "store"),
        "--no-access-log",
    ]
    with subprocess.Popen(
        command,
        cwd=parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        address = re.match(r"Webfoot serves 5 UDFs of udfs/ on http://localhost:(\d+)", first)
        assert address is not None
        assert process.stdout.readline().startswith("It is open: ")
        hint = process.stdout.readline()
        assert hint.startswith("Try in DuckDB: FROM 'http://localhost:")
        eventually(lambda: is_ready(f"http://127.0.0.1:{address[1]}"))
        process.send_signal(2)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_a_setting_in_the_environment_that_is_none_is_told(parent: Path, here: CommandLine) -> None:
    told = refusal_of(here(parent, "list", environment={"WEBFOOT_TIMOUT": "1s"}))
    assert "WEBFOOT_TIMOUT is no setting" in told
    told = refusal_of(here(parent, "list", environment={"WEBFOOT_TIMEOUT": "soon"}))
    assert "WEBFOOT_TIMEOUT: a duration is written like" in told


# help


@pytest.mark.parametrize("command", ["", "serve", "run", "query", "list", "check", "new"])
@pytest.mark.parametrize("asked", ["--help", "-h"])
def test_help_is_there_for_every_command(command: str, asked: str) -> None:
    words = [command, asked] if command else [asked]
    shown = CliRunner().invoke(commands, words, prog_name="webfoot")
    assert shown.exit_code == 0
    assert shown.output.startswith(f"Usage: webfoot {command}".rstrip())


def test_typos_are_told_what_was_meant(home: Path, refused: Refused, here: CommandLine) -> None:
    assert "Did you mean 'serve'?" in refused(home, "serv")
    assert "0." in output_of(here(home, "--version"))


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.05])
def test_ctrl_c_is_heard_from_the_greeting_on(parent: Path, seconds: float) -> None:
    with subprocess.Popen(
        [*WEBFOOT, "serve", "--port", "0", "--store", str(parent / "store"), *INLINE],
        cwd=parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Webfoot serves ")
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=40)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Aborted" not in told
    assert "Exception ignored" not in told
