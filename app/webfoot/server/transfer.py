"""Bytes to a client, and whether it is still there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from webfoot.errors import Error, InvalidParameters
from webfoot.server.problems import Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import Receive, Send

    from webfoot.server.conditions import Decision
    from webfoot.server.problems import Headers
    from webfoot.store import Blob

_PIECE = 1 << 20
# A body of sixteen megabytes over half a megabit a second.
_BODY_S = 300.0
_Done = TypeVar("_Done")


class File(NamedTuple):
    """An answer whose body is read piece by piece.

    Args:
        decision: The status, and which bytes.
        headers: The headers.
        blob: What the bytes are of.
        before: What is sent before them.
        after: What is sent after them.
    """

    decision: Decision
    headers: Headers
    blob: Blob
    before: bytes = b""
    after: bytes = b""

    @property
    def is_small(self) -> bool:
        """Whether the body is sent as one piece."""
        return self.decision.length <= _PIECE


class ClientGone(Exception):
    """The client closed the connection before it was answered."""


async def send_reply(reply: Reply, send: Send) -> None:
    """Send a response that is at hand."""
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body})


async def read_whole(file: File) -> Reply:
    """The answer with its body, for one that is small."""
    decision = file.decision
    wanted = decision.start, decision.length
    body = await file.blob.read(*wanted) if decision.length else b""
    return Reply(decision.status, file.headers, file.before + body + file.after)


async def send_file(file: File, receive: Receive, send: Send) -> None:
    """Send the wanted bytes, as long as there is somebody to take them."""
    if file.is_small:
        await send_reply(await read_whole(file), send)
        return
    decision = file.decision
    await send({"type": "http.response.start", "status": decision.status, "headers": file.headers})
    position, end = decision.start, decision.start + decision.length
    if file.before:
        await send({"type": "http.response.body", "body": file.before, "more_body": True})
    leaving = asyncio.create_task(_gone(receive))
    try:
        while end - position > _PIECE:
            piece = await file.blob.read(position, _PIECE)
            position += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            # Sending to a client that has gone returns at once: let others have their turn.
            await asyncio.sleep(0)
            if leaving.done():
                return
    finally:
        leaving.cancel()
    body = await file.blob.read(position, end - position)
    await send({"type": "http.response.body", "body": body + file.after})


async def unless_gone(receive: Receive, work: Awaitable[_Done]) -> _Done:
    """Do `work`, unless the client goes away meanwhile.

    Raises:
        ClientGone: If it does; the work is then cancelled.
    """
    task = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return await task
    finally:
        leaving.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Error):
                await task


async def read_body(receive: Receive, most_bytes: int) -> bytes:
    """The body of a request, at most a byte more than `most_bytes` of it.

    Raises:
        ClientGone: If the client closes the connection before its end.
        InvalidParameters: If it takes too long to come.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            while len(body) <= most_bytes:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
    except TimeoutError:
        raise InvalidParameters(
            f"after {_BODY_S:g} s, {len(body)} bytes of the body had come; send less at once"
        ) from None
    return bytes(body[: most_bytes + 1])


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
