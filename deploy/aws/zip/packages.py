"""The packages of a function: installed by hash for Lambda's machines, and those chosen that go in.

What goes in is what Webfoot requires, less what no function loads, and what the UDFs import.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from fnmatch import translate
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from packaging.requirements import Requirement

REQUIREMENTS = "requirements-aws.txt"
# The C library of Amazon Linux 2023, on which Lambda's runtimes of Python 3.12 and later rest.
GLIBC = (2, 34)
_WEBFOOT = "webfoot"
# What Webfoot requires and no function loads; a UDF may need it. Lambda's runtimes have a boto3,
# too, of a version that changes without notice: here is the locked one.
_NOT_LOADED = {
    "awslambdaric",  # Lambda's runtime is one.
    *("click", "rich", "uvicorn", "watchfiles"),  # The command line, and the server.
    "pandas",  # For who returns a frame, or asks for one.
    *("duckdb-extension-aws", "duckdb-extension-postgres-scanner"),
}
# Files that nothing reads. pyarrow has some of its libraries three times, and 50 MB of it are a
# protocol between services, and S3, for which there are DuckDB and boto3.
_UNREAD = [
    re.compile(translate(pattern))
    for pattern in (
        *("pyarrow/include/*", "pyarrow/includes/*", "pyarrow/src/*", "pyarrow/tests/*"),
        *("pyarrow/*.pxd", "pyarrow/*.pxi", "pyarrow/*.pyx", "pyarrow/_pyarrow_cpp_tests.*"),
        *("pyarrow/libarrow_python*.so", "pyarrow/libarrow_python*.so.*.*"),
        *("pyarrow/*flight*", "pyarrow/_s3fs.*", "pyarrow/libarrow_s3.*"),
        *("numpy/tests/*", "numpy/*/tests/*", "numpy/_core/include/*", "numpy/f2py/*"),
        *("numpy/*.a", "numpy/*.pyi"),
        # What pip notes: it is so no longer, and has paths of this machine in it.
        *("*.dist-info/RECORD", "*.dist-info/INSTALLER", "*.dist-info/REQUESTED"),
        *("*.dist-info/direct_url.json", "../*", "bin/*"),
    )
]
# Of the four hundred services that botocore describes, all but those that Webfoot calls; they go in
# with boto3 if that is asked for.
_OTHER_SERVICES = re.compile(r"botocore/data/(?!(?:lambda|s3|sqs|ssm|sts)/)[^/]+/")
_AWS = {"boto3", "botocore"}


class NotLocked(Exception):
    """A package is required that the lock file does not have; the message says by whom."""


@dataclass(frozen=True)
class Package:
    """A package that goes into the zip.

    Args:
        name: As it is published.
        needed_by: A package that requires it, or a file that imports it.
        files: Its files, each by its path in the zip.
    """

    name: str
    needed_by: str
    files: Mapping[str, Path]


def install(project: Path, machine: str, target: Path) -> None:
    """Install Webfoot and what its lock file has, for this Python and Lambda's system.

    Args:
        project: The folder that has both.
        machine: What to install for, as Python calls it: `x86_64`, `aarch64`.
        target: Where to.

    Raises:
        subprocess.CalledProcessError: If pip cannot; it has said why.
    """
    major, newest = GLIBC
    platforms = [f"manylinux_{major}_{minor}_{machine}" for minor in range(newest, 4, -1)]
    platforms += [f"manylinux{year}_{machine}" for year in (2014, 2010, 1)]
    _pip(
        *(f"--target={target}", f"--requirement={project / REQUIREMENTS}"),
        *("--require-hashes", "--only-binary=:all:"),
        *(f"--platform={platform}" for platform in platforms),
    )
    # What builds it is locked, too, and is plain Python: it has just been installed.
    own = (f"--target={target}", "--no-build-isolation", str(project))
    _pip(*own, environment={"PYTHONPATH": str(target)})


def _pip(*arguments: str, environment: Mapping[str, str] | None = None) -> None:
    alone = ("--no-deps", "--no-compile", "--upgrade")
    quiet = ("--quiet", "--disable-pip-version-check", "--root-user-action=ignore")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *alone, *quiet, *arguments],
        env={**os.environ, **(environment or {})},
        check=True,
    )


class Installed:
    """The packages in a folder.

    Args:
        folder: The folder.
        machine: What they were installed for.
    """

    def __init__(self, folder: Path, machine: str) -> None:
        self._found = {
            _plain(item.name): item for item in metadata.distributions(path=[str(folder)])
        }
        self._machine = machine
        self._owners: dict[str, set[str]] = defaultdict(set)
        for name, item in self._found.items():
            for path in item.files or ():
                self._owners[path.parts[0].split(".")[0]].add(name)

    def missing(self, modules: Mapping[str, str]) -> dict[str, str]:
        """Those of the modules that none of the packages has, each with what imports it."""
        return {name: by for name, by in modules.items() if name not in self._owners}

    def choose(self, modules: Mapping[str, str], packages: Mapping[str, str]) -> list[Package]:
        """The packages that go in.

        Args:
            modules: Modules that UDFs import, each with the file that does; those that no package
                has are passed over.
            packages: Packages that are asked for by name, each with who asks.

        Raises:
            NotLocked: If one is required that is not here.
        """
        asked = {f"{_WEBFOOT}[aws]": _WEBFOOT, **packages}
        for module, by in modules.items():
            asked |= dict.fromkeys(sorted(self._owners.get(module, ())), by)
        whole_aws = not _AWS.isdisjoint({*modules, *packages})
        unread = _UNREAD if whole_aws else [*_UNREAD, _OTHER_SERVICES]
        return [
            Package(name, by, dict(_files(self._found[name], unread)))
            for name, by in sorted(self._closure(asked).items())
        ]

    def _closure(self, asked: Mapping[str, str]) -> dict[str, str]:
        """Names of packages, and of all that they require, each with who needs it."""
        # pip has put it here with the others.
        from packaging.requirements import Requirement  # noqa: PLC0415

        needed_by: dict[str, str] = {}
        seen: set[tuple[str, frozenset[str]]] = set()
        # From its end: who is asked for first is told as the one that needs what several do.
        waiting = [(Requirement(text), by) for text, by in reversed([*asked.items()])]
        while waiting:
            requirement, by = waiting.pop()
            name, extras = _plain(requirement.name), frozenset(requirement.extras)
            if (name, extras) in seen:
                continue
            seen.add((name, extras))
            if name not in self._found:
                raise NotLocked(
                    f"{by} requires {name}, which {REQUIREMENTS} does not have; name it in"
                    " pyproject.toml, and run make lock"
                )
            needed_by.setdefault(name, by)
            for below in map(Requirement, self._found[name].requires or ()):
                left_out = name == _WEBFOOT and _plain(below.name) in _NOT_LOADED
                if not left_out and self._holds(below, extras):
                    waiting.append((below, name))
        return needed_by

    def _holds(self, requirement: Requirement, extras: frozenset[str]) -> bool:
        """Whether it is one on Lambda, for who is installed with these extras."""
        if requirement.marker is None:
            return True
        lambda_system = {
            "os_name": "posix",
            "platform_machine": self._machine,
            "platform_system": "Linux",
            "sys_platform": "linux",
        }
        return any(
            requirement.marker.evaluate({**lambda_system, "extra": extra})
            for extra in extras | {""}
        )


def _files(
    item: metadata.Distribution, unread: Sequence[re.Pattern[str]]
) -> Iterator[tuple[str, Path]]:
    for path in item.files or ():
        name = path.as_posix()
        if not any(pattern.match(name) for pattern in unread):
            yield name, Path(str(item.locate_file(path)))


def _plain(name: str) -> str:
    """A package's name as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()
