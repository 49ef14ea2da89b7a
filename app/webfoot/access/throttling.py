"""How much may be asked for: rates, requests at once, requests a day."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from webfoot.errors import TooManyRequests
from webfoot.quantities import seconds, write_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.access.usage import Usage

# A request that may be made within this time waits for it, and is not refused: DuckDB asks again
# after 0.1 and 0.5 s and then gives up, so that with both it gets through what takes 1.5 s.
PATIENCE_S = 1.0
_DAY_S = 86_400
_RATE = re.compile(r"\s*(\d+)\s*/\s*(.+?)\s*")
_UNITS = frozenset({"s", "m", "h", "d", "w"})
# Beyond this many, buckets that are full are forgotten: new ones are, too.
_MANY = 10_000


@dataclass(frozen=True)
class Rate:
    """So many requests in so many seconds; as many may come at once.

    Args:
        requests: How many.
        seconds: In what time.
    """

    requests: int
    seconds: float

    def __str__(self) -> str:
        within = write_seconds(self.seconds)
        return f"{self.requests}/{within[1:] if within[1:] in _UNITS else within}"


@dataclass(frozen=True)
class Limits:
    """How much may be asked for under one name; None for as much as there is.

    Args:
        rate: How many requests in what time.
        concurrency: How many at once.
        daily: How many on one day of UTC.
    """

    rate: Rate | None = None
    concurrency: int | None = None
    daily: int | None = None

    @property
    def unlimited(self) -> bool:
        """Whether there are none."""
        return self.rate is None and self.concurrency is None and self.daily is None

    def over(self, others: Limits) -> Limits:
        """These, and where they say nothing, `others`."""
        return Limits(
            self.rate or others.rate,
            self.concurrency or others.concurrency,
            self.daily or others.daily,
        )

    def or_more(self, others: Limits) -> Limits:
        """The wider of both, of each."""
        rates = (self.rate, others.rate)
        return Limits(
            None if None in rates else max(rates, key=_per_second),
            _wider(self.concurrency, others.concurrency),
            _wider(self.daily, others.daily),
        )

    def plain(self) -> dict[str, Any]:
        """The limits that there are, as JSON and TOML have them."""
        told = {
            "rate": None if self.rate is None else str(self.rate),
            "concurrency": self.concurrency,
            "daily": self.daily,
        }
        return {name: value for name, value in told.items() if value is not None}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The limits that `plain` says.

        Raises:
            ValueError: If one has no sense.
        """
        rate = plain.get("rate")
        return cls(
            None if rate is None else read_rate(rate),
            _count("concurrency", plain.get("concurrency")),
            _count("daily", plain.get("daily")),
        )


LIMIT_NAMES = ("rate", "concurrency", "daily")


def read_rate(text: str) -> Rate:
    """Read a rate such as "10/s", "100/m" or "5/10s".

    Raises:
        ValueError: If it is none.
    """
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"a rate is written like '10/s' or '100/m', got {text!r}")
    requests, period = int(match[1]), match[2]
    try:
        within = seconds(f"1{period}" if period in _UNITS else period)
    except ValueError:
        raise ValueError(f"a rate is written like '10/s' or '5/10m', got {text!r}") from None
    if not requests or not 0 < within < math.inf:
        raise ValueError(f"a rate is 1 or more in a time above 0, got {text!r}")
    return Rate(requests, within)


def _count(name: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{name} is a whole number, 1 or more, got {value!r}")
    return value


def _per_second(rate: Rate | None) -> float:
    return math.inf if rate is None else rate.requests / rate.seconds


def _wider(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


class _Bucket:
    """Tokens that fill up with time, up to as many as may come at once.

    Args:
        rate: How fast, and how many.
        now: The time, as all times here in the seconds of one clock.
    """

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self._tokens = float(rate.requests)
        self._at = now

    def take(self, now: float) -> float:
        """Take a token, also one that is yet to come; how long it takes to be there, in seconds.

        Nothing is taken if that is longer than anybody waits.
        """
        self._fill(now)
        wait_s = max(1.0 - self._tokens, 0.0) * self.rate.seconds / self.rate.requests
        if wait_s <= PATIENCE_S:
            self._tokens -= 1.0
        return wait_s

    def is_full(self, now: float) -> bool:
        """Whether it is as good as new."""
        self._fill(now)
        return self._tokens >= self.rate.requests

    def _fill(self, now: float) -> None:
        per_second = self.rate.requests / self.rate.seconds
        most = float(self.rate.requests)
        self._tokens = min(self._tokens + (now - self._at) * per_second, most)
        self._at = now


class Throttle:
    """Counts what is asked for under a name, and refuses what is more than its limits.

    Args:
        usage: Counts days.
    """

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._buckets: dict[str, _Bucket] = {}
        self._at_once: Counter[str] = Counter()

    def enter(self, name: str, limits: Limits) -> float:
        """Count a request, which is to `leave` in the end.

        Args:
            name: Under what it is counted.
            limits: What that may ask for.

        Returns:
            How long it has to wait before it is answered, in seconds.

        Raises:
            TooManyRequests: If it may not be answered now; nothing is counted then.
        """
        if limits.concurrency is not None and self._at_once[name] >= limits.concurrency:
            raise TooManyRequests(
                f"{name}: {limits.concurrency} requests are being answered, and no more may be at"
                " once; try again in a moment"
            )
        if limits.daily is not None and self._usage.today(name) >= limits.daily:
            raise TooManyRequests(
                f"{name}: {limits.daily} requests are answered on one day, and have been; the next"
                " begins at midnight UTC",
                retry_after_s=math.ceil(_DAY_S - time.time() % _DAY_S),
            )
        wait_s = 0.0 if limits.rate is None else self._take(name, limits.rate)
        self._at_once[name] += 1
        if limits.daily is not None:
            self._usage.note(name)
        return wait_s

    def leave(self, name: str) -> None:
        """Count a request as answered."""
        self._at_once[name] -= 1
        if not self._at_once[name]:
            del self._at_once[name]

    def _take(self, name: str, rate: Rate) -> float:
        now = time.monotonic()
        bucket = self._buckets.get(name)
        if bucket is None or bucket.rate != rate:
            if len(self._buckets) >= _MANY:
                kept = {n: old for n, old in self._buckets.items() if not old.is_full(now)}
                self._buckets = kept
            bucket = self._buckets[name] = _Bucket(rate, now)
        wait_s = bucket.take(now)
        if wait_s > PATIENCE_S:
            raise TooManyRequests(
                f"{name}: {rate.requests} requests are answered in {write_seconds(rate.seconds)},"
                f" and have been; try again in {write_seconds(math.ceil(wait_s))}",
                retry_after_s=math.ceil(wait_s),
            )
        return wait_s
