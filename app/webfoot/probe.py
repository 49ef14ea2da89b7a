"""Try a folder's files in a process of their own, before the server imports them.

A file that raises is harmless: the registry reports it. One that ends the process, doubles it, or
never ends, would take the server along; it is found here, and refused by name.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess  # nosec B404  # what it starts is marked where it does
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from webfoot import sources
from webfoot.quantities import write_seconds

if TYPE_CHECKING:
    from webfoot.sources import Code

IMPORT_TIMEOUT_S = 30.0
# No file is called so: files end in `.py`.
_DONE = "done"
# Before a file's name: the paths below a folder do not begin with `/`.
_FORKED = "/forked/"
# How long a child that a file forked is given to come back from the import, unless it ends first.
_RETURN_S = 5.0


def probe(code: Code, timeout_s: float = IMPORT_TIMEOUT_S, *, before: Code | None = None) -> Code:
    """Find the files that must not be imported.

    Args:
        code: A snapshot.
        timeout_s: How long one file may take, in seconds.
        before: An earlier snapshot that was probed: what has not changed since is not tried again.

    Returns:
        The same snapshot, with those files refused.
    """
    known = _unchanged(code, before) if before else frozenset()
    still = {file: why for file, why in before.refused.items() if file in known} if before else {}
    code = replace(code, refused={**code.refused, **still})
    while files := [file for file, _ in code.udf_files() if file not in {*known, *code.refused}]:
        fatal = _first_fatal(code, files, timeout_s)
        if fatal is None:
            break
        file, reason = fatal
        code = replace(code, refused={**code.refused, file: reason})
    return code


def _unchanged(code: Code, before: Code) -> frozenset[str]:
    """The files that are as they were, with all that they import."""
    both = code.files.keys() & before.files.keys()
    return frozenset(file for file in both if code.version(file) == before.version(file))


def _first_fatal(code: Code, files: list[str], timeout_s: float) -> tuple[str, str] | None:
    """Import `files` in a process; the one it died of, and how."""
    reading, writing = os.pipe()
    with subprocess.Popen(  # noqa: S603  # nosec B603  # our own module
        [sys.executable, "-m", "webfoot.probe", str(writing)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[writing],
        start_new_session=True,
    ) as process:
        os.close(writing)
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:  # type: ignore[union-attr]
            message = {"code": sources.to_message(code), "files": files}
            stdin.write(json.dumps(message).encode())
        said, hung = _follow(reading, timeout_s)
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if not said or said[-1] == _DONE:  # Nothing said: it is not a file's fault.
        return None
    if said[-1].startswith(_FORKED):
        file = said[-1].removeprefix(_FORKED)
        return file, "importing it forks the process; move what does so into the function"
    if hung:
        limit = write_seconds(timeout_s)
        return said[-1], f"importing it took longer than {limit}; move slow work into the function"
    return said[-1], "importing it ended the process; move what does so into the function"


def _follow(progress: int, timeout_s: float) -> tuple[list[str], bool]:
    """The lines that the process wrote, and whether it then hung."""
    text = b""
    said: list[str] = []
    # Until it says something, it only starts: that is no file's time.
    while select.select([progress], [], [], timeout_s if said else IMPORT_TIMEOUT_S)[0]:
        piece = os.read(progress, 65536)
        text += piece
        said = text.decode(errors="replace").split("\n")[:-1]
        for number, line in enumerate(said):
            if line == _DONE or line.startswith(_FORKED):
                return said[: number + 1], False
        if not piece:
            return said, False
    return said, True


def main() -> None:
    """Import the files of the snapshot on standard input, announcing each."""
    message = json.load(sys.stdin)
    code = sources.from_message(message["code"])
    announced = int(sys.argv[1])
    sources.mount(code)
    own_pid = os.getpid()
    for file, module in code.udf_files():
        if file not in message["files"]:
            continue
        os.write(announced, f"{file}\n".encode())
        ended, held = os.pipe()
        try:
            importlib.import_module(module)
        except (KeyboardInterrupt, GeneratorExit):
            os._exit(1)  # The server would take it for a person's Ctrl-C.
        except BaseException:  # noqa: BLE001, S110  # the registry tells it
            pass
        if os.getpid() != own_pid:  # Two servers would be one too many.
            os.write(announced, f"{_FORKED}{file}\n".encode())
            os._exit(0)
        # A child that was forked holds the pipe, too, until it ends or becomes another program.
        os.close(held)
        select.select([ended], [], [], _RETURN_S)
        os.close(ended)
    os.write(announced, f"{_DONE}\n".encode())
    os._exit(0)  # Threads that a file began must not keep the process.


if __name__ == "__main__":
    main()
