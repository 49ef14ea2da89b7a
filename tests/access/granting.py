"""Keys and links for tests, given out as an operator does, without a command for each."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from webfoot.access.key_folder import KeyFolder
from webfoot.access.keys import Key, new_id, new_key
from webfoot.access.shares import Share

if TYPE_CHECKING:
    from pathlib import Path


def give_key(place: Path, *roles: str, **given: Any) -> str:
    """A new key of these roles; `given` are fields of `Key`."""
    key, text = new_key(Key(**{"id": new_id(), "hash": "", "roles": roles, **given}))
    with contextlib.closing(KeyFolder(place)) as folder:
        folder.add_key(key)
    return text


def give_link(place: Path, udf: str, **given: Any) -> str:
    """The token of a new link; `given` are fields of `Share`."""
    share = Share(**{"id": new_id(), "udf": udf, "expires": int(time.time() + 1000), **given})
    with contextlib.closing(KeyFolder(place)) as folder:
        return folder.give(share)


def revoke(place: Path, kind: str, id_: str) -> None:
    """Make a key or a link good for nothing."""
    with contextlib.closing(KeyFolder(place)) as folder:
        assert folder.revoke(kind, id_)


def bearer(key: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"authorization": f"Bearer {key}"}
