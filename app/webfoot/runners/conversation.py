"""A worker's end of its conversation with the server; see `webfoot.runners.channel`.

The thread that waits for the next job reads it itself: most jobs make no calls, and to hand each
from one thread to another costs a tenth of what all else does. Once a job makes calls, or runs
beside others, a thread of its own reads: jobs wait in a queue then, and answers go to who asked.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
from typing import TYPE_CHECKING, Any

from webfoot.errors import Error, RunCancelled
from webfoot.runners import frames
from webfoot.runners.nested import Answers, write_inputs

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from webfoot.registry import Registry


class Conversation:
    """The conversation over a socket that the server has connected.

    Args:
        socket: The socket.
    """

    def __init__(self, socket: socket.socket) -> None:
        self._socket = socket
        self._sending = threading.Lock()
        self._jobs: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._asked: dict[int, Answers] = {}
        self._pid = os.getpid()
        # Who holds it reads.
        self._reading = threading.Lock()

    def next_job(self) -> dict[str, Any] | None:
        """Wait for a job; None if there will be no more."""
        if not self._reading.acquire(blocking=False):
            return self._jobs.get()
        try:
            return self._read_job()
        finally:
            self._reading.release()

    def listen(self) -> None:
        """Have somebody read from now on, also while nobody waits for a job."""
        if self._reading.acquire(blocking=False):
            threading.Thread(target=self._listen, name="webfoot-listener", daemon=True).start()

    def answer(self, job: int, message: Mapping[str, Any]) -> None:
        """Say what came of a job."""
        self._send({**message, "job": job})

    def ask(
        self,
        job: int,
        udf: str,
        arguments: Sequence[str],
        inputs: Sequence[Mapping[str, Any]],
    ) -> Answers:
        """Have the server make calls for a job.

        Raises:
            Error: If this process cannot ask.
        """
        if os.getpid() != self._pid:
            raise Error("a forked process cannot call UDFs; call them from the run's own process")
        self.listen()
        number = next(self._numbers)
        answers = Answers(inputs, lambda: self._send({"job": job, "stop": number}))
        self._asked[number] = answers
        self._send({"job": job, "ask": number, "udf": udf, "arguments": list(arguments)})
        return answers

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            with self._sending:
                self._socket.sendall(frames.pack(message))
        except OSError:  # The server has gone, or a run closed the descriptor.
            os._exit(frames.LOST)

    def _listen(self) -> None:
        while (job := self._read_job()) is not None:
            self._jobs.put(job)
        self._jobs.put(None)

    def _read_job(self) -> dict[str, Any] | None:
        """Read until there is a job; hand out the answers that come before."""
        try:
            while (message := self._receive()) is not None:
                if "ask" not in message:
                    return message
                self._hear(message)
        except OSError:  # A run closed the descriptor.
            os._exit(frames.LOST)
        for answers in list(self._asked.values()):
            answers.hear(RunCancelled("the server has gone"))
        return None

    def _hear(self, message: Mapping[str, Any]) -> None:
        """Hand what the server says of calls to who asked for them."""
        number = message["ask"]
        if "index" in message:
            self._asked[number].hear(frames.read_answered(message))
            return
        problem = message.get("problem")
        self._asked.pop(number).hear(Error.from_problem(problem) if problem else None)

    def _receive(self) -> dict[str, Any] | None:
        head = self._read(frames.LENGTH_BYTES)
        if head is None:
            return None
        body = self._read(frames.length(head))
        return None if body is None else frames.unpack(body)

    def _read(self, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            part = self._socket.recv(size - len(parts))
            if not part:
                return None
            parts += part
        return bytes(parts)


class JobCaller:
    """Makes the calls of one job through the conversation; see `webfoot.calling.Caller`.

    Args:
        conversation: The conversation.
        job: The job's number.
        registry: The UDFs that it may call.
    """

    def __init__(self, conversation: Conversation, job: int, registry: Registry) -> None:
        self._conversation = conversation
        self._job = job
        self._registry = registry

    def outcomes(self, name: str, inputs: Sequence[Mapping[str, Any]]) -> Answers:
        """Ask the server."""
        arguments = write_inputs(self._registry, name, inputs)
        return self._conversation.ask(self._job, name, arguments, inputs)

    def file(self, name: str, query: str, seconds: float) -> Path:
        """Ask the server for the file of one; see `webfoot.runners.Finder`."""
        return self._conversation.ask(self._job, name, [query], [{}]).file(seconds)
