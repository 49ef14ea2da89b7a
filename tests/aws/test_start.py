"""How a function starts: what it imports, and what it says when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.aws.events import Asked, answer_of, event_of
from tests.aws.runtime_api import environment, variables
from tests.server_process import write_udfs

import webfoot.aws

if TYPE_CHECKING:
    from pathlib import Path

UDF = """
    from webfoot import udf

    @udf(cache="1h")
    def rows(n: int = 3) -> list[dict[str, int]]:
        return [{"n": i} for i in range(n)]
"""
# Each takes long to import; what a request needs of them it imports itself.
LATE = [
    "boto3",
    "duckdb",
    "httpx",
    "jinja2",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "uvicorn",
    # FastAPI's, for a route whose endpoint has typed parameters.
    "pydantic.v1",
    # For pages, catalogs, spreadsheets; for keys, roles and results that are elsewhere.
    "tomllib",
    "webfoot.access.key_setting",
    "webfoot.catalog.script",
    "webfoot.server.forms",
    "webfoot.server.openapi",
    "webfoot.snippets",
    "webfoot.spreadsheets",
    "webfoot.store.s3",
]
# Asks when the machine was started, for files that may be older.
OLD_FILES = "psutil"
ANSWER = """
import json, sys
import webfoot.aws
class Context:
    def get_remaining_time_in_millis(self):
        return 30_000
for event in json.loads(sys.argv[1]):
    assert webfoot.aws.handler(event, Context())["statusCode"] == 200
print(json.dumps(sorted(sys.modules)))
"""


def loaded_by(folder: Path, *urls: str) -> set[str]:
    """What a new function has imported when it has answered these."""
    given = variables(WEBFOOT_FOLDER=str(folder), TMPDIR=str(folder.parent))
    events = [event_of("http_api", Asked("GET", url)) for url in urls]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", ANSWER, json.dumps(events)],
        env=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout))


def test_a_function_starts_without_what_only_runs_need(tmp_path: Path) -> None:
    loaded = loaded_by(write_udfs(tmp_path, rows=UDF), "/healthz")
    assert loaded.isdisjoint([*LATE, OLD_FILES])
    assert {"fastapi", "mangum", "webfoot.server.application"} <= loaded


def test_a_stored_result_is_answered_without_what_only_runs_need(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, rows=UDF)
    assert "pyarrow" in loaded_by(folder, "/udfs/rows.parquet")
    assert loaded_by(folder, "/udfs/rows.parquet").isdisjoint(LATE)


def test_a_run_imports_what_it_needs_and_no_more(tmp_path: Path) -> None:
    loaded = loaded_by(write_udfs(tmp_path, rows=UDF), "/udfs/rows.parquet")
    # Where pandas is installed, pyarrow imports it by itself to look at a list.
    assert loaded.isdisjoint({"boto3", "httpx", "jinja2", "polars", "uvicorn"})


def test_a_function_collects_garbage_when_it_has_started(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, rows=UDF)
    code = (
        "import gc, webfoot.aws; webfoot.aws.handler; print(gc.isenabled(), gc.get_freeze_count())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=variables(WEBFOOT_FOLDER=str(folder), TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    enabled, kept = ran.stdout.split()
    assert enabled == "True"
    # What its modules are made of.
    assert int(kept) > 50_000


def test_importing_the_package_starts_nothing(tmp_path: Path) -> None:
    code = "import sys, webfoot.aws; print('mangum' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=variables(), capture_output=True, text=True, check=True
    )
    assert ran.stdout == "False\n"
    assert not hasattr(webfoot.aws, "nothing")


def test_a_wrong_setting_is_told_where_lambda_shows_it(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, rows=UDF)
    with environment(tmp_path / "function", folder, WEBFOOT_CACHE="soon") as running:
        outcome = running.invoke(event_of("http_api", Asked("GET", "/healthz")))
        assert outcome.error == "SettingsError"
        assert "WEBFOOT_CACHE" in outcome.json()["errorMessage"]


def test_a_broken_file_leaves_the_others_served(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, rows=UDF, broken="raise RuntimeError('x')")
    with environment(tmp_path / "function", folder) as running:
        outcome = running.invoke(event_of("http_api", Asked("GET", "/udfs/rows.csv")))
        assert answer_of(outcome.json()).body == b"n\r\n0\r\n1\r\n2\r\n"
