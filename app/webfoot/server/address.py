"""Where the server is, as its clients see it: behind a proxy that is not where it listens."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Scope

    from webfoot.settings import Network

# A name or an address, and perhaps a port: the letters of DNS, and the underscore of containers.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_SCHEME = re.compile("https?")
_FORWARDED = b"x-forwarded-"


def base_url_of(scope: Scope) -> str:
    """The server's address as the client wrote it, without a slash at its end.

    A Host that can be none, which browsers and DuckDB never send, is not repeated to anybody.
    """
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    named = host.decode("latin-1")
    if not _HOST.fullmatch(named):
        address, port = scope.get("server") or ("localhost", None)
        named = f"[{address}]" if ":" in address else address
        named += f":{port}" if port else ""
    return f"{scope['scheme']}://{named}{scope.get('root_path', '')}"


class Address:
    """Corrects what requests say of where the server is, by a setting or by trusted proxies.

    Args:
        base_url: The server's address, which then wins; empty if the requests tell it.
        trusted_proxies: Whose `X-Forwarded-Proto`, `-Host`, `-Prefix` and `-For` are believed.
            A proxy removes the prefix from the path that it asks for.
    """

    def __init__(self, base_url: str, trusted_proxies: Sequence[Network]) -> None:
        self._set = None
        if base_url:
            parts = urlsplit(base_url)
            self._set = parts.scheme, parts.netloc, parts.path
        self._trusted_proxies = trusted_proxies

    def correct(self, scope: Scope) -> Scope:
        """The request as its client made it."""
        headers = scope["headers"]
        forwarded: Mapping[str, str] = {}
        if _is_forwarded(headers) and self._trusts(_peer(scope)):
            forwarded = _read_forwarded(headers)
            if client := self._client(forwarded.get("for", "")):
                scope["client"] = (client, 0)  # In place: the access log reads it there.
        if self._set is None and not forwarded:
            return scope
        scheme, host, prefix = self._set or (
            _checked(forwarded.get("proto", ""), _SCHEME) or scope["scheme"],
            _checked(forwarded.get("host", ""), _HOST),
            _checked(forwarded.get("prefix", "").rstrip("/"), _PREFIX),
        )
        if host:
            others = [(name, value) for name, value in headers if name != b"host"]
            headers = [(b"host", host.encode()), *others]
        raw_path = scope.get("raw_path")
        return {
            **scope,
            "scheme": scheme,
            "headers": headers,
            "root_path": prefix + scope.get("root_path", ""),
            "path": prefix + scope["path"],
            "raw_path": None if raw_path is None else prefix.encode() + raw_path,
        }

    def _trusts(self, address: str) -> bool:
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(peer in network for network in self._trusted_proxies)

    def _client(self, chain: str) -> str:
        """The last in the chain that is no trusted proxy: what comes before it anyone may claim."""
        addresses = [address.strip() for address in chain.split(",")]
        strangers = [address for address in addresses if not self._trusts(address)]
        return strangers[-1] if strangers else addresses[0]


def _is_forwarded(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    for name, _ in headers:  # noqa: SIM110  # no generator: it is asked of every request
        if name.startswith(_FORWARDED):
            return True
    return False


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _read_forwarded(headers: Sequence[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """`X-Forwarded-` headers by the rest of their name; of several values, the nearest proxy's."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        if raw_name.startswith(_FORWARDED):
            name = raw_name.removeprefix(_FORWARDED).decode("latin-1")
            value = raw_value.decode("latin-1").strip()
            found[name] = f"{found[name]},{value}" if name in found else value
    return {
        name: value if name == "for" else value.rpartition(",")[2].strip()
        for name, value in found.items()
    }


def _checked(value: str, pattern: re.Pattern[str]) -> str:
    return value if pattern.fullmatch(value) else ""
