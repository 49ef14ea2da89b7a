"""What Fused serves in the executions benchmark; it runs in an interpreter without packages.

It hands out a Parquet file made beforehand, which is less work than the others have.
"""

import json
import os
import time
from pathlib import Path

import fused

params = json.loads(Path("_params.json").read_text())
with Path(os.environ["BENCH_RUNS"]).open("a") as runs:
    runs.write(f"{params['token']}\n")
time.sleep(float(params.get("seconds", 0)))
result = fused.Response(
    Path(os.environ["BENCH_PARQUET"]).read_bytes(),
    media_type="application/vnd.apache.parquet",
)
