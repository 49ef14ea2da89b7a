"""The parts, put together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from webfoot.access.principal import ANONYMOUS
from webfoot.assembly import assemble, load_folder
from webfoot.errors import SettingsError
from webfoot.runners.inline import InlineRunner
from webfoot.runners.processes import ProcessRunner
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WELL = "@udf\ndef well(n: int = 1) -> list[dict[str, int]]:\n    return [{'n': n}]\n"


@pytest.mark.parametrize("runner", ["processes", "inline"])
def test_parts_answer_calls_and_leave_nothing_behind(
    tmp_path: Path, write_files: Callable[..., Path], runner: str
) -> None:
    folder = write_files(tmp_path / "assembled", well=WELL)
    settings = Settings(folder=folder, store=tmp_path / "store", runner=runner, workers=1)  # type: ignore[arg-type]  # one of the two

    async def ask() -> int:
        parts = assemble(settings)
        kind = ProcessRunner if runner == "processes" else InlineRunner
        assert isinstance(parts.engine._runner, kind)
        await parts.start()
        udf = parts.engine.registry["well"]
        result = (
            await parts.engine.result(udf, parts.engine.call(udf, [("n", "5")], ANONYMOUS))
        ).result
        await parts.close()
        return result.rows

    assert asyncio.run(ask()) == 1
    assert list((tmp_path / "store/staging").iterdir()) == []


def test_a_deadly_file_leaves_the_others_served(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    folder = write_files(tmp_path / "assembled", deadly="import os; os._exit(1)", well=WELL)
    parts = assemble(Settings(folder=folder, store=tmp_path / "store"))
    assert set(parts.engine.registry) == {"well"}
    assert [problem.file for problem in parts.engine.registry.problems] == ["deadly.py"]
    asyncio.run(parts.close())


def test_a_missing_folder_is_an_error_at_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        assemble(Settings(folder=tmp_path / "none", store=tmp_path / "store"))


def test_an_unusable_store_is_an_error_at_start(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    folder = write_files(tmp_path / "assembled", well=WELL)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be used"):
        assemble(Settings(folder=folder, store=tmp_path / "file"))


def test_what_files_print_is_not_standard_output(
    tmp_path: Path, write_files: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_files(tmp_path / "assembled", talks="print('imported')", well=WELL)
    load_folder(Settings(folder=folder, runner="inline"))
    assert capsys.readouterr() == ("", "imported\n")
