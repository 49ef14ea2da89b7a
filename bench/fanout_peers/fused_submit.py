"""Fan-outs by `fused.submit(engine="local")`, on threads (its default) and on processes.

Its cache is off: it makes it slower. The processes are started anew by each `submit`. The functions
import what they need themselves: Fused runs their source.
"""

from __future__ import annotations

import sys
from functools import partial

import fused
import pyarrow as pa

from bench.fanout_peers.orders import Order, take_orders, together

WORKERS = 2


@fused.udf
def busy(n: int, tag: str):  # noqa: ARG001 - it is an input
    from bench.udfs._work import compute  # noqa: PLC0415

    return compute(n).to_pandas()


@fused.udf
def idle(n: int, tag: str):  # noqa: ARG001 - it is an input
    from bench.udfs._work import wait  # noqa: PLC0415

    return wait(n).to_pandas()


def submit(order: Order, *, processes: bool = False) -> pa.Table:
    """All results as one table."""
    fused.options.use_process_pool_for_local_submit = processes
    jobs = fused.submit(
        busy if order.udf == "busy" else idle,
        order.inputs,
        engine="local",
        # For what waits, its own default, 32.
        max_workers=None if order.udf == "patient" else WORKERS,
        cache=False,
        # Were it to collect them, it would print meanwhile: to a `sys.stdout` that its threads
        # replace, and so crash now and then.
        collect=False,
    )
    frames = jobs.results()
    jobs.cancel(wait=True)
    tables = [pa.Table.from_pandas(frame, preserve_index=False) for frame in frames]
    return together(order, tables)


def main() -> None:
    ways = {"threads": submit, "processes": partial(submit, processes=True)}
    take_orders(int(sys.argv[1]), ways)


if __name__ == "__main__":
    main()
