"""DuckDB instances for authors: each with its folder, its limits and its bootstrap steps."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import shutil
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from webfoot.database import attaching
from webfoot.database.bootstrap import Bootstrap, Resources
from webfoot.database.connection import Connection
from webfoot.database.extensions import Extensions
from webfoot.database.folders import HeldFolder
from webfoot.database.limits import Limits, own_limits, within
from webfoot.database.secrets import secrets_of
from webfoot.interruption import interruptible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from webfoot.database.bootstrap import Step
    from webfoot.settings import Settings

MEMORY = ":memory:"


@dataclass(frozen=True)
class Configuration:
    """What instances are like; those that are alike may be shared.

    Args:
        temp: Where their folders are.
        roots: Below which files may be attached.
        limits: What each may use.
        extensions: Where extensions are found.
        secrets: The places where secrets are.
    """

    temp: Path
    roots: tuple[Path, ...]
    limits: Limits
    extensions: Extensions
    secrets: tuple[str, ...]

    @classmethod
    def from_settings(
        cls, settings: Settings, temp: Path | None = None, memory: int | None = None
    ) -> Configuration:
        """As the settings and the machine say.

        Args:
            settings: The settings.
            temp: Where instances write, if not where the settings say.
            memory: How much the run may use that they are for, in bytes.
        """
        temp = temp or settings.temp
        return cls(
            temp=temp,
            roots=(temp,) if temp == settings.temp else (temp, settings.temp),
            limits=own_limits() if memory is None else within(memory, own_limits()),
            extensions=Extensions(settings.extensions, settings.extension_downloads),
            secrets=settings.secrets,
        )


class Instance:
    """A DuckDB of this process, in memory or in a file.

    Args:
        configuration: What it is like.
        steps: Its bootstrap steps.
        folder: Where it may write while it lives; it is removed with it.
        path: Its file.

    Raises:
        duckdb.Error: If the file cannot be opened.
        OSError: If the folder cannot be written.
        ValueError: If two steps have one name.
    """

    def __init__(
        self,
        configuration: Configuration,
        steps: Sequence[Step],
        folder: Path,
        path: Path | str = MEMORY,
    ) -> None:
        self._configuration = configuration
        self._folder = folder
        resources = Resources(
            secrets_of(configuration.secrets), configuration.extensions, os.environ
        )
        self.bootstrap = Bootstrap(steps, resources, self._native)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Where DuckDB finds them by itself, too: a path that a statement computes needs no step.
        configuration.extensions.link(folder / "extensions")
        self._root = duckdb.connect(str(path), config=self._config())
        # As for the connections that calls are given; no part of the configuration, because what
        # knows it is loaded only then.
        self._root.execute("SET GLOBAL TimeZone = 'UTC'")

    def _config(self) -> dict[str, Any]:
        may_download = "true" if self._configuration.extensions.downloads else "false"
        return {
            # None of these, nor secrets that are kept, may be in HOME: Lambda has none.
            "home_directory": str(self._folder),
            "temp_directory": str(self._folder / "spill"),
            "extension_directory": str(self._folder / "extensions"),
            "autoinstall_known_extensions": may_download,
            "allow_community_extensions": "false",
            "memory_limit": f"{self._configuration.limits.memory_bytes // 1_000_000}MB",
            "threads": str(self._configuration.limits.threads),
        }

    @contextlib.contextmanager
    def cursor(self) -> Iterator[Connection]:
        """A connection for this thread, closed afterwards."""
        connection = Connection(self._native(), self)
        try:
            with interruptible(connection.native):
                yield connection
        finally:
            connection.close()

    def check(self, connection: duckdb.DuckDBPyConnection, sql: str) -> None:
        """Refuse to attach files that are elsewhere; see `attaching`.

        Raises:
            AttachRefused: If the SQL attaches one.
        """
        attaching.check(connection, sql, self._configuration.roots)

    def is_in(self, temp: Path) -> bool:
        """Whether its folder is in this one."""
        return self._folder.is_relative_to(temp)

    def close(self) -> None:
        """End it, and remove its folder; once more does no harm."""
        self._root.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _native(self) -> duckdb.DuckDBPyConnection:
        return self._root.cursor()


class Instances:
    """The instances of a process: one for each name and configuration, made once.

    Args:
        open_instance: Makes one, in a folder of its own.
    """

    def __init__(self, open_instance: Callable[..., Instance] = Instance) -> None:
        self._open = open_instance
        self._lock = threading.Lock()
        # One lock for each: who asks for one does not wait for another that is being made.
        self._locks: dict[object, threading.Lock] = {}
        self._made: dict[object, Instance] = {}
        self._folders: dict[Path, HeldFolder] = {}
        self._numbers = itertools.count()
        self._pid = os.getpid()

    def shared(self, name: str, configuration: Configuration, steps: Sequence[Step]) -> Instance:
        """The instance of that name, configuration and steps; see `Instance`."""
        self._notice_fork()
        key = (name, configuration, tuple(steps))
        if (instance := self._made.get(key)) is not None:
            return instance
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if (instance := self._made.get(key)) is None:
                instance = self._open(configuration, steps, self.folder(configuration.temp))
                self._made[key] = instance
            return instance

    @contextlib.contextmanager
    def private(self, configuration: Configuration, steps: Sequence[Step]) -> Iterator[Instance]:
        """An instance of its own, which ends with the `with`; see `Instance`."""
        self._notice_fork()
        instance = self._open(configuration, steps, self.folder(configuration.temp))
        try:
            yield instance
        finally:
            instance.close()

    def folder(self, temp: Path) -> Path:
        """A path for an instance's folder: two that share one would crash each other.

        Raises:
            OSError: If `temp` cannot be written.
        """
        self._notice_fork()
        with self._lock:
            held = self._folders.get(temp)
            if held is None or not held.path.is_dir():
                held = self._folders[temp] = HeldFolder.temporary(temp)
                atexit.register(self.close)
            return held.path / f"{next(self._numbers)}"

    def close(self, temp: Path | None = None) -> None:
        """End those in a folder, or all, and remove what they have written."""
        self._notice_fork()
        with self._lock:
            for key, instance in list(self._made.items()):
                if temp is None or instance.is_in(temp):
                    instance.close()
                    del self._made[key]
            for path in [path for path in self._folders if temp in (None, path)]:
                self._folders.pop(path).remove()

    def _notice_fork(self) -> None:
        """A forked child has none of its parent's instances: their threads are not in it."""
        if self._pid != os.getpid():
            # Kept alive, unused: to close them would be to close them for the parent, too.
            self._parents = (self._made, self._folders)
            self._lock, self._locks = threading.Lock(), {}
            self._made, self._folders = {}, {}
            self._pid = os.getpid()
