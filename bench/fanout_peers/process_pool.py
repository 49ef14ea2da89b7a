"""Fan-outs over a plain process pool of two, which is there already when it is asked.

`bare` sends small tables by pickle and keeps nothing; what is known to wait, it runs on threads.
`kept` does what Webfoot does: it writes each table to a Parquet file of its own, for whoever asks
for one of them later, and all to one file, with the input as columns and a row group for each.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from bench.fanout_peers.orders import Order, take_orders, together, with_input
from bench.udfs._work import compute, wait

if TYPE_CHECKING:
    from concurrent.futures import Executor

WORKERS = 2


def bare(pool: Executor, order: Order) -> pa.Table:
    """The tables, put together in memory."""
    if order.udf == "patient":
        with ThreadPoolExecutor(order.count) as threads:
            return together(order, list(threads.map(wait, range(order.count))))
    function = compute if order.udf == "busy" else wait
    return together(order, list(pool.map(function, range(order.count), chunksize=1)))


def kept(root: Path, pool: Executor, order: Order) -> pa.Table:
    """The tables, each in a file and all in one file, which is read."""
    folder = root / order.tag
    folder.mkdir()
    everything = folder / "everything.parquet"
    writer = None
    results = pool.map(partial(compute_and_keep, folder), range(order.count), chunksize=1)
    for given, result in zip(order.inputs, results, strict=True):
        table = with_input(given, result)
        writer = writer or pq.ParquetWriter(everything, table.schema, compression="zstd")
        writer.write_table(table)
    assert writer is not None, "there are inputs"
    writer.close()
    return pq.read_table(everything)


def compute_and_keep(folder: Path, n: int) -> pa.Table:
    """Compute one table, and write it to a file."""
    table = compute(n)
    pq.write_table(table, folder / f"{n}.parquet", compression="zstd")
    return table


def main() -> None:
    context = multiprocessing.get_context("forkserver")
    with (
        # What is kept is kept until the end: to delete files makes new ones slow on some disks.
        tempfile.TemporaryDirectory(prefix="bench-pool-") as folder,
        ProcessPoolExecutor(WORKERS, mp_context=context) as pool,
    ):
        ways = {"bare": partial(bare, pool), "kept": partial(kept, Path(folder), pool)}
        take_orders(int(sys.argv[1]), ways)


if __name__ == "__main__":
    main()
