"""Requests that are made again where that is safe, and that can be cut off."""

from __future__ import annotations

import contextlib
import math
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
    from collections.abc import Iterator, Mapping

# Waits grow from the first to the second; somewhere between none and all of it, so that clients
# that failed together do not come back together.
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0
# A server that asks for more is not worth waiting for.
_LONGEST_ASKED_WAIT_S = 60.0
# From http to https, say, and from a server to its bucket.
_MOST_MOVES = 5
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

    Every request that it makes may be made twice: a call gives the same table both times, a job has
    a key under which there is one, and what is cancelled stays so.

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

    def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        retry: bool = True,
    ) -> httpx.Response:
        """POST a JSON body, likewise.

        Args:
            path: Where.
            body: The JSON.
            headers: What else to say.
            retry: Whether to try again if that may help.
        """
        told = {"content-type": "application/json", **(headers or {})}
        return self._request("POST", path, headers=told, content=body, retry=retry)

    def delete(self, path: str) -> httpx.Response:
        """DELETE, likewise."""
        return self._request("DELETE", path)

    def attempt(
        self, path: str, seconds: float, headers: Mapping[str, str] | None = None
    ) -> httpx.Response | None:
        """GET once, and wait so long for each part of the answer, whatever it is.

        Returns:
            None if there was none, or only the word (303) that there is to wait on.

        Raises:
            RunCancelled: If it was cut off.
        """
        limits = self._http.timeout.as_dict()
        request = self._build("GET", path, headers=headers)
        request.extensions["timeout"] = {name: _sooner(limits[name], seconds) for name in limits}
        with contextlib.suppress(httpx.TransportError), self._cuttable():
            for _ in range(_MOST_MOVES):
                response = self._http.send(request, follow_redirects=False)
                if response.status_code == httpx.codes.SEE_OTHER:
                    return None
                if response.next_request is None:
                    return response
                request = response.next_request
        return None

    def pause(self, seconds: float) -> None:
        """Wait for so long.

        Raises:
            RunCancelled: If that was cut off.
        """
        if self._cut.wait(max(seconds, 0)):
            raise _cut_off()

    def _build(self, method: str, path: str, **options: Any) -> httpx.Request:
        return self._http.build_request(method, path, extensions={"trace": self._watch}, **options)

    def _request(
        self, method: str, path: str, *, retry: bool = True, **options: Any
    ) -> httpx.Response:
        """Make a request, and make it again where that may help.

        Raises:
            Unreachable: If there was no answer.
            RunCancelled: If it was cut off.
            Error: What the server answered.
        """
        request = self._build(method, path, **options)
        left = self._retries if retry else 0
        longest_s = _FIRST_WAIT_S
        while True:
            answer = self._attempt(request)
            if isinstance(answer, httpx.Response):
                return answer
            error, asked_s = answer
            if asked_s is None or asked_s > _LONGEST_ASKED_WAIT_S or left == 0:
                raise error
            self.pause(asked_s + random.uniform(0, longest_s))  # noqa: S311  # nosec B311  # no secret
            left, longest_s = left - 1, min(2 * longest_s, _LONGEST_WAIT_S)

    def _attempt(self, request: httpx.Request) -> httpx.Response | tuple[Error, float | None]:
        """The answer; or the error, and how long to wait before another attempt if one may help."""
        try:
            with self._cuttable():
                response = self._http.send(request)
        except httpx.TransportError as error:
            unreachable = _unreachable(request, error)
            unreachable.__cause__ = error
            return unreachable, 0.0 if _may_pass(error) else None
        if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
            return response
        error_told = read_error(response)
        return error_told, wait_before_retry(response, error_told)

    @contextlib.contextmanager
    def _cuttable(self) -> Iterator[None]:
        """What fails inside because it was cut off says so."""
        try:
            yield
        except (httpx.TransportError, RuntimeError):
            if self._cut.is_set():
                raise _cut_off() from None
            raise

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


def _cut_off() -> RunCancelled:
    return RunCancelled("the client was closed before it had an answer")


def _sooner(limit_s: float | None, seconds: float) -> float | None:
    """The shorter of two limits; None is none, as httpx has it."""
    shorter_s = min(math.inf if limit_s is None else limit_s, seconds)
    return None if math.isinf(shorter_s) else shorter_s


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
