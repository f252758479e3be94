"""Who may pull and who may push: users of an htpasswd file, by Docker's token specification, so that pulling can stay open to all.

A client is sent for a token to `/v2/token`, with its name and password or with none; what it may do is in the token. Basic is taken as well.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import bcrypt
from aiohttp import web

from controller.domain.errors import UsageError
from controller.domain.spec import Who

SERVICE = "wharfinger"
TOKEN_LIFE = 300.0
"""Seconds. A token is looked at when a request begins, so that a long upload may outlive it."""

_REMEMBERED = 1000
"""Passwords that were right are remembered, by their hash: bcrypt is slow on purpose."""

_MAX_TOKEN = 4096


@dataclass(frozen=True, slots=True)
class Rights:
    """What somebody may do; `known`: with a name and a password."""

    pull: bool
    push: bool
    known: bool = False

    def allow(self, method: str) -> bool:
        """Whether a request of this method."""
        return self.pull if method in {"GET", "HEAD"} else self.push


class Access:
    """The rules of one gateway. `users` are bcrypt hashes by name; `secret` signs tokens, `monotonic` counts their seconds."""

    def __init__(self, pull: Who, push: Who, users: Mapping[str, bytes], secret: bytes, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._anybody = Rights(pull is Who.ANYONE, push is Who.ANYONE)
        self._users = users
        self._secret = secret
        self._monotonic = monotonic
        self._right: OrderedDict[bytes, None] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are."""
        return self._anybody == Rights(pull=True, push=True)

    async def rights(self, request: web.Request) -> Rights | None:
        """What who sends this may do; None for credentials that are wrong."""
        kind, _, said = request.headers.get("Authorization", "").partition(" ")
        match kind.lower():
            case "":
                return self._anybody
            case "basic":
                return Rights(pull=True, push=True, known=True) if await self._knows(said) else None
            case "bearer":
                return self._of_token(said)
            case _:
                return None

    def challenge(self, request: web.Request, scope: str) -> dict[str, str]:
        """Where to get a token (Docker's token specification)."""
        realm = f"{request.scheme}://{request.host}/v2/token"
        return {"WWW-Authenticate": f'Bearer realm="{realm}",service="{SERVICE}"' + (f',scope="{scope}"' if scope else "")}

    async def token(self, request: web.Request) -> web.Response:
        """A token for who asks; 401 for a wrong password."""
        rights = await self.rights(request)
        if rights is None:
            return web.json_response({"errors": [{"code": "UNAUTHORIZED", "message": "a wrong name or password", "detail": None}]}, status=401)
        body = json.dumps({**asdict(rights), "until": self._monotonic() + TOKEN_LIFE}).encode()
        token = f"{_text(body)}.{_text(self._signature(body))}"
        return web.json_response({"token": token, "access_token": token, "expires_in": int(TOKEN_LIFE)})

    async def _knows(self, said: str) -> bool:
        try:
            name, colon, password = base64.b64decode(said, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        hashed = self._users.get(name)
        if not colon or hashed is None:
            return False
        seen = hmac.digest(self._secret, said.encode(), "sha256")
        if seen not in self._right:
            if not await asyncio.to_thread(_matches, password, hashed):
                return False
            self._right[seen] = None
            if len(self._right) > _REMEMBERED:
                self._right.popitem(last=False)
        return True

    def _of_token(self, said: str) -> Rights | None:
        body, _, signature = said.partition(".")
        try:
            raw = _bytes(body) if len(said) <= _MAX_TOKEN else b""
            if not hmac.compare_digest(_bytes(signature), self._signature(raw)):
                return None
        except (binascii.Error, ValueError):
            return None
        said_of = json.loads(raw)
        return Rights(said_of["pull"], said_of["push"], said_of["known"]) if self._monotonic() < said_of["until"] else None

    def _signature(self, body: bytes) -> bytes:
        return hmac.new(self._secret, body, hashlib.sha256).digest()


def read_users(file: Path) -> dict[str, bytes]:
    """The users of an htpasswd file (`htpasswd -B`), by name; UsageError for one that can't be read or has another kind of hash."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the htpasswd file {file} can't be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    users = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, hashed = line.strip().partition(":")
        if not colon or not name or not hashed.startswith(("$2y$", "$2b$", "$2a$")):
            raise UsageError(f"{file}:{number}: expected name:hash with a hash of bcrypt, as `htpasswd -B` writes it")
        users[name] = hashed.encode()
    if not users:
        raise UsageError(f"the htpasswd file {file} has no user")
    return users


def _matches(password: str, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password.encode()[:72], hashed)  # bcrypt looks at no more, and refuses more.
    except ValueError:
        return False


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
