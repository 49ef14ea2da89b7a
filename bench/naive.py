"""The benchmarks' functions behind plain FastAPI routes, run under uvicorn."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from fastapi import FastAPI
from starlette.responses import Response

from bench.udfs.counted import counted
from bench.udfs.small import small
from bench.udfs.stored import stored

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa


def app() -> FastAPI:
    """The benchmarks' UDFs as most people would first write them: GET computes."""
    routes = FastAPI()
    routes.get("/")(lambda: "ok")
    for function in (counted, small, stored):
        routes.get(f"/udfs/{function.__name__}.parquet", response_model=None)(as_parquet(function))
    return routes


def as_parquet(function: Callable[..., pa.Table]) -> Callable[..., Response]:
    """The function as a route: same parameters, its table as Parquet."""

    @functools.wraps(function)
    def route(**parameters: object) -> Response:
        body = io.BytesIO()
        pq.write_table(function(**parameters), body, compression="zstd")
        return Response(body.getvalue(), media_type="application/vnd.apache.parquet")

    return route
