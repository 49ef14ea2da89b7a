"""A folder becomes a registry; what cannot be served is named and harms nobody else."""

from __future__ import annotations

import linecache
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from webfoot import registry, sources
from webfoot.errors import InvalidParameters, UdfNotFound, UdfUnavailable
from webfoot.registry import Registry, author_traceback, load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

UDF = "from webfoot import udf\n\n@udf\ndef {}(n: int = 1):\n    return n\n"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    finders, lines, modules = list(sys.meta_path), dict(linecache.cache), set(sys.modules)
    yield
    sys.meta_path[:] = finders
    linecache.cache.clear()
    linecache.cache.update(lines)
    for name in set(sys.modules) - modules:
        if isinstance(getattr(sys.modules[name], "__spec__", None), sources._MountedSpec):
            del sys.modules[name]


def folder_of(tmp_path: Path, files: Mapping[str, str | bytes]) -> Path:
    root = tmp_path / "farm"
    for file, content in files.items():
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def loaded(tmp_path: Path, files: Mapping[str, str | bytes]) -> Registry:
    return load(sources.read(folder_of(tmp_path, files)))


def test_the_udfs_of_a_folder_are_found_by_name(tmp_path: Path) -> None:
    udfs = loaded(
        tmp_path,
        {
            "b.py": UDF.format("second") + UDF.format("first"),
            "sub/deep/c.py": UDF.format("third"),
            "_help.py": UDF.format("helper"),
            "sub/_private/d.py": UDF.format("private"),
            "none.py": "x = 1\n",
        },
    )
    assert list(udfs) == ["first", "second", "third"]
    assert len(udfs) == 3
    assert udfs.problems == ()
    third = udfs["third"]
    assert third.function(4) == 4
    assert third.file == udfs.code.root / "sub/deep/c.py"
    assert third.line == 3
    assert third.code is udfs.code
    assert len(third.version) == 16


def test_an_empty_folder_has_no_udfs_and_no_problems(tmp_path: Path) -> None:
    (tmp_path / "farm").mkdir()
    udfs = loaded(tmp_path, {})
    assert (dict(udfs), udfs.problems) == ({}, ())


def test_a_udf_that_another_file_imports_is_registered_once(tmp_path: Path) -> None:
    udfs = loaded(
        tmp_path,
        {
            "a.py": "from .z import shared\nfrom .z import shared as again\n" + UDF.format("own"),
            "z.py": UDF.format("shared") + "alias = shared\n",
        },
    )
    assert list(udfs) == ["own", "shared"]
    assert udfs.problems == ()
    assert udfs["shared"].file.name == "z.py"


def test_importing_a_udf_makes_its_file_part_of_the_version(tmp_path: Path) -> None:
    files = {"a.py": "from .z import shared\n" + UDF.format("own"), "z.py": UDF.format("shared")}
    files["b.py"] = UDF.format("other")
    before = loaded(tmp_path, files)
    after = loaded(tmp_path, files | {"z.py": UDF.format("shared") + "# edited\n"})
    changed = {name for name in before if before[name].version != after[name].version}
    assert changed == {"own", "shared"}


def test_the_version_option_is_part_of_the_version(tmp_path: Path) -> None:
    both = UDF.format("one") + UDF.format("two").replace("@udf", "@udf(version='2')")
    udfs = loaded(tmp_path, {"a.py": both})
    assert udfs["one"].version != udfs["two"].version


def test_two_udfs_of_one_name_name_both_files_and_harm_no_other(tmp_path: Path) -> None:
    files = {"a.py": UDF.format("same") + UDF.format("fine"), "sub/b.py": "\n" + UDF.format("same")}
    udfs = loaded(tmp_path, files)
    assert list(udfs) == ["fine"]
    (problem,) = udfs.problems
    assert problem.message == (
        "'same' is defined twice, in a.py (line 3) and sub/b.py (line 4); rename one"
    )
    with pytest.raises(UdfUnavailable, match=r"a\.py: 'same' is defined twice, in a.py") as caught:
        udfs.find("same")
    assert caught.value.udf == "same"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("raise ValueError('no data')\n", "ValueError: no data"),
        ("import nothing_of_this_name\n", "ModuleNotFoundError: No module named 'nothing_of_this_"),
        ("def broken(:\n", "SyntaxError: invalid syntax (line 1)"),
        ("x = 1\n  y = 2\n", "IndentationError: unexpected indent (line 2)"),
        (b"\xff\xfe\n", "SyntaxError: "),
        (b"# coding: nonsense\n", "SyntaxError: unknown encoding: nonsense"),
        (b"x = '\0'\n", ": source code string cannot contain null bytes"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("import sys\nsys.exit('bye')\n", "SystemExit: bye"),
        ("from ._bad import x\n", "SyntaxError: invalid syntax (_bad.py, line 2)"),
        ("from ._raises import x\n", "ZeroDivisionError: division by zero"),
        ("from . import missing\n", "ImportError: cannot import name 'missing' from 'farm'"),
        (
            "from webfoot import udf\n@udf\ndef broken(*names): ...\n",
            "DefinitionError: broken: *names cannot come from a URL; name each parameter",
        ),
        ("class Odd(BaseException): ...\nraise Odd('odd')\n", "Odd: odd"),
        ("def f(): f()\nf()\n", "RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_a_broken_file_is_reported_alone_and_the_rest_serve(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    files = {
        "bad.py": content,
        "good.py": UDF.format("good"),
        "_bad.py": "x = 1\ndef (\n",
        "_raises.py": "1 / 0\n",
    }
    udfs = loaded(tmp_path, files)
    assert list(udfs) == ["good"]
    (problem,) = udfs.problems
    assert problem.file == "bad.py"
    assert message in problem.message
    assert not problem.message.endswith(("(line 0)", "(line None)"))
    for internal in ("importlib", "app/webfoot", "site-packages"):
        assert internal not in problem.traceback


def test_a_request_for_a_udf_of_a_broken_file_is_told_why(tmp_path: Path) -> None:
    source = UDF.format("wanted") + "async def also(): ...\n1 / 0\n"
    udfs = loaded(tmp_path, {"bad.py": source, "good.py": UDF.format("good")})
    for name in ("wanted", "also"):
        with pytest.raises(UdfUnavailable) as caught:
            udfs.find(name)
        assert caught.value.detail == "bad.py: ZeroDivisionError: division by zero"
        assert caught.value.udf == name
        assert "line 7, in <module>\n    1 / 0" in str(caught.value.traceback)


def test_an_unknown_udf_is_not_found_and_the_nearest_is_named(tmp_path: Path) -> None:
    udfs = loaded(tmp_path, {"a.py": UDF.format("contours")})
    assert udfs.find("contours") is udfs["contours"]
    with pytest.raises(
        UdfNotFound, match=r"^there is no UDF 'contour'; did you mean 'contours'[?]$"
    ):
        udfs.find("contour")
    with pytest.raises(
        UdfNotFound, match=r"^there is no UDF 'zzz'; `webfoot list` or GET /udfs lists them$"
    ):
        udfs.find("zzz")


def test_a_refused_file_is_not_imported(tmp_path: Path) -> None:
    files = {"bad.py": "raise SystemExit\n" + UDF.format("lost"), "good.py": UDF.format("good")}
    code = sources.read(folder_of(tmp_path, files))
    udfs = load(replace(code, refused={"bad.py": "importing it never ended"}))
    assert list(udfs) == ["good"]
    assert [(p.file, p.message, p.names) for p in udfs.problems] == [
        ("bad.py", "importing it never ended", ("lost",))
    ]


def test_a_helper_that_breaks_stops_only_those_who_import_it(tmp_path: Path) -> None:
    files = {
        "a.py": "from ._help import x\n" + UDF.format("one"),
        "b.py": "from ._help import x\n" + UDF.format("two"),
        "c.py": UDF.format("three"),
        "_help.py": "x = (\n",
    }
    udfs = loaded(tmp_path, files)
    assert list(udfs) == ["three"]
    assert [p.file for p in udfs.problems] == ["a.py", "b.py"]
    assert all("(_help.py, line 1)" in p.message for p in udfs.problems)
    mended = loaded(tmp_path, files | {"_help.py": "x = 1\n"})
    assert list(mended) == ["one", "three", "two"]


def test_a_decorator_above_udf_is_a_problem_not_a_silence(tmp_path: Path) -> None:
    source = (
        "import functools\nfrom webfoot import udf\n"
        "def logged(f):\n    @functools.wraps(f)\n    def g(*a, **k):\n        return f(*a, **k)\n"
        "    return g\n"
        "@logged\n@udf\ndef wrapped(n: int): ...\n"
        "@functools.cache\n@udf\ndef cached(n: int): ...\n"
        "@udf\n@logged\ndef below(n: int): ...\n"
    )
    udfs = loaded(tmp_path, {"a.py": source})
    assert list(udfs) == ["below"]
    assert [p.names for p in udfs.problems] == [("wrapped",), ("cached",)]
    assert all("put @udf on top" in p.message for p in udfs.problems)
    with pytest.raises(UdfUnavailable, match="put @udf on top"):
        udfs.find("cached")


def test_a_udf_file_named_like_a_standard_module_shadows_nothing(tmp_path: Path) -> None:
    files = {
        "json.py": "import json\nfrom webfoot import udf\n@udf\ndef dumped(n: int = 1):\n"
        "    return json.dumps([n])\n",
        "decimal.py": UDF.format("decimal"),
        "webfoot.py": UDF.format("inner"),
    }
    udfs = loaded(tmp_path, files)
    assert udfs.problems == ()
    assert udfs["dumped"].function(2) == "[2]"
    assert list(udfs) == ["decimal", "dumped", "inner"]


def test_annotations_resolve_in_the_file_that_has_them(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
        "from webfoot import udf\nfrom ._kinds import Kind\n"
        "if TYPE_CHECKING:\n    import duckdb\n"
        "@udf\ndef typed(con: duckdb.DuckDBPyConnection, kind: Kind = Kind.A): ...\n"
    )
    kinds = "import enum\nclass Kind(enum.Enum):\n    A = 'a'\n    B = 'b'\n"
    udfs = loaded(tmp_path, {"a.py": source, "_kinds.py": kinds})
    assert udfs.problems == ()
    parameters = udfs["typed"].parameters
    assert parameters.injected == {"con": "connection"}
    assert parameters.from_text([("kind", "B")]) == '{"kind":"b"}'
    with pytest.raises(InvalidParameters, match="kind: is none of a, b"):
        parameters.from_text([("kind", "c")])


def test_functions_of_an_earlier_registry_go_on(tmp_path: Path) -> None:
    late = "from webfoot import udf\n@udf\ndef f():\n    return X\nX = {}\n"
    old = loaded(tmp_path, {"a.py": late.format(1)})
    new = loaded(tmp_path, {"a.py": late.format(2)})
    assert (old["f"].function(), new["f"].function()) == (1, 2)
    assert old["f"].version != new["f"].version


# Tracebacks.


def traceback_of(udfs: Registry, name: str) -> str:
    try:
        udfs[name].function()
    except BaseException as error:  # noqa: BLE001  # whatever it is
        return author_traceback(error, udfs.code)
    pytest.fail("nothing was raised")


RAISING = """import json
from webfoot import udf
from ._help import deep

@udf
def fails():
    try:
        json.loads("{")
    except ValueError as error:
        raise RuntimeError("bad data") from error

@udf
def deeper():
    return deep(lambda: 1 / 0)

@udf
def grouped():
    errors = []
    try:
        deep(lambda: json.loads("{"))
    except ValueError as error:
        errors.append(error)
    raise ExceptionGroup("several", errors)
"""
HELPER = """import functools

def deep(call):
    return functools.reduce(lambda a, b: call(), [1, 2])
"""


def test_a_traceback_shows_the_author_s_frames_only(tmp_path: Path) -> None:
    udfs = loaded(tmp_path, {"a.py": RAISING, "_help.py": HELPER})
    text = traceback_of(udfs, "fails")
    assert text.count("File ") == 2
    assert 'raise RuntimeError("bad data") from error' in text
    assert 'json.loads("{")' in text
    assert "JSONDecodeError" in text
    assert text.endswith("RuntimeError: bad data")
    assert "decoder.py" not in text

    text = traceback_of(udfs, "deeper")
    assert f'File "{udfs.code.root / "_help.py"}", line 4, in deep' in text
    assert text.endswith("ZeroDivisionError: division by zero")
    assert __file__ not in text


def test_a_group_of_errors_shows_the_author_s_frames_only(tmp_path: Path) -> None:
    udfs = loaded(tmp_path, {"a.py": RAISING, "_help.py": HELPER})
    text = traceback_of(udfs, "grouped")
    assert "ExceptionGroup: several" in text
    assert "JSONDecodeError" in text
    assert 'deep(lambda: json.loads("{"))' in text
    assert "decoder.py" not in text
    assert __file__ not in text


def test_a_traceback_shows_the_lines_that_ran_not_those_saved_since(tmp_path: Path) -> None:
    udfs = loaded(tmp_path, {"a.py": RAISING, "_help.py": HELPER})
    (udfs.code.root / "a.py").write_text("# nothing\n" * 40)
    assert 'raise RuntimeError("bad data") from error' in traceback_of(udfs, "fails")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("# coding: latin-1\nNAME = 'é'\n".encode("latin-1"), "raise ValueError('é')"),
        # A form feed, and a separator that Python does not take for the end of a line.
        ("NAME = 'a\u2028b'\n\x0c\n".encode(), "raise ValueError('é')"),
        (b"NAME = 1\r\n", "raise ValueError('é')"),
    ],
)
def test_a_traceback_shows_the_right_line_in_any_encoding(
    tmp_path: Path, content: bytes, line: str
) -> None:
    encoding = "latin-1" if b"latin-1" in content else "utf-8"
    source = f"from webfoot import udf\n@udf\ndef f():\n    {line}\n".encode(encoding)
    udfs = loaded(tmp_path, {"a.py": content + source})
    assert udfs.problems == ()
    assert f"in f\n    {line}" in traceback_of(udfs, "f")


def test_an_unreadable_encoding_does_not_stop_a_traceback(tmp_path: Path) -> None:
    broken = (UDF.format("f") + "1 / 0\n").encode()
    udfs = loaded(tmp_path, {"a.py": broken, "b.py": b"# coding: nonsense\n"})
    assert [problem.file for problem in udfs.problems] == ["a.py", "b.py"]


def test_the_lock_is_free_after_a_load(tmp_path: Path) -> None:
    loaded(tmp_path, {"bad.py": "1 / 0\n"})
    assert registry._IMPORTING.acquire(blocking=False)
    registry._IMPORTING.release()
