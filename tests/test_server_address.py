"""Where the server is: what a request says, and who may correct it."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from webfoot.server.address import Address, base_url_of

PROXY = (ip_network("10.0.0.0/8"),)


def request(client: str = "10.1.2.3", **headers: str) -> dict[str, Any]:
    named = {"host": "inside:8000"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return {
        "type": "http",
        "scheme": "http",
        "path": "/udfs/größe.parquet",
        "raw_path": b"/udfs/gr%C3%B6%C3%9Fe.parquet",
        "root_path": "",
        "client": (client, 1234),
        "server": ("127.0.0.1", 8000),
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in named.items()],
    }


FORWARDED = {
    "x_forwarded_host": "example.org",
    "x_forwarded_proto": "https",
    "x_forwarded_prefix": "/tables/",
}


def test_a_request_tells_where_the_server_is() -> None:
    scope = request()
    assert Address("", PROXY).correct(scope) is scope
    assert base_url_of(scope) == "http://inside:8000"


def test_a_trusted_proxy_is_believed() -> None:
    scope = Address("", PROXY).correct(request(**FORWARDED))
    assert base_url_of(scope) == "https://example.org/tables"
    # ASGI's path begins with the root path.
    assert scope["path"] == "/tables/udfs/größe.parquet"
    assert scope["raw_path"] == b"/tables/udfs/gr%C3%B6%C3%9Fe.parquet"


@pytest.mark.parametrize("client", ["192.0.2.1", "::1", "testclient", ""])
def test_nobody_else_is(client: str) -> None:
    scope = request(client, **FORWARDED)
    assert Address("", PROXY).correct(scope) is scope


def test_the_setting_wins() -> None:
    address = Address("https://set.example/a/b", PROXY)
    for scope in (request(), request(**FORWARDED), request("192.0.2.1", **FORWARDED)):
        corrected = address.correct(scope)
        assert base_url_of(corrected) == "https://set.example/a/b"
        assert corrected["path"].startswith("/a/b/udfs/")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x_forwarded_host", "evil'); --"),
        ("x_forwarded_host", "a/b"),
        ("x_forwarded_prefix", "//evil.example"),
        ("x_forwarded_prefix", "/a b"),
        ("x_forwarded_prefix", "/a'b"),
        ("x_forwarded_proto", "javascript"),
    ],
)
def test_what_cannot_be_is_ignored(name: str, value: str) -> None:
    corrected = Address("", PROXY).correct(request(**{name: value}))
    assert base_url_of(corrected) == "http://inside:8000"


def test_of_several_proxies_the_nearest_is_believed() -> None:
    corrected = Address("", PROXY).correct(
        request(x_forwarded_host="claimed.example, example.org", x_forwarded_proto="ftp, https")
    )
    assert base_url_of(corrected) == "https://example.org"


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("1.1.1.1, 192.0.2.7, 10.0.0.9", "192.0.2.7"),
        ("10.0.0.8, 10.0.0.9", "10.0.0.8"),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(chain: str, client: str) -> None:
    scope = request(x_forwarded_for=chain)
    Address("", PROXY).correct(scope)
    assert scope["client"][0] == client


@pytest.mark.parametrize("host", ["evil'); --", "a b", "a/b", "x" * 254, ""])
def test_a_host_that_is_none_is_where_the_server_listens(host: str) -> None:
    assert base_url_of(request(host=host)) == "http://127.0.0.1:8000"


@pytest.mark.parametrize("host", ["h", "a-b.c_d:80", "[::1]:8000", "127.0.0.1"])
def test_a_host_that_is_one_is_repeated(host: str) -> None:
    assert base_url_of(request(host=host)) == f"http://{host}"
