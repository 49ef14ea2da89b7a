"""Fan-outs over Ray on this machine, with two cores."""

from __future__ import annotations

import sys
import tempfile
from typing import TYPE_CHECKING

import ray

from bench.fanout_peers.orders import Order, take_orders, together
from bench.udfs._work import compute, wait

if TYPE_CHECKING:
    import pyarrow as pa

WORKERS = 2
WAITING = 64
TASKS = {"busy": ray.remote(compute), "idle": ray.remote(wait)}


@ray.remote(max_concurrency=WAITING, num_cpus=0)
class Waiting:
    """What Ray has for functions that wait: an actor with many threads."""

    def wait(self, n: int) -> pa.Table:
        """As `idle`, beside others."""
        return wait(n)


def main() -> None:
    ray.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=tempfile.gettempdir(),
    )
    actor = Waiting.remote()

    def fan_out(order: Order) -> pa.Table:
        call = actor.wait if order.udf == "patient" else TASKS[order.udf]
        return together(order, ray.get([call.remote(n) for n in range(order.count)]))

    take_orders(int(sys.argv[1]), {"tasks": fan_out})


if __name__ == "__main__":
    main()
