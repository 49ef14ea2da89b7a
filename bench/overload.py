"""Ten times what a server can do is asked of it: what is served, what is refused, and how fast."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench import peers
from bench.memory import Memory
from bench.report import Chart, Report, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.options import Options

CLIENTS = 200
WORKERS = 2
TIMES = 10
SHED = {"WEBFOOT_QUEUE": "16"}
_REFUSED = (429, 503)


@dataclass
class Answers:
    """What clients were told.

    Attributes:
        seconds: For how long they asked.
        served: How long each answer with a result took, in seconds.
        refused: How long each 503 or 429 took.
        others: How many there were of each other status; 0 for no answer at all.
    """

    seconds: float
    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    others: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Results a second."""
        return len(self.served) / self.seconds

    def note(self, status: int, took_s: float) -> None:
        """Note an answer."""
        if status in _REFUSED:
            self.refused.append(took_s)
        elif status == 200:
            self.served.append(took_s)
        else:
            self.others[status] = self.others.get(status, 0) + 1


def run(options: Options) -> Report:
    """Ask a server for as much as it can do, and then two servers for ten times as much."""
    report = Report(
        "overload",
        f"{CLIENTS} clients ask for {TIMES} times what {WORKERS} workers can compute",
        (
            *("server", "asked/s", "served/s", "of unloaded", "median, s", "refused/s"),
            *("median, ms", "99 %, ms", "else", "server grew, MB"),
        ),
    )
    seconds = 15 if options.quick else 60
    with peers.webfoot(workers=WORKERS) as peer:
        numbers = itertools.count()
        asyncio.run(load(peer.url, numbers, WORKERS, None, 3))
        unloaded = asyncio.run(load(peer.url, numbers, WORKERS, None, seconds / 3))
    report.rows.append(_row("unloaded", unloaded, unloaded, None))
    found: dict[str, tuple[Answers, float]] = {}
    for name, env in (("a queue of 16", SHED), ("by default", {})):
        with peers.webfoot(workers=WORKERS, env=env) as peer:
            numbers = itertools.count()
            pause_s = CLIENTS / (TIMES * unloaded.rate)
            # It remembers the last ten thousand queries: first until it does so.
            asyncio.run(load(peer.url, numbers, CLIENTS, pause_s / 4, seconds / 3))
            port = urlsplit(peer.url).port or 80
            with Memory(peer.pid, port, every_s=0.5) as memory:
                answers = asyncio.run(load(peer.url, numbers, CLIENTS, pause_s, seconds))
            found[name] = answers, memory.growth
            report.rows.append(_row(name, answers, unloaded, memory.growth))
    shed, _ = found["a queue of 16"]
    others = sum(sum(answers.others.values()) for answers, _ in found.values())
    report.targets = [
        Target("served, of unloaded, shedding", "at least", 0.8, shed.rate / unloaded.rate),
        Target(
            "served, of unloaded, by default",
            "at least",
            0.8,
            found["by default"][0].rate / unloaded.rate,
        ),
        Target("a refusal, 99 %", "at most", 0.5, _share(shed.refused, 0.99), "s"),
        Target("answers that are neither", "at most", 0, others),
        Target("memory", "at most", 20, max(grew for _, grew in found.values()), "MB more"),
    ]
    report.charts = {
        "results a second": Chart(
            ["unloaded", *found],
            {"served": [unloaded.rate, *(answers.rate for answers, _ in found.values())]},
            "1/s",
        )
    }
    report.notes.append(
        "Clients and server share the machine: what it takes to ask and to refuse is taken from"
        " what computes."
    )
    return report


def _row(
    name: str, answers: Answers, unloaded: Answers, grew: float | None
) -> list[str | float | int | None]:
    asked = len(answers.served) + len(answers.refused) + sum(answers.others.values())
    refused_s = [_share(answers.refused, share) for share in (0.5, 0.99)]
    return [
        name,
        asked / answers.seconds,
        answers.rate,
        answers.rate / unloaded.rate,
        statistics.median(answers.served) if answers.served else None,
        len(answers.refused) / answers.seconds,
        *(None if took is None else took * 1000 for took in refused_s),
        sum(answers.others.values()),
        grew,
    ]


def _share(took: list[float], share: float) -> float | None:
    """Within what time so many of them came."""
    return sorted(took)[int(share * (len(took) - 1))] if took else None


async def load(
    url: str, numbers: Iterator[int], clients: int, pause_s: float | None, seconds: float
) -> Answers:
    """Have clients ask for calls that nobody has made, for so many seconds.

    Args:
        url: The server.
        numbers: What makes each call another.
        clients: How many ask, each for one thing at a time.
        pause_s: How long after its last request each asks again, if that was answered; None for
            as soon as it was.
        seconds: For how long.
    """
    answers = Answers(seconds)
    end = time.monotonic() + seconds
    host, port = urlsplit(url).hostname, urlsplit(url).port

    async def ask(which: int) -> None:
        due = time.monotonic() + (which / clients * pause_s if pause_s else 0.0)
        reader, writer = await asyncio.open_connection(host, port)
        while (now := max(due, time.monotonic())) < end:
            await asyncio.sleep(now - time.monotonic())
            due = now + (pause_s or 0.0)
            path = f"/udfs/heavy.csv?n={next(numbers)}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            began = time.monotonic()
            status = await _read(reader)
            # What ends later was not served in this time.
            if time.monotonic() < end:
                answers.note(status, time.monotonic() - began)
        writer.close()

    tasks = [asyncio.create_task(ask(number)) for number in range(clients)]
    _, left = await asyncio.wait(tasks, timeout=seconds)
    for task in left:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            answers.note(0, 0.0)
    return answers


async def _read(reader: asyncio.StreamReader) -> int:
    """The status of an answer, which is read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])
