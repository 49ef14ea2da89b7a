"""Where results live. A store is one of Webfoot's three seams.

What every store promises: an entry is visible whole or not at all; a result's bytes never change
under its ETag; what is being read is not taken away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from webfoot.results import Draft, Failure, Known, Result


class Blob(Protocol):
    """The bytes of one result, open for reading."""

    @property
    def size(self) -> int:
        """Their number."""

    async def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`."""

    def close(self) -> None:
        """Let the bytes go."""


@dataclass(frozen=True)
class Link:
    """Where else the bytes of a result can be had, by whoever knows the address.

    Args:
        url: The address. It answers GET, and only GET.
        etag: The entity tag, quoted, that the bytes have there, which is always the same.
        seconds: How much longer it works, at least.
    """

    url: str
    etag: str
    seconds: float


@dataclass(frozen=True)
class Holdings:
    """What a store keeps on this machine.

    Args:
        bytes: How much.
        evicted: How many results it has removed so far to make room.
    """

    bytes: int
    evicted: int


class Store(Protocol):
    """Keeps results and the memory of failures, by key."""

    async def find(self, key: str) -> Known:
        """What there is under `key`."""

    def revision(self) -> bytes | None:
        """What is another after every change of what is known, whoever makes it.

        None if a store cannot tell without waiting: what it has said must then not be believed for
        longer than it takes to use it.
        """

    def claim(self, key: str) -> AbstractAsyncContextManager[None]:
        """Be the only one to run `key`, among all processes that share the store."""

    def stage(self, run: str, extension: str) -> Path:
        """Where `run` may write a file that nobody sees before it is published."""

    async def put(self, draft: Draft, extension: str, staged: Path) -> None:
        """Keep `staged`, the bytes of `draft`, for a result that another process will publish.

        Raises:
            StorageFull: If the disk is full.
        """

    async def publish(self, result: Result, staged: Path | None) -> None:
        """Make `staged` the bytes of `result`, and `result` all that is known under its key.

        Args:
            result: The result.
            staged: Its bytes; None if they were `put`.

        Raises:
            StorageFull: If the disk is full; nothing is visible then.
        """

    async def remember(self, failure: Failure) -> None:
        """Add `failure` to what is known under its key."""

    async def open(self, result: Result) -> Blob | None:
        """Open the bytes of `result`; None if they are gone."""

    async def keep(self, result: Result) -> bool:
        """Note that the bytes of `result` are in use, and not to be evicted; False if gone."""

    async def link(self, result: Result, media_type: str, encoding: str) -> Link | None:
        """Where else the bytes of `result` are; None if nowhere, or if they are gone.

        Args:
            result: The result.
            media_type: What the answer there shall say that they are.
            encoding: How it shall say that they are compressed; empty for not at all.
        """

    async def last_used(self, result: Result) -> float:
        """When `result` was last opened, in seconds since 1970; 0 if its bytes are gone."""

    def holdings(self) -> Holdings:
        """What it keeps here."""

    def close(self) -> None:
        """Let go of what the store holds in this process."""

    async def relieve(self) -> None:
        """Make room: the disk is full."""

    async def local_path(self, result: Result) -> Path:
        """A file on this machine that holds the bytes of `result`.

        It stays for a minute, and longer if `keep` says so again; if the bytes are gone, the store
        may give a path where there is nothing.
        """
