"""What runs cost: time and memory as AWS Lambda bills them, and the money that this is there.

A run is billed as one invocation would be: its duration, rounded up to a millisecond, times the
memory that it had, also for the time that it waited for calls of its own. On Lambda itself, where
runs share an invocation, what Amazon bills is less.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.results import Usage

# Lambda gives a function one processor for so much memory.
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
_MIB = 1 << 20
_GIB = 1 << 30
PROCESSOR_BYTES = 1769 * _MIB


@dataclass(frozen=True)
class Prices:
    """What Amazon asks for, in US dollars; volume discounts and free tiers are left out.

    Args:
        gb_second: For memory and time, by architecture.
        request: For an invocation.
        s3_write: For a PUT request.
        s3_read: For a GET or HEAD request.
    """

    gb_second: Mapping[str, float]
    request: float
    s3_write: float
    s3_read: float


# In us-east-1. A gigabyte is 2³⁰ bytes to Lambda.
# https://aws.amazon.com/lambda/pricing/, https://aws.amazon.com/s3/pricing/
PRICES_OF = "2024"
PRICES = Prices(
    gb_second={"x86_64": 0.0000166667, "arm64": 0.0000133334},
    request=0.20 / 1_000_000,
    s3_write=0.005 / 1_000,
    s3_read=0.0004 / 1_000,
)


def billed_ms(usage: Usage) -> int:
    """The milliseconds of a run that are billed: no run is free."""
    return max(1, math.ceil(usage.seconds * 1000))


def gb_seconds(milliseconds: float, memory_bytes: float) -> float:
    """Memory times time, in the unit that is billed."""
    return milliseconds / 1000 * memory_bytes / _GIB


def architecture() -> str:
    """This machine's processors, as Amazon calls them."""
    return "arm64" if os.uname().machine in ("arm64", "aarch64") else "x86_64"


def function_bytes(environment: Mapping[str, str] = os.environ) -> int | None:
    """The memory of the Lambda function that this is; None if it is none.

    Args:
        environment: Has `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`, in MiB, on Lambda.
    """
    mib = environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    return int(mib) * _MIB if mib.isascii() and mib.isdigit() else None
