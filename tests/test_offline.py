"""No network is needed: everything works where there is nothing but loopback, and no HOME."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# In a network of its own, which has loopback and nothing else.
ALONE = """
import fcntl, socket, struct, sys
from pathlib import Path
from tests.server_process import connect, serve

assert socket.if_nameindex() == [(1, "lo")]
with socket.socket() as control:
    fcntl.ioctl(control, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
with serve(Path(sys.argv[1])) as server, connect() as con:
    for name in ("contours", "delays", "days"):
        table = f"'{server.url}/udfs/{name}.parquet'"
        print(name, *con.execute(f"SELECT count(*) FROM {table}").fetchone())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives a process its own network")
def test_udfs_and_duckdb_need_nothing_but_loopback(tmp_path: Path) -> None:
    folder = tmp_path / "udfs"
    shutil.copytree(ROOT / "udfs", folder, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    ended = subprocess.run(
        ["unshare", "--map-root-user", "--net", sys.executable, "-c", ALONE, str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.splitlines() == ["contours 420", "delays 399", "days 365"], ended.stderr
