"""The proof of presence (law 1): what is about to leave a host is read back from the registry, byte by byte, and hashed.

HEAD 200, PUT 201 and a finished push are no proof: a registry may answer them for content that it has lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from controller.domain.errors import NotFoundError, RemoteError, UnprovenError
from controller.domain.observation import HostImage, StoreKind
from controller.domain.oci import MAX_MANIFEST, Descriptor, Manifest
from controller.domain.ports.hosts import ImageDetail
from controller.domain.ports.registries import Advance, Registry
from controller.domain.reference import HELD_PREFIX, Target, held_tag, is_digest

PROOF_LASTS = 600.0
"""Seconds: a blob's proof serves one pass, ten minutes at most."""

_BLOBS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Proof:
    """The registry holds this content whole: under `tag` of the repository, as the manifest `digest`."""

    repository: str
    tag: str
    digest: str


async def _nothing(_: Target) -> None:
    """Nobody asks how long it is held."""


class Prover:
    """Proves presence for one pass. `clock` gives monotonic seconds; `renew` is told of a held tag that a proof is about to rest on."""

    def __init__(self, registry: Registry, clock: Callable[[], float], renew: Callable[[Target], Awaitable[None]] = _nothing) -> None:
        self._registry = registry
        self._clock = clock
        self._renew = renew
        self._proven: dict[tuple[str, str], float] = {}

    async def prove(self, target: Target, image: HostImage, detail: ImageDetail, store: StoreKind, advance: Advance) -> Proof:
        """That the target's repository holds this image, whole, under a tag; one that has no tag yet is held by one first.

        Raises UnprovenError when it does not, and RemoteError when the registry does not answer.
        """
        if store is StoreKind.UNKNOWN:
            raise UnprovenError(f"{target}: how the host stores images is not known, so its content can't be compared")
        async for tag, manifest in self._candidates(target, image):
            meant = await self._meant(target.repository, manifest, image, store)
            if meant is None:
                continue
            await self._whole(target.repository, meant, detail, store, advance)
            lasting = tag if tag and not tag.startswith(HELD_PREFIX) else await self._hold(target.repository, manifest)
            return Proof(target.repository, lasting, manifest.digest)
        raise UnprovenError(f"{target}: no tag of {target.repository} in {self._registry.address} means the host's image {image.id[:19]}")

    async def _candidates(self, target: Target, image: HostImage) -> AsyncIterator[tuple[str, Manifest]]:
        """Manifests that may be it, the likely ones first: the tag, what the host says that it pulled or pushed, the repository's other tags."""
        looked_at: set[str] = set()
        digests = sorted({reference.digest for reference in image.repo_digests})
        own = await self._fetch(target.repository, target.tag)
        if own is not None:
            looked_at.add(own.digest)
            yield target.tag, own
        likely = {held_tag(digest) for digest in digests}
        others = [tag for tag in await self._registry.tags(target.repository) if tag != target.tag]
        for tag in sorted(others, key=lambda tag: (tag not in likely, tag)):
            found = await self._fetch(target.repository, tag)
            if found is not None and found.digest not in looked_at:
                looked_at.add(found.digest)
                yield tag, found
        for digest in digests:
            found = await self._fetch(target.repository, digest) if digest not in looked_at else None
            if found is not None:
                yield "", found

    async def _fetch(self, repository: str, identifier: str) -> Manifest | None:
        try:
            return await self._registry.manifest(repository, identifier)
        except NotFoundError:
            return None

    async def _meant(self, repository: str, manifest: Manifest, image: HostImage, store: StoreKind) -> tuple[Manifest, ...] | None:
        """The manifests whose content the host's image is, or None when this is another image."""
        if store is StoreKind.CLASSIC:
            return await self._with_config(repository, manifest, image.id)
        if image.manifests:
            return await self._platforms(repository, manifest, image)
        if manifest.digest != image.id:
            return None
        return await self._every_child(repository, manifest)

    async def _with_config(self, repository: str, manifest: Manifest, config: str) -> tuple[Manifest, ...] | None:
        """Classic store: the Id is the config's digest; for an index, of some child's config."""
        if manifest.config is not None:
            return (manifest,) if manifest.config.digest == config else None
        for child in manifest.children:
            found = await self._fetch(repository, child.digest)
            if found is not None and found.config is not None and found.config.digest == config:
                return (found,)
        return None

    async def _platforms(self, repository: str, manifest: Manifest, image: HostImage) -> tuple[Manifest, ...] | None:
        """Containerd store: each platform that the host holds, by its manifest's digest."""
        offered = {manifest.digest, *(child.digest for child in manifest.children)}
        if not offered.issuperset(image.manifests):
            return None
        held = [await self._registry.manifest(repository, digest) for digest in image.manifests]
        return tuple([each for manifest in held for each in await self._every_child(repository, manifest)])

    async def _every_child(self, repository: str, manifest: Manifest) -> tuple[Manifest, ...]:
        """Which platforms the host holds is not known: so all of them. An index has no blobs: of one within it, what is below counts."""
        found, ahead = {manifest.digest: manifest}, [manifest]
        while ahead:
            for child in ahead.pop().children:
                if child.digest not in found:
                    found[child.digest] = await self._registry.manifest(repository, child.digest)
                    ahead.append(found[child.digest])
        return tuple(each for each in found.values() if not each.is_index)

    async def _whole(self, repository: str, manifests: tuple[Manifest, ...], detail: ImageDetail, store: StoreKind, advance: Advance) -> None:
        """Read and hash every blob; on a classic store the config must also name the host's layers."""
        slots = asyncio.Semaphore(_BLOBS_AT_ONCE)
        for manifest in manifests:
            named = (*manifest.layers, manifest.config) if manifest.config else manifest.layers
            left = next((blob for blob in named if blob.non_distributable), None)
            if left is not None:
                raise UnprovenError(f"{repository}: blob {left.digest[:19]} is left at its url, so it can never be proven")
            if store is StoreKind.CLASSIC and manifest.config is not None:
                await self._same_layers(repository, manifest.config, detail, advance)
        try:
            async with asyncio.TaskGroup() as group:
                for blob in {blob.digest: blob for manifest in manifests for blob in manifest.blobs}.values():
                    group.create_task(self._blob(repository, blob, slots, advance))
        except* (RemoteError, UnprovenError) as failures:
            raise first_of(failures) from None

    async def _same_layers(self, repository: str, config: Descriptor, detail: ImageDetail, advance: Advance) -> None:
        raw = await self._read_small(repository, config)
        advance(len(raw))
        try:
            said = json.loads(raw)["rootfs"]["diff_ids"]
        except (ValueError, KeyError, TypeError):
            said = None
        if said != list(detail.diff_ids):
            raise UnprovenError(f"{repository}: the config {config.digest[:19]} names other layers than the host's image")
        self._proven[repository, config.digest] = self._clock()

    async def _read_small(self, repository: str, config: Descriptor) -> bytes:
        raw = bytearray()
        async with self._registry.read_blob(repository, config.digest) as chunks:
            async for chunk in chunks:
                raw += chunk
                if len(raw) > MAX_MANIFEST:
                    raise UnprovenError(f"{repository}: the config {config.digest[:19]} is larger than {MAX_MANIFEST} bytes")
        if f"sha256:{hashlib.sha256(raw).hexdigest()}" != config.digest:
            raise UnprovenError(f"{repository}: the registry's config {config.digest[:19]} has other bytes than its digest says")
        return bytes(raw)

    async def _blob(self, repository: str, blob: Descriptor, slots: asyncio.Semaphore, advance: Advance) -> None:
        async with slots:
            proven = self._proven.get((repository, blob.digest))
            if proven is not None and self._clock() - proven < PROOF_LASTS:
                advance(blob.size)
                return
            algorithm, _, expected = blob.digest.partition(":")
            if not is_digest(blob.digest):
                raise UnprovenError(f"{repository}: blob {blob.digest[:19]} has a digest of an unknown kind, so it can't be proven")
            hasher = hashlib.new(algorithm)
            read = 0
            async with self._registry.read_blob(repository, blob.digest) as chunks:
                async for chunk in chunks:
                    await asyncio.to_thread(hasher.update, chunk)
                    read += len(chunk)
                    advance(len(chunk))
            if read != blob.size or hasher.hexdigest() != expected:
                raise UnprovenError(
                    f"{repository}: blob {blob.digest[:19]} in the registry is not whole ({read} of {blob.size} bytes, or other bytes)"
                )
            self._proven[repository, blob.digest] = self._clock()

    async def _hold(self, repository: str, manifest: Manifest) -> str:
        """Nothing but its digest, or a held tag, means this manifest: a collection could take it, so it gets a tag, or keeps its own."""
        place = Target(repository, held_tag(manifest.digest))
        await self._renew(place)
        await hold(self._registry, repository, manifest)
        return place.tag


async def hold(registry: Registry, repository: str, manifest: Manifest) -> None:
    """Give a manifest the tag `wharf-held-<12 hex>` in its repository, and read it back (law 1).

    Raises UnprovenError when another manifest has that tag already, RemoteError when the registry refuses.
    """
    tag = held_tag(manifest.digest)
    try:
        there = (await registry.resolve(repository, tag)).digest
    except NotFoundError:
        await registry.put_manifest(repository, tag, manifest)
        there = (await registry.resolve(repository, tag)).digest
    if there != manifest.digest:
        raise UnprovenError(f"{repository}:{tag} means {there[:19]}, not {manifest.digest[:19]}: it can't be held")


def first_of(failures: BaseExceptionGroup[Exception]) -> Exception:
    """The first error of a group of tasks; the others were cancelled because of it."""
    found: BaseException = failures
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    if not isinstance(found, Exception):  # pragma: no cover - except* above lets only Exceptions through
        raise found
    return found
