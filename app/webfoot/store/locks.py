"""Locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import uuid
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

# The first 15 hexadecimal digits of a key are its byte: as many as fit a file's offset.
_DIGITS = 15


class Claims(Protocol):
    """Which keys are held: each by one task of one process."""

    def take(self, key: str) -> bool:
        """Hold `key`; False if another task, or process, does.

        Raises:
            OSError: If the folder of the locks is gone, say.
        """

    def release(self, key: str) -> None:
        """Let `key` go."""

    def close(self) -> None:
        """Let all go."""


def open_claims(folder: Path) -> Claims:
    """The claims whose locks are in `folder`, for all processes of this machine."""
    if hasattr(fcntl, "F_OFD_SETLK"):
        return ByteClaims(folder)
    return FileClaims(folder)


class ByteClaims:
    """Claims as locks on the bytes of one file: nothing is written, and so the disk may be full.

    Args:
        folder: Where the file is.
    """

    def __init__(self, folder: Path) -> None:
        # A lock is the open file's (OFD), not the process': two stores may be in one process.
        self._file = os.open(folder / "bytes", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._held: set[str] = set()

    def take(self, key: str) -> bool:
        """Lock the key's byte."""
        if key in self._held:
            return False
        try:
            self._set(key, fcntl.F_WRLCK)
        except BlockingIOError:
            return False
        self._held.add(key)
        return True

    def release(self, key: str) -> None:
        """Unlock the key's byte."""
        self._held.discard(key)
        self._set(key, fcntl.F_UNLCK)

    def close(self) -> None:
        """Close the file, which ends its locks."""
        os.close(self._file)

    def _set(self, key: str, kind: int) -> None:
        byte = int(key[:_DIGITS], 16)
        # As `struct flock` is laid out: kind, whence, start, length, process.
        lock = struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, 1, 0)
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, lock)


class FileClaims:
    """Claims as locks on files, one each, where a system locks no bytes for an open file (macOS).

    Args:
        folder: Where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}
        for left in folder.iterdir():  # By processes that died.
            with contextlib.suppress(OSError):
                descriptor = try_lock(left)
                if descriptor is not None:
                    left.unlink(missing_ok=True)
                    os.close(descriptor)

    def take(self, key: str) -> bool:
        """Lock the key's file."""
        descriptor = try_lock(self._folder / key)
        if descriptor is None:
            return False
        self._held[key] = descriptor
        return True

    def release(self, key: str) -> None:
        """Remove the key's file."""
        # Unlinked while it is held: who waits for it sees that, and locks its successor.
        (self._folder / key).unlink(missing_ok=True)
        os.close(self._held.pop(key))

    def close(self) -> None:
        """Remove the files."""
        for key in list(self._held):
            self.release(key)


def try_lock(path: Path) -> int | None:
    """Lock the file at `path`, made if missing.

    Returns:
        A descriptor whose closing ends the lock; None if another process, or task, holds it.

    Raises:
        OSError: If the file cannot be made: its folder is gone, say, or the disk is full.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    held = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The file may have been unlinked by its last holder between the two calls.
        held = os.fstat(descriptor).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        if not held:
            os.close(descriptor)
    return descriptor if held else None


def make_own_folder(parent: Path) -> tuple[Path, int]:
    """Make a folder in `parent` that is this process' own.

    Returns:
        The folder, and the lock that says whose it is: a descriptor to be closed with it.
    """
    while True:
        folder = parent / uuid.uuid4().hex
        folder.mkdir()
        # A process that starts just now may take the folder for abandoned and remove it.
        with contextlib.suppress(FileNotFoundError):
            descriptor = try_lock(folder / "alive")
            if descriptor is not None:
                return folder, descriptor


def remove_abandoned(parent: Path) -> None:
    """Remove the folders in `parent` whose processes died."""
    for folder in parent.iterdir():
        with contextlib.suppress(OSError):
            descriptor = try_lock(folder / "alive")
            if descriptor is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)
