"""What the files of a folder of UDFs import, and which extensions of DuckDB they speak of."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# What takes an extension that is a package of its own, and large.
_EXTENSIONS = {
    "duckdb-extension-aws": re.compile(r"\bs3[an]?://"),
    "duckdb-extension-postgres-scanner": re.compile(r"\bpg\.\w|postgres", re.IGNORECASE),
}


@dataclass(frozen=True)
class Needs:
    """What a folder of UDFs needs beyond Webfoot and Python's own library.

    Args:
        modules: The names of top-level modules, each with a file that imports it.
        packages: The names of packages, each with a file that speaks of what is in it.
    """

    modules: Mapping[str, str]
    packages: Mapping[str, str]


def needs_of(folder: Path) -> Needs:
    """What the UDFs of a folder need; what they import by a computed name cannot be told.

    Raises:
        SyntaxError: If a file is not Python.
    """
    modules: dict[str, str] = {}
    packages: dict[str, str] = {}
    files = sorted(folder.rglob("*.py"))
    ours = {file.relative_to(folder).parts[0].removesuffix(".py") for file in files}
    ours |= {folder.name, "webfoot", *sys.stdlib_module_names}
    for file in files:
        shown = f"{folder.name}/{file.relative_to(folder).as_posix()}"
        text = file.read_text(encoding="utf-8")
        for name in _imports(ast.parse(text, shown)):
            if name not in ours:
                modules.setdefault(name, shown)
        for package, pattern in _EXTENSIONS.items():
            if pattern.search(text):
                packages.setdefault(package, shown)
    return Needs(modules, packages)


def _imports(node: ast.AST) -> Iterator[str]:
    """The top-level modules that a tree imports, but for those only a type checker does."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        inner: list[ast.stmt] = node.orelse
    else:
        inner = list(ast.iter_child_nodes(node))  # type: ignore[arg-type]  # of any kind
    if isinstance(node, ast.Import):
        yield from (alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
        yield node.module.split(".")[0]
    for child in inner:
        yield from _imports(child)
