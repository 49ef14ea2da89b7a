"""Stores of each kind, that several engines share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.s3_server import KEYS, moto_server

from webfoot.store.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.s3_server import S3Server
    from tests.test_store import AnyStore


@pytest.fixture(scope="package")
def s3_server() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], AnyStore]:
    """Opens one store, of each kind, as several servers may."""
    if request.param == "folder":
        return lambda: LocalStore(tmp_path / "store", 10**9)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server: S3Server = request.getfixturevalue("s3_server")
    bucket = server.make_place()
    return lambda: server.open_store(bucket)
