"""A folder as Lambda unpacks it, and a zip of it that has the same bytes whenever it is made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

from deploy.aws.zip.symbols import without_symbols

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from deploy.aws.zip.packages import Package

# Where Lambda unpacks it.
_TASK = "/var/task"
_MEBIBYTE = 1 << 20
# Lambda's limits: what it calls a megabyte is 2**20 bytes.
MOST_UNPACKED_BYTES = 250 * _MEBIBYTE
MOST_DIRECT_BYTES = 50 * _MEBIBYTE
# The first moment that a zip can tell, and a file that everybody may read, on Unix.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX, _READABLE = 3, 0o100644 << 16


class TooLarge(Exception):
    """Lambda would refuse it; the message says what is large, and what to do."""


def gather(packages: Sequence[Package], udfs: Path, folder: Path) -> None:
    """Fill a folder: the packages with their byte code, and the UDFs in `udfs`.

    Raises:
        subprocess.CalledProcessError: If a module cannot be compiled; Python has said why.
    """
    for package in packages:
        for name, source in package.files.items():
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            data = source.read_bytes()
            copy.write_bytes(without_symbols(data) if ".so" in copy.suffixes else data)
    _compile(folder)
    hidden = shutil.ignore_patterns(".*", "__pycache__")
    shutil.copytree(udfs, folder / "udfs", ignore=hidden, copy_function=shutil.copyfile)


def _compile(folder: Path) -> None:
    """Write byte code that is checked against nothing: a start without takes three times as long.

    It tells where files are on Lambda, and its sets have the same order each time.
    """
    how = ("-q", "-f", "--invalidation-mode", "unchecked-hash")
    subprocess.run(
        [sys.executable, "-m", "compileall", *how, "-s", str(folder), "-p", _TASK, str(folder)],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        check=True,
    )


def size_of(folder: Path) -> int:
    """What the files of a folder take, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_size(folder: Path, packages: Sequence[Package]) -> None:
    """Refuse what Lambda would refuse to unpack.

    Raises:
        TooLarge: If it is.
    """
    size = size_of(folder)
    if size >= MOST_UNPACKED_BYTES:
        raise TooLarge(
            f"unpacked it takes {megabytes(size)}, and Lambda takes less than"
            f" {megabytes(MOST_UNPACKED_BYTES)}: {', '.join(largest(folder, packages))}; use the"
            " image, make deploy-aws"
        )


def largest(folder: Path, packages: Sequence[Package], count: int = 6) -> list[str]:
    """The largest packages in a folder: size, name, and what needs them."""
    sizes = [
        (sum((folder / name).stat().st_size for name in package.files), package)
        for package in packages
    ]
    sizes.sort(key=lambda item: item[0], reverse=True)
    return [
        f"{package.name} {megabytes(size)} ({package.needed_by})" for size, package in sizes[:count]
    ]


def megabytes(size: int) -> str:
    """A size as Lambda tells it."""
    return f"{size / _MEBIBYTE:.0f} MB"


def pack(folder: Path, path: Path) -> None:
    """Write the zip: names in order, no times, everything to be read by everybody."""
    draft = path.with_suffix(".new")
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        files = (file for file in folder.rglob("*") if file.is_file())
        for name, file in sorted((file.relative_to(folder).as_posix(), file) for file in files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = _UNIX, _READABLE
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    draft.replace(path)
