"""Durations, sizes and counts as people write them: "10m", "512MB", "1,234 rows"."""

from __future__ import annotations

import math
import re
from fractions import Fraction

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)\s*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b)")


def seconds(text: str | float) -> float:
    """Read a duration: a number of seconds, or text such as "90s", "10m", "1h30m", "forever".

    Raises:
        ValueError: If it is none of these, or negative.
    """
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        raise ValueError(  # noqa: TRY004  # what reads settings and options catches ValueError
            f"a duration is a number of seconds or text like '10m', got {text!r}"
        )
    if isinstance(text, int | float):
        value = float(text)
    elif text.strip().lower() == "forever":
        value = math.inf
    else:
        value = _read_duration(text)
    if math.isnan(value) or value < 0:
        raise ValueError(f"a duration is 0 or more, got {text!r}")
    return value


def timeout(text: str | float) -> float:
    """Read a duration above 0.

    Raises:
        ValueError: If it is none, or 0.
    """
    value = seconds(text)
    if value == 0:
        raise ValueError(f"a timeout must be above 0, got {text!r}")
    return value


def _read_duration(text: str) -> float:
    bare = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", bare):
        return float(bare)
    parts = _DURATION.findall(bare)
    if not parts or _DURATION.sub("", bare):
        raise ValueError(
            f"a duration is written like '30s', '10m', '1h30m' or 'forever', got {text!r}"
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def size(text: str | int) -> int:
    """Read a size in bytes: a number, or text such as "512MB" (10⁶) or "2GiB" (2³⁰).

    Raises:
        ValueError: If it is neither, or not positive.
    """
    if isinstance(text, bool) or not isinstance(text, int | str):
        raise ValueError(  # noqa: TRY004  # as in `seconds`
            f"a size is a whole number of bytes or text like '512MB', got {text!r}"
        )
    if isinstance(text, int):
        value = text
    elif re.fullmatch(r"\d+", text.strip()):
        value = int(text)
    else:
        match = _SIZE.fullmatch(text.strip().lower())
        if not match:
            raise ValueError(f"a size is written like '512MB' or '2GiB', got {text!r}")
        value = int(Fraction(match[1]) * _BYTES[match[2]])
    if value <= 0:
        raise ValueError(f"a size must be positive, got {text!r}")
    return value


def write_seconds(value: float) -> str:
    """Write a duration in its largest whole unit: 600 → "10m"."""
    if math.isinf(value):
        return "forever"
    for unit in ("d", "h", "m"):
        if value and value % _SECONDS[unit] == 0:
            return f"{int(value // _SECONDS[unit])}{unit}"
    # Less than a millisecond is nothing that anybody sets or waits for.
    return f"{value:.3f}".rstrip("0").rstrip(".") + "s"


def write_size(value: float) -> str:
    """Write a size with three digits: 1234567 → "1.23 MB"."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        # What would round to 1000 of the smaller unit is 1 of this one.
        if value >= 0.9995 * factor:
            scaled = value / factor
            return f"{scaled:.3g} {unit}" if scaled < 999.5 else f"{scaled:.0f} {unit}"  # noqa: PLR2004  # as above
    return f"{value:.3g} B"


def write_count(number: int, noun: str) -> str:
    """Write how many there are of something: (1, "row") → "1 row", (1234, "row") → "1,234 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shorten(text: str, letters: int) -> str:
    """Cut a text that is longer than so many letters, and say so with its last."""
    return text if len(text) <= letters else text[: letters - 1] + "…"
