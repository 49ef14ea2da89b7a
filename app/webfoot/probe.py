"""Try a folder's files in a process of their own, before the server imports them.

A file that raises is harmless: the registry reports it. One that ends the process, or never ends, would
take the server along; it is found here, and refused by name.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
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


def probe(code: Code, timeout_s: float = IMPORT_TIMEOUT_S) -> Code:
    """Find the files that must not be imported.

    Args:
        code: A snapshot.
        timeout_s: How long one file may take, in seconds.

    Returns:
        The same snapshot, with those files refused.
    """
    while True:
        fatal = _first_fatal(code, timeout_s)
        if fatal is None:
            return code
        file, reason = fatal
        code = replace(code, refused={**code.refused, file: reason})


def _first_fatal(code: Code, timeout_s: float) -> tuple[str, str] | None:
    """Import all files in a process; the one it died of, and how."""
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "webfoot.probe", str(writing)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[writing],
        start_new_session=True,
    ) as process:
        os.close(writing)
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:  # type: ignore[union-attr]
            stdin.write(json.dumps(sources.to_message(code)).encode())
        last, hung = _follow(reading, timeout_s)
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if last == _DONE:
        return None
    if hung:
        limit = write_seconds(timeout_s)
        return last, f"importing it took longer than {limit}; move slow work into the function"
    return last, "importing it ended the process; move what does so into the function"


def _follow(progress: int, timeout_s: float) -> tuple[str, bool]:
    """The last line that the process wrote, and whether it then hung."""
    text = b""
    while select.select([progress], [], [], timeout_s)[0]:
        piece = os.read(progress, 65536)
        text += piece
        lines = text.decode().split("\n")
        if not piece or lines[-2:-1] == [_DONE]:
            return lines[-2] if len(lines) > 1 else _DONE, False
    return text.decode().split("\n")[-2], True


def main() -> None:
    """Import the files of the snapshot on standard input, announcing each."""
    code = sources.from_message(json.load(sys.stdin))
    announced = int(sys.argv[1])
    sources.mount(code)
    for file, module in code.udf_files():
        if file in code.refused:
            continue
        os.write(announced, f"{file}\n".encode())
        with contextlib.suppress(BaseException):
            importlib.import_module(module)
    os.write(announced, f"{_DONE}\n".encode())
    os._exit(0)  # Threads that a file began must not keep the process.


if __name__ == "__main__":
    main()
