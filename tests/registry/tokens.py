"""Token servers: stand-ins for those that can't be had here (Docker Hub's, GitLab's, Harbor's), by the same specification.

TokenServer is for the real registry: it signs what the registry verifies by itself, so what a token is good for is the registry's own judgement.
The signature is openssl's. Together is a token server and a registry in one, for what a real registry never does.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

from controller.registry.credentials import Login
from tests.registry.conftest import Certificate
from tests.support.hostile import Asked, reply, said

SERVICE = "wharf test registry"
ISSUER = "wharf test tokens"


@dataclass
class TokenServer:
    """A script for `hostile()`: gives every scope that is asked for, to whoever asks."""

    certificate: Certificate
    asked: list[Asked] = field(default_factory=list)

    def __call__(self, asked: Asked) -> bytes:
        self.asked.append(asked)
        scopes = asked.query.get("scope", [])
        return reply(200, json.dumps({"token": self.token(scopes), "expires_in": 300}), Content_Type="application/json")

    @property
    def scopes(self) -> list[list[str]]:
        """The scopes of each request so far."""
        return [each.query.get("scope", []) for each in self.asked]

    def auth(self, realm: str) -> dict[str, Any]:
        """What makes a registry ask for these tokens, for its configuration."""
        token = {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(self.certificate.certificate)}
        return {"auth": {"token": token}}

    def token(self, scopes: list[str]) -> str:
        """A signed token (RFC 7519) for some scopes, which name their type, their name and their actions."""
        parts = [scope.rsplit(":", 1) for scope in scopes]
        access = [{"type": what.partition(":")[0], "name": what.partition(":")[2], "actions": actions.split(",")} for what, actions in parts]
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": "", "aud": SERVICE, "exp": now + 300, "nbf": now - 60, "iat": now, "jti": str(now), "access": access}
        pem = self.certificate.certificate.read_text().split("-----")[2]
        signed = ".".join(_encoded(json.dumps(each).encode()) for each in ({"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem.split())]}, claims))
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.certificate.key)]
        return f"{signed}.{_encoded(subprocess.run(command, input=signed.encode(), check=True, capture_output=True).stdout)}"


@dataclass
class Together:
    """A registry whose only token is the last that its own /token gave."""

    more: dict[str, object] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)
    good: str = ""

    def __call__(self, asked: Asked) -> bytes:
        if asked.path == "/token":
            self.given.append(f"t{len(self.given)}")
            self.good = f"Bearer {self.given[-1]}"
            return reply(200, json.dumps({"token": self.given[-1], **self.more}))
        if asked.authorization == self.good:
            return reply(200, "{}")
        return challenge(asked, "/token")


def challenge(asked: Asked, realm: str) -> bytes:
    """A 401 that sends its reader to a realm; a path means this server's own."""
    realm = f"http://{asked.headers['host']}{realm}" if realm.startswith("/") else realm
    return said(401, "UNAUTHORIZED", WWW_Authenticate=f'Bearer realm="{realm}",service="here"')


async def somebody() -> Login:
    """Credentials whose password is easily found."""
    return Login("somebody", "s3cret-password")


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
