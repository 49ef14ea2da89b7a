"""What the files of a folder of UDFs import, and what they use that takes no import."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from importlib.util import decode_source
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

# DuckDB and pyarrow import these packages, and load these extensions, for who writes so.
_USED_BY = {
    "duckdb-extension-aws": re.compile(r"\bs3[an]?://"),
    "duckdb-extension-postgres-scanner": re.compile(r"\bpg\.\w|postgres", re.IGNORECASE),
    "numpy": re.compile(r"\.(create_function|fetchnumpy|to_numpy)\("),
    "pandas": re.compile(r"\.(df|fetch_?df|to_df|to_pandas)\("),
}


@dataclass(frozen=True)
class Needs:
    """What a folder of UDFs needs beyond Webfoot and Python's own library.

    Args:
        modules: The names of top-level modules, each with a file that imports it.
        packages: The names of packages that no import tells, each with a file that uses it.
    """

    modules: Mapping[str, str]
    packages: Mapping[str, str]


def needs_of(folder: Path) -> Needs:
    """What the UDFs of a folder need; what is imported by a computed name cannot be told.

    Raises:
        OSError: If there is no such folder, or a file cannot be read.
        SyntaxError: If a file is not Python.
    """
    modules: dict[str, str] = {}
    packages: dict[str, str] = {}
    root = folder.resolve(strict=True)
    paths = [path.relative_to(root) for path in sorted(root.rglob("*.py"))]
    files = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    ours = {file.parts[0].removesuffix(".py") for file in files}
    ours |= {root.name, "webfoot", *sys.stdlib_module_names}
    for file in files:
        shown = f"{root.name}/{file.as_posix()}"
        text = decode_source((root / file).read_bytes())
        for name in _imports(ast.parse(text, shown)):
            if name not in ours:
                modules.setdefault(name, shown)
        for package, pattern in _USED_BY.items():
            if pattern.search(text):
                packages.setdefault(package, shown)
    return Needs(modules, packages)


def _imports(node: ast.AST) -> Iterator[str]:
    """The top-level modules that a tree imports, but for those only a type checker does."""
    below: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        below = node.orelse
    elif isinstance(node, ast.Import):
        yield from (alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
        yield node.module.split(".")[0]
    for child in below:
        yield from _imports(child)
