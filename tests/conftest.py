"""Fixtures that several test files share."""

from __future__ import annotations

import inspect
import textwrap
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import settings
from tests.command_line import CommandLine
from tests.places import places_in

from webfoot.store.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.places import Place

# How long an example takes, tells how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def _be_patient(seconds: float) -> None:
    """Have httpx wait for so long where nothing else is said.

    Its own 5 seconds are less than a first answer may take where processors are few and busy; in a
    test, only a hang should end a request. All of its functions and clients share one object.
    """
    patience = inspect.signature(httpx.get).parameters["timeout"].default
    patience.connect = patience.read = patience.write = patience.pool = seconds


_be_patient(50.0)


@pytest.fixture(scope="session")
def write_files() -> Callable[..., Path]:
    """Writes `name="text"` pairs as Python files of UDFs into a folder, and gives the folder."""

    def write(folder: Path, **files: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            whole = "from webfoot import udf\n" + textwrap.dedent(text)
            (folder / f"{name}.py").write_text(whole)
        return folder

    return write


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> CommandLine:
    """Runs commands in this process."""
    return CommandLine(monkeypatch, capfdbinary)


@pytest.fixture
def open_store(tmp_path: Path) -> Callable[[], Any]:
    """Opens one store, as several servers may."""
    return lambda: LocalStore(tmp_path / "store", 10**9)


@pytest.fixture
def make_place(
    tmp_path: Path, write_files: Callable[..., Path], open_store: Callable[[], Any]
) -> Callable[[], Place]:
    """Makes engines that share one store, as several servers may."""
    return places_in(tmp_path, write_files, open_store)


@pytest.fixture
def place(make_place: Callable[[], Place]) -> Place:
    """An engine whose runs end when a test says so."""
    return make_place()
