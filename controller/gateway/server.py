"""The OCI distribution API (distribution-spec 1.1) as one address: what is asked of a local name goes to the registry, the rest through it."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from aiohttp import web

from controller.domain.desired import Desired
from controller.domain.dispatch import Dispatch, ForbiddenError
from controller.domain.errors import DeniedError, NotFoundError, RefusedError, RemoteError
from controller.domain.oci import MAX_MANIFEST, Descriptor
from controller.domain.ports import Forwarded, Forwarder
from controller.domain.reference import HELD_PREFIX, is_digest
from controller.gateway.access import Access
from controller.gateway.pulls import Answer, Asked, Blob, Pulls

log = logging.getLogger(__name__)

_NAME = r"{name:[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*}"
_PASSED_ON = ("Accept", "Range", "If-None-Match", "If-Match", "If-Range", "Content-Type", "Content-Length", "Content-Range")
"""Of a client's headers, those that the registry behind gets; no header of a client's reaches an upstream."""

_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "server", "date")
)
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}
_DIGEST = "Docker-Content-Digest"


class Gateway:
    """The web application. `desired` gives what the files say now; clients are sent to the registry at `send_on`, if given, for blobs that it has."""

    def __init__(self, forwarder: Forwarder, pulls: Pulls, desired: Callable[[], Desired], access: Access, *, send_on: str = "") -> None:
        self._forwarder = forwarder
        self._pulls = pulls
        self._desired = desired
        self._known_rules = Dispatch(desired())
        self._access = access
        self._send_on = send_on

    @property
    def _rules(self) -> Dispatch:
        """Of what the files say now; made once for all requests until they say something else."""
        desired = self._desired()
        if self._known_rules.desired is not desired:
            self._known_rules = Dispatch(desired)
        return self._known_rules

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[_told, self._allowed], client_max_size=0)
        app.router.add_get("/v2/token", self._access.token)
        app.router.add_get("/v2/", self._base)
        app.router.add_get(f"/v2/{_NAME}/manifests/{{reference}}", self._manifest)
        app.router.add_get(f"/v2/{_NAME}/blobs/{{digest}}", self._blob)
        app.router.add_get(f"/v2/{_NAME}/tags/list", self._tags)
        app.router.add_route("*", f"/v2/{_NAME}/{{rest:(?:manifests|blobs|referrers)/.+}}", self._local)
        app.router.add_get("/v2/_catalog", self._catalog)
        return app

    @web.middleware
    async def _allowed(self, request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401 - aiohttp's handler
        """Who may not is sent for a token. An engine asks /v2/ first, and what it is sent there is how it logs in for all that follows."""
        base = request.path == "/v2/"
        if not self._access.is_open and request.path != "/v2/token":
            rights = await self._access.rights(request)
            if rights is None or (base and "Authorization" not in request.headers) or not (base or rights.allow(request.method)):
                name = request.match_info.get("name", "")
                scope = f"repository:{name}:{'pull' if request.method in {'GET', 'HEAD'} else 'pull,push'}" if name else ""
                return _error(401, "UNAUTHORIZED", "log in first, as somebody who may do this", self._access.challenge(request, scope))
        return await handler(request)  # type: ignore[no-any-return] # aiohttp's handler

    async def _base(self, _: web.Request) -> web.Response:
        return web.json_response({}, headers=_VERSION)

    # Pulls.

    async def _manifest(self, request: web.Request) -> web.Response:
        name, reference, ns = request.match_info["name"], request.match_info["reference"], request.query.get("ns", "")
        found = await self._pulls.manifest(self._rules, Asked(name, reference, ns, request.remote or "", request.method == "HEAD"))
        if isinstance(found, Descriptor):
            return web.Response(headers=_manifest_headers(found.digest, found.media_type, found.size))
        return _manifest_answer(found, request)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        name, digest, ns = request.match_info["name"], request.match_info["digest"], request.query.get("ns", "")
        if not is_digest(digest):
            return _error(400, "DIGEST_INVALID", f"{digest} is no digest")
        rules = self._rules
        for place in rules.places(name, ns):
            path = f"/v2/{place.repository}/blobs/{digest}"
            async with self._forwarded(request, path, place.repository, head=bool(self._send_on)) as found:
                if found.status not in {404, 400}:
                    if self._send_on and request.method == "GET":
                        return web.Response(status=307, headers={**_VERSION, "Location": self._send_on + path, _DIGEST: digest})
                    return await _streamed(request, found.status, dict(found.headers), found.chunks)
        async with self._pulls.blob_through(rules, name, digest, ns) as blob:
            return await _blob_answer(request, blob, digest)

    async def _tags(self, request: web.Request) -> web.StreamResponse:
        """As the registry has them, without those that are held for nobody to see."""
        name = request.match_info["name"]
        for place in self._rules.places(name, request.query.get("ns", "")):
            async with self._forwarded(request, f"/v2/{place.repository}/tags/list", place.repository, query=True) as found:
                body = b"".join([chunk async for chunk in found.chunks])
                if found.status == 200:  # noqa: PLR2004 - OK
                    said = json.loads(body)
                    said["tags"] = [tag for tag in said.get("tags") or () if not tag.startswith(HELD_PREFIX)]
                    further = {key: value for key, value in found.headers if key.lower() == "link"}
                    return web.json_response(said | {"name": name}, headers={**_VERSION, **further})
        return _error(404, "NAME_UNKNOWN", f"the registry has no repository {name}")

    async def _catalog(self, request: web.Request) -> web.StreamResponse:
        async with self._forwarded(request, "/v2/_catalog", "", query=True) as found:
            return await _streamed(request, found.status, dict(found.headers), found.chunks)

    # Everything else is the registry's own.

    async def _local(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        repository = name if request.method in {"GET", "HEAD"} else self._rules.pushed_to(name)
        async with self._forwarded(request, f"/v2/{repository}/{request.match_info['rest']}", repository, query=True) as found:
            return await _streamed(request, found.status, dict(found.headers), found.chunks)

    def _forwarded(
        self, request: web.Request, path: str, repository: str, *, query: bool = False, head: bool = False
    ) -> AbstractAsyncContextManager[Forwarded]:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        headers["Accept"] = ", ".join(request.headers.getall("Accept", ["*/*"]))  # An engine sends several.
        # The registry makes the addresses of uploads of these.
        headers |= {"Host": request.host, "X-Forwarded-Proto": request.scheme}
        body = request.content.iter_any() if request.method in {"POST", "PUT", "PATCH"} and request.can_read_body else None
        if request.method in {"POST", "PUT", "PATCH"} and body is None:
            headers["Content-Length"] = "0"
        target = f"{path}?{request.query_string}" if query and request.query_string else path
        action = "pull" if request.method in {"GET", "HEAD"} else "pull,push" if request.method != "DELETE" else "delete"
        scope = f"repository:{repository}:{action}" if repository else "registry:catalog:*"
        return self._forwarder.forward("HEAD" if head else request.method, target, headers, body, scope)


def _manifest_answer(found: Answer, request: web.Request) -> web.Response:
    manifest = found.manifest
    headers = _manifest_headers(manifest.digest, manifest.media_type, len(manifest.raw))
    if found.stale:
        headers["Warning"] = f'110 wharfinger "{_quotable(found.stale)}"'
    if request.headers.get("If-None-Match", "").strip('"') == manifest.digest:
        return web.Response(status=304, headers={name: headers[name] for name in ("ETag", _DIGEST)})
    return web.Response(body=None if request.method == "HEAD" else manifest.raw, headers=headers)


def _manifest_headers(digest: str, media_type: str, size: int) -> dict[str, str]:
    return {**_VERSION, "Content-Type": media_type, _DIGEST: digest, "ETag": f'"{digest}"', "Content-Length": str(size)}


def _quotable(words: str) -> str:
    return "".join(each if each.isprintable() and each not in '"\\' and each.isascii() else " " for each in words)[:200]


async def _blob_answer(request: web.Request, blob: Blob, digest: str) -> web.StreamResponse:
    """A blob on its way from upstream; a range of it where one is asked for (RFC 9110, 14.2)."""
    start, end, status = 0, blob.size, 200
    headers = {**_VERSION, "Content-Type": "application/octet-stream", _DIGEST: digest, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
    asked = _RANGE.fullmatch(request.headers.get("Range", ""))
    if asked and (asked[1] or asked[2]):
        start, end = _bounds(asked[1], asked[2], blob.size)
        if start >= end:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{blob.size}"})
        status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{blob.size}"
    headers["Content-Length"] = str(end - start)
    return await _streamed(request, status, headers, blob.chunks(start, end))


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """Of `bytes=first-last` the first byte and the one behind the last; without `first`, the last so many."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


async def _streamed(request: web.Request, status: int, headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> web.StreamResponse:
    """The answer as it comes; one that breaks off cuts the connection, so that nobody takes it for whole."""
    if status >= 400 and request.method != "HEAD":  # noqa: PLR2004 - an error
        return web.Response(status=status, body=await _what_comes(chunks), headers=_answer_headers(headers, without="content-length"))
    response = web.StreamResponse(status=status, headers=_answer_headers(headers))
    await response.prepare(request)
    if request.method != "HEAD":
        try:
            async for chunk in chunks:
                await response.write(chunk)
        except RemoteError as error:
            log.warning("%s %s broke off: %s", request.method, request.path, error)
            if request.transport is not None:
                request.transport.abort()
            return response
    await response.write_eof()
    return response


async def _what_comes(chunks: AsyncIterator[bytes]) -> bytes:
    """The words of an error. Distribution 2.8 says the blob's length over those of a 416."""
    body = bytearray()
    with contextlib.suppress(RemoteError):
        async for chunk in chunks:
            body += chunk[: MAX_MANIFEST - len(body)]
    return bytes(body)


def _answer_headers(headers: Mapping[str, str], without: str = "") -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP and name.lower() != without}


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """As the specification says errors (distribution-spec, "Error Codes")."""
    return web.json_response({"errors": [{"code": code, "message": message, "detail": None}]}, status=status, headers={**_VERSION, **(headers or {})})


@web.middleware
async def _told(request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401 - aiohttp's handler
    """What went wrong comes out as what it is, never as "not found"."""
    try:
        return await handler(request)  # type: ignore[no-any-return] # aiohttp's handler
    except ForbiddenError as error:
        return _error(403, "DENIED", str(error))
    except RemoteError as error:
        return _failure(error)


def _failure(error: RemoteError) -> web.Response:
    retry = {"Retry-After": str(round(error.retry_after))} if error.retry_after else {}
    match error:
        case NotFoundError():
            return _error(404, "MANIFEST_UNKNOWN", str(error))
        case DeniedError():
            return _error(401 if error.answer.startswith("401") else 403, "DENIED", str(error))
        case RefusedError() if error.answer.startswith("429") or retry:
            return _error(429, "TOOMANYREQUESTS", str(error), retry)
        case _:
            return _error(504 if "timed out" in str(error).lower() else 502, "UNAVAILABLE", str(error))
