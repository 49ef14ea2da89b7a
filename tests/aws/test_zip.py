"""What goes into the zip for Lambda, and what the zip is like."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import cfnlint
import pyarrow as pa
import pytest
from cfnlint.decode import cfn_yaml
from deploy.aws.zip import __main__ as command
from deploy.aws.zip.archive import MOST_UNPACKED_BYTES, TooLarge, check_size, gather, pack
from deploy.aws.zip.needs import needs_of
from deploy.aws.zip.packages import REQUIREMENTS, Installed, NotLocked, Package
from deploy.aws.zip.symbols import without_symbols
from deploy.aws.zip.template import zip_template
from elftools.elf.elffile import ELFFile
from tests.aws.test_deploy import translated
from tests.server_process import write_udfs

ROOT = Path(__file__).parents[2]

# What UDFs need.


def test_what_files_import_is_needed_but_for_their_own_modules_and_python_s(tmp_path: Path) -> None:
    folder = write_udfs(
        tmp_path,
        one="""
            import json, numpy.linalg as la
            from typing import TYPE_CHECKING
            from . import _near
            from ._near import x
            from udfs import _near
            from webfoot import udf
            if TYPE_CHECKING:
                import polars
            else:
                import yaml
            def late():
                from shapely.geometry import box
        """,
        _near="import numpy",
    )
    (folder / "below").mkdir()
    (folder / "below" / "two.py").write_text("from .three import x")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "lib.py").write_text("import polars")
    assert needs_of(folder).modules == {
        **dict.fromkeys(("numpy", "yaml", "shapely"), "udfs/one.py"),
        "numpy": "udfs/_near.py",
    }


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("SQL = \"FROM 's3://lake/x.parquet'\"", "duckdb-extension-aws"),
        ("SQL = 'FROM pg.public.orders'", "duckdb-extension-postgres-scanner"),
        ("steps.postgres('sales')", "duckdb-extension-postgres-scanner"),
        ("def f(con): return con.sql('SELECT 1').df()", "pandas"),
        ("def f(table): return table.to_pandas(split_blocks=True)", "pandas"),
        ("def f(con): con.create_function('g', f)", "numpy"),
        ("SQL = \"FROM 'https://host/x.parquet'\"", None),
    ],
)
def test_what_is_used_without_an_import_is_needed(
    tmp_path: Path, text: str, package: str | None
) -> None:
    folder = write_udfs(tmp_path, one=text)
    assert needs_of(folder).packages == ({package: "udfs/one.py"} if package else {})


# Which packages go in.


def installed(folder: Path, **packages: tuple[list[str], list[str]]) -> Installed:
    """Packages with these requirements and files, as pip leaves them."""
    for name, (requires, files) in packages.items():
        about = folder / f"{name}-1.0.dist-info"
        about.mkdir(parents=True)
        lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0"]
        lines += [f"Requires-Dist: {text}" for text in requires]
        (about / "METADATA").write_text("\n".join(lines))
        own = [f"{about.name}/{file}" for file in ("METADATA", "RECORD", "direct_url.json")]
        (about / "RECORD").write_text("\n".join(f"{file},," for file in [*files, *own]))
    return Installed(folder, "aarch64")


def names(packages: list[Package]) -> dict[str, str]:
    return {package.name: package.needed_by for package in packages}


WEBFOOT = ["fastapi>=0.1", "pandas>=2", "Docstring_Parser", 'boto3; extra == "aws"']


def test_what_webfoot_requires_goes_in_less_what_no_function_loads(tmp_path: Path) -> None:
    found = installed(
        tmp_path,
        webfoot=([*WEBFOOT, 'matplotlib; extra == "examples"'], ["webfoot/__init__.py"]),
        fastapi=(["starlette[full]", 'colorama; sys_platform == "win32"'], ["fastapi.py"]),
        starlette=(['itsdangerous; extra == "full"', 'uvloop; platform_machine == "aarch64"'], []),
        **{name: ([], []) for name in ("boto3", "docstring-parser", "hatchling")},
        **{name: ([], []) for name in ("itsdangerous", "uvloop")},
        pandas=(["numpy"], ["pandas/__init__.py"]),
        numpy=([], ["numpy/__init__.py"]),
    )
    assert names(found.choose({}, {})) == {
        "boto3": "webfoot",
        "docstring-parser": "webfoot",
        "fastapi": "webfoot",
        "itsdangerous": "starlette",
        "starlette": "fastapi",
        "uvloop": "starlette",
        "webfoot": "webfoot",
    }
    with_frames = names(found.choose(dict.fromkeys(("pandas", "fastapi"), "udfs/one.py"), {}))
    assert (with_frames["pandas"], with_frames["numpy"]) == ("udfs/one.py", "pandas")
    assert with_frames["fastapi"] == "webfoot"
    assert names(found.choose({}, {"hatchling": "--with"}))["hatchling"] == "--with"


def test_a_module_is_found_whatever_its_package_is_called(tmp_path: Path) -> None:
    found = installed(
        tmp_path, webfoot=([], []), pyyaml=([], ["yaml/__init__.py", "_yaml.cpython-313.so"])
    )
    modules = {"yaml": "udfs/one.py", "contourpy": "udfs/two.py"}
    assert "pyyaml" in names(found.choose(modules, {}))
    assert found.missing(modules) == {"contourpy": "udfs/two.py"}


def test_what_is_not_locked_is_told_with_who_requires_it(tmp_path: Path) -> None:
    found = installed(tmp_path, webfoot=(["shapely"], []))
    with pytest.raises(NotLocked, match=r"^webfoot requires shapely, .* run make lock$"):
        found.choose({}, {})


def test_what_nothing_reads_stays_out(tmp_path: Path) -> None:
    libraries = ["libarrow_python.so", "libarrow_python.so.26", "libarrow_python.so.26.0.1"]
    more = ["lib.cpython-313.so", "lib.pyx", "include/a.h", "_flight.so", "libarrow_flight.so.26"]
    services = ["s3/1/service-2.json.gz", "ec2/1/service-2.json.gz", "endpoints.json"]
    found = installed(
        tmp_path,
        webfoot=(["pyarrow", "botocore"], ["webfoot/x.py", "../../bin/webfoot"]),
        pyarrow=([], [f"pyarrow/{name}" for name in [*libraries, *more]]),
        botocore=([], [f"botocore/data/{name}" for name in services]),
    )

    def files(modules: dict[str, str]) -> set[str]:
        packages = found.choose(modules, {})
        every = {name for package in packages for name in package.files}
        return {name for name in every if not name.endswith("/METADATA")}

    kept = {"webfoot/x.py", "pyarrow/libarrow_python.so.26", "pyarrow/lib.cpython-313.so"}
    described = {"botocore/data/s3/1/service-2.json.gz", "botocore/data/endpoints.json"}
    assert files({}) == kept | described
    others = {"botocore/data/ec2/1/service-2.json.gz"}
    assert files({"boto3": "udfs/one.py"}) == kept | described | others


# What becomes of files.


def library() -> bytes:
    return next(Path(pa.__file__).parent.glob("libarrow_acero.so.*")).read_bytes()


def segments(file: ELFFile) -> list[tuple[str, int, int, bytes]]:
    """What a loader reads, without the header of the file, which says where the sections are."""
    return [
        (part["p_type"], part["p_vaddr"], part["p_memsz"], part.data()[64:])
        for part in file.iter_segments()
    ]


def test_a_library_without_symbols_is_smaller_and_loads_the_same() -> None:
    whole = library()
    less = without_symbols(whole)
    assert len(less) < 0.8 * len(whole)
    before, after = ELFFile(io.BytesIO(whole)), ELFFile(io.BytesIO(less))
    assert segments(after) == segments(before)
    left = {section.name: section.data() for section in after.iter_sections() if section.name}
    had = {section.name: section.data() for section in before.iter_sections() if section.name}
    assert had.keys() - left.keys() == {".symtab", ".strtab"}
    assert had.items() >= left.items()
    assert without_symbols(less) == less


def test_what_is_no_library_or_has_something_behind_its_symbols_stays() -> None:
    assert without_symbols(b"PK\x03\x04 no library") == b"PK\x03\x04 no library"
    whole = bytearray(library())
    # As patchelf leaves a file: with a segment at its end.
    header = ELFFile(io.BytesIO(bytes(whole))).header
    last = header["e_phoff"] + (header["e_phnum"] - 1) * header["e_phentsize"]
    whole[last + 8 : last + 16] = (len(whole) - 8).to_bytes(8, "little")
    whole[last + 32 : last + 40] = (8).to_bytes(8, "little")
    assert without_symbols(bytes(whole)) == whole


def packages_in(folder: Path, **files: str) -> list[Package]:
    """One package, `some`, with modules of these texts."""
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return [Package("some", "webfoot", {f"{name}.py": folder / f"{name}.py" for name in files})]


def test_modules_are_compiled_for_where_lambda_has_them(tmp_path: Path) -> None:
    packages = packages_in(tmp_path / "some", one="x = 1")
    udfs = write_udfs(tmp_path, rows="x = 2", _near="")
    (udfs / "data.csv").write_text("a")
    (udfs / ".env").write_text("secret")
    gather(packages, udfs, tmp_path / "task")
    files = {path.relative_to(tmp_path / "task").as_posix() for path in walk(tmp_path / "task")}
    compiled = f"__pycache__/one.{sys.implementation.cache_tag}.pyc"
    # The folder's own files are compiled from what they say, whenever it is loaded.
    assert files == {"one.py", compiled, "udfs/rows.py", "udfs/_near.py", "udfs/data.csv"}
    code = (tmp_path / "task" / compiled).read_bytes()
    assert code[4:8] == (1).to_bytes(4, "little")  # Checked against no source.
    assert b"/var/task/one.py" in code
    assert str(tmp_path).encode() not in code


def walk(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_zip_has_the_same_bytes_whenever_it_is_made(tmp_path: Path) -> None:
    made = []
    for number, order in enumerate((["a", "b"], ["b", "a"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in order:
            (folder / name).write_text(name)
            (folder / name).chmod(0o600 + 0o100 * number)
            os.utime(folder / name, (number, number))
        pack(folder, tmp_path / f"{number}.zip")
        made.append((tmp_path / f"{number}.zip").read_bytes())
    assert made[0] == made[1]
    with zipfile.ZipFile(tmp_path / "0.zip") as archive:
        assert archive.namelist() == ["a", "b"]
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o100644}


def test_what_lambda_would_refuse_is_refused_with_what_is_large(tmp_path: Path) -> None:
    task = tmp_path / "task"
    task.mkdir()
    packages = [
        Package("webfoot", "webfoot", {"small.py": task / "small.py"}),
        Package("pandas", "udfs/one.py", {"large.so": task / "large.so"}),
    ]
    (task / "small.py").write_text("x")
    for size in (MOST_UNPACKED_BYTES - 2, MOST_UNPACKED_BYTES - 1):
        (task / "large.so").touch()
        os.truncate(task / "large.so", size)
        if size == MOST_UNPACKED_BYTES - 2:
            check_size(task, packages)
    with pytest.raises(TooLarge, match=r"250 MB: pandas 250 MB \(udfs/one.py\), .* use the image"):
        check_size(task, packages)


# The template, the command, and the document.


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = zip_template(command.TEMPLATE.read_text(), "x86_64", "python3.13", "some.zip")
    folder = tmp_path_factory.mktemp("template")
    (folder / "some.zip").touch()
    (folder / "some.yaml").write_text(text)
    return folder / "some.yaml"


def test_the_template_of_a_zip_is_valid(template: Path) -> None:
    found = cfnlint.lint_file(template, config=cfnlint.ManualArgs(regions=["eu-west-1"]))
    assert [f"{match.linenumber}: {match.message}" for match in found] == []


def test_the_template_of_a_zip_is_the_image_s_but_for_the_code(template: Path) -> None:
    image: dict[str, Any] = cfn_yaml.load(str(command.TEMPLATE))
    ours: dict[str, Any] = cfn_yaml.load(str(template))
    function = ours["Resources"]["Function"]
    assert function["Properties"].pop("PackageType") == "Zip"
    assert {name: function["Properties"].pop(name) for name in ("CodeUri", "Runtime")} == {
        "CodeUri": "some.zip",
        "Runtime": "python3.13",
    }
    assert function["Properties"].pop("Handler") == "webfoot.aws.handler"
    assert ours["Parameters"]["Architecture"].pop("AllowedValues") == ["x86_64"]
    assert ours["Parameters"].pop("Architecture")["Default"] == "x86_64"
    del image["Resources"]["Function"]["Metadata"]
    assert image["Resources"]["Function"]["Properties"].pop("PackageType") == "Image"
    del image["Parameters"]["Architecture"]
    assert json.dumps(ours) == json.dumps(image)


@pytest.mark.slow
def test_aws_makes_the_same_of_the_template_of_a_zip(template: Path) -> None:
    image = json.loads(json.dumps(cfn_yaml.load(str(command.TEMPLATE))))
    # As `sam build` leaves the one, and `sam deploy` the other.
    del image["Resources"]["Function"]["Metadata"]
    image["Resources"]["Function"]["Properties"]["ImageUri"] = "1.dkr.ecr.aws.com/webfoot:1"
    ours = json.loads(json.dumps(cfn_yaml.load(str(template))))
    ours["Resources"]["Function"]["Properties"]["CodeUri"] = "s3://bucket/some.zip"
    assert translated(ours) == translated(image)


def test_a_template_that_says_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="PackageType: Image"):
        zip_template("Resources: {}", "arm64", "python3.13", "some.zip")


def test_the_command_wants_a_python_that_lambda_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 11, 9))
    monkeypatch.setattr(sys, "argv", ["zip"])
    with pytest.raises(SystemExit, match=r"this is Python 3\.11, .* 3\.12 or 3\.13"):
        command.main()


@pytest.mark.parametrize(
    ("name", "message"), [("udfs", r"broken\.py, line 1"), ("nowhere", "No such .*/nowhere")]
)
def test_a_folder_that_cannot_be_read_is_told_before_anything_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    folder = write_udfs(tmp_path, broken="def f(:").with_name(name)
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    monkeypatch.setattr(sys, "argv", ["zip", "--udfs", str(folder), "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match=message):
        command.main()


def test_the_table_of_versions_is_what_is_locked() -> None:
    locked = dict(
        re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / REQUIREMENTS).read_text(), re.MULTILINE)
    )
    prefix = "duckdb-extension-"
    extensions = [name for name in locked if name.startswith(prefix)]
    both = [
        locked["duckdb"],
        ", ".join(f"{name.removeprefix(prefix)} {locked[name]}" for name in extensions),
        locked["pyarrow"],
        ", ".join(sorted(command.MACHINES)),
    ]
    python = re.search(r"^ARG PYTHON=(.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert python is not None
    document = (ROOT / "deploy" / "README.md").read_text()
    for kind, pythons in (("zip", ", ".join(command.PYTHONS)), ("image", python[1])):
        assert f"| {' | '.join([kind, pythons, *both])} |" in document
