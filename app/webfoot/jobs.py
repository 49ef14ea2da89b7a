"""Calls that go on when nobody waits for them: each a job, with a state that outlives the server.

    queued → running → done | failed | cancelled

A job asks the engine as a request does, and joins its runs: what a job has asked for is run once.
Servers that share the folder know each other's jobs, and take over those of one that died.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import time
import uuid
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from webfoot.access.principal import EVERYBODY, Principal
from webfoot.errors import Conflict, Error, JobNotFound, RunCancelled, ServerBusy, UdfTimeout
from webfoot.results import Call, Fanout, Result, from_json, to_json
from webfoot.sqlite import SqliteFile
from webfoot.store.locks import try_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from webfoot.definition import Udf
    from webfoot.engine import Engine
    from webfoot.results import Question
    from webfoot.settings import Settings

# As many jobs as this, for each run that may be under way, ask the engine at once.
_ASKING_A_WORKER = 2
# How often a server looks whether another was told to cancel one of its jobs.
_LOOK_S = 1.0
# A job that a plain request has become ends when nobody asks for it for so long: who was sent on
# asks at once, with a new connection at the latest.
BACK_S = 10.0
# Jobs that ended are forgotten after a week, or when there are more than this many.
_KEPT_S = 7 * 86_400
_KEPT = 10_000
_SWEEP_EACH = 100
_ENDED = ("done", "failed", "cancelled")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY,
    id TEXT UNIQUE NOT NULL,
    owner TEXT NOT NULL,
    once TEXT UNIQUE,
    state TEXT NOT NULL,
    cancel INTEGER NOT NULL DEFAULT 0,
    ended REAL,
    record TEXT NOT NULL
)
"""

State = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Job:
    """A job, as it stands.

    Args:
        id: Its id.
        udf: The UDF that is called.
        arguments: Canonical arguments, of each call.
        names: For many calls: the parameters told beside the rows. None for one call.
        partial: For many calls: whether some may fail.
        timeout_s: How long a run of it may take if its UDF does not say, in seconds.
        state: How it stands.
        created: When it was made, in seconds since 1970.
        started: When it was first run, likewise.
        ended: When it ended, likewise.
        result: What came of it.
        problem: Why it failed, as a problem document.
        audience: For whom its result is; see `webfoot.results.Call`.
    """

    id: str
    udf: str
    arguments: tuple[str, ...]
    names: tuple[str, ...] | None
    partial: bool
    timeout_s: float
    state: State
    created: float
    started: float | None = None
    ended: float | None = None
    result: Result | None = None
    problem: dict[str, Any] | None = None
    audience: Principal = EVERYBODY

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in _ENDED

    def question(self, udf: Udf) -> Question:
        """What it asks the engine, with the code that `udf` has now."""
        asked = (udf.name, udf.version)
        calls = tuple(Call(*asked, text, self.audience) for text in self.arguments)
        if self.names is None:
            return calls[0]
        return Fanout(*asked, calls, self.names, self.partial, self.audience)


class _Attention:
    """Whether somebody still waits for a job that a plain request has become.

    Args:
        back_s: How long who has stopped waiting has to come back, in seconds.
        end: Ends the job.
    """

    def __init__(self, back_s: float, end: Callable[[], None]) -> None:
        self._back_s = back_s
        self._end = end
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self.renew()

    def renew(self, back_s: float = 0.0) -> None:
        """Give whoever waits, or has waited, time anew."""
        self._back_s = max(back_s, self._back_s)
        self.close()
        if not self._waiting:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._back_s, self._end)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Note that somebody waits."""
        self._waiting += 1
        self.close()
        try:
            yield
        finally:
            self._waiting -= 1
            self.renew()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()


class Jobs:
    """The jobs of a folder, and those of them that this server runs.

    Args:
        folder: Where they are kept; made if it is missing.
        engine: Answers their calls.
        settings: How many runs the engine makes at once, and how long they may take.
    """

    def __init__(self, folder: Path, engine: Engine, settings: Settings) -> None:
        self._folder = folder
        self._engine = engine
        self._settings = settings
        self._file = SqliteFile(folder / "jobs.sqlite", _SCHEMA)
        self._owner = uuid.uuid4().hex
        self._since_sweep = 0
        self._alive: int | None = None
        self._asking = asyncio.Semaphore(settings.workers * _ASKING_A_WORKER)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._attentions: dict[str, _Attention] = {}
        self._looking: asyncio.Task[None] | None = None

    def resume(self) -> None:
        """Take over the jobs of servers that died."""
        for (owner,) in self._file.run("SELECT DISTINCT owner FROM jobs"):
            if owner == self._owner or self._lives(owner):
                continue
            self._file.run(
                "UPDATE jobs SET owner = ? WHERE owner = ? AND ended IS NULL", self._owner, owner
            )
        rows = self._file.run(
            "SELECT record FROM jobs WHERE owner = ? AND ended IS NULL", self._owner
        )
        for (record,) in rows:
            self._begin(replace(_read(record), state="queued"))

    async def close(self) -> None:
        """Stop what runs here; the next server takes it over."""
        tasks = [*self._tasks.values(), *([self._looking] if self._looking else ())]
        for attention in self._attentions.values():
            attention.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._alive is not None:
            (self._folder / f"{self._owner}.alive").unlink(missing_ok=True)
            os.close(self._alive)
        self._file.close()

    def submit(self, question: Question, *, once: str | None = None) -> Job:
        """Make a job of a call, or of many.

        Args:
            question: The calls.
            once: A key under which there is one job: the same again is given that job.

        Raises:
            Conflict: If there is another job under that key.
        """
        return self._submit(_job_of(question, self._settings.job_timeout), once)

    def _submit(self, job: Job, once: str | None) -> Job:
        self._since_sweep += 1
        if self._since_sweep >= _SWEEP_EACH:
            self._sweep()
        statement = (
            "INSERT INTO jobs (id, owner, once, state, record) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (once) DO NOTHING RETURNING id"
        )
        if self._file.run(statement, job.id, self._owner, once, job.state, _write(job)):
            self._begin(job)
            return job
        [(record,)] = self._file.run("SELECT record FROM jobs WHERE once = ?", once)
        known = _read(record)
        asked = (job.udf, job.arguments, job.names, job.partial, job.audience)
        if (known.udf, known.arguments, known.names, known.partial, known.audience) != asked:
            raise Conflict(
                f"the Idempotency-Key was used for another job, {known.id}; use a new one"
            )
        return known

    def attended(self, question: Question, back_s: float = BACK_S) -> Job:
        """The job of a request that has waited long; it ends when nobody asks for it any more.

        Args:
            question: What the request asks for.
            back_s: How long who asks has to come back, in seconds.
        """
        # No longer than other requests' runs: whoever made it did not ask for a job.
        new, once = _job_of(question, self._settings.timeout), f"attended {question.key}"
        job = self._submit(new, once)
        if job.over:
            # Made for an earlier request, whose result is no longer fresh.
            self._file.run("UPDATE jobs SET once = NULL WHERE id = ?", job.id)
            job = self._submit(new, once)
        if job.id in self._attentions:
            self._attentions[job.id].renew(back_s)
        elif job.id in self._tasks:
            self._attentions[job.id] = _Attention(back_s, partial(self._cancel_own, job.id))
        return job

    def find(self, id: str) -> Job | None:  # noqa: A002  # it is one
        """A job, if there is one of that id."""
        with contextlib.suppress(ValueError):
            for (record,) in self._file.run("SELECT record FROM jobs WHERE id = ?", id):
                return _read(record)
        return None

    def get(self, id: str, asker: Principal) -> Job:  # noqa: A002  # it is one
        """The job of that id.

        Raises:
            JobNotFound: If there is none, or none that is `asker`'s.
        """
        job = self.find(id)
        if job is None or not job.audience.includes(asker):
            raise JobNotFound(f"there is no job {id!r}, or it ended too long ago")
        return job

    async def wait(self, job: Job, seconds: float) -> Job:
        """The job when it has ended, or after so many seconds."""
        until = time.monotonic() + seconds
        attention = self._attentions.get(job.id)
        with attention.waiting() if attention else contextlib.nullcontext():
            while not job.over and (left := until - time.monotonic()) > 0:
                task = self._tasks.get(job.id)
                if task is not None:
                    await asyncio.wait((task,), timeout=left)
                else:  # Another server's.
                    await asyncio.sleep(min(left, _LOOK_S / 4))
                job = self.find(job.id) or job
        return job

    async def done(self, job: Job) -> int:
        """How many of the job's calls have a result."""
        if job.state == "done":
            return len(job.arguments)
        if job.started is None:
            return 0
        udf = self._engine.registry.get(job.udf)
        if udf is None:
            return 0
        arguments = dict.fromkeys(job.arguments)
        calls = [Call(udf.name, udf.version, text, job.audience) for text in arguments]
        return sum([await self._engine.latest(call) is not None for call in calls])

    def log(self, job: Job) -> str:
        """What the job's run prints, or has printed."""
        run = job.result.run if job.result else (job.problem or {}).get("run")
        udf = self._engine.registry.get(job.udf)
        if run is None and udf is not None:
            run = self._engine.running(job.question(udf))
        return self._engine.runs.log(run) if run else ""

    def cancel(self, job: Job) -> None:
        """Have a job end, whichever server runs it; one that has ended stays as it is."""
        self._file.run("UPDATE jobs SET cancel = 1 WHERE id = ? AND ended IS NULL", job.id)
        self._cancel_own(job.id)

    def _cancel_own(self, id: str) -> None:  # noqa: A002  # it is one
        task = self._tasks.get(id)
        if task is not None:
            task.cancel("by request")

    def _begin(self, job: Job) -> None:
        if self._alive is None:
            self._alive = try_lock(self._folder / f"{self._owner}.alive")
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        task = asyncio.create_task(self._run(job))
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._end(job.id))

    def _end(self, id: str) -> None:  # noqa: A002  # it is one
        self._tasks.pop(id, None)
        attention = self._attentions.pop(id, None)
        if attention is not None:
            attention.close()

    async def _run(self, job: Job) -> None:
        try:
            async with self._asking:
                job = replace(job, state="running", started=job.started or time.time())
                self._keep(job)
                result = await self._ask(job)
            ended = replace(job, state="done", result=result)
        except asyncio.CancelledError as error:
            if error.args != ("by request",):
                raise  # The server stops: the next one goes on.
            problem = RunCancelled("the job was cancelled").problem()
            ended = replace(job, state="cancelled", problem=problem)
        except Error as error:
            ended = replace(job, state="failed", problem=error.problem())
        except Exception as error:  # noqa: BLE001  # a job must end, whatever is wrong with us
            problem = Error(f"a bug in Webfoot: {error!r}").problem()
            ended = replace(job, state="failed", problem=problem)
        self._keep(replace(ended, ended=time.time()))

    async def _ask(self, job: Job) -> Result:
        rerun = False
        while True:
            udf = self._engine.registry.find(job.udf)
            question = job.question(udf)
            limit = udf.options.timeout_s or job.timeout_s
            lineage = self._engine.root(job.timeout_s)
            try:
                answer = await self._engine.result(udf, question, rerun=rerun, lineage=lineage)
            except ServerBusy as error:
                await asyncio.sleep(error.retry_after_s)
            except UdfTimeout as error:
                # It had joined a request's run, which may not take as long.
                if rerun or error.timeout_s >= limit:
                    raise
                rerun = True
            else:
                return answer.result

    async def _look(self) -> None:
        """Cancel those of our jobs that another server was asked to cancel."""
        statement = "SELECT id FROM jobs WHERE owner = ? AND cancel = 1 AND ended IS NULL"
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._tasks:
                for (cancelled,) in self._file.run(statement, self._owner):
                    self._cancel_own(cancelled)

    def _keep(self, job: Job) -> None:
        self._file.run(
            "UPDATE jobs SET state = ?, ended = ?, record = ? WHERE id = ?",
            *(job.state, job.ended, _write(job), job.id),
        )

    def _lives(self, owner: str) -> bool:
        path = self._folder / f"{owner}.alive"
        if not path.exists():
            return False
        descriptor = try_lock(path)
        if descriptor is None:
            return True
        path.unlink(missing_ok=True)
        os.close(descriptor)
        return False

    def _sweep(self) -> None:
        self._since_sweep = 0
        self._file.run("DELETE FROM jobs WHERE ended < ?", time.time() - _KEPT_S)
        self._file.run(
            "DELETE FROM jobs WHERE ended IS NOT NULL"
            " AND number <= (SELECT max(number) FROM jobs) - ?",
            _KEPT,
        )


def _job_of(question: Question, timeout_s: float) -> Job:
    calls = question.calls if isinstance(question, Fanout) else [question]
    return Job(
        id=secrets.token_hex(8),
        udf=question.udf,
        arguments=tuple(call.arguments for call in calls),
        names=question.names if isinstance(question, Fanout) else None,
        partial=isinstance(question, Fanout) and question.partial,
        timeout_s=timeout_s,
        state="queued",
        created=time.time(),
        audience=question.audience,
    )


def _write(job: Job) -> str:
    result = None if job.result is None else to_json(job.result)
    return json.dumps(asdict(replace(job, result=None)) | {"result": result})


def _read(record: str) -> Job:
    plain = json.loads(record)
    result = None if plain["result"] is None else from_json(plain["result"])
    names = None if plain["names"] is None else tuple(plain["names"])
    assert result is None or isinstance(result, Result), "a job keeps no failures"
    read = {
        "arguments": tuple(plain["arguments"]),
        "names": names,
        "result": result,
        "audience": Principal.from_plain(plain["audience"]),
    }
    return Job(**{**plain, **read})
