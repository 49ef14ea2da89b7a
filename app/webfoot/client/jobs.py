"""Calls that go on, on the server, whether or not their caller waits."""

from __future__ import annotations

import contextlib
import json
import math
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from webfoot.client.replies import (
    as_webfoot_answers,
    error_of,
    read_error,
    read_retry_after,
    wait_before_retry,
)
from webfoot.errors import Error, JobNotFound
from webfoot.quantities import shorten
from webfoot.tables.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from webfoot.client.connection import Connection

State = Literal["queued", "running", "done", "failed", "cancelled"]

# What asks for the first byte of a result waits for it as long as what asks for all.
_FIRST_BYTE = {"range": "bytes=0-0"}
# Who only wants to see how it stands waits no longer for that.
_GLANCE_S = 2.0
# When to ask again if the server does not say.
_AGAIN_S = 1.0
_LETTERS_SHOWN = 200


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Args:
        done: How many of its calls have ended.
        total: How many there are: one, unless it was made by `Client.submit_map`.
        elapsed_s: How long it is since it began, or took to its end, in seconds.
    """

    done: int
    total: int
    elapsed_s: float


@dataclass(frozen=True)
class _Told:
    """What a server has told of a job.

    Args:
        id: Its id.
        udf: The UDF that is called.
        state: How it stands.
        progress: How far it is.
        problem: Why it failed, as a problem document.
        log: The last of what it printed, where the server tells that.
        again_s: After how long it is worth asking again, in seconds.
    """

    id: str
    udf: str
    state: State
    progress: Progress
    problem: Mapping[str, Any] | None
    log: str
    again_s: float

    @property
    def over(self) -> bool:
        return self.state not in ("queued", "running")


class Job:
    """A call that goes on, on the server, whether or not its caller waits; see `Client.submit`.

    It outlives the client and the process that made it: `Client.job` takes it up again by its `id`.
    Threads may share it.

    Args:
        connection: Asks the server.
        response: What the server has told of it.
    """

    def __init__(self, connection: Connection, response: httpx.Response) -> None:
        self._connection = connection
        self._told = _read(response)
        self._table: Table | None = None

    @property
    def id(self) -> str:
        """What `Client.job` knows it by."""
        return self._told.id

    @property
    def status(self) -> State:
        """How it stands; asks the server, as do `progress` and `log`."""
        return self._look().state

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._look().progress

    @property
    def log(self) -> str:
        """The last lines of what it printed, from a server in debug mode; empty from others."""
        return self._look().log

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until it has ended, one way or another, or for `timeout` seconds.

        Raises:
            Unreachable: If there was no answer; the job goes on.
        """
        if self._held(timeout, _FIRST_BYTE) is not None:
            self._look()
        return self

    def result(self, timeout: float | None = None) -> Table:
        """The table; waits for it.

        Args:
            timeout: How long to wait at most, in seconds.

        Raises:
            TimeoutError: If it has not ended by then; it goes on.
            RunCancelled: If it was cancelled, or the client is closed meanwhile.
            Unreachable: If there was no answer; the job goes on.
            Error: Why there is none; of the class that the server raised.
        """
        if self._table is None:
            response = self._held(timeout, {})
            if response is None and not self._told.over:
                raise TimeoutError(
                    f"job {self.id} of {self._told.udf} has not ended after {timeout} s; it goes on"
                )
            if response is None:
                response = self._ended()
            with as_webfoot_answers(response):
                self._table = Table.from_parquet(response.content)
        return self._table

    def cancel(self) -> bool:
        """Stop it, whoever waits for it, in a moment; False if it had ended already."""
        if not self._told.over:
            self._told = _read(self._connection.delete(_path(self.id)))
        return self._told.state not in ("done", "failed")

    def __repr__(self) -> str:
        told = self._glance()
        parts = [f"{told.udf}: {told.state}", f"{told.progress.elapsed_s:.1f} s"]
        if told.progress.total > 1:
            parts.insert(1, f"{told.progress.done:,} of {told.progress.total:,} inputs")
        if told.problem is not None:
            parts.append(_shown(told.problem))
        return f"<Job {told.id} of {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        from webfoot.templating import render  # noqa: PLC0415  # Jinja, for who looks at it

        told = self._glance()
        why = None if told.problem is None else _shown(told.problem)
        return render("job.html", job=told, why=why)

    def _look(self) -> _Told:
        """How it stands now."""
        if not self._told.over:
            self._told = _read(self._connection.get(_path(self.id)))
        return self._told

    def _glance(self) -> _Told:
        """How it stands now; or, if that cannot be had at once, how it stood last."""
        if not self._told.over:
            with contextlib.suppress(Error):
                response = self._connection.attempt(_path(self.id), _GLANCE_S)
                self._told = self._told if response is None else _read(response)
        return self._told

    def _held(self, timeout: float | None, headers: Mapping[str, str]) -> httpx.Response | None:
        """The result, which the server holds back until there is one.

        Args:
            timeout: How long to wait at most, in seconds.
            headers: What of it is wanted.

        Returns:
            None if it has ended, or the time has passed, and there was no result.

        Raises:
            Error: If there is no use in waiting.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        while not self._told.over:
            asked_at = time.monotonic()
            response = None
            if asked_at < until:
                left_s = until - asked_at
                response = self._connection.attempt(f"{_path(self.id)}.parquet", left_s, headers)
            if response is not None and response.is_success:
                return response
            told = self._look()
            if told.over or time.monotonic() >= until:
                break
            if response is not None:
                _raise_unless_passing(response)
            # What was not held long has met with trouble, which is asked after more slowly.
            self._connection.pause(min(asked_at + told.again_s, until) - time.monotonic())
        return None

    def _ended(self) -> httpx.Response:
        """The result, now that it has ended."""
        if self._told.problem is not None:
            raise error_of(self._told.problem)
        return self._connection.get(f"{_path(self.id)}.parquet")


def submit(connection: Connection, asked: Mapping[str, Any]) -> Job:
    """Have a server make a job.

    Args:
        connection: Asks the server.
        asked: What is to be called, as `POST /jobs` has it.
    """
    # A request that is made again, as no answer came to the first, makes no second job.
    headers = {"idempotency-key": uuid.uuid4().hex}
    body = json.dumps(asked, ensure_ascii=False).encode()
    return Job(connection, connection.post("jobs", body, headers))


def find(connection: Connection, id: str) -> Job:  # noqa: A002  # it is one
    """The job of that id.

    Raises:
        JobNotFound: If there is none.
    """
    if not id.isalnum():
        raise JobNotFound(f"there is no job {id!r}; an id has letters and digits only")
    return Job(connection, connection.get(_path(id)))


def _path(id: str) -> str:  # noqa: A002  # it is one
    return f"jobs/{id}"


def _read(response: httpx.Response) -> _Told:
    with as_webfoot_answers(response):
        plain = response.json()
        progress = plain["progress"]
        return _Told(
            id=plain["id"],
            udf=plain["udf"],
            state=plain["state"],
            progress=Progress(progress["done"], progress["total"], plain["elapsed"] or 0.0),
            problem=plain["problem"],
            log="\n".join(plain.get("log", ())),
            again_s=read_retry_after(response) or _AGAIN_S,
        )


def _raise_unless_passing(response: httpx.Response) -> None:
    error = read_error(response)
    if wait_before_retry(response, error) is None:
        raise error


def _shown(problem: Mapping[str, Any]) -> str:
    return shorten(str(problem.get("detail", "")), _LETTERS_SHOWN)
