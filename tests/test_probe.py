"""Files that must not be imported by the server, found in a process of their own."""

from __future__ import annotations

import gc
import os
import random
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from webfoot import registry, sources
from webfoot.probe import probe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WELL = "@udf\ndef well() -> list[dict[str, int]]:\n    return []\n"
HARM = "\n@udf\ndef harm() -> list[dict[str, int]]:\n    return []\n"


def refused(
    folder: Path, timeout_s: float = 20.0, *, before: sources.Code | None = None
) -> dict[str, str]:
    """The files that a probe refuses; the registry must serve the others."""
    code = probe(sources.read(folder), timeout_s, before=before)
    loaded = registry.load(code)
    assert "well" in loaded
    assert "harm" not in loaded
    return dict(code.refused)


NAMES = pytest.mark.parametrize("name", ["aaa", pytest.param("zzz", marks=pytest.mark.slow)])


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("import os; os._exit(0)", "importing it ended the process"),
        ("import ctypes; ctypes.string_at(0)", "importing it ended the process"),
        ("import os; os.closerange(0, 1024)", "importing it ended the process"),
        ("import os; os.fork()", "importing it forks the process"),
        ("raise KeyboardInterrupt", "importing it ended the process"),
    ],
)
@NAMES
def test_a_deadly_file_is_refused_by_name(
    tmp_path: Path, write_files: Callable[..., Path], harm: str, reason: str, name: str
) -> None:
    folder = write_files(tmp_path / "deadly", **{name: harm + HARM, "m": WELL})
    ((file, why),) = refused(folder).items()
    assert file == f"{name}.py"
    assert reason in why


@NAMES
def test_a_file_that_never_ends_is_refused_by_name(
    tmp_path: Path, write_files: Callable[..., Path], name: str
) -> None:
    # The other is not tried again: a slow machine may need longer for it than a second.
    before = probe(sources.read(write_files(tmp_path / "well", m=WELL)))
    endless = write_files(tmp_path / "endless", **{name: "while True: pass" + HARM, "m": WELL})
    ((file, why),) = refused(endless, 1.0, before=before).items()
    assert file == f"{name}.py"
    assert "importing it took longer than 1s" in why


def test_every_deadly_file_is_refused(tmp_path: Path, write_files: Callable[..., Path]) -> None:
    deadly = "import os; os._exit(1)"
    folder = write_files(tmp_path / "deadly", a=deadly, b=WELL, c=deadly, d=deadly)
    assert set(refused(folder)) == {"a.py", "c.py", "d.py"}


@pytest.mark.parametrize(
    "harm",
    [
        "raise ValueError('no')",
        "raise SystemExit(3)",
        "def broken(:",
        "import no_such_module",
    ],
)
def test_a_file_that_raises_is_left_to_the_registry(
    tmp_path: Path, write_files: Callable[..., Path], harm: str
) -> None:
    assert refused(write_files(tmp_path / "raising", harm=harm + HARM, well=WELL)) == {}


def test_a_file_that_prints_is_not_heard(
    tmp_path: Path, write_files: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    noisy = "print('x' * 1_000_000)\nimport os\nos.system('echo noise')\n" + WELL
    code = probe(sources.read(write_files(tmp_path / "noisy", noisy=noisy)))
    assert code.refused == {}
    assert capfd.readouterr() == ("", "")


def test_a_file_that_starts_a_thread_does_not_keep_the_probe(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    text = "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n"
    began = time.monotonic()
    assert probe(sources.read(write_files(tmp_path / "threads", thread=text))).refused == {}
    assert time.monotonic() - began < 20


def test_a_healthy_folder_leaves_no_process(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    seconds = str(1000 + random.random())
    text = f"import subprocess\nsubprocess.Popen(['sleep', '{seconds}'])\n" + WELL
    gc.collect()
    before = open_descriptors()
    code = sources.read(write_files(tmp_path / "well", well=text, other=WELL.replace("well", "o")))
    assert probe(code) == code
    assert psutil.Process().children() == []
    assert not open_descriptors() - before
    patient_until = time.monotonic() + 20
    while sleeps(seconds):
        assert time.monotonic() < patient_until
        time.sleep(0.02)


def test_an_empty_folder_is_healthy(tmp_path: Path) -> None:
    code = sources.read(tmp_path)
    assert probe(code) == code


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()  # noqa: PTH112, PTH208  # short


def sleeps(seconds: str) -> bool:
    """Whether a process sleeps for so long; one that has ended may still have its number."""
    return any(
        process.info["cmdline"] == ["sleep", seconds]
        and process.info["status"] != psutil.STATUS_ZOMBIE
        for process in psutil.process_iter(["cmdline", "status"])
    )


def test_what_has_not_changed_is_not_tried_again(
    tmp_path: Path, write_files: Callable[..., Path]
) -> None:
    tried = tmp_path / "tried"
    note = f"open({str(tried)!r}, 'a').write(__name__.split('.')[-1] + ' ')\n"
    deadly = note + "import os; os._exit(1)"
    folder = write_files(
        tmp_path / "folder", a=note + WELL, b=note + "from . import _c\n", _c="", d=deadly
    )
    before = probe(sources.read(folder))
    assert set(before.refused) == {"d.py"}
    tried.write_text("")
    assert probe(sources.read(folder), before=before) == before
    assert tried.read_text() == ""
    write_files(folder, _c="changed = True")
    assert set(probe(sources.read(folder), before=before).refused) == {"d.py"}
    assert tried.read_text() == "b "
    write_files(folder, d=note)
    assert probe(sources.read(folder), before=before).refused == {}


LATE = "import os, time\nif os.fork() == 0:\n    time.sleep(1)\n"


@pytest.mark.parametrize("harm", [LATE, LATE + "    if os.fork():\n        os._exit(0)\n"])
def test_a_forked_child_is_found_however_late_it_comes_back(
    tmp_path: Path, write_files: Callable[..., Path], harm: str
) -> None:
    code = sources.read(write_files(tmp_path / "late", harm=harm + HARM, m=WELL))
    # Not loaded here: where it is not found, these tests would go on twice.
    ((file, why),) = probe(code).refused.items()
    assert file == "harm.py"
    assert "importing it forks the process" in why


@pytest.mark.parametrize(
    "harmless",
    [
        "import os\nif os.fork() == 0:\n    os._exit(0)\n",
        "import subprocess\nsubprocess.Popen(['sleep', '1000'], preexec_fn=lambda: None)\n",
        pytest.param(
            "import os, time\nif os.fork() == 0:\n    time.sleep(1000)\n", marks=pytest.mark.slow
        ),
    ],
)
def test_a_child_that_does_not_come_back_is_no_second_server(
    tmp_path: Path, write_files: Callable[..., Path], harmless: str
) -> None:
    code = sources.read(write_files(tmp_path / "children", some=harmless + WELL))
    assert probe(code).refused == {}
