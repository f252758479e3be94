"""One OCI registry over HTTP (OCI distribution-spec 1.1; Docker Registry HTTP API V2)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from controller.domain.errors import CorruptError, NotFoundError, RefusedError, RemoteError
from controller.domain.oci import MANIFEST_TYPES, MAX_MANIFEST, Descriptor, Manifest, digest_of, parse_manifest
from controller.domain.reference import is_digest
from controller.registry import tombstone
from controller.registry.answers import error_of, looks_like_registry, read_bounded, shown, unreachable
from controller.registry.auth import Authorizer
from controller.registry.credentials import Credentials, anonymous
from controller.registry.transport import FAILURES, http_client

TRIES = 4
LONGEST_WAIT = 60.0
"""Seconds. A registry that asks for a longer pause gets it from the next pass, not from this one."""

_PAGE = 1000
_REDIRECTS = 5
_MAX_LISTING = 64 << 20
_ACCEPT_MANIFESTS = {"Accept": ", ".join(MANIFEST_TYPES)}
_LINK = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


class RegistryClient:
    """Fulfils `domain.ports.Registry`. `requests` counts what was sent, for benchmarks and metrics."""

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials = anonymous,
        ca_file: Path | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._url = httpx.URL(url)
        self._base = url.rstrip("/")
        self._client = http_client(ca_file)
        self._auth = Authorizer(self._url, self._client, credentials)
        self._sleep = sleep
        self._jitter = jitter
        self.requests = 0

    @property
    def address(self) -> str:
        """host[:port]."""
        return self._url.netloc.decode()

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def ping(self) -> None:
        """GET /v2/ (distribution-spec, end-1); RefusedError when what answers is no registry."""
        async with self._sent("GET", "/v2/") as response:
            tried = _tried(response)
            body = await read_bounded(response, MAX_MANIFEST, tried)
        if not looks_like_registry(response) and not body.strip().startswith(b"{"):
            raise _no_registry(tried, response)

    # Manifests.

    async def resolve(self, repository: str, identifier: str) -> Descriptor:
        """What a tag or digest means, by one HEAD (end-3)."""
        path = f"/v2/{repository}/manifests/{identifier}"
        try:
            async with self._sent("HEAD", path, _ACCEPT_MANIFESTS, scope=_pull(repository)) as response:
                headers = response.headers
        except RefusedError as error:
            if error.retryable or not error.answer.startswith("404"):
                raise
            return _descriptor(await self.manifest(repository, identifier))  # A 404 without a registry's marks: GET tells what it is.
        digest, length = headers.get("Docker-Content-Digest", ""), headers.get("Content-Length", "")
        if "html" in headers.get("Content-Type", ""):
            raise _no_registry(_tried(response), response)
        if not is_digest(digest):
            return _descriptor(await self.manifest(repository, identifier))
        if is_digest(identifier) and digest != identifier:
            raise CorruptError(_tried(response), f"it is {digest}", hint="the registry answers for another manifest than it was asked for")
        return Descriptor(headers.get("Content-Type", ""), digest, int(length) if length.isdecimal() else 0)

    async def manifest(self, repository: str, identifier: str) -> Manifest:
        """The manifest's bytes, hashed (end-3). CorruptError when they are not what was asked for, or more than 4 MiB."""
        async with self._sent("GET", f"/v2/{repository}/manifests/{identifier}", _ACCEPT_MANIFESTS, scope=_pull(repository)) as response:
            tried = _tried(response)
            if "html" in response.headers.get("Content-Type", ""):
                raise _no_registry(tried, response)
            raw = await read_bounded(response, MAX_MANIFEST, tried)
        expected = identifier if is_digest(identifier) else response.headers.get("Docker-Content-Digest", "")
        if expected.startswith("sha256:") and digest_of(raw) != expected:
            raise CorruptError(tried, f"{len(raw)} bytes with the digest {digest_of(raw)}, not {expected}", hint="the registry's storage is damaged")
        try:
            return parse_manifest(raw, response.headers.get("Content-Type", ""))
        except CorruptError as error:
            raise CorruptError(tried, error.answer, hint=error.hint) from None

    async def put_manifest(self, repository: str, identifier: str, manifest: Manifest) -> None:
        """Write the bytes verbatim (end-7)."""
        path, headers = f"/v2/{repository}/manifests/{identifier}", {"Content-Type": manifest.media_type}
        async with self._sent("PUT", path, headers, scope=_push(repository), content=manifest.raw) as response:
            digest = response.headers.get("Docker-Content-Digest", manifest.digest)
        if digest != manifest.digest:
            raise CorruptError(_tried(response), f"the registry calls it {digest}, not {manifest.digest}", hint="it changes manifests on the way in")

    # Blobs.

    async def has_blob(self, repository: str, digest: str) -> bool:
        """HEAD (end-2). No proof: only reading it is."""
        try:
            async with self._sent("HEAD", f"/v2/{repository}/blobs/{digest}", scope=_pull(repository)):
                return True
        except NotFoundError:
            return False

    @asynccontextmanager
    async def read_blob(self, repository: str, digest: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """GET (end-2); the chunks raise UnreachableError when the body breaks off or has another length than was said."""
        async with self._sent("GET", f"/v2/{repository}/blobs/{digest}", scope=_pull(repository)) as response:
            yield _chunks(response, _tried(response))

    async def write_blob(self, repository: str, blob: Descriptor, chunks: AsyncIterator[bytes]) -> None:
        """POST, then one streamed PUT (end-4b, end-6). The registry checks the digest at the end: CorruptError when it differs."""
        location = await self._open_upload(repository)
        url = location.copy_merge_params({"digest": blob.digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        try:
            async with self._sent("PUT", url, headers, scope=_push(repository), content=chunks):
                return
        except RemoteError:
            await self._cancel_upload(repository, location)
            raise

    async def mount(self, repository: str, digest: str, source: str) -> bool:
        """Mount from another repository (end-11): 201, or 202 which means "upload it"."""
        path = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={source}"
        async with self._sent("POST", path, scope=f"{_push(repository)} {_pull(source)}", content=b"") as response:
            if response.status_code == httpx.codes.CREATED:
                return True
        location = response.headers.get("Location", "")
        if location:
            await self._cancel_upload(repository, httpx.URL(self._base).join(location))
        return False

    async def _open_upload(self, repository: str) -> httpx.URL:
        async with self._sent("POST", f"/v2/{repository}/blobs/uploads/", scope=_push(repository), content=b"") as response:
            location = response.headers.get("Location", "")
        if not location:
            raise RefusedError(_tried(response), "an upload without a Location")
        return httpx.URL(self._base).join(location)

    async def _cancel_upload(self, repository: str, location: httpx.URL) -> None:
        with contextlib.suppress(RemoteError):
            async with self._sent("DELETE", location, scope=_push(repository), tries=1):
                pass

    # Listings.

    async def tags(self, repository: str) -> list[str]:
        """All tags, every page (end-8)."""
        try:
            return [tag async for page in self._pages(f"/v2/{repository}/tags/list", "tags", _pull(repository)) for tag in page]
        except NotFoundError:
            return []

    async def catalog(self) -> list[str]:
        """All repositories, every page (Docker Registry HTTP API V2, "Catalog")."""
        return [name async for page in self._pages("/v2/_catalog", "repositories", "registry:catalog:*") for name in page]

    async def _pages(self, path: str, field: str, scope: str) -> AsyncIterator[list[str]]:
        url: str | httpx.URL = f"{path}?n={_PAGE}"
        seen: set[str] = set()
        while True:
            async with self._sent("GET", url, scope=scope) as response:
                tried = _tried(response)
                body = await read_bounded(response, _MAX_LISTING, tried)
            yield _listed(body, field, tried)
            link = _LINK.search(response.headers.get("Link", ""))
            if link is None or link.group(1) in seen:
                return
            seen.add(link.group(1))
            url = response.request.url.join(link.group(1))
            if url.host != self._url.host:
                raise RefusedError(tried, f"a next page on another host, {url.host}")

    # Deleting.

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Remove this tag alone: by tag where the registry can (3.x), else by a tombstone (2.8). See tombstone.py."""
        current = await self.manifest(repository, tag)
        if not await self.deletes_tags(repository, tag):
            await tombstone.delete_tag(self, repository, tag, current)
        try:
            left = await self.resolve(repository, tag)
        except NotFoundError:
            return
        raise RefusedError(f"deleting {repository}:{tag}", f"the tag still means {left.digest}", hint="somebody else writes it too")

    async def deletes_tags(self, repository: str, tag: str) -> bool:
        """DELETE by tag (end-9): True when the registry did it, False when it only deletes digests; RefusedError when it deletes nothing."""
        try:
            async with self._sent("DELETE", f"/v2/{repository}/manifests/{tag}", scope=_delete(repository)):
                return True
        except NotFoundError:
            return False
        except RefusedError as error:
            if error.answer.startswith("405"):
                raise RefusedError(
                    error.tried, error.answer, hint="deletes are off: set storage.delete.enabled in the registry's configuration"
                ) from None
            if error.answer.startswith("400"):
                return False
            raise
        except CorruptError:
            return False  # 2.8 answers 400 DIGEST_INVALID: a tag is no digest.

    async def delete_manifest(self, repository: str, digest: str) -> None:
        """Remove a manifest with every tag on it (end-9). Only for what nothing else can mean."""
        async with self._sent("DELETE", f"/v2/{repository}/manifests/{digest}", scope=_delete(repository)):
            pass

    # Sending.

    @asynccontextmanager
    async def _sent(
        self,
        method: str,
        target: str | httpx.URL,
        headers: Mapping[str, str] | None = None,
        *,
        scope: str = "",
        content: bytes | AsyncIterator[bytes] | None = None,
        tries: int = TRIES,
    ) -> AsyncIterator[httpx.Response]:
        """One answer that is not an error, after retries; a body that is a stream can't be sent twice, so it is tried once."""
        url = httpx.URL(self._base + target) if isinstance(target, str) else target
        left = tries if content is None or isinstance(content, bytes) else 1
        while True:
            left -= 1
            try:
                response = await self._authorized(method, url, headers or {}, scope, content)
            except RemoteError as error:
                if not error.retryable or left <= 0 or (error.retry_after or 0) > LONGEST_WAIT:
                    raise
                await self._sleep(error.retry_after or 0.2 * 2 ** (tries - left - 1) * (0.5 + self._jitter()))
                continue
            break
        try:
            yield response
        finally:
            await response.aclose()

    async def _authorized(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], scope: str, content: bytes | AsyncIterator[bytes] | None
    ) -> httpx.Response:
        """One try: with the header that this registry wants, asked once more after a challenge, redirects followed."""
        authorization = await self._auth.header(scope) if self._is_ours(url) else None
        response = await self._follow(method, url, headers, authorization, content)
        if response.status_code == httpx.codes.UNAUTHORIZED and self._is_ours(response.request.url) and not isinstance(content, AsyncIterator):
            better = await self._auth.challenged(response, scope, authorization)
            if better is not None:
                await response.aclose()
                response = await self._follow(method, url, headers, better, content)
        if response.is_success:
            return response
        try:
            raise await error_of(response, _tried(response))
        finally:
            await response.aclose()

    async def _follow(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], authorization: str | None, content: bytes | AsyncIterator[bytes] | None
    ) -> httpx.Response:
        """Send; follow redirects of reads by hand: our Authorization goes to the registry's own host and to no other."""
        for _ in range(_REDIRECTS):
            mine = {**headers, "Authorization": authorization} if authorization and self._is_ours(url) else headers
            tried = f"{method} {shown(url)}"
            self.requests += 1
            try:
                response = await self._client.send(self._client.build_request(method, url, headers=mine, content=content), stream=True)
            except FAILURES as failure:
                raise unreachable(tried, failure) from None
            if not response.is_redirect or method not in {"GET", "HEAD"}:
                return response
            await response.aclose()
            further = url.join(response.headers["Location"])
            if url.scheme == "https" and further.scheme != "https":
                raise RefusedError(tried, f"a redirect from https to {further.scheme}", hint="that would show the content to anyone on the way")
            url = further
        raise RefusedError(f"{method} {shown(url)}", f"more than {_REDIRECTS} redirects")

    def _is_ours(self, url: httpx.URL) -> bool:
        return (url.scheme, url.host, url.port) == (self._url.scheme, self._url.host, self._url.port)


async def _chunks(response: httpx.Response, tried: str) -> AsyncIterator[bytes]:
    declared, read = response.headers.get("Content-Length", ""), 0
    try:
        async for chunk in response.aiter_raw():
            read += len(chunk)
            yield chunk
    except FAILURES as failure:
        raise unreachable(f"{tried} after {read} bytes", failure) from None
    if declared.isdecimal() and read != int(declared):
        raise unreachable(tried, EOFError(f"the body ended after {read} of {declared} bytes"))


def _descriptor(manifest: Manifest) -> Descriptor:
    return Descriptor(manifest.media_type, manifest.digest, len(manifest.raw))


def _listed(body: bytes, field: str, tried: str) -> list[str]:
    try:
        said: Any = json.loads(body)[field]
        return [str(each) for each in said or ()]
    except (ValueError, KeyError, TypeError):
        raise RefusedError(tried, f"no JSON list of {field}", hint="what answers there is no registry, or not its address") from None


def _no_registry(tried: str, response: httpx.Response) -> RefusedError:
    kind = response.headers.get("Content-Type", "nothing")
    return RefusedError(tried, f"{response.status_code} with {kind}", hint="what answers there is no registry, or not its address")


def _tried(response: httpx.Response) -> str:
    return f"{response.request.method} {shown(response.request.url)}"


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _push(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def _delete(repository: str) -> str:
    return f"repository:{repository}:pull,push,delete"
