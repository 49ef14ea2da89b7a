"""The package keeps its shape: light to import, layers that point one way, one home per library."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import webfoot

ROOT = Path(webfoot.__file__).parent

# From the bottom up; a module may import its own layer and those below it. A name stands for all
# modules below it too. A module that no layer names is held to what imports it and what it imports.
LAYERS = [
    {
        *("access.principal", "billing", "datasets", "errors", "files", "interruption", "journal"),
        *("literals", "masking", "quantities", "results", "settings", "sqlite", "unreadable"),
    },
    {"definition", "docstrings", "parameters", "sources"},
    {"registry"},
    {
        *("access", "assets", "calling", "catalog", "database", "estimates", "formats", "geojson"),
        *("outcomes", "querying", "runners", "runs", "snippets", "spreadsheets", "store"),
        *("tables", "templating", "texts", "tiling", "views"),
    },
    {"asking", "fanout", "lineage"},
    {"engine"},
    {"assembly", "jobs", "probe", "reload"},
    {"server"},
    {"aws", "cli", "in_process"},
]
# What stands apart, with all that it may import of ours.
ISLANDS = {
    "conformance": {"conformance"},
    "client": {
        *("client", "database", "errors", "literals", "outcomes", "quantities", "tables"),
        "templating",
    },
}
# Where a library may be imported; to a type checker, what tables come as may be named anywhere.
HOMES = {
    "aws_lambda_powertools": {"database.secrets"},
    "boto3": {"aws.invoking", "store"},
    "botocore": {"aws.invoking", "store"},
    "click": {"cli", "conformance"},
    "docstring_parser": {"docstrings"},
    "duckdb": {"database", "querying"},
    "fastapi": {"server"},
    "fsspec": {"querying"},
    "httpx": {"client", "conformance", "in_process"},
    "jinja2": {"templating"},
    "jwt": {"access"},
    "mangum": {"aws"},
    "numpy": {"tables"},
    "pandas": {"tables"},
    "opentelemetry": {"server.spans"},
    "platformdirs": {"settings"},
    "polars": {"tables"},
    "prometheus_client": {"server.exposition"},
    "psutil": {"runners", "sqlite", "store"},
    "pyarrow": {"runners.worker", "tables"},
    "pydantic": {"parameters"},
    "pydantic_core": {"client", "parameters"},
    "rich": {"cli", "conformance"},
    "sqlite3": {"sqlite"},
    "starlette": {"aws", "in_process", "server"},
    "uvicorn": {"cli"},
    "watchfiles": {"reload"},
}
NAMED_IN_TYPES = {"duckdb", "pandas", "polars", "pyarrow"}
# Asynchrony is no feature that could have one home.
EVERYWHERE = {"anyio"}
HEAVY = {"duckdb", "fastapi", "httpx", "numpy", "pandas", "pyarrow", "starlette"}
SAYS_NOTHING = {"base", "common", "core", "helper", "helpers", "manager", "managers", "misc"}
SAYS_NOTHING |= {"util", "utils"}


@dataclass(frozen=True)
class Import:
    """One import of `name`, as written in the module `by`; both without `webfoot.`."""

    by: str
    name: str
    ours: bool
    typing_only: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def under(name: str, places: set[str]) -> bool:
    """Whether `name` is one of `places` or below one."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def targets(node: ast.AST, module: str) -> list[str]:
    """The absolute names that an import statement may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        home = ["webfoot", *module.split(".")] if module else ["webfoot"]
        steps = node.level - (MODULES[module].name == "__init__.py")
        base = ".".join([*home[: len(home) - steps], *filter(None, [base])])
    if base.split(".")[0] != "webfoot":
        return [base]
    below = [f"{base}.{alias.name}".removeprefix("webfoot.") for alias in node.names]
    modules = [f"webfoot.{name}" for name in below if name in MODULES]
    return modules if len(modules) == len(below) else [base, *modules]


def imports_of(module: str) -> list[Import]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        for target in targets(node, module):
            top, _, rest = target.partition(".")
            name = rest if top == "webfoot" else target
            found.append(Import(module, name, top == "webfoot", id(node) in typing_only))
    return found


@cache
def all_imports() -> tuple[Import, ...]:
    return tuple(item for module in MODULES for item in imports_of(module))


def layer_of(module: str) -> int | None:
    return next((n for n, names in enumerate(LAYERS) if under(module, names)), None)


def reached_by(module: str) -> set[str]:
    """What `module` imports of ours, also through modules that no layer names."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        current = waiting.pop()
        for item in all_imports():
            # The package itself is lazy: importing it loads nothing.
            if item.by != current or not item.ours or not item.name or item.name in reached:
                continue
            reached.add(item.name)
            if layer_of(item.name) is None:
                waiting.append(item.name)
    return reached


@pytest.mark.parametrize("module", [name for name in MODULES if layer_of(name) is not None])
def test_imports_point_downward(module: str) -> None:
    own = layer_of(module)
    assert own is not None
    upward = {name for name in reached_by(module) if (layer_of(name) or 0) > own}
    assert not upward, f"webfoot.{module} imports from a layer above its own"


@pytest.mark.parametrize("island", ISLANDS)
def test_an_island_imports_nothing_else_of_ours(island: str) -> None:
    ours = {i.name for i in all_imports() if under(i.by, {island}) and i.ours and i.name}
    assert {name for name in ours if not under(name, ISLANDS[island])} == set()


def test_nothing_imports_the_conformance_kit() -> None:
    assert {i.by for i in all_imports() if i.ours and under(i.name, {"conformance"})} <= {
        name for name in MODULES if under(name, {"conformance"})
    }


def test_no_imports_go_round() -> None:
    runtime: dict[str, set[str]] = {name: set() for name in MODULES}
    for item in all_imports():
        if item.ours and item.name and not item.typing_only and item.by:
            runtime[item.by].add(item.name)
    # A module is done when all that it imports is done; a ring never is.
    done: set[str] = set()
    while ready := {name for name in set(runtime) - done if runtime[name] <= done}:
        done |= ready
    assert set(runtime) - done == set()


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_at_home_only(library: str) -> None:
    guests = {
        item.by
        for item in all_imports()
        if not item.ours
        and item.name.split(".")[0] == library
        and not under(item.by, HOMES[library])
        and not (library in NAMED_IN_TYPES and item.typing_only)
    }
    assert guests == set()


def test_a_new_library_has_one_home_too() -> None:
    homes: dict[str, set[str]] = {}
    for item in all_imports():
        library = item.name.split(".")[0]
        if item.ours or library in sys.stdlib_module_names or library in {*HOMES, *EVERYWHERE}:
            continue
        homes.setdefault(library, set()).add(item.by.split(".")[0])
    assert {library: places for library, places in homes.items() if len(places) > 1} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert {name for name in MODULES if SAYS_NOTHING & set(name.split("."))} == set()


def test_the_package_is_never_imported_by_its_source_folder() -> None:
    assert {i.by for i in all_imports() if i.name.split(".")[0] == "app" and not i.ours} == set()
    assert [name for name in sys.modules if name == "app" or name.startswith("app.")] == []


# In a fresh interpreter.


def fresh(code: str) -> object:
    """What `code` prints as JSON, in an interpreter that has imported nothing."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


LOADED = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"


def test_importing_the_package_loads_nothing_of_weight() -> None:
    loaded = fresh(f"import webfoot; {LOADED}")
    assert isinstance(loaded, list)
    assert not {*HEAVY, "pydantic", "click", "anyio"} & set(loaded)
    assert "app" not in loaded


def test_the_decorator_loads_pydantic_and_nothing_else_of_weight() -> None:
    loaded = fresh(f"from webfoot import udf\n@udf\ndef f(n: int = 1): ...\n{LOADED}")
    assert isinstance(loaded, list)
    assert not HEAVY & set(loaded)
    assert "pydantic" in loaded


def test_the_client_loads_no_server_and_no_library_before_it_is_asked_for() -> None:
    code = "import json, sys, webfoot; webfoot.Client; print(json.dumps(sorted(sys.modules)))"
    loaded = fresh(code)
    assert isinstance(loaded, list)
    libraries = {name.split(".")[0] for name in loaded}
    assert not {"duckdb", "fastapi", "jinja2", "pandas", "polars", "starlette", "tqdm"} & libraries
    ours = {name.removeprefix("webfoot.").split(".")[0] for name in loaded if "webfoot." in name}
    assert not {"assembly", "cli", "engine", "in_process", "runners", "server", "store"} & ours
    assert "client" in ours


def test_the_decorator_is_still_one_after_every_module_is_loaded() -> None:
    names = [f"webfoot.{name}" for name in MODULES if name and not name.endswith("__main__")]
    code = (
        "import importlib, json, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "import webfoot\n"
        "from webfoot import udf\n"
        "kinds = {name: type(getattr(webfoot, name)).__name__ for name in webfoot.__all__}\n"
        "@udf\ndef f(n: int = 1): return n\n"
        "app = [name for name in sys.modules if name.split('.')[0] == 'app']\n"
        "print(json.dumps([f(2), kinds, app]))\n"
    )
    result = fresh(code)
    assert isinstance(result, list)
    answer, kinds, app = result
    assert answer == 2
    assert "module" not in kinds.values()
    assert kinds["udf"] == "function"
    assert app == []


def test_the_public_names_are_few_sorted_and_importable() -> None:
    assert webfoot.__all__ == sorted(webfoot.__all__)
    assert len(webfoot.__all__) <= 16
    for name in webfoot.__all__:
        assert getattr(webfoot, name) is getattr(importlib.import_module("webfoot"), name)
    star: dict[str, object] = {}
    exec("from webfoot import *", star)
    assert set(webfoot.__all__) <= set(star)


def test_no_module_is_called_like_a_public_name() -> None:
    assert set(webfoot.__all__) & {name.split(".")[0] for name in MODULES} == set()


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'webfoot' has no attribute 'nothing'"):
        _ = webfoot.nothing
