"""Fan-outs as the benchmark orders them, and a peer's end of the conversation."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SECONDS_HEADER = "X-Seconds"


@dataclass(frozen=True)
class Order:
    """One fan-out.

    Attributes:
        udf: A name in `bench/udfs/fanned.py`: `busy`, `idle`, or `patient` for one that is known to
            wait.
        count: How many inputs: `n` from 0.
        tag: What makes them inputs that nobody had before.
        down: Whether the last comes first.
    """

    udf: str
    count: int
    tag: str
    down: bool = False

    @property
    def inputs(self) -> list[dict[str, int | str]]:
        """The inputs."""
        inputs: list[dict[str, int | str]] = [{"n": n, "tag": self.tag} for n in range(self.count)]
        return inputs[::-1] if self.down else inputs


def with_input(given: Mapping[str, int | str], table: pa.Table) -> pa.Table:
    """A result with its input as first columns."""
    columns = [pa.repeat(value, len(table)) for value in given.values()]
    return pa.Table.from_arrays([*columns, *table.columns], [*given, *table.column_names])


def together(order: Order, tables: Sequence[pa.Table]) -> pa.Table:
    """All results as one table."""
    return pa.concat_tables(map(with_input, order.inputs, tables))


def take_orders(port: int, ways: Mapping[str, Callable[[Order], pa.Table]]) -> None:
    """Carry out the orders that come to `/{way}`, one at a time, until the process ends.

    The answer is the table, as Parquet; how long it took to have it in memory is in a header.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            way, order = ways[self.path.strip("/")], Order(**json.loads(body))
            start = time.perf_counter()
            try:
                table = way(order)
            except Exception as error:  # noqa: BLE001 - every peer fails in its own way
                self.send_error(500, f"{type(error).__name__}: {error}".splitlines()[0])
                return
            seconds = time.perf_counter() - start
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink)
            self.send_response(200)
            self.send_header(SECONDS_HEADER, str(seconds))
            self.end_headers()
            self.wfile.write(sink.getvalue())

        def log_request(self, *_: object) -> None:
            """Nothing: errors alone are worth a line."""

    HTTPServer(("127.0.0.1", port), Handler).serve_forever()
