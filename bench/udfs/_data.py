"""The table every benchmark reads: sensor readings that compress like real ones."""

import numpy as np
import pyarrow as pa

STATUS = np.array(["ok", "calibrating", "drift", "low battery", "offline"])
STATIONS = np.array(
    [
        f"{city} {number:02d}"
        for city in ("Oslo", "Bergen", "Tromsø", "Bodø")
        for number in range(1, 16)
    ]
)
START = np.datetime64("2024-01-01T00:00:00", "us")


def readings(rows: int, *, first: int = 0, seed: int = 7) -> pa.Table:
    """Some 16 bytes a row as zstd Parquet: numbers, repeated and nearly unique text, times.

    Args:
        rows: Number of rows.
        first: The first `reading_id`, so that batches follow one another.
        seed: Another seed gives other values of the same kind.
    """
    rng = np.random.default_rng([seed, first])
    gaps = rng.integers(200, 30_000, rows)
    return pa.table(
        {
            "reading_id": np.arange(first, first + rows, dtype="int64"),
            "read_at": START + np.cumsum(gaps).astype("timedelta64[ms]"),
            "station": pa.array(STATIONS[rng.integers(0, len(STATIONS), rows)]),
            "device": pa.array(np.char.add("dev-", rng.integers(10_000, 14_000, rows).astype(str))),
            "temperature_c": np.round(12 + np.cumsum(rng.normal(0, 0.05, rows)) % 20, 2),
            "humidity": np.round(rng.beta(5, 2, rows) * 100, 1),
            "samples": rng.poisson(240, rows).astype("int32"),
            "status": pa.array(STATUS[rng.choice(5, rows, p=[0.9, 0.04, 0.03, 0.02, 0.01])]),
        }
    )
