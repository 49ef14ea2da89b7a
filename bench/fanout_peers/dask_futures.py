"""Fan-outs over Dask on this machine: two workers of one thread, in processes of their own or not.

For functions that wait there is a cluster whose workers have many threads: Dask has no other way.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from distributed import Client, LocalCluster

from bench.fanout_peers.orders import Order, take_orders, together
from bench.udfs._work import compute, wait

if TYPE_CHECKING:
    import pyarrow as pa

WORKERS = 2
THREADS_THAT_WAIT = 32
FUNCTIONS = {"busy": compute, "idle": wait, "patient": wait}


def start(stack: ExitStack, *, processes: bool, threads: int = 1) -> Client:
    """A cluster, and a client of it."""
    cluster = LocalCluster(
        n_workers=WORKERS, threads_per_worker=threads, processes=processes, dashboard_address=None
    )
    return stack.enter_context(Client(stack.enter_context(cluster)))


def fan_out(computing: Client, waiting: Client, order: Order) -> pa.Table:
    """All results as one table."""
    client = waiting if order.udf == "patient" else computing
    # Not pure: Dask would else remember results by their inputs.
    futures = client.map(FUNCTIONS[order.udf], range(order.count), pure=False)
    return together(order, client.gather(futures))


def main() -> None:
    with ExitStack() as stack:
        waiting = start(stack, processes=False, threads=THREADS_THAT_WAIT)
        ways = {
            name: partial(fan_out, start(stack, processes=processes), waiting)
            for name, processes in (("processes", True), ("threads", False))
        }
        take_orders(int(sys.argv[1]), ways)


if __name__ == "__main__":
    main()
