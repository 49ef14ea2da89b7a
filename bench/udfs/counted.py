"""A UDF that counts its own runs."""

import os
import time

import pyarrow as pa

from webfoot import udf

from ._data import readings


@udf
def counted(token: str = "", rows: int = 1000, seconds: float = 0) -> pa.Table:
    """Readings, with one line appended to the file `BENCH_RUNS` for each execution.

    Args:
        token: Written as the line, to tell calls apart.
        rows: Number of rows.
        seconds: How long to wait before answering.
    """
    with open(os.environ["BENCH_RUNS"], "a") as runs:  # noqa: PTH123 - one atomic append
        runs.write(f"{token}\n")
    time.sleep(seconds)
    return readings(rows)
