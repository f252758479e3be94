"""One OCI registry over HTTP (OCI distribution-spec 1.1; Docker Registry HTTP API V2)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from controller.domain.errors import CorruptError, NotFoundError, RefusedError, RemoteError, UnreachableError, WharfError
from controller.domain.gate import OPEN
from controller.domain.oci import MANIFEST_TYPES, MAX_MANIFEST, OCI_INDEX, Descriptor, Manifest, digest_of, once, parse_manifest
from controller.domain.ports.collecting import Doubt, Gate
from controller.domain.reference import is_digest
from controller.registry import tombstone
from controller.registry.answers import is_page, is_registry, one_line, read_bounded
from controller.registry.credentials import Credentials, anonymous
from controller.registry.manners import Lane
from controller.registry.sender import Sender, further, tried_by
from controller.registry.streams import Outgoing, Unmeasured, received, rest_of

_PAGE = 1000
_MAX_PAGES = 10_000
_MAX_REFERRER_PAGES = 20
_MAX_LISTING = 64 << 20
"""Bytes of all pages together."""
_ACCEPT_MANIFESTS = {"Accept": ", ".join(MANIFEST_TYPES)}
_LINK = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


class RegistryClient(Sender):
    """Fulfils `domain.ports.registries.Registry`. `requests` counts what was sent, for benchmarks and metrics."""

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials = anonymous,
        ca_file: Path | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        gate: Gate = OPEN,
    ) -> None:
        super().__init__(url, credentials, ca_file, sleep, jitter, gate)
        self._deleting: dict[str, asyncio.Lock] = {}
        self._asking_referrers = asyncio.Lock()
        self._has_referrers: bool | None = None

    async def ping(self) -> None:
        """GET /v2/ (distribution-spec, end-1); RefusedError when what answers is no registry."""
        async with self._sent("GET", "/v2/") as response:
            tried = tried_by(response)
            body = await read_bounded(response, MAX_MANIFEST, tried)
        if is_page(response) or not (is_registry(response) or "json" in response.headers.get("Content-Type", "") or body.strip().startswith(b"{")):
            raise _no_registry(tried, response)

    # Manifests.

    async def resolve(self, repository: str, identifier: str) -> Descriptor:
        """What a tag or digest means, by one HEAD (end-3)."""
        try:
            async with self._sent("HEAD", _manifest(repository, identifier), _ACCEPT_MANIFESTS, scope=_pull(repository)) as response:
                headers = response.headers
        except RefusedError as error:
            if not _unmarked(error):
                raise
            return _descriptor(await self.manifest(repository, identifier))  # A 404 without a registry's marks: GET tells what it is.
        digest, length = headers.get("Docker-Content-Digest", ""), headers.get("Content-Length", "")
        if is_page(response):
            raise _no_registry(tried_by(response), response)
        if not is_digest(digest):
            return _descriptor(await self.manifest(repository, identifier))
        if is_digest(identifier) and digest != identifier:
            raise CorruptError(tried_by(response), f"it is {digest}", hint="the registry answers for another manifest than it was asked for")
        return Descriptor(headers.get("Content-Type", "").partition(";")[0].strip(), digest, int(length) if length.isdecimal() else 0)

    async def manifest(self, repository: str, identifier: str, known: Manifest | None = None) -> Manifest:
        """The manifest's bytes, hashed (end-3). CorruptError when they are not what was asked for, or more than 4 MiB.

        If the registry says that it is still the `known` one (RFC 9110, 13.1.2), that is given.
        """
        headers = {**_ACCEPT_MANIFESTS, "If-None-Match": f'"{known.digest}"'} if known else _ACCEPT_MANIFESTS
        async with self._sent("GET", _manifest(repository, identifier), headers, scope=_pull(repository)) as response:
            if known is not None and response.status_code == httpx.codes.NOT_MODIFIED:
                return known
            tried = tried_by(response)
            if is_page(response):
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
        path, headers = _manifest(repository, identifier), {"Content-Type": manifest.media_type}
        async with self._sent("PUT", path, headers, scope=_push(repository), content=manifest.raw) as response:
            digest = response.headers.get("Docker-Content-Digest", manifest.digest)
        if digest != manifest.digest:
            raise CorruptError(
                tried_by(response), f"the registry calls it {digest}, not {manifest.digest}", hint="it changes manifests on the way in"
            )
        if self.gate.doubt:
            await self.keep_manifest(repository, manifest)

    async def keep_manifest(self, repository: str, manifest: Manifest) -> None:
        """See to it that a manifest which the registry took can be read there; RefusedError when it can't.

        A blob cache remembers a manifest that was collected: PUT answers 201 and writes nothing. The same bytes are written when uploaded as a blob.
        """
        for left in (True, False):
            try:
                await self.resolve(repository, manifest.digest)
            except NotFoundError as error:
                if not left:
                    hint = "its blob cache remembers what a garbage collection took: restart it"
                    raise RefusedError(error.tried, "the registry took this manifest, and does not have it", hint=hint) from None
            else:
                return
            await self.write_blob(repository, Descriptor("", manifest.digest, len(manifest.raw)), once(manifest.raw))

    # Blobs.

    async def has_blob(self, repository: str, digest: str) -> bool:
        """HEAD (end-2). No proof: only reading it is."""
        try:
            async with self._sent("HEAD", _blob(repository, digest), scope=_pull(repository)):
                return await self._believed(repository, digest)
        except NotFoundError:
            return False
        except RefusedError as error:
            if not _unmarked(error):
                raise
        try:
            async with self.read_blob(repository, digest):  # As in resolve().
                return True
        except NotFoundError:
            return False

    async def holds(self, repository: str, digest: str) -> bool:
        """Whether the blob's first byte can be read: of one that a collection took, nothing comes, whatever HEAD says."""
        try:
            async with self._sent("GET", _blob(repository, digest), {"Range": "bytes=0-0"}, scope=_pull(repository), tries=1) as response:
                async for _ in received(response, tried_by(response)):
                    return True
        except RefusedError as error:
            return error.answer.startswith("416")  # A blob without a byte.
        except (NotFoundError, UnreachableError):
            pass
        return False

    async def _believed(self, repository: str, digest: str) -> bool:
        """Whether what the registry says to have is there; after a collection that was broken off, that is looked at."""
        return self.gate.doubt < Doubt.BLOBS or await self.holds(repository, digest)

    async def blob_size(self, repository: str, digest: str) -> int:
        """HEAD (end-2); RefusedError when the answer does not tell."""
        async with self._sent("HEAD", _blob(repository, digest), scope=_pull(repository)) as response:
            length = response.headers.get("Content-Length", "")
        if is_page(response) or not length.isdecimal():
            raise RefusedError(tried_by(response), "an answer that does not tell the blob's size")
        return int(length)

    @asynccontextmanager
    async def read_blob(self, repository: str, digest: str, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """GET (end-2), from a byte on (RFC 9110, 14.2); the chunks raise UnreachableError when the body breaks off or has another length."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        async with self._sent("GET", _blob(repository, digest), headers, scope=_pull(repository), lane=Lane.READ) as response:
            tried = tried_by(response)
            yield rest_of(response, received(response, tried), start, tried)

    async def write_blob(self, repository: str, blob: Descriptor, chunks: AsyncIterator[bytes], upload: str = "") -> None:
        """POST, unless offer() did it, then one streamed PUT (end-4b, end-6). The registry checks the digest: CorruptError when it differs."""
        _blob(repository, blob.digest)
        location = httpx.URL(upload) if upload else await self._open_upload(repository)
        url = location.copy_merge_params({"digest": blob.digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        body = Outgoing(chunks, blob)
        try:
            async with self._sent("PUT", url, headers, scope=_push(repository), content=body.chunks(), lane=Lane.WRITE):
                return
        except RemoteError as error:
            await self._cancel_upload(repository, location)
            raise body.failure or error from None

    async def stream_blob(self, repository: str, chunks: AsyncIterator[bytes]) -> Descriptor:
        """POST, one PATCH of unknown length, then the closing PUT with the digest that came out (end-4a, end-5, end-6)."""
        location = await self._open_upload(repository)
        body, headers = Unmeasured(chunks), {"Content-Type": "application/octet-stream"}
        try:
            async with self._sent("PATCH", location, headers, scope=_push(repository), content=body.chunks()) as response:
                location = further(response, response.headers.get("Location") or str(location))
            failure: WharfError | None = body.failure
            if failure is None:
                blob = Descriptor("", body.digest, body.size)
                url = location.copy_merge_params({"digest": blob.digest})
                async with self._sent("PUT", url, headers, scope=_push(repository), content=b""):
                    return blob
        except RemoteError as error:
            failure = body.failure or error
        await self._cancel_upload(repository, location)
        raise failure

    async def mount(self, repository: str, digest: str, source: str) -> bool:
        """Mount from another repository (end-11): 201, or 202 which means "upload it"."""
        location = await self._mounted(repository, digest, source)
        if location:
            await self._cancel_upload(repository, httpx.URL(location))
        return location is None

    async def offer(self, repository: str, digest: str, source: str) -> str:
        """The same; of a 202 the upload that it opened, for write_blob()."""
        location = await self._mounted(repository, digest, source)
        return "" if location is None else location or str(await self._open_upload(repository))

    async def _mounted(self, repository: str, digest: str, source: str) -> str | None:
        """None when it is mounted; else the URL of the upload that was opened in its place, "" for none."""
        _blob(source, digest)
        path = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={source}"
        scope = _push(repository) if source == repository else f"{_push(repository)} {_pull(source)}"
        async with self._sent("POST", path, scope=scope, content=b"") as response:
            mounted = response.status_code == httpx.codes.CREATED
        if mounted:
            return None if await self._believed(repository, digest) else str(await self._open_upload(repository))
        location = response.headers.get("Location", "")
        return str(further(response, location)) if location else ""

    async def _open_upload(self, repository: str) -> httpx.URL:
        async with self._sent("POST", f"/v2/{repository}/blobs/uploads/", scope=_push(repository), content=b"") as response:
            location = response.headers.get("Location", "")
        if not location:
            raise RefusedError(tried_by(response), "an upload without a Location")
        return further(response, location)

    async def _cancel_upload(self, repository: str, location: httpx.URL) -> None:
        with contextlib.suppress(RemoteError):
            async with self._sent("DELETE", location, scope=_push(repository), tries=1):
                pass

    # Referrers.

    async def referrers(self, repository: str, digest: str) -> Manifest | None:
        """GET (end-12a), every page. That this registry lacks it is found out once."""
        if self._has_referrers is None:
            async with self._asking_referrers:
                if self._has_referrers is None:
                    return await self._referrers(repository, digest)
        return await self._referrers(repository, digest) if self._has_referrers else None

    async def _referrers(self, repository: str, digest: str) -> Manifest | None:
        path = _blob(repository, digest).replace("/blobs/", "/referrers/")
        url: str | httpx.URL = path
        listed: list[object] = []
        for _ in range(_MAX_REFERRER_PAGES):
            try:
                async with self._sent("GET", url, {"Accept": OCI_INDEX}, scope=_pull(repository)) as response:
                    body = await read_bounded(response, MAX_MANIFEST, tried_by(response))
            except (NotFoundError, RefusedError) as error:
                if not _unmarked(error):
                    raise
                self._has_referrers = False  # "MUST NOT return a 404" where it has them (distribution-spec, "Listing Referrers").
                return None
            if is_page(response):
                self._has_referrers = False
                return None
            self._has_referrers = True
            listed += _listed(body, "manifests", tried_by(response), dict)
            further = self._next(response)
            if further is None:
                return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode())
            url = further
        raise RefusedError(f"GET {self._base}{path}", f"more than {_MAX_REFERRER_PAGES} pages of referrers")

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
        left = _MAX_LISTING
        for _ in range(_MAX_PAGES):
            try:
                response, body = await self._page(url, scope, left)
            except RefusedError as error:
                if "PAGINATION_NUMBER_INVALID" not in error.answer or not isinstance(url, str) or url == path:
                    raise
                url = path  # Its catalog.maxentries is smaller than ours; without a number it gives what it likes.
                continue
            tried = tried_by(response)
            left -= len(body)
            yield _listed(body, field, tried)
            further = self._next(response)
            if further is None:
                return
            url = further
            if str(url) in seen:
                raise RefusedError(tried, "a next page that was there before", hint="its list never ends, so nobody knows what is in it")
            seen.add(str(url))
        raise RefusedError(f"GET {self._base}{path}", f"more than {_MAX_PAGES} pages", hint="its list never ends, so nobody knows what is in it")

    def _next(self, response: httpx.Response) -> httpx.URL | None:
        link = _LINK.search(response.headers.get("Link", ""))
        if link is None:
            return None
        url = further(response, link.group(1))
        if not self._is_ours(url):
            raise RefusedError(tried_by(response), f"a next page at another address, {url.netloc.decode()}", hint="a list ends where it began")
        return url

    async def _page(self, url: str | httpx.URL, scope: str, limit: int) -> tuple[httpx.Response, bytes]:
        async with self._sent("GET", url, scope=scope) as response:
            return response, await read_bounded(response, limit, tried_by(response))

    # Deleting.

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Remove this tag alone: by tag where the registry can (3.x), else by a tombstone (2.8). See tombstone.py."""
        # One at a time: 2.8 looks for a digest's tags by listing them all, and leaves one behind when another goes meanwhile.
        async with self._deleting.setdefault(repository, asyncio.Lock()):
            with self.writing():  # As a whole: a tag that was overwritten must be deleted, or given back what it meant.
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
            async with self._sent("DELETE", _manifest(repository, tag), scope=_delete(repository)):
                return True
        except NotFoundError:
            return False
        except RefusedError as error:
            if error.answer.startswith("400"):
                return False
            raise
        except CorruptError:
            return False  # 2.8 answers 400 DIGEST_INVALID: a tag is no digest.

    async def delete_blob(self, repository: str, digest: str) -> bool:
        """Take away a repository's link to a blob (end-10), and what a cache remembers of it; whether there was one."""
        try:
            async with self._sent("DELETE", _blob(repository, digest), scope=_delete(repository)):
                return True
        except NotFoundError:
            return False

    async def delete_manifest(self, repository: str, digest: str) -> None:
        """Remove a manifest with every tag on it (end-9). Only for what nothing else can mean."""
        async with self._sent("DELETE", _manifest(repository, digest), scope=_delete(repository)):
            pass


def _manifest(repository: str, identifier: str) -> str:
    """The path of a manifest. What stands in other manifests and in listings was written by strangers: it must not lead elsewhere."""
    if "/" in identifier or (":" in identifier and not is_digest(identifier)):
        raise CorruptError(f"naming a manifest of {repository}", f"{one_line(identifier)!r} is neither a tag nor a digest")
    return f"/v2/{repository}/manifests/{identifier}"


def _blob(repository: str, digest: str) -> str:
    """The path of a blob, as above."""
    if not is_digest(digest):
        raise CorruptError(f"naming a blob of {repository}", f"{one_line(digest)!r} is no digest")
    return f"/v2/{repository}/blobs/{digest}"


def _unmarked(error: RemoteError) -> bool:
    """Whether it is a 404 that nobody knows to be a registry's: a HEAD has no body to tell it by."""
    return error.answer.startswith("404")


def _descriptor(manifest: Manifest) -> Descriptor:
    return Descriptor(manifest.media_type, manifest.digest, len(manifest.raw))


def _listed(body: bytes, field: str, tried: str, kind: type = str) -> list[Any]:
    try:
        said: Any = json.loads(body)[field]
    except (ValueError, KeyError, TypeError, RecursionError):
        said = body
    if said is None:
        return []
    if not isinstance(said, list) or not all(isinstance(each, kind) for each in said):
        raise RefusedError(tried, f"no JSON list of {field}", hint="what answers there is no registry, or not its address")
    return said


def _no_registry(tried: str, response: httpx.Response) -> RefusedError:
    kind = one_line(response.headers.get("Content-Type", "no type"))
    return RefusedError(tried, f"{response.status_code} with {kind}", hint="what answers there is no registry, or not its address")


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _push(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def _delete(repository: str) -> str:
    return f"repository:{repository}:pull,push,delete"
