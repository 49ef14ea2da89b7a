"""A function whose results are in a bucket: larger than a response, shared by its instances."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.aws.gateway import reachable
from tests.aws.runtime_api import environment
from tests.s3_server import moto_server
from tests.server_process import COUNT, connect, write_udfs

if TYPE_CHECKING:
    from pathlib import Path

UDFS = '''
    import pyarrow as pa
    from random import Random
    from webfoot import udf
    from ._count import count

    @udf(memory="2GB")
    def large(rows: int = 3_200_000):
        """So many rows of noise, 16 bytes each.

        Args:
            rows: How many.
        """
        count(f"large {rows}")
        noise = pa.py_buffer(Random(0).randbytes(8 * rows))
        numbers = pa.array(range(rows), pa.int64())
        random = pa.Array.from_buffers(pa.int64(), rows, [None, noise])
        return pa.table({"n": numbers, "noise": random})
'''


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["function_url", "http_api", "load_balancer"])
def test_duckdb_reads_50_mb_through_a_function_in_one_run_of_two_instances(
    tmp_path: Path, kind: str
) -> None:
    udfs = write_udfs(tmp_path, some=UDFS, _count=COUNT)
    with ExitStack() as stack:
        s3 = stack.enter_context(moto_server())
        given = {**s3.environment, "WEBFOOT_STORE": str(s3.make_place())}
        functions = [
            stack.enter_context(environment(tmp_path / name, udfs, timeout_s=60, **given))
            for name in ("one", "two")
        ]
        for function in functions:
            gateway = stack.enter_context(reachable(function, kind))
            with connect() as con:
                sql = f"SELECT count(*), sum(n) FROM '{gateway.url}/udfs/large.parquet'"
                assert con.execute(sql).fetchone() == (3_200_000, 3_200_000 * 3_199_999 // 2)
            statuses = {status for method, status in gateway.requests if method == "GET"}
            assert statuses == {307}
    assert (tmp_path / "counts.txt").read_text().splitlines() == ["large 3200000"]
