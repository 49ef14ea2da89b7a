"""Which files sessions attach: those below the temporary folder.

A guard against mistakes (a path that cannot be written on Lambda, a file that two processes open),
and none against an author, who can do anything in Python.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from webfoot.database import statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Kinds of databases that are files; what else is attached is somewhere else.
_FILES = {"", "duckdb", "sqlite"}
_PREFIXES = ("duckdb:", "sqlite:", "file://", "file:")
# The private folders of the calls that run now, in whatever thread.
_FOLDERS_OF_CALLS: list[Path] = []


class AttachRefused(PermissionError):
    """A file outside of the temporary folder would have been attached."""


@contextlib.contextmanager
def attachable(folder: Path) -> Iterator[None]:
    """Let files of another folder be attached, too."""
    _FOLDERS_OF_CALLS.append(folder)
    try:
        yield
    finally:
        _FOLDERS_OF_CALLS.remove(folder)


def check(connection: duckdb.DuckDBPyConnection, sql: str, roots: Sequence[Path]) -> None:
    """Refuse to attach files that are elsewhere.

    Args:
        connection: Reads the SQL, and runs nothing.
        sql: What is about to run.
        roots: Below which files may be attached.

    Raises:
        AttachRefused: If the SQL attaches another.
    """
    if "attach" not in sql.lower():
        return
    try:
        attached = statements.attachments(connection, sql)
    except duckdb.Error:  # It is for the statement itself to say so.
        return
    allowed = [root.resolve() for root in (*roots, *_FOLDERS_OF_CALLS)]
    for attachment in attached:
        path = _file_of(attachment)
        if path is not None and not any(path.is_relative_to(root) for root in allowed):
            raise AttachRefused(
                f"{attachment.path} is not below {' or '.join(map(str, roots))}, where databases"
                " are attached from; put it there, or name its folder in WEBFOOT_TEMP"
            )


def _file_of(attachment: statements.Attachment) -> Path | None:
    """The file that is attached; None if it is none."""
    path = attachment.path
    if attachment.type not in _FILES or path.startswith(":memory:") or not path:
        return None
    for prefix in _PREFIXES:
        path = path.removeprefix(prefix)
    scheme, colon, _ = path.partition(":")
    if colon and scheme.isalnum():  # s3://, https://, md:, ducklake:
        return None
    return Path(path).resolve()
