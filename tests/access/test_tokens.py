"""A token is good if the issuer signed it for this server, in a way that nobody else can."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.access.issuers import AUDIENCE, Provider, provider

from webfoot.access.principal import Principal
from webfoot.access.tokens import Issuer, Tokens
from webfoot.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def login() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture
def issuer(login: Provider) -> Issuer:
    return Issuer(login.url, AUDIENCE, "", ("RS256", "ES256"), "roles", "")


def refused(issuer: Issuer, token: str) -> str:
    with pytest.raises(Unauthorized) as raised:
        Tokens(issuer).read(token)
    return raised.value.detail


@pytest.mark.parametrize(("kid", "algorithm"), [("one", "RS256"), ("curve", "ES256")])
def test_a_token_says_who_asks(login: Provider, issuer: Issuer, kid: str, algorithm: str) -> None:
    expires = int(time.time() + 100)
    principal, until = Tokens(issuer).read(login.token(kid, algorithm, exp=expires))
    assert principal == Principal("user:ann", "", ("analyst",))
    assert until == expires


def test_keys_are_asked_for_once(login: Provider, issuer: Issuer) -> None:
    tokens = Tokens(issuer)
    login.asked.clear()
    for number in range(5):
        tokens.read(login.token(sub=f"user{number}"))
    assert login.asked == ["/.well-known/openid-configuration", "/keys"]
    login.asked.clear()
    Tokens(replace(issuer, keys_url=f"{login.url}/keys")).read(login.token())
    assert login.asked == ["/keys"]


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, 'missing the "exp" claim'),
        ({"nbf": 4_000_000_000}, "not yet valid"),
        ({"aud": "another"}, "udience"),
        ({"aud": None}, 'missing the "aud" claim'),
        ({"iss": "https://evil.example"}, "issuer"),
        ({"iss": None}, 'missing the "iss" claim'),
        ({"sub": None}, 'missing the "sub" claim'),
    ],
)
def test_what_is_not_for_here_is_refused(
    login: Provider, issuer: Issuer, claims: dict[str, Any], message: str
) -> None:
    assert message in refused(issuer, login.token(**claims))


def test_a_key_that_is_not_published_signs_nothing(login: Provider, issuer: Issuer) -> None:
    assert "Unable to find a signing key" in refused(issuer, login.token("two"))


def test_a_token_that_nobody_signed_is_refused(login: Provider, issuer: Issuer) -> None:
    def part(plain: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(plain).encode()).rstrip(b"=").decode()

    _, claims, signature = login.token().split(".")
    for algorithm in ("none", "None", "NONE"):
        head = part({"alg": algorithm, "typ": "JWT", "kid": "one"})
        for end in ("", signature):
            assert "not accepted" in refused(issuer, f"{head}.{claims}.{end}")


def test_the_public_key_is_no_secret_to_sign_with(login: Provider, issuer: Issuer) -> None:
    head = base64.urlsafe_b64encode(b'{"alg": "HS256", "typ": "JWT", "kid": "one"}').rstrip(b"=")
    claims = login.token().split(".")[1].encode()
    for secret in (login.public_pem(), login.public_pem().strip()):
        digest = hmac.digest(secret, head + b"." + claims, hashlib.sha256)
        signature = base64.urlsafe_b64encode(digest).rstrip(b"=")
        token = b".".join((head, claims, signature)).decode()
        assert "not accepted" in refused(issuer, token)


def test_an_algorithm_that_was_not_chosen_is_refused(login: Provider, issuer: Issuer) -> None:
    only = replace(issuer, algorithms=("ES256",))
    assert "not accepted" in refused(only, login.token("one", "RS256"))


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é.é.é", "." * 10, "eyJ.eyJ.x"])
def test_what_is_no_token_is_refused(issuer: Issuer, text: str) -> None:
    assert "not accepted" in refused(issuer, text)


@pytest.mark.parametrize(
    ("claim", "claims", "roles"),
    [
        ("roles", {"roles": ["a", "b"]}, ("a", "b")),
        ("roles", {"roles": None}, ()),
        ("roles", {"roles": {"a": 1}}, ()),
        ("roles", {"roles": ["a", 3]}, ("a",)),
        ("scope", {"scope": "read write"}, ("read", "write")),
        ("realm_access.roles", {"realm_access": {"roles": ["a"]}}, ("a",)),
        ("realm_access.roles", {"realm_access": "a"}, ()),
        ("https://webfoot/roles", {"https://webfoot/roles": ["a"]}, ("a",)),
    ],
)
def test_roles_are_where_the_issuer_puts_them(
    login: Provider,
    issuer: Issuer,
    claim: str,
    claims: dict[str, Any],
    roles: tuple[str, ...],
) -> None:
    principal, _ = Tokens(replace(issuer, roles_claim=claim)).read(login.token(**claims))
    assert principal.roles == roles


def test_a_tenant_is_needed_where_there_are_tenants(login: Provider, issuer: Issuer) -> None:
    tenants = replace(issuer, tenant_claim="org.name")
    principal, _ = Tokens(tenants).read(login.token(org={"name": "acme"}))
    assert principal.tenant == "acme"
    nameless: list[Any] = [None, {}, {"name": ""}, {"name": ["acme"]}]
    for org in nameless:
        assert "names a tenant" in refused(tenants, login.token(org=org))
    assert "a tenant is" in refused(tenants, login.token(org={"name": "a/b"}))
    # Where there are none, nobody makes himself one.
    assert Tokens(issuer).read(login.token(tenant="acme"))[0].tenant == ""


def test_an_issuer_out_of_reach_lets_nobody_in(login: Provider, issuer: Issuer) -> None:
    token = login.token(iss="http://127.0.0.1:9")
    assert "not accepted" in refused(replace(issuer, url="http://127.0.0.1:9"), token)
    away = replace(issuer, keys_url="http://127.0.0.1:9/keys")
    assert "out of reach" in refused(away, login.token())
    assert "not accepted" in refused(replace(issuer, url=f"{login.url}/none"), token)


def test_a_configuration_of_another_issuer_is_not_believed(issuer: Issuer, login: Provider) -> None:
    login.issuer = "https://another.example"
    try:
        assert "is of another issuer" in refused(issuer, login.token(iss=login.url))
    finally:
        login.issuer = ""
