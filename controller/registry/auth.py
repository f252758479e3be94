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
from dataclasses import dataclass

import httpx

from controller.domain.errors import DeniedError
from controller.registry.answers import error_of, read_bounded, shown, unreachable
from controller.registry.credentials import Credentials, Login
from controller.registry.transport import FAILURES

_MAX_TOKEN = 64 << 10
_MARGIN = 10.0
"""Seconds before its end at which a token is not used any more."""
_DEFAULT_LIFE = 60.0
"""Seconds that a token lives when its server does not say (Docker's token specification)."""

_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_NAMED = {"registry-1.docker.io": "auth.docker.io", "index.docker.io": "auth.docker.io"}


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
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
        return await self._basic() if kind == "basic" else await self._bearer(parameters, scope)

    async def challenged(self, response: httpx.Response, scope: str, sent: str | None) -> str | None:
        """After a 401 to a request that went with `sent`: another header to try, or None when there is nothing more to try."""
        challenge = _parse(response.headers.get_list("WWW-Authenticate"))
        if challenge is None:
            return None
        self._challenge = challenge
        token = self._tokens.get(scope)
        if token is not None and token.header == sent:
            del self._tokens[scope]
        found = await self.header(scope)
        return None if found == sent else found

    async def _basic(self) -> str | None:
        login = await self._credentials()
        return _basic_header(login) if login else None

    async def _bearer(self, parameters: dict[str, str], scope: str) -> str | None:
        async with self._asking.setdefault(scope, asyncio.Lock()):
            known = self._tokens.get(scope)
            if known is None or known.ends <= self._monotonic():
                known = self._tokens[scope] = await self._fetch(parameters, scope)
            return known.header

    async def _fetch(self, parameters: dict[str, str], scope: str) -> _Token:
        realm = httpx.URL(parameters.get("realm", ""))
        tried = f"asking {shown(realm)} for a token for {self._url.host}"
        login = await self._credentials()
        check_realm(self._url, realm, tried, with_login=login is not None)
        asked = {"service": parameters.get("service", ""), "scope": scope}
        if login is not None and login.identity_token:
            form = {**asked, "grant_type": "refresh_token", "refresh_token": login.identity_token, "client_id": "wharfinger"}
            request = self._client.build_request("POST", realm, data=form)
        else:
            headers = {"Authorization": _basic_header(login)} if login else {}
            request = self._client.build_request("GET", realm.copy_merge_params({k: v for k, v in asked.items() if v}), headers=headers)
        return _token(await self._send(request, tried), tried, self._monotonic())

    async def _send(self, request: httpx.Request, tried: str) -> bytes:
        try:
            response = await self._client.send(request, stream=True)
        except FAILURES as failure:
            raise unreachable(tried, failure) from None
        try:
            if response.status_code != httpx.codes.OK:
                raise await error_of(response, tried)
            return await read_bounded(response, _MAX_TOKEN, tried)
        finally:
            await response.aclose()


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
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DeniedError(tried, "an answer without a token") from None
    return _Token(f"Bearer {token}", now + max(life - _MARGIN, 0.0))
