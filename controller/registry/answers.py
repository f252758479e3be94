"""A registry's answers -> our errors; every read is bounded, every URL is shown without what is secret in it."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx

from controller.domain.errors import CorruptError, DeniedError, NotFoundError, RefusedError, RemoteError, UnreachableError
from controller.registry.transport import FAILURES

MAX_ERROR = 64 << 10
"""Bytes of an error's body that are read."""

_SHOWN = 200

MISSING = {"MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "NAME_UNKNOWN", "BLOB_UPLOAD_UNKNOWN", "NOT_FOUND"}
"""Error codes that mean absent (distribution-spec, "Error Codes"; NOT_FOUND is Harbor's)."""


def shown(url: httpx.URL | str) -> str:
    """A URL for people and logs: no user info, no query (signatures and states are secrets)."""
    parsed = httpx.URL(url)
    return str(parsed.copy_with(userinfo=b"", query=None, fragment=None))


async def read_bounded(response: httpx.Response, limit: int, tried: str) -> bytes:
    """The whole body; CorruptError when it is larger than `limit` bytes."""
    declared = response.headers.get("Content-Length", "")
    too_large = CorruptError(tried, f"a body of more than {limit >> 20 or 1} MiB", hint="no manifest may be larger than 4 MiB")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > limit:
                raise too_large
    except FAILURES as failure:
        raise unreachable(tried, failure) from None
    return bytes(body)


def unreachable(tried: str, failure: BaseException) -> UnreachableError:
    """No whole answer: refused, timed out, reset, or cut off halfway."""
    words = str(failure) or type(failure).__name__
    return UnreachableError(tried, words[:_SHOWN], hint="is it running, and is the address right?")


async def error_of(response: httpx.Response, tried: str) -> RemoteError:
    """The error that an answer means. The body is read, at most MAX_ERROR bytes of it."""
    body = b"" if response.request.method == "HEAD" else await _some(response)
    codes, words = _said(body)
    answer = f"{response.status_code} {words or HTTPStatus(response.status_code).phrase if _known(response.status_code) else words}".strip()
    match response.status_code:
        case 401 | 403:
            return DeniedError(tried, answer, hint="check the credentials: docker login, or usernameFile and passwordFile")
        case 404 if codes & MISSING or (response.request.method == "HEAD" and looks_like_registry(response)):
            return NotFoundError(tried, answer)
        case 404:
            return RefusedError(tried, answer, hint="what answers there is no registry, or not its address")
        case 405:
            return RefusedError(tried, answer, hint="this registry does not allow it (deletes off, read-only, or in proxy mode)")
        case 400 if "DIGEST_INVALID" in codes:
            return CorruptError(tried, answer, hint="the bytes that arrived are not what their digest says")
        case 408 | 429 | 500 | 502 | 503 | 504 as status:
            return RefusedError(tried, answer, retryable=True, retry_after=retry_after(response), hint="rate limit" if status == 429 else "")  # noqa: PLR2004
        case _:
            return RefusedError(tried, answer)


def looks_like_registry(response: httpx.Response) -> bool:
    """Whether this is a registry's answer and not some other web server's (law 2: a stranger's 404 is not absence)."""
    headers = response.headers
    return "Docker-Distribution-Api-Version" in headers or "json" in headers.get("Content-Type", "")


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that the other side asks to wait (RFC 9110, 10.2.3: seconds or a date); None when it says nothing."""
    said = response.headers.get("Retry-After", "")
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - parsedate_to_datetime(response.headers["Date"])).total_seconds())
    except (ValueError, KeyError, TypeError):
        return None


async def _some(response: httpx.Response) -> bytes:
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) >= MAX_ERROR:
                break
    except FAILURES:
        pass  # The status alone says enough.
    return bytes(body[:MAX_ERROR])


def _said(body: bytes) -> tuple[set[str], str]:
    """The error codes and words of a body: the registry's JSON, or one line of whatever else came."""
    try:
        errors: Any = json.loads(body)["errors"]
        found = [(str(e.get("code", "")), str(e.get("message", "")), e.get("detail")) for e in errors if isinstance(e, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return set(), " ".join(body.decode(errors="replace").split())[:_SHOWN]
    words = "; ".join(f"{code}: {message}" + (f" ({detail})" if isinstance(detail, str) and detail else "") for code, message, detail in found)
    return {code for code, _, _ in found}, words[:_SHOWN]


def _known(status: int) -> bool:
    return status in HTTPStatus._value2member_map_
