"""Clients of the `server` that a test file has, and of its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import webfoot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server_process import Server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[webfoot.Client]:
    with webfoot.Client(server.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def in_process(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[webfoot.Client]:
    """A client of the same folder without a server, and with a store of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEBFOOT_STORE", str(tmp_path_factory.mktemp("store")))
        opened = webfoot.Client(server.folder)
    with opened:
        yield opened


@pytest.fixture(params=["server", "folder"])
def either(request: pytest.FixtureRequest) -> webfoot.Client:
    name = {"server": "client", "folder": "in_process"}[request.param]
    found: webfoot.Client = request.getfixturevalue(name)
    return found
