"""The UDFs found in a folder, and what could not be loaded from it."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import io
import linecache
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from webfoot import sources
from webfoot.definition import ATTRIBUTE, Udf, definition_of
from webfoot.errors import UdfNotFound, UdfUnavailable
from webfoot.masking import mask

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from webfoot.sources import Code

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
        hint = f"did you mean {near[0]!r}?" if near else "`webfoot list` or GET /udfs lists them"
        raise UdfNotFound(f"there is no UDF {name!r}; {hint}", udf=name)

    def only(self, seen: Callable[[str], bool]) -> Registry:
        """The registry as somebody sees it who may know of some names only."""
        problems = [
            replace(problem, names=names)
            for problem in self.problems
            if (names := tuple(name for name in problem.names if seen(name)))
        ]
        udfs = {name: udf for name, udf in self.udfs.items() if seen(name)}
        return Registry(self.code, udfs, tuple(problems))


def load(code: Code) -> Registry:
    """Import every file of `code` and collect its UDFs; a broken file is a problem, no error."""
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
            problems.extend(_misplaced(file, module))
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
            # It may be the fault of a file that this one imports.
            elsewhere = error.filename not in (None, str(code.root / file))
            place = f"{Path(str(error.filename)).name}, " if elsewhere else ""
            where = f" ({place}line {error.lineno})" if error.lineno else ""
            message = f"{type(error).__name__}: {error.msg}{where}"
        return _problem(code, file, message, author_traceback(error, code))


def _problem(code: Code, file: str, message: str, trace: str = "") -> Problem:
    return Problem(file, mask(message), trace, code.names_in(file))


def _udfs_of(module: ModuleType) -> Iterator[Udf]:
    """The UDFs that `module` defines itself: what it imported belongs to another file."""
    # By identity: a UDF that has a second name there is one all the same.
    own = {id(value): definition_of(value) for value in vars(module).values()}
    for udf in own.values():
        if udf is not None and udf.function.__module__ == module.__name__:
            yield udf


def _misplaced(file: str, module: ModuleType) -> Iterator[Problem]:
    """The functions that another decorator hides: a run would go past that decorator."""
    for name, value in vars(module).items():
        record = getattr(value, "__dict__", {}).get(ATTRIBUTE)
        if isinstance(record, Udf) and definition_of(value) is None and name == record.name:
            message = (
                f"{name!r} (line {record.line}) has a decorator above @udf, which a run would not"
                " go through; put @udf on top"
            )
            yield Problem(file, message, "", (name,))


def _clash(name: str, places: list[tuple[str, Udf]]) -> Problem:
    where = " and ".join(f"{file} (line {udf.line})" for file, udf in places)
    return Problem(places[0][0], f"{name!r} is defined twice, in {where}; rename one", "", (name,))


def author_traceback(error: BaseException, code: Code) -> str:
    """The traceback of `error`, cut to the frames of the author's own files."""
    # A file saved since then would otherwise show lines of a version that did not run.
    for file, content in code.files.items():
        path = str(code.root / file)
        lines = io.StringIO(_decode(content)).readlines()
        linecache.cache[path] = (len(content), None, lines, path)
    whole = traceback.TracebackException.from_exception(error)
    waiting: list[traceback.TracebackException | None] = [whole]
    while waiting:
        current = waiting.pop()
        if current is None:
            continue
        own = [frame for frame in current.stack if Path(frame.filename).is_relative_to(code.root)]
        current.stack = traceback.StackSummary.from_list(own)
        waiting += [current.__cause__, current.__context__, *(current.exceptions or ())]
    return mask("".join(whole.format()).strip())


def _decode(content: bytes) -> str:
    try:
        return importlib.util.decode_source(content)
    except (SyntaxError, ValueError):  # It has no such encoding.
        return content.decode(errors="replace")
