"""All that decides on requests, put together from the settings."""

from __future__ import annotations

import asyncio
import importlib.util
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from webfoot.access.guards import DoorGuard, NoGuard
from webfoot.access.roles import Policy, read_policy
from webfoot.access.throttling import Throttle
from webfoot.access.usage import Usage
from webfoot.errors import Forbidden, SettingsError
from webfoot.settings import IN_SECRETS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from webfoot.access.guards import Guard
    from webfoot.access.key_folder import KeyFolder
    from webfoot.access.key_setting import KeySetting
    from webfoot.access.keys import Keys
    from webfoot.access.shares import Share
    from webfoot.access.tokens import Tokens
    from webfoot.settings import Settings


@dataclass(frozen=True)
class Access:
    """Who is let in, what they may do, and how much of it.

    Args:
        guard: Says who asks.
        policy: Says what roles may do.
        throttle: Counts what is asked for.
        usage: Keeps some of that.
        folder: Where keys and share links are given out, if there is one.
        keys: Where they are, the folder among them.
    """

    guard: Guard
    policy: Policy
    throttle: Throttle
    usage: Usage
    folder: KeyFolder | None = None
    keys: Sequence[Keys] = ()

    def count(self, udf: str, counted: list[str]) -> float:
        """Count what is asked of a UDF.

        Args:
            udf: The UDF.
            counted: Gets the name that it is counted under, if it is, until it has been answered.

        Returns:
            How long it has to wait before it is answered, in seconds.

        Raises:
            TooManyRequests: If it is one too many.
        """
        limits = self.policy.limits_of(udf)
        if limits is None:
            return 0.0
        name = f"udf:{udf}"
        wait_s = self.throttle.enter(name, limits)
        counted.append(name)
        return wait_s

    @asynccontextmanager
    async def calling(self, udf: str) -> AsyncIterator[None]:
        """Count a call that no address names, as requests for its UDF are counted: it may wait.

        Raises:
            TooManyRequests: If it is one too many.
        """
        counted: list[str] = []
        wait_s = self.count(udf, counted)
        try:
            await asyncio.sleep(wait_s)
            yield
        finally:
            for name in counted:
                self.throttle.leave(name)

    def give(self, share: Share) -> str:
        """Give out a share link: its token.

        Raises:
            Forbidden: If nothing could sign it.
        """
        for keys in self.keys:
            if keys.exist():
                return keys.give(share)
        raise Forbidden(
            "share links are signed by what comes with the first key (webfoot keys create), or by"
            " WEBFOOT_SHARE_SECRET; this server has neither"
        )

    def close(self) -> None:
        """Write what is not written yet, and let go of the folder."""
        self.usage.close()
        if self.folder is not None:
            self.folder.close()


def open_access() -> Access:
    """Nobody is asked anything: for what is served inside a process."""
    usage = Usage(None)
    return Access(NoGuard(), Policy(), Throttle(usage), usage)


def access_of(settings: Settings) -> Access:
    """What the settings say; nothing is made on disk.

    Raises:
        SettingsError: If they make no sense together.
    """
    policy = read_policy(settings.roles)
    place = settings.access_folder
    folder = None if place is None else _folder(place)
    keys: list[Keys] = [] if folder is None else [folder]
    if settings.keys or settings.share_secret:
        keys.append(_listed(settings))
    usage = Usage(place)
    guard = DoorGuard(policy, keys, _tokens(settings), usage.saw, welcomes_all=settings.open)
    return Access(guard, policy, Throttle(usage), usage, folder, keys)


def _listed(settings: Settings) -> KeySetting:
    # Where keys are in a folder, nothing is here.
    from webfoot.access.key_setting import KeySetting, read_keys, write_keys  # noqa: PLC0415

    listed = settings.keys or write_keys((), ())
    if not listed.startswith(IN_SECRETS):
        read_keys(listed)
    told = (listed, settings.share_secret)
    return KeySetting(*(partial(_value, text, settings.secrets) for text in told))


def _value(text: str, places: Sequence[str]) -> str:
    """The text itself, or the secret that it names.

    Raises:
        LookupError: If that cannot be had.
    """
    if not text.startswith(IN_SECRETS):
        return text
    # DuckDB comes with it, which takes 70 ms.
    from webfoot.database.secrets import secrets_of  # noqa: PLC0415

    return secrets_of(places).get(text.removeprefix(IN_SECRETS)).value


def _folder(place: Path) -> KeyFolder:
    # A function has none, and SQLite and psutil take 10 ms of its start.
    from webfoot.access.key_folder import KeyFolder  # noqa: PLC0415

    return KeyFolder(place)


def _tokens(settings: Settings) -> Tokens | None:
    if not settings.jwt_issuer:
        return None
    # It asks over HTTP, which takes 10 ms to import.
    from webfoot.access.tokens import Issuer, Tokens  # noqa: PLC0415

    if not settings.jwt_audience:
        raise SettingsError(
            "WEBFOOT_JWT_ISSUER is set, and WEBFOOT_JWT_AUDIENCE is not: tokens that were made for"
            " other servers would be accepted; set it to this server's name at the issuer"
        )
    if importlib.util.find_spec("jwt") is None:
        raise SettingsError(
            "WEBFOOT_JWT_ISSUER needs PyJWT, which is not installed; install webfoot[oidc]"
        )
    return Tokens(
        Issuer(
            url=settings.jwt_issuer,
            audience=settings.jwt_audience,
            keys_url=settings.jwt_keys,
            algorithms=settings.jwt_algorithms,
            roles_claim=settings.jwt_roles,
            tenant_claim=settings.jwt_tenant,
        )
    )
