"""What the fan-out benchmark has every side do for one input."""

import time

import pyarrow as pa

COMPUTES_S = 0.001
COMPUTES_LONG_S = 0.1
WAITS_S = 0.1


def compute(n: int, seconds: float = COMPUTES_S) -> pa.Table:
    """Ten rows after a millisecond of computing, or so many seconds.

    Of this thread's own time, not of the clock's: by the clock, a process that waits
    for a core would compute meanwhile, and too many processes at once would look fast.
    """
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return _multiples(n)


def wait(n: int) -> pa.Table:
    """Ten rows after a tenth of a second of doing nothing, as one that asks a network has."""
    time.sleep(WAITS_S)
    return _multiples(n)


def _multiples(n: int) -> pa.Table:
    return pa.table({"factor": list(range(10)), "multiple": [n * factor for factor in range(10)]})
