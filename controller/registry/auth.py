"""Who we are, to a registry: Basic and Bearer, by its challenge (distribution-spec, "Authentication"; Docker's token specification).

Credentials go to the registry's own host, and to a token realm only if that belongs to it (law 7).
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from controller.domain.errors import DeniedError, NotFoundError, RefusedError
from controller.registry.answers import error_of, read_bounded, shown, unreachable
from controller.registry.credentials import Credentials, Login
from controller.registry.transport import FAILURES

_MAX_TOKEN = 64 << 10
_MARGIN = 10.0
"""Seconds before its end at which a token is not used any more; of a short life, half."""
_DEFAULT_LIFE = 60.0
"""Seconds that a token lives when its server does not say (Docker's token specification), and that a login is not read again."""
_LONGEST_LIFE = 86400.0

_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_NAMED = {"registry-1.docker.io": "auth.docker.io", "index.docker.io": "auth.docker.io"}


@dataclass(frozen=True, slots=True)
class _Token:
    header: str = field(repr=False)
    ends: float


class Authorizer:
    """Gives the Authorization header for a scope; remembers how this registry wants it, and its tokens, one request for each."""

    def __init__(self, url: httpx.URL, client: httpx.AsyncClient, credentials: Credentials, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._client = client
        self._credentials = credentials
        self._monotonic = monotonic
        self._challenge: tuple[str, dict[str, str]] | None = None
        self._tokens: dict[str, _Token] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def header(self, scope: str) -> str | None:
        """The header for a scope, as far as this registry has asked for one; None before its first challenge."""
        if self._challenge is None:
            return None
        kind, parameters = self._challenge
        key = self._key(scope)
        async with self._asking.setdefault(key, asyncio.Lock()):
            known = self._tokens.get(key)
            if known is None or known.ends <= self._monotonic():
                known = await (self._basic() if kind == "basic" else self._bearer(parameters, scope))
                if known is None:
                    return None
                self._tokens[key] = known
            return known.header

    async def challenged(self, headers: list[str], scope: str, sent: str | None) -> str | None:
        """After a 401 to a request that went with `sent`, by its WWW-Authenticate: another header to try, None when there is none."""
        challenge = _parse(headers)
        if challenge is None:
            return None
        self._challenge = challenge
        token = self._tokens.get(self._key(scope))
        if token is not None and token.header == sent:
            del self._tokens[self._key(scope)]
        found = await self.header(scope)
        return None if found == sent else found

    def _key(self, scope: str) -> str:
        return f"bearer {scope}" if self._challenge and self._challenge[0] == "bearer" else "basic"

    async def _basic(self) -> _Token | None:
        login = await self._credentials()
        return _Token(_basic_header(login), self._monotonic() + _DEFAULT_LIFE) if login and login.username else None

    async def _bearer(self, parameters: dict[str, str], scope: str) -> _Token:
        realm = _realm(parameters)
        tried = f"asking {shown(realm) or 'its token server'} for a token for {self._url.netloc.decode()}"
        login = await self._credentials()
        check_realm(self._url, realm, tried, with_login=login is not None)
        service = parameters.get("service", "")
        if login is not None and login.identity_token:
            asked = {
                "service": service,
                "scope": scope,
                "grant_type": "refresh_token",
                "refresh_token": login.identity_token,
                "client_id": "wharfinger",
            }
            request = self._client.build_request("POST", realm, data={name: value for name, value in asked.items() if value})
        else:
            query = {"service": [service] if service else [], "scope": scope.split()}  # One `scope` for each, says Docker's token specification.
            headers = {"Authorization": _basic_header(login)} if login else {}
            request = self._client.build_request("GET", realm.copy_merge_params(query), headers=headers)
        return _token(await self._send(request, tried), tried, self._monotonic())

    async def _send(self, request: httpx.Request, tried: str) -> bytes:
        try:
            response = await self._client.send(request, stream=True)
        except FAILURES as failure:
            raise unreachable(tried, failure) from None
        try:
            if response.status_code != httpx.codes.OK:
                error = await error_of(response, tried)
                # A token server that knows nothing of us says nothing about images (law 2).
                raise RefusedError(tried, error.answer, hint="ask who runs it") if isinstance(error, NotFoundError) else error
            return await read_bounded(response, _MAX_TOKEN, tried)
        finally:
            await response.aclose()


def _realm(parameters: dict[str, str]) -> httpx.URL:
    try:
        return httpx.URL(parameters.get("realm", "")).copy_with(userinfo=b"")
    except (httpx.InvalidURL, ValueError):
        return httpx.URL("")


def check_realm(registry: httpx.URL, realm: httpx.URL, tried: str, *, with_login: bool) -> None:
    """A token realm must belong to its registry, or a registry could send our credentials, or us, anywhere.

    Raises DeniedError when it does not.
    """

    def refused(why: str) -> DeniedError:
        return DeniedError(tried, why, hint="its token server does not belong to it, so no credentials are sent there")

    if realm.scheme not in {"http", "https"} or not realm.host:
        raise refused("no realm that is a URL")
    if realm.scheme == "http" and registry.scheme == "https":
        raise refused("the registry is https, its realm only http")
    if realm.host == registry.host or _NAMED.get(registry.host) == realm.host:
        return
    if _is_loopback(registry.host) and _is_loopback(realm.host):
        return
    if _is_address(realm.host):
        raise refused(f"the realm {realm.host} is an address of another host")
    if with_login and not _same_owner(registry.host, realm.host):
        raise refused(f"the realm {realm.host} is not of {registry.host}'s domain")


def _same_owner(one: str, other: str) -> bool:
    """Whether one host's parent domain, of at least two labels, is the other's too."""
    parents = [host.split(".")[-2:] if host.count(".") == 1 else host.split(".")[1:] for host in (one, other)]
    return (len(parents[0]) > 1 and parents[0] == parents[1]) or other.endswith(f".{one}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _basic_header(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()


def _parse(headers: list[str]) -> tuple[str, dict[str, str]] | None:
    """The first challenge that we can meet, Bearer before Basic (RFC 9110, 11.6.1)."""
    found: dict[str, dict[str, str]] = {}
    for header in headers:
        for kind, rest in re.findall(r"(?i)\b(bearer|basic)\b\s+((?:(?!\b(?:bearer|basic)\s+[a-z_]+=).)*)", header):
            found[kind.lower()] = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(rest)}
    for kind in ("bearer", "basic"):
        if kind in found:
            return kind, found[kind]
    return None


def _token(body: bytes, tried: str, now: float) -> _Token:
    try:
        said = json.loads(body)
        token = said.get("token") or said["access_token"]
        life = float(said.get("expires_in") or _DEFAULT_LIFE)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise DeniedError(tried, "an answer without a token") from None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise DeniedError(tried, "a token that fits in no header")
    life = min(life, _LONGEST_LIFE) if life > 0 else _DEFAULT_LIFE
    return _Token(f"Bearer {token}", now + life - min(_MARGIN, life / 2))
