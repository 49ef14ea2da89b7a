"""Secrets have a form, and what has not stays as it is."""

from __future__ import annotations

import json

import pytest

from webfoot.errors import FanoutFailed, InvalidParameters, UdfFailed, input_failed
from webfoot.masking import mask, mask_arguments, mask_values


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("GET /udfs/x.csv?_token=abc&n=1 HTTP/1.1", "GET /udfs/x.csv?_token=***&n=1 HTTP/1.1"),
        ("?sig=abc&_key=zzz&key=AIza", "?sig=***&_key=***&key=***"),
        ("for url 'https://a.b/c?api_key=S3CR&x=1'", "for url 'https://a.b/c?api_key=***&x=1'"),
        (
            "?X-Amz-Signature=0f&X-Amz-Credential=AK%2F1&X-Amz-Security-Token=t&X-Amz-Date=1",
            "?X-Amz-Signature=***&X-Amz-Credential=***&X-Amz-Security-Token=***&X-Amz-Date=1",
        ),
        ("Authorization: Bearer abc.def-ghi", "Authorization: ***"),
        ("{'authorization': 'Basic dXNlcjpwYXNz'}", "{'authorization': '***'}"),
        ("X-Api-Key: wf_1", "X-Api-Key: ***"),
        ("FROM c(n := 1, password := 'abc')", "FROM c(n := 1, password := '***')"),
        ("FROM c(token => 'abc', n => 1)", "FROM c(token => '***', n => 1)"),
        (
            "?sql=FROM%20c(n%20:=%201,secret%20:=%20'abc')&n=1",
            "?sql=FROM%20c(n%20:=%201,secret%20:=%20'***')&n=1",
        ),
        (
            "?sql=FROM+c%28password+%3A%3D+%27abc%27%29&n=1",
            "?sql=FROM+c%28password+%3A%3D+***&n=1",
        ),
        ("sent with Bearer 0123456789abcdef0", "sent with Bearer ***"),
        ("`Authorization: Bearer KEYS3CR`", "`Authorization: ***"),
        ("postgres://me:pa55@host/db", "postgres://me:***@host/db"),
        ("connect(password='hunter 2', user='me')", "connect(password='***', user='me')"),
        ('{"token":"a\\"b","n":1}', '{"token":"***","n":1}'),
        ("MOTHERDUCK_TOKEN=ey.x", "MOTHERDUCK_TOKEN=***"),
        ("url=https%3A%2F%2Fa%2F%3Fsig%3Dabc%26_token%3Dabc", "url=https%3A%2F%2Fa%2F%3Fsig%3D***"),
        ("Cookie=a", "Cookie=***"),
    ],
)
def test_a_secret_is_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "token 'abc'? expected token, got 5",
        "input 1 of 3 (n=2, key='a')",
        "KeyError: 'token'",
        "max_tokens=5",
        "signal=5 design=7",
        "the basic question of every bearer of news",
        "Invalid token: must be x",
        "send it as `Authorization: Bearer KEY`; in DuckDB: …",
        "send the key as `Authorization: Bearer …`",
        "http://localhost:8000/udfs/a@b.parquet?n=1",
        "",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    "part", ["a_", "://", "a-", "authorization", "token", "?key", '"', "Bearer ", "token='"]
)
def test_no_text_takes_long(part: str) -> None:
    """What takes quadratic time would meet the suite's time limit."""
    assert mask(part * 100_000)


def test_a_name_tells_a_secret() -> None:
    values = {
        "token": "a",
        "api_key": 5,
        "deep": [{"Password": "b", "n": 1}],
        "key": "c",
        "sig": None,
    }
    assert mask_values(values) == {
        "token": "***",
        "api_key": "***",
        "deep": [{"Password": "***", "n": 1}],
        "key": "c",
        "sig": None,
    }


def test_arguments_without_secrets_are_the_same_text() -> None:
    for text in ('{"n":1}', '{"word":"é"}'):
        assert mask_arguments(text) is text
    masked = mask_arguments('{"n":1,"token":"é","url":"https://a/?sig=5"}')
    assert json.loads(masked) == {"n": 1, "token": "***", "url": "https://a/?sig=***"}


def test_errors_tell_no_secret() -> None:
    assert UdfFailed("no https://a/?api_key=S3CR").detail == "no https://a/?api_key=***"
    assert str(InvalidParameters("password='x'")) == "password='***'"
    failed = input_failed(0, {"token": "S3CR", "n": 1}, UdfFailed("no"), among=1)
    assert isinstance(failed, FanoutFailed)
    assert "S3CR" not in json.dumps(failed.problem())
    assert failed.failures[0]["input"] == {"token": "***", "n": 1}
