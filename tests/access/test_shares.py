"""A share link is good for exactly what was signed."""

from __future__ import annotations

import base64
import time
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webfoot.access.principal import Principal
from webfoot.access.shares import Share, read_share, sign, token_in, without_token
from webfoot.access.throttling import Limits, Rate
from webfoot.errors import Forbidden, Unauthorized

SECRET = b"s" * 32
SHARE = Share(
    id="0123456789ab",
    udf="delays",
    expires=time.time() + 10**6,
    fixed={"month": ("1",), "carriers": ("AA", "UA")},
    free=("origin",),
    formats=("csv", "json"),
    rate="10/m",
    tenant="acme",
    by="key:ann",
)
OPEN = Share("0123456789ac", "delays", time.time() + 10**6, {"month": ("1",)}, ("*",))


def pairs(query: bytes) -> list[tuple[str, str]]:
    return parse_qsl(query.decode(), keep_blank_values=True)


@pytest.mark.parametrize("share", [SHARE, OPEN, Share("0" * 12, "größe", float("inf"))])
def test_a_token_tells_the_whole_link(share: Share) -> None:
    token = sign(share, SECRET)
    assert read_share(token, SECRET) == share
    # Nothing in it has to be escaped in a URL, nor looks like the end of a file's name.
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    assert len(token.rpartition(".")[2]) == 43


def test_another_secret_reads_nothing() -> None:
    assert read_share(sign(SHARE, SECRET), b"t" * 32) is None


def test_a_token_with_any_letter_changed_is_none() -> None:
    token = sign(SHARE, SECRET)
    for place, letter in enumerate(token):
        for other in {"A", "B", "_", "."} - {letter}:
            changed = token[:place] + other + token[place + 1 :]
            assert read_share(changed, SECRET) is None, place


@given(st.text(max_size=300))
def test_what_was_never_signed_is_no_token(text: str) -> None:
    assert read_share(text, SECRET) is None


def test_a_signature_in_other_letters_is_none() -> None:
    payload, _, signature = sign(SHARE, SECRET).partition(".")
    raw = base64.urlsafe_b64decode(signature + "=")
    for changed in (signature + "=", base64.b64encode(raw).decode(), signature + "\n", ""):
        if changed != signature:
            assert read_share(f"{payload}.{changed}", SECRET) is None


def test_a_link_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    token = sign(SHARE, SECRET)
    monkeypatch.setattr(time, "time", lambda: SHARE.expires)
    with pytest.raises(Unauthorized, match="expired on"):
        read_share(token, SECRET)
    # Of one that is not signed here, nothing is told.
    assert read_share(token, b"t" * 32) is None


def test_a_link_is_nobody_and_may_one_thing() -> None:
    assert SHARE.principal == Principal("share:0123456789ab", "acme")
    rights = SHARE.rights
    assert rights.sees("delays")
    assert not rights.sees("delays2")
    assert rights.reads("delays", "csv")
    assert not rights.reads("delays", "parquet")
    assert not any(rights.has(right) for right in ("sql", "jobs", "share", "admin"))
    assert SHARE.limits == Limits(Rate(10, 60.0))
    assert OPEN.limits == Limits()


def test_what_the_link_gives_is_added() -> None:
    assert pairs(SHARE.apply(b"_share=x&origin=JFK&_limit=3")) == [
        ("origin", "JFK"),
        ("_limit", "3"),
        ("month", "1"),
        ("carriers", "AA"),
        ("carriers", "UA"),
    ]
    assert pairs(SHARE.apply(b"_share=x")) == [
        ("month", "1"),
        ("carriers", "AA"),
        ("carriers", "UA"),
    ]


@pytest.mark.parametrize(
    "query",
    [b"month=1", b"month=&_share=x", b"carriers=AA&month=1&carriers=UA", b"origin=", b"month=%31"],
)
def test_the_same_said_again_is_said_once(query: bytes) -> None:
    told = dict(pairs(SHARE.apply(query)))
    assert told["month"] == "1"
    assert [text for name, text in pairs(SHARE.apply(query)) if name == "month"] == ["1"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (b"month=2", "this link is for month=1, got 2"),
        (b"month=01", "this link is for month=1, got 01"),
        (b"month=1&month=2", "this link is for month=1, got 1, 2"),
        (b"%6donth=2", "this link is for month=1"),
        (b"carriers=AA", "this link is for carriers=AA, UA, got AA"),
        (b"carriers=UA&carriers=AA", "this link is for carriers"),
        (b"other=1", "does not let you choose other"),
        (b"_each=month&month=1", "this link is for month"),
        (b"_each=origin,other&origin=JFK", "does not let you choose other"),
    ],
)
def test_nothing_else_may_be_asked(query: bytes, message: str) -> None:
    with pytest.raises(Forbidden, match=message):
        SHARE.apply(query)


def test_what_is_free_may_be_chosen() -> None:
    assert ("origin", "JFK") in pairs(SHARE.apply(b"_each=origin&origin=JFK&origin=LGA"))
    assert pairs(OPEN.apply(b"anything=1&month=1")) == [("anything", "1"), ("month", "1")]
    with pytest.raises(Forbidden):
        OPEN.apply(b"month=3")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["month", "origin", "other", "_limit", "_each", "_share", "_"]),
            st.text(max_size=5),
        )
    ),
    st.binary(max_size=20),
)
def test_whatever_is_asked_the_call_is_the_links(asked: list[tuple[str, str]], tail: bytes) -> None:
    query = urlencode(asked).encode() + b"&" + tail
    try:
        own = pairs(SHARE.apply(query))
    except Forbidden:
        return
    given_names = {name for name, text in own if text and not name.startswith("_")}
    assert given_names <= {"month", "carriers", "origin"}
    assert [text for name, text in own if name == "month"] == ["1"]
    assert [text for name, text in own if name == "carriers"] == ["AA", "UA"]


def test_the_token_is_found_and_taken_away() -> None:
    assert token_in(b"a=1&_share=x.y&b=2") == "x.y"
    assert token_in(b"a=_share") == token_in(b"") == token_in(b"_shared=1") == ""
    assert token_in(b"_sh%61re=x") == ""
    assert without_token(b"a=1&_share=x.y&b=&_share=z") == b"a=1&b="
