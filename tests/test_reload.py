"""Saved files go live, with a real folder and a real engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from webfoot.access.principal import ANONYMOUS
from webfoot.assembly import assemble
from webfoot.errors import Error, UdfUnavailable
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from webfoot.assembly import Parts

# Nothing takes so long, but a hang.
PATIENCE_S = 20.0
TEXT = """from webfoot import udf
{imports}
@udf
def {name}() -> list[dict[str, str]]:
    return [{{"said": {value}}}]
"""


def save(folder: Path, name: str, value: str, imports: str = "") -> None:
    text = TEXT.format(name=name, value=json.dumps(value), imports=imports)
    (folder / f"{name}.py").write_text(text)


async def said(parts: Parts, name: str) -> str:
    udf = parts.engine.registry.find(name)
    answer = await parts.engine.result(udf, parts.engine.call(udf, [], ANONYMOUS))
    path = await parts.store.local_path(answer.result)
    return str(pq.read_table(path)["said"][0].as_py())


async def until(parts: Parts, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0.01)


async def until_said(parts: Parts, name: str, value: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(Error):
                if await said(parts, name) == value:
                    return
            await asyncio.sleep(0.02)


def follow(
    tmp_path: Path, steps: Callable[[Parts, Path], Awaitable[None]], **settings: Any
) -> None:
    """Take `steps` while the folder of a running engine is followed."""
    folder = tmp_path / "followed"

    async def run() -> None:
        given: dict[str, Any] = {"runner": "inline", "workers": 1} | settings
        parts = assemble(Settings(folder=folder, store=tmp_path / "store", **given))
        await parts.start()
        following = asyncio.create_task(parts.follow_changes())
        try:
            await steps(parts, folder)
            assert not following.done()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await parts.close()

    asyncio.run(run())


def begin(tmp_path: Path, **values: str) -> None:
    (tmp_path / "followed").mkdir()
    for name, value in values.items():
        save(tmp_path / "followed", name, value)


def test_a_save_is_live(tmp_path: Path) -> None:
    begin(tmp_path, one="first", two="other")

    async def steps(parts: Parts, folder: Path) -> None:
        assert await said(parts, "one") == "first"
        version = parts.engine.registry["two"].version
        for value in ("second", "third"):
            save(folder, "one", value)
            await until_said(parts, "one", value)
        assert parts.engine.registry["two"].version == version

    follow(tmp_path, steps, runner="processes")


def test_a_save_before_watching_began_is_live(tmp_path: Path) -> None:
    begin(tmp_path, one="first")

    async def steps(parts: Parts, folder: Path) -> None:
        save(folder, "one", "second")  # Nothing was awaited: nobody watches yet.
        await until_said(parts, "one", "second")

    follow(tmp_path, steps)


def test_a_file_renamed_into_place_is_live(tmp_path: Path) -> None:
    """As editors save that write a new file first."""
    begin(tmp_path, one="first")

    async def steps(parts: Parts, folder: Path) -> None:
        save(tmp_path, "one", "second")
        (tmp_path / "one.py").replace(folder / "one.py")
        await until_said(parts, "one", "second")

    follow(tmp_path, steps)


def test_files_and_folders_come_and_go(tmp_path: Path) -> None:
    begin(tmp_path, one="first", two="other")

    async def steps(parts: Parts, folder: Path) -> None:
        (folder / "two.py").unlink()
        await until(parts, lambda: set(parts.engine.registry) == {"one"})
        (folder / "below").mkdir()
        save(folder / "below", "three", "new")
        await until(parts, lambda: set(parts.engine.registry) == {"one", "three"})
        (folder / "below").rename(tmp_path / "aside")
        await until(parts, lambda: set(parts.engine.registry) == {"one"})

    follow(tmp_path, steps)


def test_a_broken_save_is_told_and_mended_by_the_next(tmp_path: Path) -> None:
    begin(tmp_path, one="first", two="other")

    async def steps(parts: Parts, folder: Path) -> None:
        (folder / "one.py").write_text("def one(:\n    pass\ndef one(): pass")
        await until(parts, lambda: "one" not in parts.engine.registry)
        with pytest.raises(UdfUnavailable, match="SyntaxError"):
            parts.engine.registry.find("one")
        assert await said(parts, "two") == "other"
        save(folder, "one", "mended")
        await until_said(parts, "one", "mended")

    follow(tmp_path, steps)


def test_the_last_of_many_saves_wins(tmp_path: Path) -> None:
    begin(tmp_path, one="first")

    async def steps(parts: Parts, folder: Path) -> None:
        for pause in (0.0, 0.005, 0.03):
            for number in range(30):
                save(folder, "one", f"{pause} {number}")
                await asyncio.sleep(pause)
            await until_said(parts, "one", f"{pause} 29")
            await asyncio.sleep(0.3)
            assert await said(parts, "one") == f"{pause} 29"

    follow(tmp_path, steps)


def test_only_files_that_import_a_helper_change_with_it(tmp_path: Path) -> None:
    begin(tmp_path, two="other")
    helper = tmp_path / "followed/_helper.py"
    helper.write_text("WORD = 'a'\n")
    save(tmp_path / "followed", "one", "first", imports="from . import _helper")

    async def steps(parts: Parts, folder: Path) -> None:
        before = {name: udf.version for name, udf in parts.engine.registry.items()}
        helper.write_text("WORD = 'b'\n")
        await until(parts, lambda: parts.engine.registry["one"].version != before["one"])
        assert parts.engine.registry["two"].version == before["two"]

    follow(tmp_path, steps)


def test_a_folder_that_is_replaced_is_followed(tmp_path: Path) -> None:
    begin(tmp_path, one="first")

    async def steps(parts: Parts, folder: Path) -> None:
        await asyncio.sleep(0.2)
        shutil.move(folder, tmp_path / "aside")
        await asyncio.sleep(0.7)
        assert await said(parts, "one") == "first"
        begin(tmp_path)
        save(folder, "one", "second")
        await until_said(parts, "one", "second")
        save(folder, "one", "third")
        await until_said(parts, "one", "third")

    follow(tmp_path, steps)


def test_a_save_that_changes_nothing_loads_nothing(tmp_path: Path) -> None:
    begin(tmp_path, one="first")

    async def steps(parts: Parts, folder: Path) -> None:
        await asyncio.sleep(0.2)
        loaded = parts.engine.registry
        # A file that is written in its place is empty for a moment: that would be a change.
        save(tmp_path, "one", "first")
        (tmp_path / "one.py").replace(folder / "one.py")
        await asyncio.sleep(0.8)
        assert parts.engine.registry is loaded

    follow(tmp_path, steps)


def test_a_run_finishes_on_the_code_that_it_began_with(tmp_path: Path) -> None:
    begin(tmp_path)
    text = TEXT.format(name="one", value='"old"', imports="import time").replace(
        "    return", "    time.sleep(2)\n    return"
    )
    (tmp_path / "followed/one.py").write_text(text)

    async def steps(parts: Parts, folder: Path) -> None:
        running = asyncio.create_task(said(parts, "one"))
        await asyncio.sleep(0.5)
        save(folder, "one", "new")
        await until_said(parts, "one", "new")
        assert await running == "old"

    follow(tmp_path, steps, runner="processes")
