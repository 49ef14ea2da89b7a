"""Keys that a setting lists: for servers that share no folder, such as a function's instances."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webfoot.access.keys import Key, out_of_reach
from webfoot.access.shares import Share, sign
from webfoot.errors import Forbidden, SettingsError
from webfoot.settings import LEAST_SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


@dataclass(frozen=True)
class ListedKeys:
    """What the setting says.

    Args:
        keys: The keys, by their ids.
        revoked_shares: The ids of share links that are good no longer.
    """

    keys: Mapping[str, Key]
    revoked_shares: frozenset[str] = frozenset()


class KeySetting:
    """Keys of a setting; see `webfoot.access.keys.Keys`.

    Args:
        listed: Gives the text that `write_keys` wrote; it may be another one later.
        share_secret: Gives what signs share links; nothing if there are none.
    """

    def __init__(self, listed: Callable[[], str], share_secret: Callable[[], str]) -> None:
        self._listed = listed
        self._share_secret = share_secret
        self._text = ""
        self._read = ListedKeys({})

    def exist(self) -> bool:
        """There are: somebody has listed them."""
        return True

    def find(self, id: str) -> Key | None:  # noqa: A002  # it is one
        """The key of that id, whatever has become of it."""
        return self._now().keys.get(id)

    def share_secret(self) -> bytes | None:
        """What signs share links; None if that is not set."""
        secret = _had(self._share_secret)
        if 0 < len(secret) < LEAST_SECRET:
            raise out_of_reach(
                SettingsError(f"WEBFOOT_SHARE_SECRET has {len(secret)} letters, not {LEAST_SECRET}")
            )
        return secret.encode() or None

    def shared(self, id: str) -> bool:  # noqa: A002  # it is one
        """Whether the link is not among those that were revoked."""
        return id not in self._now().revoked_shares

    def give(self, share: Share) -> str:
        """Give out a share link: its token."""
        secret = self.share_secret()
        if secret is None:
            raise Forbidden(
                "share links need a secret that signs them, and this server has none; its operator"
                " can set WEBFOOT_SHARE_SECRET"
            )
        return sign(share, secret)

    def _now(self) -> ListedKeys:
        text = _had(self._listed)
        if text != self._text:
            try:
                self._read, self._text = read_keys(text), text
            except SettingsError as error:
                raise out_of_reach(error) from error
        return self._read


def _had(get: Callable[[], str]) -> str:
    try:
        return get()
    except LookupError as error:
        raise out_of_reach(error) from error


def write_keys(keys: Iterable[Key], revoked_shares: Iterable[str]) -> str:
    """Keys as the setting has them: hashes, and no secret."""
    listed = [key.plain() for key in keys]
    return json.dumps({"keys": listed, "revoked_shares": sorted(revoked_shares)})


def read_keys(text: str) -> ListedKeys:
    """Read what `write_keys` wrote.

    Raises:
        SettingsError: If it is nothing of the kind.
    """
    try:
        plain = json.loads(text)
        keys = [Key.from_plain(item) for item in plain["keys"]]
        revoked = frozenset(plain.get("revoked_shares", ()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"WEBFOOT_KEYS is not what `webfoot keys export` prints ({error!r})"
        ) from error
    return ListedKeys({key.id: key for key in keys}, revoked)
