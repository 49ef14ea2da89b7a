"""The jobs of a store, and those of them that this server runs.

A job asks the engine as a request does, and joins its runs: what a job has asked for is run once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from webfoot.errors import (
    Conflict,
    DeadlineReached,
    Error,
    JobNotFound,
    RunCancelled,
    ServerBusy,
    UdfTimeout,
)
from webfoot.jobs import new_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from webfoot.access.principal import Principal
    from webfoot.engine import Answer, Engine
    from webfoot.jobs import Job
    from webfoot.jobs.records import JobRecords, Wish
    from webfoot.results import Question, Result
    from webfoot.settings import Settings

# As many jobs as this, for each run that may be under way, ask the engine at once.
_ASKING_A_WORKER = 2
# A job that a plain request has become ends when nobody asks for it for so long: who was sent on
# asks at once, with a new connection at the latest.
BACK_S = 10.0
# Who waits says so again after this time at the latest.
_SAY_EACH_S = 3.0
# How the task of a job is cancelled if the job is to end, and not only this server's part in it.
_BY_REQUEST = "by request"
_OUT_OF_TIME = "out of time"


class Jobs:
    """Makes jobs, and runs them.

    Args:
        records: Where they are kept.
        engine: Answers their calls.
        settings: How many runs the engine makes at once, and how long they may take.
        send: Has another process `run` a new job; None if they are run in this one.
    """

    def __init__(
        self,
        records: JobRecords,
        engine: Engine,
        settings: Settings,
        send: Callable[[Job], Awaitable[None]] | None = None,
    ) -> None:
        self._records = records
        self._engine = engine
        self._settings = settings
        self._send = send
        self._asking = asyncio.Semaphore(settings.workers * _ASKING_A_WORKER)
        self._tasks: dict[str, asyncio.Task[Job]] = {}
        # As they were kept last.
        self._under_way: dict[str, Job] = {}
        self._looking: asyncio.Task[None] | None = None
        # Runs that go on here for jobs that did not begin them, by the jobs' ids.
        self._going_on: dict[str, asyncio.Task[None]] = {}

    @property
    def are_elsewhere(self) -> bool:
        """Whether other processes run the jobs that are made here."""
        return self._send is not None

    async def resume(self) -> None:
        """Take over the jobs of servers that died."""
        for job in await self._records.unfinished():
            await self._take_over(job)

    async def take_up(self, id: str) -> None:  # noqa: A002  # it is one
        """Go on with one job here, if there is one of that id whose server died."""
        job = await self._records.find(id)
        if job is not None:
            await self._take_over(job)

    async def close(self) -> None:
        """Stop what runs here; the next server takes it over."""
        looking = [self._looking] if self._looking else []
        tasks = [*self._tasks.values(), *self._going_on.values(), *looking]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._records.close()

    async def submit(self, question: Question, *, once: str | None = None) -> Job:
        """Make a job of a call, or of many.

        Args:
            question: The calls.
            once: A key under which there is one job: the same again is given that job.

        Raises:
            Conflict: If there is another job under that key.
        """
        new = new_job(question, self._settings.job_timeout)
        job = await self._add(new, once)
        if job.id == new.id:
            await self._start(job, question)
        return job

    async def admit(self, question: Question, *, once: str | None = None) -> Job:
        """Make a job that whoever asks will `run` here; see `submit`."""
        return await self._add(new_job(question, self._settings.job_timeout), once)

    async def attended(
        self,
        question: Question,
        back_s: float = BACK_S,
        coming: asyncio.Task[Answer] | None = None,
    ) -> Job:
        """The job of a request that has waited long; it ends when nobody asks for it any more.

        Args:
            question: What the request asks for.
            back_s: How long who asks has to come back, in seconds.
            coming: The answer to the request, if it has asked the engine: the job's from now on.
                The request's run goes on meanwhile, however long it takes to keep the job.
        """
        # No longer than other requests' runs: whoever made it did not ask for a job.
        new, once = new_job(question, self._settings.timeout, back_s), f"attended {question.key}"
        try:
            job = await self._add(new, once)
            if job.over:
                # Made for an earlier request, whose result is no longer fresh.
                await self._records.free(once, job)
                job = await self._add(new, once)
        except BaseException:
            if coming is not None:
                coming.cancel()
            raise
        # Before anything else can fail: nobody else would begin it.
        if job.id == new.id:
            await self._start(job, question, coming)
        elif coming is not None:
            await self._leave_to(job, question, coming)
        await self._records.wait_for(job, back_s)
        return job

    async def get(self, id: str, asker: Principal) -> Job:  # noqa: A002  # it is one
        """The job of that id.

        Raises:
            JobNotFound: If there is none, or none that is `asker`'s.
        """
        job = await self._records.find(id)
        if job is None or not job.audience.includes(asker):
            raise JobNotFound(f"there is no job {id!r}, or it ended too long ago")
        return job

    async def taken(self, id: str) -> Job | None:  # noqa: A002  # likewise
        """The job of that id, for a process that it was sent to; None if there is none."""
        return await self._records.find(id)

    async def wait(self, job: Job, seconds: float) -> Job:
        """The job when it has ended, or after so many seconds."""
        until, say_at = time.monotonic() + seconds, 0.0
        while not job.over and (left := until - time.monotonic()) > 0:
            if job.back_s is not None and time.monotonic() >= say_at:
                say_s = min(_SAY_EACH_S, job.back_s)
                say_at = time.monotonic() + say_s
                await self._records.wait_for(job, say_s + job.back_s)
            task = self._tasks.get(job.id)
            if task is not None:
                await asyncio.wait((task,), timeout=min(left, _SAY_EACH_S))
            else:  # Another server's.
                await asyncio.sleep(min(left, self._records.look_s / 4))
            job = await self._records.find(job.id) or job
        return job

    def problem(self, job: Job) -> dict[str, Any] | None:
        """Why the job failed, with the author's own frames, as far as this server knows them."""
        if job.problem is None or "run" not in job.problem:
            return job.problem
        run = self._engine.runs.find(job.problem["run"])
        known = {} if run is None or run.problem is None else run.problem
        return job.problem | {"traceback": known.get("traceback")}

    def log(self, job: Job) -> str:
        """What the job's run prints, or has printed, as far as this server knows."""
        run = job.result.run if job.result else (job.problem or {}).get("run")
        udf = self._engine.registry.get(job.udf)
        if run is None and udf is not None and job.names is None:
            run = self._engine.running(job.question(udf))
        return self._engine.runs.log(run) if run else ""

    async def cancel(self, job: Job) -> None:
        """Have a job end, whichever server runs it; one that has ended stays as it is."""
        if job.id in self._tasks:
            self._cancel_own(job.id)
        else:
            await self._records.cancel(job)

    async def run(self, job: Job, seconds: float) -> Job:
        """Run a job here to its end, which comes in so many seconds at the latest.

        Returns:
            The job as it has ended.
        """
        if job.over:
            return job
        task = self._begin(job)
        await asyncio.wait((task,), timeout=seconds)
        task.cancel(_OUT_OF_TIME)
        return await task

    async def _take_over(self, job: Job) -> None:
        # One of a UDF that is not here is left alone: folders may share a store.
        if job.udf in self._engine.registry and await self._records.take_over(job):
            self._begin(replace(job, state="queued"))

    async def _add(self, job: Job, once: str | None) -> Job:
        known = await self._records.add(job, once)
        if not known.asks_the_same(job):
            raise Conflict(
                f"the Idempotency-Key was used for another job, {known.id}; use a new one"
            )
        return known

    async def _start(
        self, job: Job, question: Question, coming: asyncio.Task[Answer] | None = None
    ) -> None:
        if self._send is None:
            self._begin(job, coming)
        else:
            await self._give_up(question, coming)
            await self._send(job)

    async def _leave_to(self, job: Job, question: Question, coming: asyncio.Task[Answer]) -> None:
        """Leave a call to the job that another request for it has become."""
        if self._send is not None:
            await self._give_up(question, coming)
        elif job.id in self._going_on:
            coming.cancel()
        else:
            self._going_on[job.id] = asyncio.create_task(self._go_on(job, coming))

    async def _give_up(self, question: Question, coming: asyncio.Task[Answer] | None) -> None:
        """Stop the run of a job elsewhere, which must not wait for one that stands still here."""
        if coming is not None:
            coming.cancel()
        await self._engine.give_up(question)

    async def _go_on(self, job: Job, coming: asyncio.Task[Answer]) -> None:
        """Have the run here go on that a job may be waiting for, but no longer than the job."""
        try:
            while not (job.over or coming.done()):
                waited_for = {coming, self._tasks.get(job.id, coming)}
                first = asyncio.FIRST_COMPLETED
                await asyncio.wait(waited_for, timeout=self._records.look_s, return_when=first)
                with contextlib.suppress(Error):  # The store is away for a moment, say.
                    job = await self._records.find(job.id) or job
        finally:
            del self._going_on[job.id]
            coming.cancel()
            # What it fails with is told to the job.
            await asyncio.gather(coming, return_exceptions=True)

    def _cancel_own(self, id: str) -> None:  # noqa: A002  # it is one
        task = self._tasks.get(id)
        if task is not None:
            task.cancel(_BY_REQUEST)

    def _begin(self, job: Job, coming: asyncio.Task[Answer] | None = None) -> asyncio.Task[Job]:
        if job.id in self._tasks:
            return self._tasks[job.id]
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        self._under_way[job.id] = job
        task = self._tasks[job.id] = asyncio.create_task(self._run(job, coming))
        task.add_done_callback(lambda _: self._end(job.id))
        if coming is not None:
            # It may end before it has come to wait for that.
            task.add_done_callback(lambda _: coming.cancel())
        return task

    def _end(self, id: str) -> None:  # noqa: A002  # it is one
        del self._tasks[id], self._under_way[id]

    async def _run(self, job: Job, coming: asyncio.Task[Answer] | None) -> Job:
        try:
            # What has been asked for already takes no other job's turn.
            async with self._asking if coming is None else contextlib.nullcontext():
                job = replace(job, state="running", started=job.started or time.time())
                await self._keep(job)
                result = await self._ask(job, coming)
            ended = replace(job, state="done", done=len(job.arguments), result=result)
        except asyncio.CancelledError as error:
            if error.args == (_BY_REQUEST,):
                problem = RunCancelled("the job was cancelled").problem()
                ended = replace(self._under_way[job.id], state="cancelled", problem=problem)
            elif error.args == (_OUT_OF_TIME,):
                late = DeadlineReached("the platform lets no job run as long as this one takes")
                ended = replace(self._under_way[job.id], state="failed", problem=late.problem())
            else:
                raise  # The server stops: the next one goes on.
        except Error as error:
            ended = replace(self._under_way[job.id], state="failed", problem=error.problem())
        except Exception as error:  # noqa: BLE001  # a job must end, whatever is wrong with us
            problem = Error(f"a bug in Webfoot: {error!r}").problem()
            ended = replace(self._under_way[job.id], state="failed", problem=problem)
        ended = replace(ended, ended=time.time())
        await self._keep(ended)
        return ended

    async def _ask(self, job: Job, coming: asyncio.Task[Answer] | None) -> Result:
        rerun = False
        while True:
            udf = self._engine.registry.find(job.udf)
            question = job.question(udf)
            limit = udf.options.timeout_s or job.timeout_s
            lineage = self._engine.root(job.timeout_s)
            try:
                answer = await (
                    coming or self._engine.result(udf, question, rerun=rerun, lineage=lineage)
                )
            except ServerBusy as error:
                await asyncio.sleep(error.retry_after_s)
            except UdfTimeout as error:
                # It had joined a request's run, which may not take as long.
                if rerun or error.timeout_s >= limit:
                    raise
                rerun = True
            else:
                return answer.result
            coming = None

    async def _look(self) -> None:
        """Do what others wish of the jobs that run here, and tell them how far these are."""
        while True:
            await asyncio.sleep(self._records.look_s)
            if not self._tasks:
                continue
            with contextlib.suppress(Error):  # The store is away for a moment, say.
                wishes = await self._records.wishes()
                for job in list(self._under_way.values()):
                    if _is_to_end(job, wishes.get(job.id)):
                        self._cancel_own(job.id)
                    elif job.state == "running" and job.names is not None:
                        await self._tell_progress(job)

    async def _tell_progress(self, job: Job) -> None:
        udf = self._engine.registry.get(job.udf)
        done = 0 if udf is None else self._engine.progress(job.question(udf))
        if done > job.done and job.id in self._tasks:
            await self._keep(replace(job, done=done))

    async def _keep(self, job: Job) -> None:
        self._under_way[job.id] = job
        await self._records.keep(job)


def _is_to_end(job: Job, wish: Wish | None) -> bool:
    if wish is None:
        return False
    return wish.cancelled or (job.back_s is not None and wish.waits_s < 0)
