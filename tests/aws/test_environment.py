"""The settings of a function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from webfoot.aws.environment import read_settings
from webfoot.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_function_runs_inline_beside_its_code_and_stores_where_it_can_write(
    tmp_path: Path,
) -> None:
    settings = read_settings({"LAMBDA_TASK_ROOT": "/var/task", "TMPDIR": str(tmp_path)})
    assert settings.runner == "inline"
    assert str(settings.folder) == "/var/task/udfs"
    assert settings.store == tmp_path / "webfoot"
    assert 0 < settings.store_size < 10**15


def test_what_the_environment_says_wins(tmp_path: Path) -> None:
    settings = read_settings(
        {
            "WEBFOOT_FOLDER": "/elsewhere",
            "WEBFOOT_RUNNER": "processes",
            "WEBFOOT_STORE": str(tmp_path / "store"),
            "WEBFOOT_STORE_SIZE": "100MB",
            "TMPDIR": str(tmp_path),
        }
    )
    assert str(settings.folder) == "/elsewhere"
    assert settings.runner == "processes"
    assert settings.store == tmp_path / "store"
    assert settings.store_size == 100_000_000


def test_a_wrong_setting_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="WEBFOOT_FOLDERS is no setting"):
        read_settings({"WEBFOOT_FOLDERS": "udfs", "TMPDIR": str(tmp_path)})
