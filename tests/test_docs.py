"""The documents are true: their blocks run, and what exists is in them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import duckdb
import pandas as pd
import polars as pl
import pytest
from tests.server_process import INLINE, Server, connect, serve, write_udfs

import webfoot
from webfoot.access.roles import read_policy
from webfoot.cli import commands
from webfoot.settings import PREFIX, TOKEN_VARIABLE, Settings
from webfoot.views import MEDIA_TYPES, OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
_LOCAL = "http://localhost:8000"


def blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for marked, text in fences if marked == language]


def written(pattern: str) -> list[str]:
    """What the README writes as code, in line, and that matches."""
    return [code for code in re.findall(r"`([^`\n]+)`", README) if re.match(pattern, code)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    parent = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "udfs", parent / "udfs", ignore=shutil.ignore_patterns("__pycache__"))
    with serve(parent / "udfs", *INLINE) as running:
        yield running


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def test_the_first_runnable_block_is_on_the_first_screen() -> None:
    assert README.splitlines().index("```sh") < 15


@pytest.mark.parametrize("block", blocks("sh"))
def test_every_shell_block_names_a_make_target(block: str) -> None:
    for line in block.splitlines():
        command, target = line.split()
        assert command == "make"
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("block", blocks("sql"))
def test_every_sql_block_gives_rows(
    block: str, server: Server, con: duckdb.DuckDBPyConnection
) -> None:
    assert con.execute(block.replace(_LOCAL, server.url)).fetchall()


def test_every_block_with_a_udf_serves(tmp_path: Path) -> None:
    found = [block for block in blocks("python") if "@udf" in block]
    names = [re.findall(r"^def (\w+)", block, re.MULTILINE)[0] for block in found]
    assert names == ["squares", "many_squares", "largest_squares", "my_squares"]
    with serve(write_udfs(tmp_path, **dict(zip(names, found, strict=True))), *INLINE) as running:
        squares = pd.read_csv(f"{running.url}/udfs/squares.csv?rows=3")
        several = pd.read_csv(f"{running.url}/udfs/many_squares.csv?tables=3")
        largest = pd.read_csv(f"{running.url}/udfs/largest_squares.csv?rows=3")
        mine = pd.read_csv(f"{running.url}/udfs/my_squares.csv?rows=2")
    assert squares["square"].tolist() == [0, 1, 4]
    assert several["square"].tolist() == [0, 0, 1, 0, 1, 4]
    assert largest["square"].tolist() == [4, 1, 0]
    assert mine["asker"].tolist() == ["anonymous", "anonymous"]


def test_the_file_of_roles_is_one(tmp_path: Path) -> None:
    (file,) = blocks("toml")
    (tmp_path / "roles.toml").write_text(file)
    policy = read_policy(tmp_path / "roles.toml")
    assert policy.rights(["finance"]).reads("sales_eu", "csv")
    assert policy.limits_of("slow_one") is not None


def test_the_secret_that_the_readme_shows_is_what_duckdb_takes(
    con: duckdb.DuckDBPyConnection,
) -> None:
    (shown,) = [block for block in blocks("") if "CREATE SECRET" in block]
    con.execute(shown)
    assert con.execute("SELECT scope FROM duckdb_secrets()").fetchall() == [
        (["https://your.host/"],)
    ]


@pytest.mark.parametrize("block", [text for text in blocks("python") if "@udf" not in text])
def test_every_other_python_block_runs(block: str, server: Server) -> None:
    names: dict[str, Any] = {}
    exec(block.replace(_LOCAL, server.url), names)
    with names["client"]:
        assert names["results"].errors == []
        assert len(names["results"].df()) > 12


def test_the_readers_in_the_table_read(server: Server, con: duckdb.DuckDBPyConnection) -> None:
    delays = f"{server.url}/udfs/delays"
    (sql,) = written("FROM 'http.*month=1")
    rows = con.execute(sql.replace(_LOCAL, server.url)).fetchall()
    (curl,) = written("curl -L 'http")
    command = shlex.split(curl.replace(_LOCAL, server.url))
    text = subprocess.run([*command, "-fsS"], capture_output=True, text=True, check=True).stdout
    assert written(re.escape(f'pd.read_parquet("{_LOCAL}/udfs/delays.parquet")'))
    assert written(re.escape(f'pl.read_parquet("{_LOCAL}/udfs/delays.parquet")'))
    everything = pd.read_parquet(f"{delays}.parquet")
    assert pl.read_parquet(f"{delays}.parquet").height == len(everything)
    assert len(rows) == (everything["month"] == 1).sum()
    assert len(text.splitlines()) == 4


def test_the_error_that_the_readme_shows_is_what_duckdb_prints(
    server: Server, con: duckdb.DuckDBPyConnection
) -> None:
    (shown,) = [block for block in blocks("") if "Geoparquet" in block]
    with pytest.raises(duckdb.InvalidInputException) as caught:
        con.execute(f"FROM '{server.url}/udfs/contours.parquet?min_elevation=2000'")

    def without_names(text: str) -> str:
        return re.sub(r"http://[^/]+|[0-9a-f]{16}", "…", text).strip()

    assert without_names(str(caught.value)) == without_names(shown)


def test_every_setting_is_in_the_readme() -> None:
    for item in fields(Settings):
        assert f"| `{PREFIX}{item.name.upper()}` |" in README


def test_every_setting_in_the_readme_exists() -> None:
    named = set(re.findall(rf"`{PREFIX}(\w+)`", README))
    settings = {item.name.upper() for item in fields(Settings)}
    assert named == settings | {TOKEN_VARIABLE.removeprefix(PREFIX)}


def test_every_setting_that_people_type_is_an_option_of_serve() -> None:
    options = {parameter.name for parameter in commands.commands["serve"].params}
    # What belongs to a place, and not to one start of the server, is left to the environment;
    # sessions outside of servers read it, too.
    for_sessions = {"temp", "extensions", "extension_downloads", "secrets"}
    for_buckets = {"redirect", "s3_encryption", "s3_endpoint", "s3_region", "s3_url_style"}
    for_keys = {"keys", "share_secret"} | {
        item.name for item in fields(Settings) if item.name.startswith("jwt_")
    }
    for_sql = {"lake", "sql", "sql_limit", "sql_memory", "sql_rows", "sql_size", "sql_timeout"}
    left = {item.name for item in fields(Settings)} - options
    special = {"duckdb_errors", "invocations"}
    assert left == special | for_sessions | for_buckets | for_keys | for_sql


def test_every_command_is_in_the_readme() -> None:
    for name in commands.commands:
        assert written(rf"webfoot {name}\b")


def test_every_command_in_the_readme_exists() -> None:
    for code in written("webfoot "):
        assert isinstance(commands.commands.get(code.split()[1]), click.Command)


def test_every_format_and_view_option_is_in_the_readme() -> None:
    for extension in MEDIA_TYPES:
        assert re.search(rf"\.{extension}[`?]", README)
    for option in OPTIONS:
        assert f"`{option}" in README


def test_every_public_name_is_told_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "webfoot.udf" in changelog
    assert webfoot.__version__ in (ROOT / "pyproject.toml").read_text()


def test_the_paths_in_the_documents_exist() -> None:
    for document in ("README.md", "CONTRIBUTING.md"):
        for path in re.findall(r"\]\(([^):]+)\)", (ROOT / document).read_text()):
            assert (ROOT / path).exists(), f"{document} links to {path}"


def test_python_dash_m_is_the_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "webfoot", "--version"], capture_output=True, text=True, check=True
    )
    assert webfoot.__version__ in shown.stdout
