"""Extensions come from a folder or from packages; one for another DuckDB says what to do."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from webfoot.cli import commands
from webfoot.database import extensions as module
from webfoot.database import load_httpfs
from webfoot.database.extensions import SUFFIX, Extensions, ExtensionUnavailable, bake, real_name

VERSION = duckdb.__version__
NOWHERE = Path("/nowhere")


def platform() -> str:
    found = duckdb.execute("PRAGMA platform").fetchone()
    assert found is not None
    return str(found[0])


def write_extension(
    path: Path, version: str = f"v{VERSION}", made_for: str | None = None, abi: str = "CPP"
) -> Path:
    """A file that says what it is made for, as DuckDB's files do, and that has no code in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = ["", "", "", abi, "1", version, made_for or platform(), "4"]
    footer = b"".join(field.encode().ljust(32, b"\0") for field in fields)
    path.write_bytes(footer + bytes(256))
    return path


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"autoinstall_known_extensions": "false"})


@pytest.mark.parametrize("name", ["httpfs", "postgres", "POSTGRES", "postgres_scanner", "aws"])
def test_a_locked_package_s_extension_loads(name: str, con: duckdb.DuckDBPyConnection) -> None:
    extensions = Extensions(NOWHERE)
    for _ in range(2):
        extensions.load(con, name)
    loaded = con.execute("SELECT extension_name FROM duckdb_extensions() WHERE loaded").fetchall()
    assert (real_name(name),) in loaded


def test_what_duckdb_calls_otherwise_has_its_file_s_name() -> None:
    assert [real_name(name) for name in ("postgres", "sqlite", "mysql", "s3", "md", "Icu")] == [
        *("postgres_scanner", "sqlite_scanner", "mysql_scanner", "httpfs", "motherduck", "icu")
    ]


@pytest.mark.parametrize("name", ["", "../x", "a b", "*", "x';--"])
def test_what_can_be_no_name_is_refused(name: str) -> None:
    with pytest.raises(ExtensionUnavailable, match="is no name of an extension"):
        Extensions(NOWHERE).find(name)


def test_one_in_the_folder_wins(tmp_path: Path) -> None:
    laid_out = tmp_path / f"v{VERSION}" / platform() / f"httpfs{SUFFIX}"
    write_extension(laid_out)
    assert Extensions(tmp_path).find("httpfs") == laid_out


def test_a_flat_folder_will_do(tmp_path: Path) -> None:
    flat = write_extension(tmp_path / f"tpcds{SUFFIX}")
    assert Extensions(tmp_path).find("tpcds") == flat


def test_one_of_another_version_in_the_folder_gives_way_to_a_package(tmp_path: Path) -> None:
    write_extension(tmp_path / "v1.4.0" / platform() / f"httpfs{SUFFIX}", "v1.4.0")
    assert tmp_path not in Extensions(tmp_path).find("httpfs").parents


@pytest.mark.parametrize(
    ("version", "made_for", "told"),
    [
        ("v1.4.0", None, "is made for DuckDB 1.4.0"),
        (f"v{VERSION}", "osx_arm64", "is made for osx_arm64, and this is "),
    ],
)
def test_one_for_another_duckdb_says_how_to_get_the_right_one(
    version: str, made_for: str | None, told: str, tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    path = write_extension(tmp_path / f"tpcds{SUFFIX}", version, made_for)
    with pytest.raises(ExtensionUnavailable) as caught:
        Extensions(tmp_path).load(con, "tpcds")
    message = str(caught.value)
    assert f"tpcds does not load in DuckDB {VERSION}: {path} {told}" in message
    assert f"pip install duckdb-extension-tpcds=={VERSION}" in message
    assert f"webfoot extensions bake --target {tmp_path} tpcds" in message


def test_what_we_read_of_a_file_is_what_duckdb_reads(
    tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    path = write_extension(tmp_path / f"tpcds{SUFFIX}", "v1.4.0")
    with pytest.raises(duckdb.InvalidInputException, match=r"DuckDB version 'v1\.4\.0'"):
        con.execute(f"LOAD '{path}'")


def test_a_version_of_the_c_interface_is_not_taken_for_duckdb_s(tmp_path: Path) -> None:
    path = write_extension(tmp_path / f"tpcds{SUFFIX}", "v1.2.0", abi="C_STRUCT")
    assert Extensions(tmp_path).find("tpcds") == path


@pytest.mark.parametrize("size", [0, 3, 256, 511])
def test_a_broken_file_is_duckdb_s_to_refuse(
    size: int, tmp_path: Path, con: duckdb.DuckDBPyConnection
) -> None:
    (tmp_path / f"tpcds{SUFFIX}").write_bytes(b"x" * size)
    with pytest.raises(ExtensionUnavailable, match=r"tpcds does not load .*; pip install"):
        Extensions(tmp_path).load(con, "tpcds")


def test_what_is_nowhere_is_not_downloaded(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ExtensionUnavailable, match=rf"DuckDB {VERSION} has no tpcds here; pip"):
        Extensions(NOWHERE).load(con, "tpcds")


def test_what_is_nowhere_is_downloaded_only_where_that_is_allowed(
    tmp_path: Path, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a repository that is a folder, with the file packed as DuckDB's own has it."""
    repository = tmp_path / "repository" / f"v{VERSION}" / platform()
    repository.mkdir(parents=True)
    file = Extensions(NOWHERE).find("httpfs")
    (repository / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), 1))
    con.execute(f"SET extension_directory = '{tmp_path}/installed'")
    con.execute(f"SET custom_extension_repository = '{tmp_path}/repository'")
    monkeypatch.setattr(module, "_in_packages", lambda _: iter(()))
    with pytest.raises(ExtensionUnavailable, match="has no httpfs here"):
        Extensions(NOWHERE).load(con, "httpfs")
    assert not (tmp_path / "installed").exists()
    Extensions(NOWHERE, downloads=True).load(con, "httpfs")
    assert list((tmp_path / "installed").rglob(f"httpfs{SUFFIX}"))


def test_duckdb_itself_finds_what_is_linked(tmp_path: Path) -> None:
    Extensions(NOWHERE).link(tmp_path)
    config: dict[str, str | bool | int | float | list[str]] = {
        "extension_directory": str(tmp_path),
        "autoinstall_known_extensions": "false",
    }
    with duckdb.connect(config=config) as con:
        con.execute("LOAD postgres")
        # Loaded because it is used.
        with pytest.raises(duckdb.IOException, match="Could not connect"):
            con.execute("FROM 'http://127.0.0.1:1/x.parquet'")


def test_the_setting_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBFOOT_EXTENSIONS", str(tmp_path))
    write_extension(tmp_path / f"httpfs{SUFFIX}")
    with duckdb.connect() as con, pytest.raises(ExtensionUnavailable, match="signature"):
        load_httpfs(con)


def test_baked_extensions_load_where_there_are_no_packages(tmp_path: Path) -> None:
    baked = bake(["httpfs", "postgres"], tmp_path / "target")
    assert [extension.name for extension in baked] == ["httpfs", "postgres_scanner"]
    assert all(extension.path.stat().st_size == extension.size for extension in baked)
    assert sorted(path.name for path in baked[0].path.parent.iterdir()) == [
        f"httpfs{SUFFIX}",
        f"postgres_scanner{SUFFIX}",
    ]
    code = f"""
import sys
sys.meta_path.insert(0, type("Blocked", (), {{"find_spec": staticmethod(
    lambda name, *_: sys.exit(name) if name.startswith("duckdb_extension_aws") else None)}}))
from pathlib import Path
import duckdb
from webfoot.database import extensions
extensions._in_packages = lambda name: iter(())
con = duckdb.connect(config={{"autoinstall_known_extensions": "false"}})
found = extensions.Extensions(Path({str(tmp_path / "target")!r}))
for name in ("httpfs", "postgres"):
    found.load(con, name)
print(found.find("postgres"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(baked[1].path)


def test_what_is_baked_must_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "duckdb_extension_broken"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / f"broken{SUFFIX}").write_bytes(b"x" * 1000)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExtensionUnavailable, match=r"does not load: .*broken"):
        bake(["broken"], tmp_path / "target")


def test_the_command_bakes_and_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(commands, ["extensions", "bake", "--target", str(tmp_path), "httpfs"])
    assert done.exit_code == 0, done.output
    assert "21.6 MB" in done.output
    assert "they load" in done.output
    assert len(list(tmp_path.rglob(f"*{SUFFIX}"))) == 1


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        commands, ["extensions", "bake", "--target", str(tmp_path), "nothing"]
    )
    assert done.exit_code == 1
    assert re.search(r"has no nothing here; pip install duckdb-extension-nothing==", done.output)


def test_a_copy_takes_its_place_at_once(tmp_path: Path) -> None:
    """A process that has loaded the old file keeps it: it is not written over."""
    (first,) = bake(["aws"], tmp_path)
    with first.path.open("rb") as old:
        bake(["aws"], tmp_path)
        assert os.fstat(old.fileno()).st_ino != first.path.stat().st_ino
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [first.path]
