"""The zip as a function: made, unpacked where nothing can be written, and asked."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from deploy.aws.zip.archive import MOST_UNPACKED_BYTES, size_of
from deploy.aws.zip.packages import GLIBC
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from tests.aws.events import Asked
from tests.aws.runtime_api import Environment, variables
from tests.aws.test_golden import LOST, REQUESTS, STATUS, UDFS, by_lambda, by_uvicorn, settled
from tests.s3_server import moto_server
from tests.server_process import Server, serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
HERE = {"x86_64": "x86_64", "aarch64": "arm64"}.get(platform.machine(), "")
KIND = "function_url"
OURS = """
    import duckdb
    import pyarrow as pa
    import webfoot
    from webfoot import udf

    @udf
    def text(rows: int = 4):
        return f"SELECT i, i / 4 AS part, DATE '2024-01-31' + i::INT AS day FROM range({rows}) t(i)"

    @udf
    def relation(con: duckdb.DuckDBPyConnection, least: int = 2):
        numbers = pa.table({"n": range(5)})
        return con.sql("SELECT n, n::DECIMAL(9, 2) AS exact FROM numbers WHERE n >= $least",
                       params={"least": least})

    @udf
    def batches():
        for start in (0, 10):
            yield pa.record_batch({"n": list(range(start, start + 3))})

    @udf
    def parent():
        return webfoot.map("text", [{"rows": rows} for rows in (1, 2)])

    @udf
    def remote(url: str):
        with webfoot.session() as con:
            return con.execute(f"SELECT sum(n) AS total FROM '{url}'").to_arrow_table()
"""
MORE = {
    "text": Asked("GET", "/udfs/text.parquet"),
    "text-csv": Asked("GET", "/udfs/text.csv?rows=2"),
    "text-page": Asked("GET", "/udfs/text.html"),
    "relation": Asked("GET", "/udfs/relation.parquet?least=3"),
    "relation-ordered": Asked("GET", "/udfs/relation.json?_order=-n&_limit=2&_columns=exact,n"),
    "batches": Asked("GET", "/udfs/batches.parquet"),
    "each": Asked("GET", "/udfs/text.parquet?_each=rows&rows=1&rows=3"),
    "parent": Asked("GET", "/udfs/parent.parquet"),
}


def runtime() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = cache / "webfoot" / "lambda" / "runtime" / "bin" / "python"
    if not python.exists():
        pytest.fail("there is no runtime of Lambda's; run tests/aws/install-runtime")
    return python


def make(udfs: Path, output: Path, architecture: str, *options: str) -> Path:
    """The zip, made by the command."""
    where = ("--architecture", architecture, "--udfs", str(udfs), "--output", str(output))
    ran = subprocess.run(
        [str(runtime()), "-m", "deploy.aws.zip", *where, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "will not load" not in ran.stdout
    return output / f"webfoot-lambda-{architecture}.zip"


def unpack(path: Path, target: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target)
    return target


@pytest.fixture(scope="module")
def udfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_udfs(tmp_path_factory.mktemp("zip"), golden=UDFS, ours=OURS)


@pytest.fixture(scope="module")
def made(udfs: Path) -> Path:
    return make(udfs, udfs.parent / "dist", HERE)


@pytest.fixture(scope="module")
def task(made: Path) -> Iterator[Path]:
    """The zip unpacked, as Lambda has it: to be read only."""
    folder = unpack(made, made.parent / "task")
    places = [folder, *folder.rglob("*")]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in places:
        path.chmod(0o755)
    shutil.rmtree(folder)


@contextlib.contextmanager
def function(task: Path, folder: Path, **given: str) -> Iterator[Environment]:
    """The zip in the real runtime, which finds nothing but it and itself."""
    folder.mkdir()
    # Root may write everywhere, unless that is taken from it.
    powerless = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    where = ["env", "-C", str(task)]
    lambda_runtime = [str(runtime()), "-E", "-s", "-m", "awslambdaric", "webfoot.aws.handler"]
    told = variables(TMPDIR=str(folder), LAMBDA_TASK_ROOT=str(task), **given)
    del told["PYTHONPATH"]
    running = Environment([*powerless, *where, *lambda_runtime], told, folder)
    with contextlib.closing(running):
        yield running


@pytest.fixture(scope="module")
def zipped(task: Path) -> Iterator[Environment]:
    with function(task, task.parent / "function") as running:
        yield running


@pytest.fixture(scope="module")
def server(udfs: Path) -> Iterator[Server]:
    with serve(udfs) as running:
        yield running


ASKED = {name: asked for name, asked in REQUESTS.items() if (name, KIND) not in LOST} | MORE


@pytest.mark.parametrize("name", ASKED)
def test_a_zip_answers_as_uvicorn_does(name: str, zipped: Environment, server: Server) -> None:
    asked = ASKED[name]
    ours, theirs = by_lambda(zipped, KIND, asked), by_uvicorn(server, KIND, asked)
    assert theirs.status == STATUS.get(name, 200)
    assert settled(ours) == settled(theirs)


def test_a_session_reads_over_http_with_the_extension_in_the_zip(
    zipped: Environment, server: Server
) -> None:
    url = f"{server.url}/udfs/squares.parquet"
    asked = Asked("GET", f"/udfs/remote.csv?url={url}")
    assert by_lambda(zipped, KIND, asked).body == b"total\r\n3\r\n"


def test_a_zip_keeps_results_in_a_bucket(task: Path) -> None:
    with moto_server() as s3:
        given = {**s3.environment, "WEBFOOT_STORE": str(s3.make_place())}
        asked = Asked("GET", "/udfs/squares.csv?rows=2")
        runs = []
        for name in ("one", "two"):
            with function(task, task.parent / name, **given) as running:
                runs.append(by_lambda(running, KIND, asked).headers["x-webfoot-run"])
    assert runs[0] == runs[1]


def test_a_zip_may_have_worker_processes(task: Path) -> None:
    with function(task, task.parent / "processes", WEBFOOT_RUNNER="processes") as running:
        answered = by_lambda(running, KIND, Asked("GET", "/udfs/parent.csv?_limit=1"))
        assert answered.status == 200, answered.body


_EVERYTHING = """
import importlib, json, pkgutil, re, sys
sys.path.insert(0, sys.argv[1])
import boto3, webfoot
for found in pkgutil.walk_packages(webfoot.__path__, "webfoot."):
    # What a function is not for, and what only those need who have asked for webfoot[otel].
    if not re.match(r"webfoot\\.(__main__|cli|conformance|reload|server\\.spans)\\b", found.name):
        importlib.import_module(found.name)
for service in ("lambda", "s3", "sqs", "ssm", "sts"):
    boto3.client(service, region_name="eu-west-1")
import aws_lambda_powertools.utilities.parameters
print(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""


def test_every_module_of_ours_is_imported_and_every_service_known(task: Path) -> None:
    ran = subprocess.run(
        [str(runtime()), "-I", "-W", "error", "-c", _EVERYTHING, str(task)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert {"boto3", "duckdb", "fastapi", "mangum", "pyarrow"} <= set(json.loads(ran.stdout))


# What it is like.


def test_a_zip_is_well_within_lambda_s_limit(made: Path, task: Path) -> None:
    assert size_of(task) < 200 << 20
    left_out = {"click", "hatchling", "numpy", "pandas", "uvicorn"}
    assert left_out.isdisjoint(path.name for path in task.iterdir())
    assert made.with_suffix(".yaml").read_text().count(f"CodeUri: {made.name}\n") == 1


def test_pandas_is_too_much_and_the_command_says_so(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, one="import pandas\n")
    with pytest.raises(AssertionError, match=r"pandas \d+ MB \(udfs/one\.py\), .*use the image"):
        make(folder, tmp_path / "dist", HERE)
    assert list((tmp_path / "dist").iterdir()) == []


def test_the_same_folder_makes_the_same_zip(made: Path, udfs: Path, tmp_path: Path) -> None:
    again = make(udfs, tmp_path / "dist", HERE)
    assert again.read_bytes() == made.read_bytes()


# Of the system that Lambda's runtimes rest on, and of C and C++ themselves.
_SYSTEM = {
    *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1"),
    *("libgcc_s.so.1", "libstdc++.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"),
}


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
def test_with_numpy_it_fits_and_libraries_find_what_they_need_on_amazon_linux(
    architecture: str, tmp_path: Path
) -> None:
    machine = {"x86_64": "EM_X86_64", "arm64": "EM_AARCH64"}[architecture]
    udfs = write_udfs(tmp_path, one="import numpy\n")
    folder = unpack(make(udfs, tmp_path / "dist", architecture), tmp_path / "task")
    assert (folder / "numpy" / "__init__.py").exists()
    assert size_of(folder) < MOST_UNPACKED_BYTES
    libraries = [path for path in folder.rglob("*") if ".so" in path.suffixes]
    libraries += folder.rglob("*.duckdb_extension")
    assert len(libraries) > 40
    there = {path.name for path in libraries}
    for path in libraries:
        with path.open("rb") as file:
            elf = ELFFile(file)
            assert elf["e_machine"] == machine, path
            dynamic = elf.get_section_by_name(".dynamic")
            assert isinstance(dynamic, DynamicSection), path
            needed = {getattr(tag, "needed", None) for tag in dynamic.iter_tags()} - {None}
            assert needed <= there | _SYSTEM, path
            assert glibc_of(elf) <= GLIBC, path


def glibc_of(elf: ELFFile) -> tuple[int, ...]:
    """The version of the C library that it asks for."""
    section = elf.get_section_by_name(".gnu.version_r")
    versions = [
        tuple(map(int, version.name.removeprefix("GLIBC_").split(".")))
        for _, needed in (section.iter_versions() if isinstance(section, GNUVerNeedSection) else ())
        for version in needed
        if version.name.startswith("GLIBC_2")
    ]
    return max(versions, default=(0,))
