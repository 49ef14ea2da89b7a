"""What the command line may change about every benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict


class PathOptions(TypedDict):
    """What lies between a client and a server."""

    rtt_ms: float
    mbit: float
    slow_start: bool


@dataclass(frozen=True)
class Options:
    """Options shared by all benchmarks.

    Attributes:
        quick: Fewer sizes, rounds and bytes, for development.
        rounds: Rounds of each comparison; each benchmark's own number if None.
        rtt_ms: Round trip of the remote path, in milliseconds.
        mbit: Bandwidth of the remote path each way, in Mbit/s; 0 for no limit.
        slow_start: Whether connections begin slowly, as TCP does.
        threads: DuckDB's threads; its own default if None.
    """

    quick: bool = False
    rounds: int | None = None
    rtt_ms: float = 40
    mbit: float = 100
    slow_start: bool = False
    threads: int | None = None

    def turns(self, usual: int, quick: int) -> int:
        """Rounds to measure: the number asked for, or the benchmark's own."""
        return self.rounds or (quick if self.quick else usual)

    @property
    def path(self) -> PathOptions:
        """The remote path, as `proxied` takes it."""
        return {"rtt_ms": self.rtt_ms, "mbit": self.mbit, "slow_start": self.slow_start}

    @property
    def session(self) -> dict[str, str | int | bool]:
        """Settings of every DuckDB session."""
        return {"threads": self.threads} if self.threads else {}
