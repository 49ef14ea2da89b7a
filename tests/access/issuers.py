"""An identity provider: it has keys, says where, and signs whatever a test wants."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIENCE = "webfoot"


@dataclass
class Provider:
    """The provider, and what it was asked for."""

    url: str
    keys: dict[str, Any]
    published: list[str]
    asked: list[str] = field(default_factory=list)
    issuer: str = ""

    def token(self, kid: str = "one", algorithm: str = "RS256", **claims: Any) -> str:
        now = time.time()
        usual = {
            "iss": self.issuer or self.url,
            "aud": AUDIENCE,
            "sub": "ann",
            "exp": now + 300,
            "roles": ["analyst"],
        }
        told = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        return jwt.encode(told, self.keys[kid], algorithm=algorithm, headers={"kid": kid})

    def public_pem(self, kid: str = "one") -> bytes:
        pem: bytes = (
            self.keys[kid]
            .public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return pem

    def document(self, path: str) -> Any:
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.issuer or self.url, "jwks_uri": f"{self.url}/keys"}
        if path == "/keys":
            return {"keys": [_public(kid, self.keys[kid]) for kid in self.published]}
        return None


def _public(kid: str, key: Any) -> dict[str, Any]:
    kind = jwt.algorithms.ECAlgorithm if kid == "curve" else jwt.algorithms.RSAAlgorithm
    public: dict[str, Any] = json.loads(kind.to_jwk(key.public_key()))
    return {**public, "kid": kid, "use": "sig"}


@contextlib.contextmanager
def provider() -> Iterator[Provider]:
    """A provider that answers until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            document = made.document(self.path)
            body = json.dumps(document).encode()
            self.send_response(404 if document is None else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    keys = {
        **{kid: rsa.generate_private_key(65_537, 2048) for kid in ("one", "two")},
        "curve": ec.generate_private_key(ec.SECP256R1()),
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Provider(f"http://127.0.0.1:{server.server_port}", keys, ["one", "curve"])
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield made
        finally:
            server.shutdown()
