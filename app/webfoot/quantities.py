"""Durations and sizes as people write them: "10m", "1h30m", "512MB", "2GiB"."""

from __future__ import annotations

import math
import re

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {
    "b": 1,
    **{"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40},
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b)")


def seconds(text: str | float) -> float:
    """Read a duration: a number of seconds, or text such as "90s", "10m", "1h30m", "forever".

    Raises:
        ValueError: If it is none of these, or negative.
    """
    if isinstance(text, bool):
        raise ValueError(f"a duration is a number of seconds or text like '10m', got {text!r}")
    if isinstance(text, int | float):
        value = float(text)
    elif text.strip().lower() == "forever":
        value = math.inf
    else:
        value = _read_duration(text)
    if not value >= 0:
        raise ValueError(f"a duration cannot be negative, got {text!r}")
    return value


def _read_duration(text: str) -> float:
    bare = text.strip().lower().replace(" ", "")
    if re.fullmatch(r"\d+(\.\d+)?", bare):
        return float(bare)
    parts = _DURATION.findall(bare)
    if not parts or "".join(number + unit for number, unit in parts) != bare:
        raise ValueError(
            f"a duration is written like '30s', '10m', '1h30m' or 'forever', got {text!r}"
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def size(text: str | int) -> int:
    """Read a size in bytes: a number, or text such as "512MB" (10⁶) or "2GiB" (2³⁰).

    Raises:
        ValueError: If it is neither, or not positive.
    """
    if isinstance(text, bool):
        raise ValueError(f"a size is a number of bytes or text like '512MB', got {text!r}")
    if isinstance(text, int):
        value = text
    elif re.fullmatch(r"\d+", text.strip()):
        value = int(text)
    else:
        match = _SIZE.fullmatch(text.strip().lower())
        if not match:
            raise ValueError(f"a size is written like '512MB' or '2GiB', got {text!r}")
        value = int(float(match[1]) * _BYTES[match[2]])
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
    return f"{value:g}s"


def write_size(value: float) -> str:
    """Write a size with three digits: 1234567 → "1.23 MB"."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:g} B"
