"""The folder of who has access: the keys and share links that were given out, and what signs links.

Servers that share the folder see each other's changes. It is made with the first key, and from then
on whoever has none is not let in: not even when all that is in it has been lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from webfoot.access.keys import Key
from webfoot.access.shares import Share, sign
from webfoot.sqlite import SqliteFile

if TYPE_CHECKING:
    from pathlib import Path

_SIGNS_SHARES = "share-secret"
_SECRET_BYTES = 32
_SCHEMA = """
CREATE TABLE IF NOT EXISTS given (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    created REAL NOT NULL,
    revoked REAL,
    record TEXT NOT NULL
)
"""


@dataclass(frozen=True)
class GivenShare:
    """A share link that was given out.

    Args:
        share: What it is good for.
        created: When it was given out, in seconds since 1970.
        revoked: When it was revoked; None if it was not.
    """

    share: Share
    created: float
    revoked: float | None


class KeyFolder:
    """The folder; see `webfoot.access.keys.Keys`.

    Args:
        folder: The folder; made when something is first given out.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: SqliteFile | None = None
        # Requests are decided on one thread, and links given out on others.
        self._using = threading.Lock()
        self._secret: bytes | None = None

    def exist(self) -> bool:
        """Whether the folder is there, also if this process may not look into it."""
        try:
            return self._folder.is_dir()
        except OSError:
            return True

    def find(self, id: str) -> Key | None:  # noqa: A002  # it is one
        """The key of that id, whatever has become of it."""
        found = self._find("key", id)
        return None if found is None else replace(_read_key(found[0]), revoked=found[2])

    def share_secret(self) -> bytes | None:
        """What signs share links; None if none was given out."""
        if self._secret is None:
            with contextlib.suppress(FileNotFoundError):
                self._secret = (self._folder / _SIGNS_SHARES).read_bytes()
        return self._secret

    def shared(self, id: str) -> bool:  # noqa: A002  # likewise
        """Whether the share link of that id was given out here, and not revoked."""
        found = self._find("share", id)
        return found is not None and found[2] is None

    def give(self, share: Share) -> str:
        """Give out a share link: its token."""
        self._make_folder()
        token = sign(share, self._make_secret())
        self._add("share", share.id, json.dumps(share.plain()))
        return token

    def all_keys(self) -> list[Key]:
        """All keys, the oldest first."""
        return [replace(_read_key(record), revoked=gone) for record, _, gone in self._all("key")]

    def all_shares(self) -> list[GivenShare]:
        """All share links, the oldest first."""
        return [
            GivenShare(Share.from_plain(json.loads(record)), created, revoked)
            for record, created, revoked in self._all("share")
        ]

    def add_key(self, key: Key) -> None:
        """Note a key that is given out."""
        self._add("key", key.id, json.dumps(key.plain()))

    def replace_key(self, key: Key) -> None:
        """Note what has become of a key."""
        self._run("UPDATE given SET record = ? WHERE id = ?", json.dumps(key.plain()), key.id)

    def revoke(self, kind: str, id: str) -> bool:  # noqa: A002  # it is one
        """Make a `key` or a `share` good for nothing, once and for all.

        Returns:
            Whether there is one of that id.
        """
        statement = (
            "UPDATE given SET revoked = coalesce(revoked, ?) WHERE kind = ? AND id = ? RETURNING id"
        )
        return bool(self._run(statement, time.time(), kind, id))

    def close(self) -> None:
        """Let go of the folder."""
        with self._using:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _make_secret(self) -> bytes:
        """What signs share links; made when it is first needed."""
        path = self._folder / _SIGNS_SHARES
        if not path.exists():
            # Aside, and put there whole: of several servers the first decides.
            draft = path.with_name(f".{_SIGNS_SHARES}-{secrets.token_hex(4)}")
            with open(draft, "xb", opener=_private) as file:  # pathlib has no opener
                file.write(secrets.token_bytes(_SECRET_BYTES))
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
            draft.unlink()
        return path.read_bytes()

    def _find(self, kind: str, id: str) -> tuple[str, float, float | None] | None:  # noqa: A002  # it is one
        rows = self._run(
            "SELECT record, created, revoked FROM given WHERE kind = ? AND id = ?", kind, id
        )
        return rows[0] if rows else None

    def _all(self, kind: str) -> list[tuple[str, float, float | None]]:
        return self._run(
            "SELECT record, created, revoked FROM given WHERE kind = ? ORDER BY created, id", kind
        )

    def _add(self, kind: str, id: str, record: str) -> None:  # noqa: A002  # it is one
        self._make_folder()
        statement = "INSERT INTO given (id, kind, created, record) VALUES (?, ?, ?, ?)"
        self._run(statement, id, kind, time.time(), record)

    def _run(self, statement: str, *values: Any) -> list[Any]:
        """The rows of a statement; none while there is no folder."""
        with self._using:
            file = self._open()
            return [] if file is None else file.run(statement, *values)

    def _open(self) -> SqliteFile | None:
        if self._file is None and self._folder.is_dir():
            path = self._folder / "given.sqlite"
            # SQLite's own files beside it have its mode, too.
            with contextlib.suppress(FileExistsError):
                os.close(_private(str(path), os.O_CREAT | os.O_EXCL))
            self._file = SqliteFile(path, _SCHEMA)
            # A key that was revoked must not come back with a power cut.
            self._file.run("PRAGMA synchronous = full")
        return self._file


def _private(path: str, flags: int) -> int:
    """Open a file that nobody else may read."""
    return os.open(path, flags, 0o600)


def _read_key(record: str) -> Key:
    return Key.from_plain(json.loads(record))
