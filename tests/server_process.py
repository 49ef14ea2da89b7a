"""A real `webfoot serve`, as users start it: a process of its own, on a free port."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import duckdb
import httpx

from webfoot.database import load_httpfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from webfoot.settings import S3Place

# Starting and stopping take a second or two; only a hang takes as long as this.
_PATIENCE_S = 40.0
# For what does not depend on where UDFs run: workers take two seconds of a processor to start.
INLINE = ("--runner", "inline")
_ADDRESS = re.compile(r" on http://localhost:(\d+)")
_ACCESS = re.compile(r'"(\w+) (\S+) HTTP/1\.1" (\d+)')


@dataclass(frozen=True)
class Server:
    """A server that runs.

    Args:
        url: Its address, without a slash at its end.
        folder: Its UDFs.
        store: Its results.
        output: The file that has what it printed.
        process: Its process.
    """

    url: str
    folder: Path
    store: Path
    output: Path
    process: subprocess.Popen[bytes]

    def printed(self) -> str:
        """What it has printed so far."""
        return self.output.read_text()

    def requests(self, part: str = "") -> list[tuple[str, int]]:
        """Method and status of each request so far whose path contains `part`, in order."""
        found = _ACCESS.findall(self.printed())
        return [(method, int(status)) for method, path, status in found if part in path]

    def executions(self, what: str | None = None) -> int:
        """How often UDFs have noted `what`, or anything; see `COUNT`."""
        counts = self.folder.parent / "counts.txt"
        noted = counts.read_text().splitlines() if counts.exists() else []
        return len(noted) if what is None else noted.count(what)

    def open(self, gate: str) -> None:
        """Let UDFs go on that wait at a gate; see `GATE`."""
        (self.folder.parent / f"gate-{gate}").touch()


# For UDF files: `count(text)` notes an execution where `Server.executions` finds it.
COUNT = """
from pathlib import Path

def count(what):
    with (Path(__file__).parents[1] / "counts.txt").open("a") as file:
        file.write(f"{what}\\n")
"""

# For UDF files: `wait_at(gate)` waits until `Server.open` opens that gate.
GATE = """
import time
from pathlib import Path

def wait_at(gate):
    while not (Path(__file__).parents[1] / f"gate-{gate}").exists():
        time.sleep(0.01)
"""

# A file of UDFs with a parameter of every type that there is.
EVERY_TYPE = '''
    import enum
    from dataclasses import dataclass
    from datetime import date, datetime, time, timedelta
    from decimal import Decimal
    from typing import Annotated, Literal, Optional
    from uuid import UUID
    from pydantic import BaseModel, Field
    from webfoot import udf

    class Colour(enum.Enum):
        RED = "red"
        BLUE = "deep blue"

    class Inner(BaseModel):
        weight: Annotated[float, Field(ge=0)] = 1
        colours: list[Colour] = []

    class Tree(BaseModel):
        name: str
        inner: Inner = Inner()
        children: list["Tree"] = []

    @dataclass
    class Point:
        x: float
        y: float = 0

    def row(**values):
        return [{name: str(value) for name, value in values.items()}]

    @udf(tags=["numbers"])
    def numbers(
        whole: int, real: float = 0.5, exact: Decimal = Decimal("1.50"), yes: bool = False,
        few: Annotated[int, Field(ge=0, le=10)] = 3, maybe: int | None = None,
        share: Annotated[float, Field(gt=0, lt=1, description="A part.")] = 0.5,
    ):
        """Numbers.

        Args:
            whole: A whole number.
        """
        return row(**locals())

    @udf
    def texts(
        text: str = "é 🦆", code: Annotated[str, Field(pattern="^[a-z]+$", max_length=5)] = "abc",
        kind: Literal["a", "b c", 3] = "a", colour: Colour = Colour.RED, id: UUID | None = None,
        optional: Optional[str] = None,
    ):
        return row(**locals())

    @udf
    def moments(
        day: date = date(2024, 1, 31), at: datetime = datetime(2024, 1, 31, 12),
        clock: time = time(9), span: timedelta = timedelta(hours=1), until: date | None = None,
    ):
        return row(**locals())

    @udf
    def lists(
        numbers: list[int] = [1, 2], words: list[str] = [], days: list[date] = [],
        colours: list[Colour] = [Colour.RED],
        some: Annotated[list[float], Field(max_length=3)] = [],
    ):
        return row(**locals())

    @udf
    def objects(
        tree: Tree = Tree(name="a"), point: Point = Point(1.0), free: dict[str, int] = {},
        trees: dict[str, Tree] = {},
    ):
        return row(**locals())

    @udf
    def nothing():
        return [{"a": 1}]

    @udf
    def größe(länge: int = 1, baum: Tree = Tree(name="a")):
        return row(**locals())
'''


def write_udfs(parent: Path, **files: str) -> Path:
    """Make a folder `udfs` with these files in it, each given by its name without `.py`."""
    folder = parent / "udfs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        # Aside first: a server that reloads never reads half a file.
        aside = parent / f"{name}.aside"
        aside.write_text(dedent(text))
        aside.replace(folder / f"{name}.py")
    return folder


def eventually(see: Callable[[], Any]) -> Any:
    """What `see` gives, once it gives something."""
    patient_until = time.monotonic() + _PATIENCE_S
    while not (seen := see()):
        assert time.monotonic() < patient_until, "it never came"
        time.sleep(0.02)
    return seen


@contextlib.contextmanager
def serve(
    folder: Path,
    *options: str,
    store: Path | S3Place | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Iterator[Server]:
    """Serve `folder` until the end of the block."""
    store = store or folder.parent / "store"
    output = folder.parent / f"output-{time.monotonic_ns()}.txt"
    command = [sys.executable, "-m", "webfoot", "serve", str(folder), "--port", "0"]
    with (
        output.open("wb") as file,
        subprocess.Popen(
            [*command, "--store", str(store), "--workers", "2", *options],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**environment, "PYTHONUNBUFFERED": "1"},
        ) as process,
    ):
        try:
            url = wait_until_ready(process, output)
            kept = store if isinstance(store, os.PathLike) else folder.parent / "store"
            yield Server(url, folder, kept, output, process)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def wait_until_ready(process: subprocess.Popen[bytes], output: Path) -> str:
    patient_until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < patient_until and process.poll() is None:
        address = _ADDRESS.search(output.read_text())
        if address is not None:
            url = f"http://127.0.0.1:{address[1]}"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/readyz").status_code == 200:
                    return url
        time.sleep(0.02)
    raise RuntimeError(f"the server did not start: {output.read_text()}")


def connect() -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own that reads URLs; nothing is downloaded."""
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    load_httpfs(connection)
    return connection
