"""A folder of UDF files as one frozen snapshot: what is imported is exactly what was hashed.

The folder is mounted as a synthetic package, without touching `sys.path`; its modules are made
from the snapshot's bytes, so a file saved in the middle of an import cannot mix two versions of the
code.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.abc
import importlib.util
import keyword
import re
import sys
from dataclasses import dataclass, field
from functools import cached_property
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import CodeType, ModuleType

_DEFAULT_PACKAGE = "udfs"
_IMPORTERS = ("__import__", "import_module")
_CALLERS = ("run", "map")
_DEFINED = re.compile(rb"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Code:
    """The Python files of a folder at one moment.

    Args:
        root: The folder, absolute.
        package: The name that its files import each other by.
        files: Path below the root, with `/`, to the file's bytes.
        refused: Files that must not be imported, with the reason.
    """

    root: Path
    package: str
    files: Mapping[str, bytes]
    refused: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """A hash of every file: the identity of this snapshot."""
        return self._hash(sorted(self.files))

    @cached_property
    def modules(self) -> Mapping[str, str]:
        """Dotted module name to the file it is made from."""
        return {self._module_name(file): file for file in sorted(self.files)}

    def udf_files(self) -> Iterator[tuple[str, str]]:
        """Each file that may hold UDFs, with its module: names that begin with `_` are helpers."""
        for module, file in self.modules.items():
            if not any(part.startswith("_") for part in Path(file).with_suffix("").parts):
                yield file, module

    def version(self, file: str, *more: str) -> str:
        """The hash of `file`, of all that it imports from this folder or calls, and of `more`."""
        return self._hash(sorted(self._reach(file)), *more)

    def _hash(self, files: Sequence[str], *more: str) -> str:
        digest = hashlib.sha256()
        for file in files:
            content = hashlib.sha256(self.files[file]).hexdigest()
            digest.update(f"{file}\0{content}\0".encode())
        digest.update("\0".join(more).encode())
        return digest.hexdigest()[:16]

    def _module_name(self, file: str) -> str:
        parts = Path(file).with_suffix("").parts
        return ".".join((self.package, *(parts[:-1] if parts[-1] == "__init__" else parts)))

    def _reach(self, file: str) -> set[str]:
        reached: set[str] = set()
        waiting = [file]
        while waiting:
            current = waiting.pop()
            if current not in reached:
                reached.add(current)
                waiting.extend(self._imports[current])
        return reached

    def names_in(self, file: str) -> tuple[str, ...]:
        """The functions that `file` defines, whether it can be imported or not."""
        return tuple(sorted({name.decode() for name in _DEFINED.findall(self.files[file])}))

    @cached_property
    def _defining(self) -> Mapping[str, frozenset[str]]:
        """Function name to the files that define one of that name."""
        found: dict[str, set[str]] = {}
        for file, _ in self.udf_files():
            for name in self.names_in(file):
                found.setdefault(name, set()).add(file)
        return {name: frozenset(files) for name, files in found.items()}

    @cached_property
    def _imports(self) -> Mapping[str, frozenset[str]]:
        return {file: frozenset(self._imported_by(file)) for file in self.files}

    def _imported_by(self, file: str) -> Iterator[str]:
        try:
            tree = ast.parse(self.files[file])
        except (SyntaxError, ValueError, RecursionError):
            return
        is_package = Path(file).name == "__init__.py"
        module = self._module_name(file)
        home = module if is_package else module.rpartition(".")[0]
        yield from self._files_of(home)
        for node in ast.walk(tree):
            for name in _imported_names(node, home):
                # What is imported by a computed name cannot be told: take it to be anything.
                yield from self.files if name is None else self._files_of(name)
        for name in _called_names(tree):
            # A function that is called by its name in a variable, likewise.
            yield from self.files if name is None else self._defining.get(name, ())

    def _files_of(self, name: str) -> Iterator[str]:
        """The files that importing `name` runs: its module, and each package above it."""
        if name.endswith(".*"):
            # A package's `__all__` may name any file below it.
            yield from (f for module, f in self.modules.items() if module.startswith(name[:-1]))
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            file = self.modules.get(".".join(parts[:length]))
            if file is not None:
                yield file


def _imported_names(node: ast.AST, home: str) -> Iterator[str | None]:
    """The dotted names that one statement may import; None for a name only known when it runs."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = home.split(".")[: len(home.split(".")) - node.level + 1]
            base = ".".join((*above, base) if base else above)
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
        if any(alias.name in _IMPORTERS and alias.asname for alias in node.names):
            yield None
    elif isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else None
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called in _IMPORTERS:
            yield _literal_name(node)


def _literal_name(call: ast.Call) -> str | None:
    """The module that `import_module("…")` names, unless only a run can tell."""
    match call.args:
        case [ast.Constant(value=str(name))] if not (name.startswith(".") or call.keywords):
            return name
    return None


def _called_names(tree: ast.AST) -> Iterator[str | None]:
    """The UDFs that `webfoot.run` and `webfoot.map` are given; None for one only known in a run.

    A UDF that is given as a function has been imported: its file is found that way.
    """
    packages, callers = {"webfoot"}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            packages |= {a.asname for a in node.names if a.name == "webfoot" and a.asname}
        elif isinstance(node, ast.ImportFrom) and node.module in ("webfoot", "webfoot.calling"):
            callers |= {a.asname or a.name for a in node.names if a.name in _CALLERS}
    functions = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and _calls(node.func, packages, callers)):
            continue
        match node.args[:1]:
            case [ast.Constant(value=str(name))]:
                yield name
            case [ast.Name(id=name)] if name in functions | imported:
                pass
            case _:
                yield None


def _calls(function: ast.expr, packages: set[str], callers: set[str]) -> bool:
    """Whether `function` is `webfoot.run` or `webfoot.map`, by whatever name."""
    if isinstance(function, ast.Name):
        return function.id in callers
    return (
        isinstance(function, ast.Attribute)
        and function.attr in _CALLERS
        and isinstance(function.value, ast.Name)
        and function.value.id in packages
    )


def to_message(code: Code) -> dict[str, Any]:
    """The snapshot as JSON values, for another process."""
    return {
        "root": str(code.root),
        "package": code.package,
        "files": {file: base64.b64encode(content).decode() for file, content in code.files.items()},
        "refused": dict(code.refused),
    }


def from_message(message: Mapping[str, Any]) -> Code:
    """The snapshot that `to_message` wrote."""
    files = {file: base64.b64decode(content) for file, content in message["files"].items()}
    return Code(Path(message["root"]), message["package"], files, message["refused"])


def read(folder: Path) -> Code:
    """Take a snapshot of the Python files of `folder`.

    Raises:
        FileNotFoundError: If there is no such folder.
        NotADirectoryError: If it is a file.
    """
    root = folder.resolve(strict=True)
    if not root.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give the folder that it is in")
    files, refused = {}, {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if any(part.startswith(".") or part == "__pycache__" for part in parts):
            continue
        if not path.is_file():  # A folder, or a link to nowhere.
            continue
        file = "/".join(parts)
        try:
            files[file] = path.read_bytes()
        except FileNotFoundError:  # Removed since it was listed.
            continue
        except OSError as error:
            files[file] = b""
            refused[file] = f"it cannot be read: {error.strerror}"
    return Code(root, _package_name(root), files, refused)


def _package_name(root: Path) -> str:
    """The folder's own name, unless that is no name for a package or already names another."""
    name = root.name
    if not name.isidentifier() or keyword.iskeyword(name):
        return _DEFAULT_PACKAGE
    if name in sys.stdlib_module_names or name == "webfoot":
        return _DEFAULT_PACKAGE
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return name if name not in sys.modules else _DEFAULT_PACKAGE
    if spec is None or isinstance(spec, _MountedSpec):
        return name
    homes = {Path(place).resolve() for place in spec.submodule_search_locations or ()}
    return name if homes == {root} else _DEFAULT_PACKAGE


class _MountedSpec(ModuleSpec):
    """Marks a module as made from a snapshot."""


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of one snapshot, and nothing else."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self.packages = {code.package}
        for name in code.modules:
            parts = name.split(".")
            self.packages |= {".".join(parts[:length]) for length in range(1, len(parts))}

    def find_spec(
        self,
        fullname: str,
        path: object = None,  # noqa: ARG002  # importlib gives it
        target: ModuleType | None = None,  # noqa: ARG002  # importlib gives it
    ) -> ModuleSpec | None:
        file = self.code.modules.get(fullname)
        if file is None and fullname not in self.packages:
            return None
        loader = _Loader(self.code, file)
        is_package = loader.is_package(fullname)
        origin = None if file is None else str(self.code.root / file)
        spec = _MountedSpec(fullname, loader, origin=origin, is_package=is_package)
        spec.has_location = origin is not None
        return spec


class _Loader(importlib.abc.InspectLoader):
    """Makes a module from a snapshot's bytes."""

    def __init__(self, code: Code, file: str | None) -> None:
        self.code = code
        self.file = file

    def get_source(self, fullname: str) -> str:  # noqa: ARG002  # importlib gives it
        content = b"" if self.file is None else self.code.files[self.file]
        return importlib.util.decode_source(content)

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  # importlib gives it
        path = "<package>" if self.file is None else str(self.code.root / self.file)
        content = b"" if self.file is None else self.code.files[self.file]
        return compile(content, path, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:  # noqa: ARG002  # importlib gives it
        return self.file is None or Path(self.file).name == "__init__.py"

    def exec_module(self, module: ModuleType) -> None:
        reason = self.code.refused.get(self.file or "")
        if reason is not None:
            raise ImportError(f"{self.file} is not imported: {reason}")
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102  # nosec B102


def mount(code: Code) -> None:
    """Make the snapshot importable under its package name, in place of an earlier one."""
    unmount(code.package)
    # Somebody may have imported the folder the common way: those modules are not this snapshot.
    for name in [name for name in list(sys.modules) if name.split(".")[0] == code.package]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Finder(code))


def unmount(package: str) -> None:
    """Forget a mounted package: functions made from it go on, new imports do not find it."""
    sys.meta_path[:] = [
        finder
        for finder in sys.meta_path
        if not (isinstance(finder, _Finder) and finder.code.package == package)
    ]
    for name in [name for name in list(sys.modules) if name.split(".")[0] == package]:
        if isinstance(getattr(sys.modules[name], "__spec__", None), _MountedSpec):
            del sys.modules[name]
