"""A runner that the tests of one file share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.harm import UDFS, Place

from webfoot import registry, sources
from webfoot.runners.processes import ProcessRunner
from webfoot.runners.slots import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, write_files: Callable[..., Path]
) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("runner")
    loaded = registry.load(sources.read(write_files(root / "harmful", harm=UDFS)))
    assert not loaded.problems
    runner = ProcessRunner(2, Queue(4), root / "temp")
    with asyncio.Runner() as loop:
        loop.run(runner.use(loaded))
        yield Place(runner, loaded, root, loop)
        loop.run(runner.close())
