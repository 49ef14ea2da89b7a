"""The UDFs found in a folder, and what could not be loaded from it."""

from __future__ import annotations

import difflib
import importlib
import linecache
import re
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from webfoot import sources
from webfoot.definition import Udf, definition_of
from webfoot.errors import UdfNotFound, UdfUnavailable
from webfoot.sources import Code

if TYPE_CHECKING:
    from types import ModuleType

_DEFINED = re.compile(rb"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)", re.MULTILINE)
# Imports change `sys.modules`, which all threads share.
_IMPORTING = threading.RLock()


@dataclass(frozen=True)
class Problem:
    """Why a file, or a name in it, is not served.

    Args:
        file: The file, below the folder.
        message: What is wrong, in one sentence.
        traceback: The author's frames; empty when the message says it all.
        names: Functions the file defines: a request for one is told the problem.
    """

    file: str
    message: str
    traceback: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registry(Mapping[str, Udf]):
    """The UDFs of one snapshot of the code, by name."""

    code: Code
    udfs: Mapping[str, Udf]
    problems: tuple[Problem, ...] = ()

    def __getitem__(self, name: str) -> Udf:
        return self.udfs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.udfs)

    def __len__(self) -> int:
        return len(self.udfs)

    def find(self, name: str) -> Udf:
        """The UDF called `name`.

        Raises:
            UdfUnavailable: If its file could not be loaded.
            UdfNotFound: If there is none; it names the nearest.
        """
        if name in self.udfs:
            return self.udfs[name]
        for problem in self.problems:
            if name in problem.names:
                error = UdfUnavailable(f"{problem.file}: {problem.message}", udf=name)
                error.traceback = problem.traceback or None
                raise error
        near = difflib.get_close_matches(name, self.udfs, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "GET /udfs lists them"
        raise UdfNotFound(f"there is no UDF {name!r}; {hint}", udf=name)


def load(code: Code) -> Registry:
    """Import every file of `code` and collect its UDFs; a broken file is a problem, not an error."""
    found: dict[str, list[tuple[str, Udf]]] = {}
    problems = []
    with _IMPORTING:
        sources.mount(code)
        for file, module_name in code.udf_files():
            if file in code.refused:
                problems.append(_problem(code, file, code.refused[file]))
                continue
            module = _import(code, file, module_name)
            if isinstance(module, Problem):
                problems.append(module)
                continue
            for udf in _udfs_of(module):
                found.setdefault(udf.name, []).append((file, udf))
    udfs = {}
    for name, places in sorted(found.items()):
        if len(places) == 1:
            file, udf = places[0]
            version = code.version(file, udf.options.version)
            udfs[name] = replace(udf, version=version, code=code)
        else:
            problems.append(_clash(name, places))
    return Registry(code, udfs, tuple(problems))


def _import(code: Code, file: str, module_name: str) -> ModuleType | Problem:
    try:
        return importlib.import_module(module_name)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  # an author's file may raise anything
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, SyntaxError):
            message = f"{type(error).__name__}: {error.msg} (line {error.lineno})"
        return _problem(code, file, message, author_traceback(error, code))


def _problem(code: Code, file: str, message: str, trace: str = "") -> Problem:
    names = tuple(sorted({name.decode() for name in _DEFINED.findall(code.files[file])}))
    return Problem(file, message, trace, names)


def _udfs_of(module: ModuleType) -> Iterator[Udf]:
    """The UDFs that `module` defines itself: what it imported belongs to another file."""
    for value in vars(module).values():
        udf = definition_of(value)
        if udf is not None and udf.function.__module__ == module.__name__:
            yield udf


def _clash(name: str, places: list[tuple[str, Udf]]) -> Problem:
    where = " and ".join(f"{file} (line {udf.line})" for file, udf in places)
    return Problem(places[0][0], f"{name!r} is defined twice, in {where}; rename one", "", (name,))


def author_traceback(error: BaseException, code: Code) -> str:
    """The traceback of `error`, cut to the frames of the author's own files."""
    # A file saved since then would otherwise show lines of a version that did not run.
    for file, content in code.files.items():
        path = str(code.root / file)
        lines = content.decode(errors="replace").splitlines(keepends=True)
        linecache.cache[path] = (len(content), None, lines, path)
    whole = traceback.TracebackException.from_exception(error)
    current: traceback.TracebackException | None = whole
    while current is not None:
        own = [frame for frame in current.stack if Path(frame.filename).is_relative_to(code.root)]
        current.stack = traceback.StackSummary.from_list(own)
        current = current.__cause__ or current.__context__
    return "".join(whole.format()).strip()
