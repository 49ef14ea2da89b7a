"""DuckDB's extensions: found in a folder or in packages, never downloaded unless allowed."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess  # nosec B404  # what it starts is marked where it does
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from webfoot.literals import sql_name, sql_text
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUFFIX = ".duckdb_extension"
# What DuckDB calls them in SQL, where its files are called otherwise.
ALIASES = {
    "mysql": "mysql_scanner",
    "postgres": "postgres_scanner",
    "sqlite": "sqlite_scanner",
    "sqlite3": "sqlite_scanner",
    **dict.fromkeys(("http", "https", "s3"), "httpfs"),
    "md": "motherduck",
}
_PACKAGE = "duckdb_extension_"
# Where a file says what it is made for: eight fields of 32 bytes before its signature of 256.
_FOOTER, _FIELD = 512, 32
_MADE_FOR, _PLATFORM, _ABI = 5, 6, 3
_CHECK = """
import duckdb, sys
con = duckdb.connect(config={
    "extension_directory": sys.argv[1], "autoinstall_known_extensions": "false"})
for name in sys.argv[2:]:
    con.execute(f"LOAD {name}")
"""


class ExtensionUnavailable(RuntimeError):
    """An extension is missing, or made for another DuckDB; the message says what to do."""


@dataclass(frozen=True)
class Baked:
    """An extension that was copied into a folder, and loads from there.

    Args:
        name: As its file is called.
        path: The file.
        size: In bytes.
    """

    name: str
    path: Path
    size: int


@dataclass(frozen=True)
class Extensions:
    """Where extensions are found: first in the folder, then in packages.

    Args:
        folder: Laid out as DuckDB does, `v1.5.5/linux_amd64/`, or flat; it need not exist.
        downloads: Whether what is in neither may be downloaded.
    """

    folder: Path
    downloads: bool = False

    @classmethod
    def from_environment(cls) -> Extensions:
        """As the settings say.

        Raises:
            SettingsError: If they cannot be read.
        """
        settings = Settings.from_environment()
        return cls(settings.extensions, settings.extension_downloads)

    def find(self, name: str) -> Path:
        """The file of an extension that this DuckDB can load.

        Args:
            name: Such as `httpfs`, or an alias, such as `postgres`.

        Raises:
            ExtensionUnavailable: If there is none, or it is made for another DuckDB.
        """
        name = real_name(name)
        return self._choose(name, [*self._in_folder(name), *_in_packages(name)])

    def find_in_packages(self, name: str) -> Path:
        """The same, wherever the folder has one, too."""
        name = real_name(name)
        return self._choose(name, list(_in_packages(name)))

    def _choose(self, name: str, found: Sequence[Path]) -> Path:
        if not found:
            raise ExtensionUnavailable(
                f"DuckDB {duckdb.__version__} has no {name} here; {self._cure(name)}"
            )
        # A file that fits wins over one before it that does not.
        path = next((path for path in found if not _misfit(path)), found[0])
        if misfit := _misfit(path):
            raise ExtensionUnavailable(
                f"{name} does not load in DuckDB {duckdb.__version__}: {path} is made for {misfit};"
                f" {self._cure(name)}"
            )
        return path

    def load(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        """Load an extension into a DuckDB; one that is loaded stays as it is.

        Raises:
            ExtensionUnavailable: If it is not found, or DuckDB refuses it.
        """
        name = real_name(name)
        try:
            path = self.find(name)
        except ExtensionUnavailable:
            if not self.downloads:
                raise
            statement = f"INSTALL {sql_name(name)}; LOAD {sql_name(name)}"
        else:
            statement = f"LOAD {sql_text(str(path))}"
        try:
            connection.execute(statement)
        except duckdb.Error as error:
            raise ExtensionUnavailable(
                f"{name} does not load in DuckDB {duckdb.__version__}: {error}; {self._cure(name)}"
            ) from error

    def link(self, target: Path) -> None:
        """Make `target` a folder in which DuckDB itself finds them all: `LOAD name`, autoloading.

        Raises:
            OSError: If it cannot be written.
        """
        place = _folder_of(target)
        place.mkdir(parents=True, exist_ok=True)
        # The folder's come first, and what is there is not linked again.
        for path in (*self._in_folder("*"), *_in_packages("*")):
            link = place / path.name
            if not link.is_symlink() and not _misfit(path):
                link.symlink_to(path)

    def _in_folder(self, name: str) -> Iterator[Path]:
        yield from sorted(_folder_of(self.folder).glob(name + SUFFIX))
        yield from sorted(self.folder.glob(name + SUFFIX))
        # Of another version: to say so is better than to say that there is none.
        yield from sorted(self.folder.glob(f"v*/*/{name}{SUFFIX}"))

    def _cure(self, name: str) -> str:
        package = f"duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}"
        return (
            f"pip install {package}, and where extensions are baked,"
            f" webfoot extensions bake --target {self.folder} {name}"
        )


def real_name(name: str) -> str:
    """What an extension's file is called.

    Raises:
        ExtensionUnavailable: If that can be no name of one.
    """
    name = name.lower()
    if not name.replace("_", "").isalnum() or not name.isascii():
        raise ExtensionUnavailable(f"{name!r} is no name of an extension; write one like 'httpfs'")
    return ALIASES.get(name, name)


def load_httpfs(connection: duckdb.DuckDBPyConnection) -> None:
    """Load DuckDB's httpfs, so that it reads `http://` and `s3://`.

    Raises:
        ExtensionUnavailable: If it is missing, or made for another DuckDB.
    """
    Extensions.from_environment().load(connection, "httpfs")


def bake(names: Sequence[str], target: Path) -> list[Baked]:
    """Copy extensions out of the packages, and load them all in a process of its own.

    Args:
        names: Which; aliases are understood.
        target: The folder, such as an image's `/opt/duckdb_extensions`.

    Raises:
        ExtensionUnavailable: If one is missing, or does not load from there.
        OSError: If the folder cannot be written.
    """
    extensions = Extensions(target)
    found = {real_name(name): extensions.find_in_packages(name) for name in names}
    place = _folder_of(target)
    place.mkdir(parents=True, exist_ok=True)
    baked = []
    for name, path in found.items():
        copied = place / (name + SUFFIX)
        draft = copied.with_suffix(f".{os.getpid()}")
        shutil.copyfile(path, draft)
        draft.replace(copied)
        baked.append(Baked(name, copied, copied.stat().st_size))
    checked = subprocess.run(  # noqa: S603  # nosec B603  # this interpreter, and names that were checked
        [sys.executable, "-c", _CHECK, str(target), *found],
        capture_output=True,
        text=True,
        check=False,
    )
    if checked.returncode:
        said = (checked.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ExtensionUnavailable(f"what is in {place} does not load: {said}")
    return baked


def _folder_of(target: Path) -> Path:
    """Where DuckDB looks for this machine's extensions below an extension directory."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    system = {"darwin": "osx"}.get(sys.platform, sys.platform)
    return target / f"v{duckdb.__version__}" / f"{system}_{machine}"


def _in_packages(name: str) -> Iterator[Path]:
    packages = _installed() if name == "*" else [_PACKAGE + name]
    for package in packages:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield from Path(place).rglob(name + SUFFIX)


def _installed() -> list[str]:
    # `pkgutil` would look into every package there is: 50 ms.
    names = {
        entry.name
        for folder in sys.path
        if Path(folder or ".").is_dir()
        for entry in os.scandir(folder or ".")
        if entry.name.startswith(_PACKAGE) and entry.name.isidentifier()
    }
    return sorted(names)


def _misfit(path: Path) -> str:
    """What other DuckDB a file is made for; empty if it is made for this one, or nobody knows."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - _FOOTER, 0))
        footer = file.read(_FOOTER // 2)
    fields = [
        footer[start : start + _FIELD].rstrip(b"\0").decode(errors="replace")
        for start in range(0, _FOOTER // 2, _FIELD)
    ]
    # Those of DuckDB's C interface name the interface's version, not DuckDB's.
    if len(fields) <= _PLATFORM + 1 or fields[_ABI] != "CPP":
        return ""
    if fields[_MADE_FOR] != f"v{duckdb.__version__}":
        return f"DuckDB {fields[_MADE_FOR].removeprefix('v')}"
    here = _folder_of(path).name
    return "" if fields[_PLATFORM] == here else f"{fields[_PLATFORM]}, and this is {here}"
