"""What a request shows is found, wherever it is, and shown to nobody else."""

from __future__ import annotations

import base64

import pytest

from webfoot.access.credentials import is_basic, masked, read_credential, shown_in
from webfoot.access.shares import Share, sign

KEY = "wf_0123456789ab_" + "x" * 43


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (KEY.encode(), KEY),
        (f"Bearer {KEY}".encode(), KEY),
        (f"bearer   {KEY} ".encode(), KEY),
        (basic("", KEY), KEY),
        (basic("ann", KEY), KEY),
        (basic(KEY, ""), KEY),
        (basic("a", "b:c"), "b:c"),
        (b"Bearer", "Bearer"),
        (b"", ""),
        (b"Basic !!!", ""),
        (b"Basic " + base64.b64encode(b"\xff:\xff"), ""),
        (b"AWS4-HMAC-SHA256 Credential=x, Signature=y", ""),
        (b"Negotiate abc", ""),
        (b"Digest username=x", ""),
    ],
)
def test_a_header_is_read(header: bytes, found: str) -> None:
    assert read_credential(header) == found


def test_x_api_key_goes_before_authorization() -> None:
    mine, theirs = (b"x-api-key", KEY.encode()), (b"authorization", b"AWS4-HMAC-SHA256 x")
    for headers in ([mine, theirs], [theirs, mine]):
        assert shown_in({"headers": headers}) == KEY.encode()
    assert shown_in({"headers": [theirs]}) == theirs[1]
    assert shown_in({"headers": [(b"host", b"x")]}) == b""


def test_what_a_browser_sends_by_itself_is_known() -> None:
    assert is_basic(basic("", KEY))
    assert is_basic(b"bASIC x")
    assert not is_basic(f"Bearer {KEY}".encode())


TOKEN = sign(Share("0123456789ab", "a", 1.0), b"secret")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/udfs/a.csv?_share=abc.d-e_f&b=1", "/udfs/a.csv?_share=…&b=1"),
        ("/udfs/a.csv?b=1&_share=abc", "/udfs/a.csv?b=1&_share=…"),
        ("FROM 'http://h/a.csv?_share=abc' LIMIT 1", "FROM 'http://h/a.csv?_share=…' LIMIT 1"),
        (f"Bearer {KEY}.", "Bearer wf_0123456789ab_…."),
        ("/udfs/a.csv?share=abc", "/udfs/a.csv?share=abc"),
        (f"/udfs/a.csv?_sh%61re={TOKEN}&b=1", "/udfs/a.csv?_sh%61re=…&b=1"),
        (f"?then=%2Fa.csv%3F_share%3D{TOKEN}", "?then=%2Fa.csv%3F_share%3D…"),
        (f"the token {TOKEN}.{'s' * 40} is not accepted", "the token … is not accepted"),
        ("eyJ" * 100_000, "eyJ" * 100_000),
        ("nothing", "nothing"),
    ],
)
def test_what_is_logged_is_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
