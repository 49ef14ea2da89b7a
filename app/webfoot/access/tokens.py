"""JSON Web Tokens of an identity provider: checked against its public keys, read as principals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

from webfoot.access.keys import check_tenant
from webfoot.access.principal import Principal
from webfoot.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jwt

# Two clocks that differ by less are the same.
_LEEWAY_S = 30
_TIMEOUT_S = 10
_MOST_DOCUMENT_BYTES = 1_000_000


@dataclass(frozen=True)
class Issuer:
    """Whose tokens are accepted, and what is read from them.

    Args:
        url: The issuer, as tokens name it.
        audience: For whom tokens must be: this server, as the issuer knows it.
        keys_url: Where its public keys are; empty for where its OpenID configuration says.
        algorithms: How tokens may be signed; none of them with a secret that both sides know.
        roles_claim: The claim that lists roles; a dot leads into an object.
        tenant_claim: The claim that names the tenant, which every token must then have; empty if
            all are of none.
    """

    url: str
    audience: str
    keys_url: str
    algorithms: tuple[str, ...]
    roles_claim: str
    tenant_claim: str


class Tokens:
    """Reads tokens of one issuer. It asks for the issuer's keys when it first needs them.

    Args:
        issuer: The issuer.
    """

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    def read(self, text: str) -> tuple[Principal, float]:
        """Who bears a token, and until when, in seconds since 1970; may take a moment.

        Raises:
            Unauthorized: If it is not one that this server accepts.
        """
        import jwt  # noqa: PLC0415  # 40 ms, with cryptography, that only who has tokens needs

        issuer = self._issuer
        try:
            key = self._keys.get_signing_key_from_jwt(text)
            claims = jwt.decode(
                text,
                key,
                algorithms=list(issuer.algorithms),
                audience=issuer.audience,
                issuer=issuer.url,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
            return self._principal(claims), float(claims["exp"])
        except jwt.PyJWKClientConnectionError as error:
            raise Unauthorized(
                f"the token cannot be checked: the keys of {issuer.url} are out of reach ({error})"
            ) from error
        except (jwt.PyJWTError, ValueError, OSError) as error:
            raise Unauthorized(f"the token is not accepted: {error}") from error

    @cached_property
    def _keys(self) -> jwt.PyJWKClient:
        from jwt import PyJWKClient  # noqa: PLC0415  # likewise

        return PyJWKClient(self._issuer.keys_url or self._discover(), timeout=_TIMEOUT_S)

    def _discover(self) -> str:
        """Where the issuer's OpenID configuration says that its keys are."""
        address = f"{self._issuer.url.rstrip('/')}/.well-known/openid-configuration"
        try:
            with urlopen(address, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # nosec B310  # the operator's own
                found = json.loads(answer.read(_MOST_DOCUMENT_BYTES))
        except HTTPError as error:
            with error:
                raise ValueError(f"{address} answered {error.code}") from None
        if found.get("issuer") != self._issuer.url:
            raise ValueError(f"{address} is of another issuer, {found.get('issuer')!r}")
        return str(found["jwks_uri"])

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        issuer = self._issuer
        tenant = ""
        if issuer.tenant_claim:
            tenant = _claim(claims, issuer.tenant_claim)
            if not isinstance(tenant, str) or not tenant:
                raise ValueError(f"it has no claim {issuer.tenant_claim!r} that names a tenant")
        told = _claim(claims, issuer.roles_claim)
        roles = told.split() if isinstance(told, str) else told if isinstance(told, list) else []
        names = tuple(role for role in roles if isinstance(role, str))
        return Principal(f"user:{claims['sub']}", check_tenant(tenant), names)


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim, by its whole name or by the way into an object; None if it is not there."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
