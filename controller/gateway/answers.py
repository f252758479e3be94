"""What the gateway answers, as HTTP has it: manifests, blobs on their way, and what went wrong as what it is."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aiohttp import web

from controller.domain.dispatch import ForbiddenError
from controller.domain.errors import CollectingError, DeniedError, NotFoundError, RefusedError, RemoteError
from controller.domain.oci import MAX_MANIFEST
from controller.domain.ports.registries import Forwarded
from controller.gateway.pulls import Answer
from controller.gateway.relay import SMALL, Source, Spliced, is_plain, outlet
from controller.gateway.spool import Flow, Spooled

log = logging.getLogger(__name__)

VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}
DIGEST = "Docker-Content-Digest"

_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "server", "date")
)
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def manifest_answer(found: Answer, request: web.Request) -> web.Response:
    """A manifest, or that it is still the one that the client has; with a warning where it may be old (RFC 7234, 5.5)."""
    manifest = found.manifest
    headers = manifest_headers(manifest.digest, manifest.media_type, len(manifest.raw))
    if found.stale:
        headers["Warning"] = f'110 wharfinger "{_quotable(found.stale)}"'
    if request.headers.get("If-None-Match", "").strip('"') == manifest.digest:
        return web.Response(status=304, headers={name: headers[name] for name in ("ETag", DIGEST)})
    return web.Response(body=None if request.method == "HEAD" else manifest.raw, headers=headers)


def manifest_headers(digest: str, media_type: str, size: int) -> dict[str, str]:
    """What is said of a manifest beside its bytes."""
    return {**VERSION, "Content-Type": media_type, DIGEST: digest, "ETag": f'"{digest}"', "Content-Length": str(size)}


def _quotable(words: str) -> str:
    return "".join(each if each.isprintable() and each not in '"\\' and each.isascii() else " " for each in words)[:200]


async def blob_answer(request: web.Request, flow: Flow) -> web.StreamResponse:
    """A blob on its way from upstream; a range of it where one is asked for (RFC 9110, 14.2)."""
    digest, size = flow.blob.digest, flow.blob.size
    start, end, status = 0, size, 200
    headers = {**VERSION, "Content-Type": "application/octet-stream", DIGEST: digest, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
    asked = _RANGE.fullmatch(request.headers.get("Range", ""))
    if asked and (asked[1] or asked[2]):
        start, end = _bounds(asked[1], asked[2], size)
        if start >= end:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    return await _streamed(request, status, headers, flow.read(start, end), lambda: Spooled(flow, start, end))


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """Of `bytes=first-last` the first byte and the one behind the last; without `first`, the last so many."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


async def passed_on(request: web.Request, found: Forwarded) -> web.StreamResponse:
    """The registry's answer as it comes."""

    def rest() -> Source | None:
        there = found.take_over()
        return Spliced(there, f"{request.method} {request.path} behind the gateway") if there else None

    return await _streamed(request, found.status, dict(found.headers), found.chunks, rest)


async def _streamed(
    request: web.Request, status: int, headers: Mapping[str, str], chunks: AsyncIterator[bytes], source: Callable[[], Source | None]
) -> web.StreamResponse:
    """The answer as it comes, of `source` where that is worth it; one that breaks off cuts the connection, so that nobody takes it for whole."""
    if status >= 400 and request.method != "HEAD":  # noqa: PLR2004 - an error
        return web.Response(status=status, body=await _what_comes(chunks), headers=_answer_headers(headers, without="content-length"))
    response = web.StreamResponse(status=status, headers=_answer_headers(headers))
    await response.prepare(request)
    if request.method != "HEAD":
        try:
            large = (response.content_length or 0) > SMALL and is_plain(request)
            await _sent(request, response, chunks, source() if large else None)
        except RemoteError as error:
            log.warning("%s %s broke off: %s", request.method, request.path, error)
            _cut(request)
            return response
        except ConnectionError:
            _cut(request)
            raise
    await response.write_eof()
    return response


async def _sent(request: web.Request, response: web.StreamResponse, chunks: AsyncIterator[bytes], source: Source | None) -> None:
    if source is None:
        async for chunk in chunks:
            await response.write(chunk)
    else:
        async with outlet(request, source.first) as out:
            await source.send(out)


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _what_comes(chunks: AsyncIterator[bytes]) -> bytes:
    """The words of an error. Distribution 2.8 says the blob's length over those of a 416."""
    body = bytearray()
    with contextlib.suppress(RemoteError):
        async for chunk in chunks:
            body += chunk[: MAX_MANIFEST - len(body)]
    return bytes(body)


def _answer_headers(headers: Mapping[str, str], without: str = "") -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP and name.lower() != without}


def problem(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """As the specification says errors (distribution-spec, "Error Codes")."""
    return web.json_response({"errors": [{"code": code, "message": message, "detail": None}]}, status=status, headers={**VERSION, **(headers or {})})


@web.middleware
async def told(request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401 - aiohttp's handler
    """What went wrong comes out as what it is, never as "not found"."""
    try:
        return await handler(request)  # type: ignore[no-any-return] # aiohttp's handler
    except ForbiddenError as error:
        return problem(403, "DENIED", str(error))
    except RemoteError as error:
        return _failure(error)


def _failure(error: RemoteError) -> web.Response:
    retry = {"Retry-After": str(round(error.retry_after))} if error.retry_after else {}
    match error:
        case NotFoundError():
            return problem(404, "MANIFEST_UNKNOWN", str(error))
        case DeniedError():
            return problem(401 if error.answer.startswith("401") else 403, "DENIED", str(error))
        case CollectingError():
            return problem(503, "UNAVAILABLE", str(error), retry)
        case RefusedError() if error.answer.startswith("429") or retry:
            return problem(429, "TOOMANYREQUESTS", str(error), retry)
        case _:
            return problem(504 if "timed out" in str(error).lower() else 502, "UNAVAILABLE", str(error))
