"""What a job is told that took more than it may, or all that its process had: by its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webfoot.errors import (
    MemoryExceeded,
    QueryCrashed,
    QueryMemoryExceeded,
    QueryTimeout,
    UdfCrashed,
    UdfTimeout,
)
from webfoot.quantities import write_seconds, write_size
from webfoot.runners.jobs import QueryJob

if TYPE_CHECKING:
    from webfoot.runners.jobs import Job


def time_exceeded(job: Job) -> UdfTimeout:
    """It ran too long."""
    if isinstance(job, QueryJob):
        limit_s = job.limits.seconds
        return QueryTimeout(
            f"it ran longer than {write_seconds(limit_s)}, as no query may here; ask for less at"
            " once",
            timeout_s=limit_s,
        )
    return UdfTimeout(
        f"it ran longer than {write_seconds(job.timeout_s)}; make it faster, or raise timeout= in"
        " @udf",
        timeout_s=job.timeout_s,
    )


def memory_exceeded(job: Job, used: str) -> MemoryExceeded:
    """It used too much memory.

    Args:
        job: The job.
        used: What it did, such as "used 3 GB of memory".
    """
    most = write_size(job.memory_bytes)
    if isinstance(job, QueryJob):
        return QueryMemoryExceeded(
            f"it {used}, and a query may use {most}; ask for less at once",
            limit_bytes=job.memory_bytes,
        )
    return MemoryExceeded(
        f"it {used}, and may use {most}; make it yield batches, or raise memory= in @udf",
        limit_bytes=job.memory_bytes,
    )


def crashed(job: Job, ended: str) -> UdfCrashed:
    """Its process has ended under it.

    Args:
        job: The job.
        ended: How, in words.
    """
    if isinstance(job, QueryJob):
        return QueryCrashed(f"{ended}; ask in another way, with less in one value")
    return UdfCrashed(ended)
