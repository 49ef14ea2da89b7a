"""Memory of a server and its workers while something happens."""

from __future__ import annotations

import contextlib
import threading
from typing import Self

import psutil


class Memory:
    """Samples resident memory while the block runs.

    Attributes:
        server_start: MB of the process that answers requests, at the start.
        server_peak: The most it had.
        worker_peak: The most MB any process it started had.
        most_workers: The most processes of its own that it had at once.
    """

    def __init__(self, pid: int, port: int, *, every_s: float = 0.02) -> None:
        self._family = psutil.Process(pid)
        self._server = listener(self._family, port)
        self._every_s = every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.server_start = self.server_peak = _megabytes(self._server)
        self.worker_peak = 0.0
        self.most_workers = 0

    @property
    def growth(self) -> float:
        """MB the server grew by at its peak."""
        return self.server_peak - self.server_start

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(self._every_s):
            self.server_peak = max(self.server_peak, _megabytes(self._server))
            family = self._family.children(recursive=True)
            workers = [process for process in family if process.pid != self._server.pid]
            self.worker_peak = max(self.worker_peak, *map(_megabytes, workers), 0.0)
            self.most_workers = max(self.most_workers, len(workers))


def listener(family: psutil.Process, port: int) -> psutil.Process:
    """The process of a family that listens on a port."""
    for process in (family, *family.children(recursive=True)):
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return process
    return family


def _megabytes(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(process.memory_info().rss) / 1e6
    return 0.0
