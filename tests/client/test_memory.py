"""Tables are kept up to a size, the ones used last."""

from __future__ import annotations

import pyarrow as pa

from webfoot.client.memory import Memory
from webfoot.tables.table import Table


def table(kilobytes: int) -> Table:
    return Table(pa.table({"bytes": pa.array([0] * 1_000 * kilobytes, pa.uint8())}))


def test_a_table_is_found_by_its_url_with_its_etag() -> None:
    memory, some = Memory(10_000), table(1)
    memory.keep("a", '"1"', some)
    assert memory.find("a") == ('"1"', some)
    assert memory.find("b") is None


def test_the_table_used_longest_ago_goes_first() -> None:
    memory = Memory(3_000)
    for url in "abc":
        memory.keep(url, "", table(1))
    memory.find("a")
    memory.keep("d", "", table(1))
    assert [url for url in "abcd" if memory.find(url)] == ["a", "c", "d"]


def test_a_table_that_is_replaced_counts_once() -> None:
    memory = Memory(2_000)
    for _ in range(5):
        memory.keep("a", "", table(1))
    memory.keep("b", "", table(1))
    assert memory.find("a")
    assert memory.find("b")


def test_a_table_larger_than_all_may_be_is_not_kept_and_pushes_nothing_out() -> None:
    memory = Memory(2_000)
    memory.keep("a", "", table(1))
    memory.keep("b", "", table(3))
    assert memory.find("a")
    assert memory.find("b") is None
    memory.keep("a", "", table(3))
    assert memory.find("a") is None, "the old one is no longer what the server has"
