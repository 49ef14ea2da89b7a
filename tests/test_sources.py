"""A snapshot is what is imported, and a version changes exactly for what depends on the change."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webfoot import sources
from webfoot.sources import Code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    finders, path, modules = list(sys.meta_path), list(sys.path), set(sys.modules)
    yield
    assert sys.path == path
    sys.meta_path[:] = finders
    for name in set(sys.modules) - modules:
        if isinstance(getattr(sys.modules[name], "__spec__", None), sources._MountedSpec):
            del sys.modules[name]


def folder_of(tmp_path: Path, files: Mapping[str, str | bytes], name: str = "orchard") -> Path:
    root = tmp_path / name
    for file, content in files.items():
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    root.mkdir(exist_ok=True)
    return root


def code_of(files: Mapping[str, str | bytes]) -> Code:
    content = {f: text if isinstance(text, bytes) else text.encode() for f, text in files.items()}
    return Code(Path("/orchard"), "orchard", content)


# Reading.


def test_the_python_files_of_a_folder_are_read(tmp_path: Path) -> None:
    root = folder_of(
        tmp_path,
        {
            "a.py": "1",
            "_help.py": "2",
            "sub/b.py": "3",
            "sub/deep/__init__.py": "4",
            "notes.md": "",
            "data.csv": "",
            ".hidden.py": "",
            ".git/hook.py": "",
            "sub/.venv/lib.py": "",
            "__pycache__/a.py": "",
        },
    )
    (root / "folder.py").mkdir()
    (root / "nowhere.py").symlink_to(root / "gone")
    (root / "linked.py").symlink_to(root / "a.py")
    code = sources.read(root)
    assert code.root == root.resolve()
    assert code.files == {
        "a.py": b"1",
        "_help.py": b"2",
        "linked.py": b"1",
        "sub/b.py": b"3",
        "sub/deep/__init__.py": b"4",
    }
    assert code.refused == {}
    assert list(code.udf_files()) == [
        ("a.py", "orchard.a"),
        ("linked.py", "orchard.linked"),
        ("sub/b.py", "orchard.sub.b"),
    ]


# The one file that is there, is a file, and cannot be read even by root.
UNREADABLE = Path("/proc/self/mem")


@pytest.mark.skipif(not UNREADABLE.exists(), reason="only Linux has it")
def test_a_file_that_cannot_be_read_is_refused_alone(tmp_path: Path) -> None:
    root = folder_of(tmp_path, {"a.py": "1"})
    (root / "secret.py").symlink_to(UNREADABLE)
    code = sources.read(root)
    assert code.files["a.py"] == b"1"
    assert code.refused == {"secret.py": "it cannot be read: Input/output error"}


def test_a_folder_must_be_there_and_be_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sources.read(tmp_path / "none")
    (tmp_path / "file.py").touch()
    with pytest.raises(NotADirectoryError, match="is a file; give the folder that it is in"):
        sources.read(tmp_path / "file.py")


def test_an_empty_folder_has_no_files(tmp_path: Path) -> None:
    code = sources.read(folder_of(tmp_path, {}))
    assert (code.files, list(code.udf_files())) == ({}, [])


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("orchard", "orchard"),
        ("udfs", "udfs"),
        ("größe", "größe"),
        ("json", "udfs"),
        ("test", "udfs"),
        ("my-udfs", "udfs"),
        ("3d", "udfs"),
        ("class", "udfs"),
        ("webfoot", "udfs"),
        # Installed, as a package and as a single file; not imported, and imported.
        ("click", "udfs"),
        ("typing_extensions", "udfs"),
        ("pytest", "udfs"),
    ],
)
def test_a_folder_gives_its_name_unless_that_names_something_else(
    tmp_path: Path, name: str, package: str
) -> None:
    code = sources.read(folder_of(tmp_path, {"a.py": "x = 1"}, name))
    assert code.package == package
    sources.mount(code)
    assert importlib.import_module(f"{package}.a").x == 1
    assert sources.read(code.root).package == package


def test_a_snapshot_makes_the_round_trip_to_another_process(tmp_path: Path) -> None:
    code = replace(code_of({"a.py": b"\xff\0", "sub/b.py": "x = 'ü'"}), refused={"a.py": "no"})
    again = sources.from_message(json.loads(json.dumps(sources.to_message(code))))
    assert again == code
    assert again.digest == code.digest


# Importing.


def test_files_import_each_other_in_every_way(tmp_path: Path) -> None:
    files = {
        "_help.py": "def double(n): return 2 * n\n",
        "relative.py": "from ._help import double\nfrom . import _help\n",
        "absolute.py": "from orchard._help import double\nimport orchard._help\n",
        "late.py": "def call(n):\n    from ._help import double\n    return double(n)\n",
        "star.py": "from ._help import *\n",
        "computed.py": (
            "import importlib\nname = '_he' + 'lp'\n"
            "double = importlib.import_module(f'.{name}', __package__).double\n"
        ),
        "sub/up.py": "from .._help import double\nfrom . import beside\n",
        "sub/beside.py": "from orchard import _help\n",
        "pack/__init__.py": "from .inner import double\n",
        "pack/inner.py": "from .._help import double\n",
        "through.py": "from .pack import double\n",
    }
    sources.mount(sources.read(folder_of(tmp_path, files)))
    helper = importlib.import_module("orchard._help")
    for name in ("relative", "absolute", "star", "computed", "sub.up", "pack", "through"):
        assert importlib.import_module(f"orchard.{name}").double is helper.double, name
    assert importlib.import_module("orchard.late").call(4) == 8


def test_files_may_import_each_other_in_a_ring(tmp_path: Path) -> None:
    files = {
        "a.py": "from . import b\ndef one(): return 1\n",
        "b.py": "from . import a\ndef two(): return a.one() + 1\n",
    }
    sources.mount(sources.read(folder_of(tmp_path, files)))
    assert importlib.import_module("orchard.a").b.two() == 2


def test_what_is_imported_is_what_was_read(tmp_path: Path) -> None:
    root = folder_of(tmp_path, {"a.py": "from ._help import x\n", "_help.py": "x = 'old'\n"})
    code = sources.read(root)
    (root / "_help.py").write_text("x = 'new'\n")
    (root / "late.py").write_text("x = 'late'\n")
    (root / "a.py").unlink()
    sources.mount(code)
    assert importlib.import_module("orchard.a").x == "old"
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'orchard\.late'"):
        importlib.import_module("orchard.late")


def test_a_later_snapshot_takes_the_place_of_an_earlier(tmp_path: Path) -> None:
    root = folder_of(tmp_path, {"a.py": "x = 1\ndef read():\n    return x\n", "gone.py": ""})
    sources.mount(sources.read(root))
    old = importlib.import_module("orchard.a")
    (root / "a.py").write_text("x = 2\n")
    (root / "gone.py").unlink()
    sources.mount(sources.read(root))
    assert importlib.import_module("orchard.a").x == 2
    assert old.read() == 1
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("orchard.gone")
    finders = [finder for finder in sys.meta_path if isinstance(finder, sources._Finder)]
    assert [finder.code.package for finder in finders].count("orchard") == 1


def test_an_unmounted_package_is_found_no_more(tmp_path: Path) -> None:
    sources.mount(sources.read(folder_of(tmp_path, {"a.py": "x = 1\n"})))
    importlib.import_module("orchard.a")
    sources.unmount("orchard")
    assert not {"orchard", "orchard.a"} & set(sys.modules)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("orchard.a")


def test_modules_imported_from_disk_give_way_to_the_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder_of(tmp_path, {"a.py": "x = 'disk'\n"}, "orchard")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        assert importlib.import_module("orchard.a").x == "disk"
    (root / "a.py").write_text("x = 'snapshot'\n")
    sources.mount(sources.read(root))
    assert sources.read(root).package == "orchard"
    assert importlib.import_module("orchard.a").x == "snapshot"


@pytest.mark.parametrize("name", ["json", "decimal", "webfoot", "click", "udf"])
def test_a_file_shadows_nothing_outside_the_folder(tmp_path: Path, name: str) -> None:
    before = importlib.import_module(name) if name != "udf" else None
    files = {f"{name}.py": "x = 1\n", "user.py": f"import {name if before else 'sys'} as found\n"}
    sources.mount(sources.read(folder_of(tmp_path, files)))
    mine = importlib.import_module(f"orchard.{name}")
    assert mine.x == 1
    if before is not None:
        assert importlib.import_module(name) is before
        assert importlib.import_module("orchard.user").found is before


def test_the_mount_leaves_the_path_alone_and_files_know_where_they_are(tmp_path: Path) -> None:
    path = list(sys.path)
    root = folder_of(tmp_path, {"sub/a.py": "where = __file__\nname = __name__\n"})
    sources.mount(sources.read(root))
    module = importlib.import_module("orchard.sub.a")
    assert module.where == str(root / "sub/a.py")
    assert module.name == "orchard.sub.a"
    assert module.__package__ == "orchard.sub"
    assert sys.path == path
    assert not (root / "sub" / "__pycache__").exists()


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"), "é"),
        ("x = 'é'\n".encode("utf-8-sig"), "é"),
        (b"x = 'a'\r\ny = 1\r\n", "a"),
    ],
)
def test_a_file_may_have_another_encoding(tmp_path: Path, content: bytes, value: str) -> None:
    code = sources.read(folder_of(tmp_path, {"a.py": content}))
    sources.mount(code)
    module = importlib.import_module("orchard.a")
    assert module.x == value
    assert value in sources._Loader(code, "a.py").get_source("orchard.a")


def test_the_future_of_this_package_is_not_the_author_s(tmp_path: Path) -> None:
    files = {"a.py": "def f(x: int): ...\nkind = type(f.__annotations__['x']).__name__\n"}
    sources.mount(sources.read(folder_of(tmp_path, files)))
    assert importlib.import_module("orchard.a").kind == "type"


def test_a_refused_file_cannot_be_imported_by_another(tmp_path: Path) -> None:
    files = {"bad.py": "raise SystemExit\n", "a.py": "from . import bad\n"}
    code = replace(sources.read(folder_of(tmp_path, files)), refused={"bad.py": "it never ends"})
    sources.mount(code)
    with pytest.raises(ImportError, match=r"bad\.py is not imported: it never ends"):
        importlib.import_module("orchard.a")


def test_a_name_that_ends_like_a_package_is_a_module() -> None:
    code = code_of({"my__init__.py": "x = 1\n"})
    sources.mount(code)
    module = importlib.import_module("orchard.my__init__")
    assert module.x == 1
    assert not hasattr(module, "__path__")


# Versions.

WORLD = {
    "alone.py": "import json\n",
    "relative.py": "from ._help import x\n",
    "sibling.py": "from . import _help\n",
    "absolute.py": "import orchard._help\n",
    "absolute_from.py": "from orchard import _help\n",
    "renamed.py": "from orchard import _help as h\n",
    "late.py": "def f():\n    if True:\n        from ._help import x\n    return x\n",
    "star.py": "from ._help import *\n",
    "indirect.py": "from .relative import x\n",
    "literal.py": "import importlib\nimportlib.import_module('orchard._help')\n",
    "computed.py": "import importlib\nimportlib.import_module('orchard.' + '_help')\n",
    "dotted.py": "from importlib import import_module\nimport_module('._help', 'orchard')\n",
    "alias.py": "from importlib import import_module as load\nload('orchard._help')\n",
    "builtin.py": "__import__(name)\n",
    "ring_a.py": "from . import ring_b\n",
    "ring_b.py": "from . import ring_a, _help\n",
    "broken.py": "from ._help import x\nthis is no python\n",
    "above.py": "from . import broken\n",
    "similar.py": "from ._helper import x\nimport _help\n",
    "_help.py": "x = 1\n",
    "_helper.py": "x = 1\n",
    "sub/up.py": "from .._help import x\n",
    "sub/alone.py": "",
    "pack/__init__.py": "__all__ = ['inner']\n",
    "pack/inner.py": "x = 1\n",
    "pack/alone.py": "y = 1\n",
    "from_pack.py": "from .pack import inner\n",
    "from_inner.py": "from .pack.inner import x\n",
    "star_pack.py": "from .pack import *\n",
}
ANYTHING = {"computed.py", "dotted.py", "alias.py", "builtin.py"}


@pytest.mark.parametrize(
    ("edited", "dependants"),
    [
        (
            "_help.py",
            {
                "relative.py",
                "sibling.py",
                "absolute.py",
                "absolute_from.py",
                "renamed.py",
                "late.py",
            }
            | {"star.py", "indirect.py", "literal.py", "ring_a.py", "ring_b.py", "sub/up.py"},
        ),
        ("_helper.py", {"similar.py"}),
        ("relative.py", {"indirect.py"}),
        ("alone.py", set()),
        ("ring_a.py", {"ring_b.py"}),
        ("broken.py", {"above.py"}),
        ("sub/alone.py", set()),
        (
            "pack/__init__.py",
            {"pack/inner.py", "pack/alone.py", "from_pack.py", "from_inner.py", "star_pack.py"},
        ),
        ("pack/inner.py", {"from_pack.py", "from_inner.py", "star_pack.py"}),
        ("pack/alone.py", {"star_pack.py"}),
        ("computed.py", set()),
    ],
)
def test_an_edit_changes_the_versions_of_dependants_and_of_no_others(
    edited: str, dependants: set[str]
) -> None:
    before, after = code_of(WORLD), code_of(WORLD | {edited: WORLD[edited] + "\n# edited\n"})
    changed = {file for file in WORLD if before.version(file) != after.version(file)}
    assert changed == dependants | ANYTHING | {edited}
    assert before.digest != after.digest


def test_a_new_helper_concerns_whoever_imports_it() -> None:
    files = {"a.py": "try:\n    from . import _new\nexcept ImportError:\n    pass\n", "b.py": ""}
    before, after = code_of(files), code_of(files | {"_new.py": ""})
    assert before.version("a.py") != after.version("a.py")
    assert before.version("b.py") == after.version("b.py")


def test_a_new_package_init_concerns_its_modules() -> None:
    files = {"sub/a.py": "", "b.py": ""}
    before, after = code_of(files), code_of(files | {"sub/__init__.py": ""})
    assert before.version("sub/a.py") != after.version("sub/a.py")
    assert before.version("b.py") == after.version("b.py")


def test_a_version_does_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    one = sources.read(folder_of(tmp_path / "one", WORLD))
    other = sources.read(folder_of(tmp_path / "other", WORLD))
    assert one.digest == other.digest
    assert {f: one.version(f) for f in WORLD} == {f: other.version(f) for f in WORLD}


def test_a_version_depends_on_what_else_it_is_given() -> None:
    code = code_of({"a.py": "", "b.py": ""})
    assert len({code.version("a.py"), code.version("a.py", "2"), code.version("b.py")}) == 3


CALLS_B = [
    'import webfoot\ndef a(): webfoot.run("b", n=1)',
    'import webfoot as w\ndef a(): w.map("b", [])',
    'from webfoot import run\ndef a(): run("b")',
    'from webfoot import map as each\ndef a(): return each("b", [1], over="n")',
    # By a name that only a run knows, it may be any.
    "import webfoot\ndef a(name): webfoot.run(name)",
    'import webfoot\ndef a(): webfoot.run("".join("b"))',
    "import webfoot\nfrom .b import b\ndef a(): webfoot.run(b)",
]


@pytest.mark.parametrize("content", CALLS_B)
def test_a_version_depends_on_the_udfs_that_are_called(content: str) -> None:
    files = {"a.py": content, "b.py": "def b(): ...", "c.py": "def c(): ..."}
    before, after = code_of(files), code_of({**files, "b.py": "def b(): return 1"})
    assert before.version("a.py") != after.version("a.py")
    assert before.version("c.py") == after.version("c.py")


@pytest.mark.parametrize(
    "content",
    [
        'def a(): subprocess.run("b")',
        'def a(): map("b", [])',
        'import webfoot\ndef a(): webfoot.run("c")',
        "import webfoot\ndef c(): ...\ndef a(): webfoot.run(c)",
        'import webfoot\ndef a(): webfoot.run("nobody")',
    ],
)
def test_a_version_depends_on_no_udf_that_is_not_called(content: str) -> None:
    files = {"a.py": content, "b.py": "def b(): ...", "c.py": "def c(): ..."}
    after = code_of({**files, "b.py": "def b(): return 1"})
    assert code_of(files).version("a.py") == after.version("a.py")


def test_udfs_that_call_each_other_have_versions() -> None:
    files = {
        "a.py": 'import webfoot\ndef a(): webfoot.run("b")',
        "b.py": 'import webfoot\ndef b(): webfoot.run("a")',
    }
    after = code_of({**files, "b.py": files["b.py"] + "#"})
    assert code_of(files).version("a.py") != after.version("a.py")


@pytest.mark.parametrize(
    "content",
    [
        b"\0",
        b"\xff\xfe",
        b"# coding: nonsense\n",
        b"(" * 5000,
        b"from ..... import x\n",
        b"import\n",
    ],
)
def test_a_file_that_is_no_python_has_a_version_too(content: bytes) -> None:
    code = code_of({"a.py": content, "b.py": ""})
    assert code.version("a.py") != code_of({"a.py": content + b"#", "b.py": ""}).version("a.py")


@given(st.text())
def test_any_text_has_a_version(text: str) -> None:
    content = text.encode("utf-8", "surrogatepass")
    assert len(code_of({"a.py": content, "_b.py": ""}).version("a.py")) == 16
