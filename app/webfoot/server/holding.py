"""How long a request waits for a run, and what becomes of it then: a job, which it waits for anew.

No client waits for minutes, and few things between it and the server do; but all of them follow
redirects.
"""

from __future__ import annotations

import asyncio
import math
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from webfoot.access.shares import PARAMETER
from webfoot.asking import FANOUT_OPTIONS
from webfoot.errors import Error, ResultGone, StillRunning
from webfoot.jobs.running import BACK_S
from webfoot.server.fanouts import accepted_extension
from webfoot.server.problems import COMMON_HEADERS, Reply
from webfoot.server.requests import wants_inline_errors

if TYPE_CHECKING:
    from webfoot.access.principal import Principal
    from webfoot.definition import Udf
    from webfoot.engine import Answer
    from webfoot.jobs import Job
    from webfoot.jobs.running import Jobs
    from webfoot.results import Question, Result
    from webfoot.server.requests import Request
    from webfoot.store import Store

# Those of Webfoot's own parameters that are the call's, which a job has already.
_NOT_THE_VIEWS = frozenset({"_hop", *FANOUT_OPTIONS})
# How long a spreadsheet waits for what an old result may stand in for, in seconds. Google does not
# say when IMPORTDATA gives up; people report eight seconds as safe.
SOON_S = 6.0
# How long it waits where there is no old one.
_SHEET_S = SOON_S + 1.0
# What it takes to send a request on before the platform ends it, in seconds.
_SENDING_ON_S = 1.0
# When a spreadsheet is to ask again, in seconds.
_COME_BACK_S = 20


class Holding:
    """Holds requests, and sends on those that have waited long enough.

    Args:
        jobs: Go on with what requests cannot wait for.
        store: Has the results of jobs.
        hold_s: How long a request waits, in seconds.
    """

    def __init__(self, jobs: Jobs, store: Store, hold_s: float) -> None:
        self._jobs = jobs
        self._store = store
        self._hold_s = hold_s

    def until(self, request: Request) -> float:
        """When a request that comes now has waited long enough, in the event loop's time."""
        return asyncio.get_running_loop().time() + self._seconds(request)

    async def find(self, job: str, asker: Principal) -> Job:
        """The job of that id; see `webfoot.jobs.running.Jobs.get`."""
        return await self._jobs.get(job, asker)

    async def begin(self, udf: Udf, question: Question) -> Job | None:
        """The job that a call is from the beginning; None if it is to run here.

        Where jobs run in other processes, a run cannot become one: it would begin anew there.
        """
        longest_s = udf.options.timeout_s or 0.0
        if self._jobs.are_elsewhere and longest_s > self._hold_s:
            return await self._jobs.attended(question)
        return None

    async def wait(self, job: Job, request: Request) -> Job:
        """The job when it has ended, or when the request has waited long enough."""
        return await self._jobs.wait(job, self._seconds(request))

    async def result_of(self, job: Job) -> Result:
        """What came of a job that has ended.

        Raises:
            ResultGone: If the store has it no longer.
            Error: Why it failed.
        """
        if job.problem is not None:
            raise Error.from_problem(job.problem)
        assert job.result is not None, "a job that is done has a result"
        if not await self._store.last_used(job.result):
            raise ResultGone(f"the result of job {job.id} has been evicted; make the call again")
        return job.result

    async def become_job(
        self, question: Question, request: Request, coming: asyncio.Task[Answer]
    ) -> Reply:
        """Send who waits for a call on to the job that it becomes; see `send_on`.

        Args:
            question: The call.
            request: Asks for it.
            coming: Its result, which is the job's from now on, whatever becomes of the request.
        """
        back_s = 4 * _COME_BACK_S if wants_inline_errors(request) else BACK_S
        return self.send_on(await self._jobs.attended(question, back_s, coming), request)

    def send_on(self, job: Job, request: Request) -> Reply:
        """Send who has waited long enough on, to wait anew.

        Raises:
            StillRunning: To tell a spreadsheet, which would not wait, to come back.
        """
        if wants_inline_errors(request):
            raise StillRunning(f"{job.udf} is still running; ask again in {_COME_BACK_S} seconds")
        pairs = parse_qsl(request.query.decode(errors="replace"), keep_blank_values=True)
        hops = next((int(text) for name, text in pairs if name == "_hop" and text.isdigit()), 0)
        own = [(n, t) for n, t in pairs if n.startswith("_") and n not in _NOT_THE_VIEWS]
        # Who came by a share link has nothing else to show there.
        own += [(PARAMETER, request.share)] if request.share else []
        query = urlencode([*own, ("_hop", str(hops + 1))])
        extension = request.extension or accepted_extension(request.headers.get("accept", ""))
        where = f"{request.base_url}/jobs/{job.id}.{extension}?{query}"
        headers = [
            (b"location", where.encode()),
            (b"content-length", b"0"),
            (b"cache-control", b"no-store"),
            (b"x-webfoot-job", job.id.encode()),
        ]
        return Reply(HTTPStatus.SEE_OTHER, [*headers, *COMMON_HEADERS], b"")

    def _seconds(self, request: Request) -> float:
        if math.isinf(self._hold_s):
            return math.inf
        left_s = request.limits.ends_at - asyncio.get_running_loop().time() - _SENDING_ON_S
        sheet_s = _SHEET_S if wants_inline_errors(request) else math.inf
        return max(min(self._hold_s, left_s, sheet_s), 0.0)


async def in_time(coming: asyncio.Task[Answer], until: float) -> Answer | None:
    """What comes by then, in the event loop's time; None if it takes longer, and goes on.

    Raises:
        Error: Why nothing comes.
    """
    left_s = until - asyncio.get_running_loop().time()
    await asyncio.wait((coming,), timeout=None if math.isinf(left_s) else left_s)
    return coming.result() if coming.done() else None
