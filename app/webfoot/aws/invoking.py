"""The function invokes itself: other instances of it do what this one asks."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from webfoot.settings import S3Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_lambda import LambdaClient

    from webfoot.settings import Settings

# Lambda ends every invocation by then.
_LONGEST_S = 900
_CONNECT_TIMEOUT_S = 5
_BUSY = frozenset(
    {
        *("TooManyRequestsException", "EC2ThrottledException", "ServiceException"),
        *("ENILimitReachedException", "ResourceNotReadyException", "ThrottlingException"),
    }
)


class Busy(Exception):
    """No instance is to be had at this moment."""


class Refused(Exception):
    """The function may not, or cannot, be invoked; it says why."""


class Died(Exception):
    """The instance ended before it had answered.

    Args:
        kind: What Lambda calls that, such as `Runtime.ExitError`.
        said: What it says of it.
    """

    def __init__(self, kind: str, said: str) -> None:
        super().__init__(f"{kind}: {said}" if said else kind)
        self.timed_out = "timedout" in kind.lower() or "timed out" in said


def make_invoker(settings: Settings) -> Invoker | None:
    """What invokes this function; None if it is none, or its instances do not share their results.

    Args:
        settings: Where results are, and how many instances may be used at once.
    """
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if not (function and isinstance(settings.store, S3Place)):
        return None
    version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION") or "$LATEST"
    return Invoker(function, version, max(settings.invocations, 1))


class Invoker:
    """Invokes one function; boto3 is loaded, and credentials are looked for, at the first time.

    Args:
        function: Its name.
        qualifier: Its version, so that an instance finds its own code in the others.
        at_once: How many invocations there may be at a time.
    """

    def __init__(self, function: str, qualifier: str, at_once: int) -> None:
        self._function = function
        self._qualifier = qualifier
        self._at_once = at_once
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="invocation")
        self._opening = threading.Lock()
        self._client: LambdaClient | None = None

    async def invoke(self, event: Mapping[str, Any]) -> Any:
        """Give an instance an event, and wait for its answer.

        Raises:
            Busy: If it may succeed in a moment.
            Refused: If it will not.
            Died: If the instance took the event, and ended.
        """
        return await self._on_thread(self._invoke, event)

    async def send(self, event: Mapping[str, Any]) -> None:
        """Leave an event for an instance to take when one is free; see `invoke`."""
        await self._on_thread(self._send, event)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _on_thread(self, do: Any, event: Mapping[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, do, json.dumps(event).encode())

    def _invoke(self, event: bytes) -> Any:
        answer = self._call("RequestResponse", event)
        said = json.loads(answer["Payload"].read() or b"null")
        if "FunctionError" in answer:
            told = said if isinstance(said, dict) else {}
            raise Died(str(told.get("errorType", "")), str(told.get("errorMessage", "")))
        return said

    def _send(self, event: bytes) -> None:
        self._call("Event", event)

    def _call(self, kind: Any, event: bytes) -> Any:
        from botocore import exceptions  # noqa: PLC0415  # 200 ms, for what few calls need

        try:
            return self._open().invoke(
                FunctionName=self._function,
                Qualifier=self._qualifier,
                InvocationType=kind,
                Payload=event,
            )
        except exceptions.ClientError as error:
            if error.response["Error"]["Code"] in _BUSY:
                raise Busy(str(error)) from None
            raise Refused(str(error)) from None
        except exceptions.ConnectionError as error:
            raise Busy(str(error)) from None
        except exceptions.HTTPClientError as error:
            # A connection that broke: nobody knows what became of the event.
            raise Died(type(error).__name__, str(error)) from None
        except exceptions.BotoCoreError as error:
            raise Refused(str(error)) from None

    def _open(self) -> LambdaClient:
        with self._opening:
            if self._client is None:
                import boto3  # noqa: PLC0415  # likewise
                from botocore.config import Config  # noqa: PLC0415  # likewise

                config = Config(
                    connect_timeout=_CONNECT_TIMEOUT_S,
                    read_timeout=_LONGEST_S,
                    # Whoever asks decides whether to wait for an instance.
                    retries={"total_max_attempts": 1},
                    max_pool_connections=self._at_once,
                    tcp_keepalive=True,
                )
                self._client = boto3.Session().client("lambda", config=config)
            return self._client
