"""Calls that go on when nobody waits for them: each a job, with a state that outlives the server.

queued → running → done | failed | cancelled
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from webfoot.access.principal import EVERYBODY, Principal
from webfoot.results import Call, Fanout, Result, from_json, to_json

if TYPE_CHECKING:
    from webfoot.definition import Udf
    from webfoot.results import Question

_ENDED = ("done", "failed", "cancelled")
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
        back_s: For one that a plain request has become: it ends when nobody has asked for it for so
            long, in seconds. None for one that goes on in any case.
        started: When it was first run, likewise.
        ended: When it ended, likewise.
        done: How many of its calls have ended, as it was told last.
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
    back_s: float | None = None
    started: float | None = None
    ended: float | None = None
    done: int = 0
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

    def asks_the_same(self, other: Job) -> bool:
        """Whether both are of the same calls."""
        asked, others = (
            (job.udf, job.arguments, job.names, job.partial, job.audience) for job in (self, other)
        )
        return asked == others


def new_job(question: Question, timeout_s: float, back_s: float | None = None) -> Job:
    """A job that is yet to be kept; see `Job`."""
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
        back_s=back_s,
        audience=question.audience,
    )


def write_job(job: Job) -> str:
    """Write a job as it is kept."""
    result = None if job.result is None else to_json(job.result)
    return json.dumps(asdict(replace(job, result=None)) | {"result": result})


def read_job(record: str | bytes) -> Job:
    """Read a job that `write_job` wrote.

    Raises:
        ValueError: If it is none.
    """
    plain = json.loads(record)
    try:
        result = None if plain["result"] is None else from_json(plain["result"])
        names = None if plain["names"] is None else tuple(plain["names"])
        told = {
            "arguments": tuple(plain["arguments"]),
            "names": names,
            "result": result,
            "audience": Principal.from_plain(plain["audience"]),
        }
        return Job(**(plain | told))
    except (KeyError, TypeError) as error:  # Another version of Webfoot wrote it.
        raise ValueError(f"not a job: {error!r}") from error
