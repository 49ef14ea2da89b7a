"""How long an answer may take, and how large it may be, where a platform says so."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from webfoot.errors import DeadlineReached, ResultTooLarge
from webfoot.quantities import write_size

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import Scope

_T = TypeVar("_T")
_KEY = "webfoot.limits"


@dataclass(frozen=True)
class Limits:
    """What the platform between a client and this process allows.

    Args:
        platform: Who waits no longer than that.
        carrier: Who carries no more than that.
        seconds: How long the platform waits, in all; for the message.
        ends_at: When the answer must be there, in the event loop's time.
        most_bytes: How large the body of an answer may be.
    """

    platform: str = ""
    carrier: str = ""
    seconds: float = math.inf
    ends_at: float = math.inf
    most_bytes: float = math.inf

    def check(self, size: int) -> None:
        """Refuse a body of `size` bytes that is too large.

        Raises:
            ResultTooLarge: It says how to read the result all the same.
        """
        if size > self.most_bytes:
            most = int(self.most_bytes)
            raise ResultTooLarge(
                f"the answer has {write_size(size)}, and {self.carrier} carries at most"
                f" {write_size(most)}; ask for less (?_columns=…, ?_limit=…, a byte range), or keep"
                " results in S3, which hands them out itself",
                limit_bytes=most,
            )

    def are_over(self) -> bool:
        """Whether the platform waits no longer, or nearly so."""
        return asyncio.get_running_loop().time() >= self.ends_at

    def reached(self) -> DeadlineReached:
        """What is told once they are over."""
        return DeadlineReached(
            f"no answer came within the {self.seconds:.3g} s that {self.platform} allows; try"
            " again, since a run may go on and be found done; make the UDF faster, split it with"
            " webfoot.map, or give the function more memory and time",
            limit_s=self.seconds,
        )


_NONE = Limits()


def with_limits(scope: Scope, limits: Limits) -> Scope:
    """The request, to be answered within `limits`."""
    return {**scope, _KEY: limits}


def limits_of(scope: Scope) -> Limits:
    """The limits of a request; without a platform there are none."""
    limits: Limits = scope.get(_KEY, _NONE)
    return limits


def has_limits(scope: Scope) -> bool:
    """Whether a platform limits the answer to a request."""
    return _KEY in scope


async def within(limits: Limits, work: Awaitable[_T]) -> _T:
    """Do `work` in the time that there is.

    Raises:
        DeadlineReached: If it takes longer; the work is then cancelled.
    """
    if limits.ends_at == math.inf:
        return await work
    try:
        async with asyncio.timeout_at(limits.ends_at) as clock:
            return await work
    except TimeoutError:
        if not clock.expired():
            raise
        raise limits.reached() from None
