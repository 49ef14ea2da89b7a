"""How much memory and how many threads DuckDB may use, where something limits the process."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from webfoot.billing import PROCESSOR_BYTES, function_bytes
from webfoot.settings import cores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Python, its libraries and the result need the rest: 80 MB before the first row.
_SHARE = 0.6
# What cgroup v1 says for "no limit" is the largest multiple of a page.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class Limits:
    """What a DuckDB may use.

    Args:
        memory_bytes: What it holds before it spills.
        threads: How many work at once, 1 or more.
    """

    memory_bytes: int
    threads: int


def limits(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Limits:
    """The least of what Lambda, a control group (version 1 or 2) and the machine allow.

    Args:
        environment: Has `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`, in MiB, on Lambda.
        root: Where `/proc` and `/sys` are.
    """
    memory = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    processors = [float(cores())]
    if (function := function_bytes(environment)) is not None:
        memory.append(function)
        # Two processors from 1,770 MiB on: the second is there for part of the time.
        processors.append(math.ceil(function / PROCESSOR_BYTES))
    for group in _groups(root):
        memory += _numbers(group / "memory.max")
        memory += _numbers(group / "memory.limit_in_bytes")
        quota = _numbers(group / "cpu.max")
        quota = quota or _numbers(group / "cpu.cfs_quota_us") + _numbers(
            group / "cpu.cfs_period_us"
        )
        if len(quota) == 2 and min(quota) > 0:  # noqa: PLR2004  # quota and period; -1 is none
            processors.append(quota[0] / quota[1])
    least = min(number for number in memory if 0 < number < _NO_LIMIT)
    return Limits(int(least * _SHARE), max(1, math.floor(min(processors))))


def within(memory_bytes: int, most: Limits) -> Limits:
    """The limits of a DuckDB in a run that may use so much memory: it spills before it is killed.

    Args:
        memory_bytes: What the run may use.
        most: What the machine allows.
    """
    return replace(most, memory_bytes=min(int(memory_bytes * _SHARE), most.memory_bytes))


@functools.cache
def own_limits() -> Limits:
    """Those of this process, which do not change: to look takes a millisecond."""
    return limits()


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's control groups, and of those that these are in."""
    top = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            # In version 1 each controller has a tree of its own; a container sees its own as root.
            group = Path(*(part for part in path.split("/") if part not in ("", "..")))
            for tree in controllers.split(","):
                yield from (top / tree / place for place in (group, *group.parents))


def _numbers(file: Path) -> list[int]:
    """The numbers in a file; none if there is no limit, or no file."""
    with contextlib.suppress(OSError, ValueError):
        return [int(word) for word in file.read_text().split()]
    return []
