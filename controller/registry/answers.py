"""A registry's answers -> our errors; every read is bounded, and what others say is shown on one line, without what is secret in it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import re
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import httpx

from controller.domain.errors import CorruptError, DeniedError, NotFoundError, RefusedError, RemoteError, UnreachableError
from controller.registry.transport import FAILURES

MAX_ERROR = 64 << 10
"""Bytes of an error's body that are read."""

WHOLE = 300.0
"""Seconds for an answer that is read whole: by the time-out of one read alone, a few bytes a minute could go on for ever."""

_SHOWN = 200
_DELETES_OFF = "deletes are off: set storage.delete.enabled in the registry's configuration"
_NOT_ALLOWED = "this registry does not allow it (deletes off, read-only, or in proxy mode)"

MISSING = {"MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"}
"""Error codes that mean absent (distribution-spec, "Error Codes"; NOT_FOUND is Harbor's). An upload that is unknown is no absent image."""

_URL = re.compile(r"(https?://)(?:[^\s/@'\"]*@)?([^\s'\"?#]*)[^\s'\"]*", re.IGNORECASE)


def shown(url: httpx.URL | str) -> str:
    """A URL for people and logs: no user info, no query (signatures and states are secrets)."""
    parsed = httpx.URL(url)
    if not (parsed.userinfo or parsed.query or parsed.fragment):
        return str(parsed)  # As nearly all are: making another one takes a tenth of a small request.
    return str(parsed.copy_with(userinfo=b"", query=None, fragment=None))


def one_line(words: str) -> str:
    """Words of the other side, for people and logs: one short line, nothing that steers a terminal, URLs as shown() gives them."""
    printable = "".join(each if each.isprintable() else " " for each in words)
    return " ".join(_URL.sub(r"\1\2", printable).split())[:_SHOWN]


async def read_bounded(response: httpx.Response, limit: int, tried: str) -> bytes:
    """The whole body; CorruptError when it is larger than `limit` bytes."""
    declared = response.headers.get("Content-Length", "")
    size = f"{limit >> 20} MiB" if limit >> 20 else f"{limit >> 10} KiB"
    too_large = CorruptError(tried, f"a body of more than {size}", hint="that is more than any answer of its kind may have")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(WHOLE):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except FAILURES as failure:
        raise unreachable(f"{tried} after {len(body)} bytes", failure) from None
    return bytes(body)


def unreachable(tried: str, failure: BaseException) -> UnreachableError:
    """No whole answer: refused, timed out, reset, or cut off halfway."""
    said = failure.message if isinstance(failure, aiohttp.ClientResponseError) else str(failure)  # Its own text begins with a status of its own.
    words = one_line(said) or type(failure).__name__
    certificate = "certificate" in words.lower()
    hint = "name the authority of its certificate as caFile" if certificate else "is it running, and is the address right?"
    return UnreachableError(tried, words, hint=hint)


async def error_of(response: httpx.Response, tried: str) -> RemoteError:
    """The error that an answer means. The body is read, at most MAX_ERROR bytes of it."""
    head = response.request.method == "HEAD"
    codes, said = _said(b"" if head else await _some(response))
    for secret in _secrets(response.request):
        said = said.replace(secret, "***")
    status = response.status_code
    answer = f"{status} {one_line(said) or _phrase(status)}".strip()
    match status:
        case 401 | 403:
            return DeniedError(tried, answer, hint="check the credentials: docker login, or usernameFile and passwordFile")
        case 404 if "BLOB_UPLOAD_UNKNOWN" in codes:
            return RefusedError(tried, answer, retryable=True, hint="the registry has lost this upload; it is begun anew")
        case 404 if codes & MISSING or (head and is_registry(response)):
            return NotFoundError(tried, answer)
        case 404:
            return RefusedError(tried, answer, hint="what answers there is no registry, or not its address")
        case 405:
            return RefusedError(tried, answer, hint=_DELETES_OFF if response.request.method == "DELETE" else _NOT_ALLOWED)
        case 400:
            return _bad_request(codes, tried, answer)
        case 408 | 429 | 500 | 502 | 503 | 504:
            return RefusedError(tried, answer, retryable=True, retry_after=retry_after(response), hint="rate limit" if status == 429 else "")  # noqa: PLR2004
        case _:
            return RefusedError(tried, answer)


def _bad_request(codes: set[str], tried: str, answer: str) -> RemoteError:
    if "MANIFEST_BLOB_UNKNOWN" in codes:  # 2.8 rewrites a blob's link in place, and for a moment it is empty.
        return RefusedError(tried, answer, retryable=True, hint="the registry lacks a blob that the manifest names")
    if "DIGEST_INVALID" in codes:
        return CorruptError(tried, answer, hint="the bytes that arrived are not what their digest says")
    return RefusedError(tried, answer)


def is_registry(response: httpx.Response) -> bool:
    """Whether this is surely a registry's answer and not some other web server's (law 2: a stranger's 404 is not absence)."""
    return "Docker-Distribution-Api-Version" in response.headers and not is_page(response)


def is_page(response: httpx.Response) -> bool:
    """Whether this is a page for people: a login form, a proxy's error."""
    return "html" in response.headers.get("Content-Type", "")


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that the other side asks to wait (RFC 9110, 10.2.3: seconds or a date); None when it says nothing."""
    said = response.headers.get("Retry-After", "")
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - parsedate_to_datetime(response.headers["Date"])).total_seconds())
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


async def _some(response: httpx.Response) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(WHOLE):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) >= MAX_ERROR:
                    break
    except FAILURES:
        pass  # The status alone says enough.
    return bytes(body[:MAX_ERROR])


def _said(body: bytes) -> tuple[set[str], str]:
    """The error codes and words of a body: the registry's JSON, or whatever else came."""
    try:
        errors: Any = json.loads(body)["errors"]
        found = [(str(e.get("code", "")), str(e.get("message", "")), e.get("detail")) for e in errors if isinstance(e, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return set(), body.decode(errors="replace")
    words = "; ".join(f"{code}: {message}" + (f" ({detail})" if isinstance(detail, str) and detail else "") for code, message, detail in found)
    return {code for code, _, _ in found}, words


def _secrets(request: httpx.Request) -> list[str]:
    """What of a request must not come back in an error's words: some servers answer with what they were sent."""
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    found = [value]
    if kind == "Basic":
        with contextlib.suppress(binascii.Error):
            found.append(base64.b64decode(value).decode(errors="replace").partition(":")[2])
    if request.headers.get("Content-Type") == "application/x-www-form-urlencoded":
        found += parse_qs(request.content.decode()).get("refresh_token", [])
    return [secret for secret in found if secret]


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
