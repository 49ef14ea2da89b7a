"""Tables that the client has, to be asked for again only if they have changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from webfoot.tables.table import Table


class Memory:
    """The tables used last, by URL, up to a size; threads may share it.

    Args:
        limit_bytes: How much memory they may take together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._tables: OrderedDict[str, tuple[str, Table]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, url: str) -> tuple[str, Table] | None:
        """The table of `url` and its ETag."""
        with self._lock:
            if url in self._tables:
                self._tables.move_to_end(url)
            return self._tables.get(url)

    def keep(self, url: str, etag: str, table: Table) -> None:
        """Keep the table of `url`, unless it is larger than all may be."""
        with self._lock:
            _, before = self._tables.pop(url, ("", None))
            self._held_bytes -= 0 if before is None else before.nbytes
            if table.nbytes > self._limit_bytes:
                return
            self._tables[url] = (etag, table)
            self._held_bytes += table.nbytes
            while self._held_bytes > self._limit_bytes:
                _, (_, oldest) = self._tables.popitem(last=False)
                self._held_bytes -= oldest.nbytes
