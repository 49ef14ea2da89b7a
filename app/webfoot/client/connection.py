"""Requests that are made again where that is safe, and that can be cut off."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import threading
import weakref
from typing import TYPE_CHECKING, Any

import httpx

from webfoot.client.replies import read_error, wait_before_retry
from webfoot.errors import Error, RunCancelled, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

# Waits grow from the first to the second; somewhere between none and all of it, so that clients
# that failed together do not come back together.
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0
# A server that asks for more is not worth waiting for.
_LONGEST_ASKED_WAIT_S = 60.0
# What a lost connection, or one that cannot be made, raises. A time-out is not among them: who has
# waited that long should be told.
_LOST = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.CloseError,
    httpx.RemoteProtocolError,
)


class Connection:
    """Requests to one server over a pool of connections; threads may share it.

    Every request that it makes may be made twice: a call gives the same table both times.

    Args:
        http: Makes the requests; closed with this object.
        retries: How often a request is made again.
    """

    def __init__(self, http: httpx.Client, retries: int) -> None:
        self._http = http
        self._retries = retries
        self._cut = threading.Event()
        self._streams: weakref.WeakSet[Any] = weakref.WeakSet()
        # Also for who forgets to: a socket that is merely dropped warns.
        self._finalizer = weakref.finalize(self, http.close)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """GET, until there is an answer worth having: a success or 304; see `_request`."""
        return self._request("GET", path, headers=headers)

    def post(self, path: str, body: bytes, *, retry: bool = True) -> httpx.Response:
        """POST a JSON body, likewise.

        Args:
            path: Where.
            body: The JSON.
            retry: Whether to try again if that may help.
        """
        headers = {"content-type": "application/json"}
        return self._request("POST", path, headers=headers, content=body, retry=retry)

    def _request(
        self, method: str, path: str, *, retry: bool = True, **options: Any
    ) -> httpx.Response:
        """Make a request, and make it again where that may help.

        Raises:
            Unreachable: If there was no answer.
            RunCancelled: If it was cut off.
            Error: What the server answered.
        """
        request = self._http.build_request(
            method, path, extensions={"trace": self._watch}, **options
        )
        left = self._retries if retry else 0
        longest_s = _FIRST_WAIT_S
        while True:
            answer = self._attempt(request)
            if isinstance(answer, httpx.Response):
                return answer
            error, asked_s = answer
            if asked_s is None or asked_s > _LONGEST_ASKED_WAIT_S or left == 0:
                raise error
            if self._cut.wait(asked_s + random.uniform(0, longest_s)):  # noqa: S311  # no secret
                raise _cancelled()
            left, longest_s = left - 1, min(2 * longest_s, _LONGEST_WAIT_S)

    def _attempt(self, request: httpx.Request) -> httpx.Response | tuple[Error, float | None]:
        """The answer; or the error, and how long to wait before another attempt if one may help."""
        try:
            response = self._http.send(request)
        except (httpx.TransportError, RuntimeError) as error:
            if self._cut.is_set():
                raise _cancelled() from None
            if not isinstance(error, httpx.TransportError):
                raise
            unreachable = _unreachable(request, error)
            unreachable.__cause__ = error
            return unreachable, 0.0 if _may_pass(error) else None
        if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
            return response
        error_told = read_error(response)
        return error_told, wait_before_retry(response, error_told)

    def _watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the connections that are made: httpx has no way to cut one that is in use."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._streams.add(info["return_value"])
            if self._cut.is_set():
                _shut_down(info["return_value"])

    def cut_off(self) -> None:
        """End all requests, also those that other threads wait for, and close."""
        self._cut.set()
        for stream in list(self._streams):
            _shut_down(stream)
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._finalizer()


def _shut_down(stream: Any) -> None:
    sock: socket.socket | None = stream.get_extra_info("socket")
    with contextlib.suppress(OSError):  # It is closed already.
        if sock is not None:
            # Closing it would not wake who reads from it.
            sock.shutdown(socket.SHUT_RDWR)


def _cancelled() -> RunCancelled:
    return RunCancelled("it was cancelled before it had an answer")


def _causes(error: BaseException | None) -> list[BaseException]:
    causes = []
    while error is not None:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def _may_pass(error: httpx.TransportError) -> bool:
    """Whether the same request may have more luck in a moment."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return cause.errno == socket.EAI_AGAIN
        if isinstance(cause, ssl.SSLCertVerificationError):
            return False
    return isinstance(error, _LOST)


def _unreachable(request: httpx.Request, error: httpx.TransportError) -> Unreachable:
    origin = str(request.url.copy_with(raw_path=b"/")).rstrip("/")
    if isinstance(error, httpx.ReadTimeout):
        return Unreachable(
            f"{origin} gave no answer in the time that this client waits; give it more with"
            " Client(…, timeout='1h')"
        )
    said = next((str(cause) for cause in reversed(_causes(error)) if str(cause)), "")
    return Unreachable(
        f"{origin} cannot be reached ({said or type(error).__name__}); is the address right, and"
        " does a server run there?"
    )
