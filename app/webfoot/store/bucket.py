"""One bucket behind an S3 interface: small whole-object operations, on threads of their own.

Writes take conditions, so that of several writers one wins. Ages are told by the bucket's own
clock alone (`Date` less `Last-Modified`): the clocks of the machines that use it do not matter.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib.util
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from webfoot.errors import Error, ServerBusy, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client

    from webfoot.settings import S3Access, S3Place

# As many requests at once, and connections kept open.
_THREADS = 16
# Larger files go in parts, several at once; nothing is visible before the last one, either.
_PARTS_FROM_BYTES = 64_000_000
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 30
_ATTEMPTS = 4
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
# 409: another conditional write of the same object is under way.
_UNMET = frozenset({"412", "PreconditionFailed", "409", "ConditionalRequestConflict"})
_UNCHANGED = frozenset({"304", "NotModified"})
_BUSY = frozenset({"SlowDown", "ServiceUnavailable", "InternalError", "503", "RequestTimeout"})
_CURES = {
    "NoSuchBucket": "make the bucket, or name another in WEBFOOT_STORE",
    "AccessDenied": "allow s3:GetObject, s3:PutObject and s3:DeleteObject on its objects and"
    " s3:ListBucket on itself, without which missing objects look forbidden",
    "403": "allow s3:GetObject, s3:PutObject and s3:DeleteObject on its objects and"
    " s3:ListBucket on itself, without which missing objects look forbidden",
    "InvalidAccessKeyId": "check the credentials",
    "SignatureDoesNotMatch": "check the credentials",
    "PermanentRedirect": "set WEBFOOT_S3_REGION to the bucket's region",
}

_Done = TypeVar("_Done")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Head:
    """What is known of an object without its bytes.

    Args:
        etag: Its entity tag, quoted, as the bucket gives it.
        size: Its length in bytes.
        age_s: How long ago it was written, in whole seconds, by the bucket's clock.
    """

    etag: str
    size: int
    age_s: float


@dataclass(frozen=True)
class Body:
    """A whole object.

    Args:
        etag: Its entity tag, quoted, as the bucket gives it.
        data: Its bytes.
    """

    etag: str
    data: bytes


class Bucket:
    """The objects of a bucket whose names begin with a prefix.

    boto3 is loaded, and credentials are looked for, at the first operation.

    Args:
        place: Which bucket, and which prefix.
        access: How it is reached.

    Raises:
        SettingsError: If boto3 is not installed.
    """

    def __init__(self, place: S3Place, access: S3Access) -> None:
        if importlib.util.find_spec("boto3") is None:
            raise SettingsError(
                f"the store {place} needs boto3, which is not installed; install webfoot[aws]"
            )
        self._place = place
        self._access = access
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")
        self._opening = threading.Lock()
        self._client: S3Client | None = None

    async def head(self, name: str) -> Head | None:
        """What is known of an object; None if there is none."""
        return await self._run(self._head, name)

    async def get(self, name: str, known: Body | None = None) -> Body | None:
        """An object, whole; None if there is none.

        Args:
            name: Its name, below the prefix.
            known: What was got before, which is not sent again if it is still what is there.
        """
        return await self._run(self._get, name, known)

    async def read(self, name: str, start: int, length: int) -> bytes | None:
        """The `length` bytes of an object from `start`; None if there is none."""
        return await self._run(self._read, name, start, length)

    async def write(self, name: str, data: bytes) -> str:
        """Write an object, whatever was there; its entity tag."""
        tag = await self._run(self._put, name, data)
        assert tag is not None, "there was no condition"
        return tag

    async def create(self, name: str, data: bytes) -> str | None:
        """Write an object that is not there; its entity tag, None if it is there."""
        return await self._run(self._put, name, data, IfNoneMatch="*")

    async def replace(self, name: str, data: bytes, etag: str) -> str | None:
        """Write an object in place of that tagged `etag`; its entity tag, None if that is gone."""
        return await self._run(self._put, name, data, IfMatch=etag)

    async def remove(self, name: str, etag: str) -> None:
        """Remove the object tagged `etag`, if it is still there."""
        await self._run(self._remove, name, etag)

    async def drop(self, names: Sequence[str]) -> None:
        """Remove objects, whatever they are, as far as they are there."""
        await self._run(self._drop, names)

    async def list(self, beginning: str) -> dict[str, float]:
        """The names that begin so, and how long ago each was written, in seconds; see `Head`."""
        return await self._run(self._list, beginning)

    async def upload(self, name: str, path: Path, sha256: str, media_type: str) -> str | None:
        """Write a file as an object, for all to see once it is whole.

        Args:
            name: The object's name, which stands for its bytes: there are no others under it.
            path: The file.
            sha256: The hash of its bytes, hexadecimal, which the bucket checks.
            media_type: What it is.

        Returns:
            The object's entity tag; None if there was such an object already.
        """
        return await self._run(self._upload, name, path, sha256, media_type)

    async def renew(self, name: str, path: Path, media_type: str) -> str:
        """Write an object's own bytes again, so that it counts as new; its entity tag."""
        return await self._run(self._upload_anyhow, name, path, media_type)

    async def download(self, name: str, path: Path) -> bool:
        """Write an object to a file; False if there is no such object.

        Raises:
            OSError: If the file cannot be written.
        """
        return await self._run(self._download, name, path)

    async def sign(self, name: str, seconds: float, media_type: str, encoding: str) -> str:
        """A URL by which whoever has it may GET an object for a while.

        Args:
            name: The object's name.
            seconds: For how long; temporary credentials may end it sooner.
            media_type: What the answer shall say that it is.
            encoding: How the answer shall say that it is compressed; empty for not at all.
        """
        return await self._run(self._sign, name, seconds, media_type, encoding)

    def close(self) -> None:
        """Let the threads go once they are done."""
        self._threads.shutdown(wait=False)

    async def _run(self, work: Callable[..., _Done], *given: Any, **named: Any) -> _Done:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(self._do, work, *given, **named))

    # What follows runs on the threads.

    def _do(self, work: Callable[..., _Done], *given: Any, **named: Any) -> _Done:
        with self._opening:
            if self._client is None:
                self._client = _make_client(self._access)
        with self._errors():
            return work(self._client, *given, **named)

    def _of(self, name: str) -> dict[str, Any]:
        return {"Bucket": self._place.bucket, "Key": self._place.name(name)}

    def _head(self, client: S3Client, name: str) -> Head | None:
        told = _unless(_MISSING, client, lambda: client.head_object(**self._of(name)))
        if told is None:
            return None
        now = parsedate_to_datetime(told["ResponseMetadata"]["HTTPHeaders"]["date"])
        age = (now - told["LastModified"]).total_seconds()
        return Head(told["ETag"], told["ContentLength"], age)

    def _get(self, client: S3Client, name: str, known: Body | None) -> Body | None:
        condition: dict[str, Any] = {} if known is None else {"IfNoneMatch": known.etag}
        try:
            told = client.get_object(**self._of(name), **condition)
        except client.exceptions.ClientError as error:
            if _code(error) in _UNCHANGED:
                return known
            if _code(error) in _MISSING:
                return None
            raise
        return Body(told["ETag"], told["Body"].read())

    def _read(self, client: S3Client, name: str, start: int, length: int) -> bytes | None:
        wanted = f"bytes={start}-{start + length - 1}"
        told = _unless(_MISSING, client, lambda: client.get_object(**self._of(name), Range=wanted))
        return None if told is None else told["Body"].read()

    def _put(self, client: S3Client, name: str, data: Any, **options: Any) -> str | None:
        options |= self._access.encryption.options()
        put = partial(client.put_object, Body=data, **self._of(name), **options)
        told = _unless(_UNMET | _MISSING, client, put)
        return None if told is None else told["ETag"]

    def _remove(self, client: S3Client, name: str, etag: str) -> None:
        remove = partial(client.delete_object, **self._of(name), IfMatch=etag)
        _unless(_UNMET | _MISSING, client, remove)

    def _drop(self, client: S3Client, names: Sequence[str]) -> None:
        # One by one: to remove many at once takes a checksum that not every server knows.
        for name in names:
            client.delete_object(**self._of(name))

    def _list(self, client: S3Client, beginning: str) -> dict[str, float]:
        found: dict[str, float] = {}
        whole = self._place.name(beginning)
        for page in client.get_paginator("list_objects_v2").paginate(
            Bucket=self._place.bucket, Prefix=whole
        ):
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            for item in page.get("Contents", ()):
                name = beginning + item["Key"].removeprefix(whole)
                found[name] = (now - item["LastModified"]).total_seconds()
        return found

    def _upload(
        self, client: S3Client, name: str, path: Path, sha256: str, media_type: str
    ) -> str | None:
        if path.stat().st_size >= _PARTS_FROM_BYTES:
            there = self._head(client, name)
            return None if there else self._upload_anyhow(client, name, path, media_type)
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        options = {"ContentType": media_type, "ChecksumSHA256": checksum, "IfNoneMatch": "*"}
        with path.open("rb") as file:
            return self._put(client, name, file, **options)

    def _upload_anyhow(self, client: S3Client, name: str, path: Path, media_type: str) -> str:
        from boto3.s3.transfer import TransferConfig  # noqa: PLC0415  # heavy, as boto3 is

        # What fails in the middle is aborted.
        how = TransferConfig(multipart_threshold=_PARTS_FROM_BYTES, max_concurrency=4)
        where = self._of(name)
        options = {"ContentType": media_type, **self._access.encryption.options()}
        client.upload_file(str(path), where["Bucket"], where["Key"], options, Config=how)
        told = self._head(client, name)
        if told is None:
            raise ServerBusy(f"{self._place} lost an object just written; try again")
        return told.etag

    def _download(self, client: S3Client, name: str, path: Path) -> bool:
        def download() -> bool:
            client.download_file(Filename=str(path), **self._of(name))
            return True

        return _unless(_MISSING, client, download) is not None

    def _sign(
        self, client: S3Client, name: str, seconds: float, media_type: str, encoding: str
    ) -> str:
        told = {"ResponseContentType": media_type}
        if encoding:
            told["ResponseContentEncoding"] = encoding
        wanted = {**self._of(name), **told}
        return client.generate_presigned_url(
            "get_object", Params=wanted, ExpiresIn=int(seconds), HttpMethod="GET"
        )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """What the bucket refuses, as errors of ours."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # heavy

        try:
            yield
        except ClientError as error:
            code = _code(error)
            if code in _BUSY:
                raise ServerBusy(f"{self._place} is busy ({code}); try again") from error
            _log.exception("%s refuses", self._place)
            cure = _CURES.get(code, "the server's log says more")
            raise Error(f"the store {self._place} refuses ({code}); {cure}") from error
        except BotoCoreError as error:
            _log.warning("%s: %s", self._place, error)
            told = type(error).__name__
            raise ServerBusy(
                f"the store {self._place} cannot be reached ({told}); check its address and the"
                " credentials, or try again"
            ) from error


def _make_client(access: S3Access) -> S3Client:
    import boto3  # noqa: PLC0415  # 165 ms, which a folder store does not need
    from botocore.config import Config  # noqa: PLC0415  # likewise

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": access.url_style},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=_THREADS,
        # Other servers than Amazon's do not know the newest checksums; ours is given with the file.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    # A session of its own: the default one is not safe under threads.
    return boto3.Session().client(
        "s3",
        endpoint_url=access.endpoint or None,
        region_name=access.region or None,
        config=config,
    )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _unless(codes: frozenset[str], client: S3Client, work: Callable[[], _Done]) -> _Done | None:
    """What `work` gives; None if the bucket answers with one of `codes`."""
    try:
        return work()
    except client.exceptions.ClientError as error:
        if _code(error) not in codes:
            raise
        return None
