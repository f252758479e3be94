"""Copy: registry to registry, manifest bytes verbatim; blobs first, then children, then the index, the tag last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from controller.domain.actions import Copy
from controller.domain.errors import CorruptError, MovedError, NotFoundError, RemoteError, UnprovenError
from controller.domain.oci import Descriptor, Manifest
from controller.domain.ports import Advance, Registry
from controller.domain.reference import Target
from controller.engine.manifests import Manifests
from controller.engine.prove import first_of, hold

_BLOBS_AT_ONCE = 4
_TRIES = 3
_DEEPEST = 3
"""An index may hold indexes (image-spec); deeper than this is somebody's joke."""


class Copier:
    """Copies into one registry; remembers where it put a blob, so that other repositories mount it from there."""

    def __init__(self, registry: Registry, manifests: Manifests) -> None:
        self._registry = registry
        self._manifests = manifests
        self._home_of: dict[str, str] = {}

    async def copy(self, action: Copy, sources: Sequence[Registry], advance: Advance) -> str:
        """Do it, and give the digest that the target's tag means afterwards, as read back. Mirrors come first in `sources`.

        Raises MovedError when the target's tag is not what the plan saw, RemoteError for what a registry answered.
        """
        last: RemoteError = RemoteError(f"copying {action.source}", f"{action.source.domain} is not under spec.upstreams")
        for source in sources:
            try:
                manifest = await self._moved(source, action, advance)
                break
            except RemoteError as error:
                last = error
        else:
            raise last
        await replace_tag(self._registry, action.target, manifest, expected=action.replaces)
        return manifest.digest

    async def _moved(self, source: Registry, action: Copy, advance: Advance) -> Manifest:
        """The manifest, after everything below it has come from this source."""
        origin = action.source.repository
        await source.resolve(origin, action.digest)  # What the cache knows may have come from another source.
        manifest = await self._manifests.get(source, origin, action.digest)
        await self._move(source, origin, manifest, action.target.repository, advance, _DEEPEST)
        return manifest

    async def _move(self, source: Registry, origin: str, manifest: Manifest, repository: str, advance: Advance, depth: int) -> None:
        if depth == 0:
            raise CorruptError(f"copying {origin}", "indexes are nested too deep", hint="the image is not usable")
        for child in manifest.children:
            found = await self._manifests.get(source, origin, child.digest)
            await self._move(source, origin, found, repository, advance, depth - 1)
            await self._registry.put_manifest(repository, found.digest, found)
        slots = asyncio.Semaphore(_BLOBS_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                for blob in {blob.digest: blob for blob in manifest.blobs}.values():
                    group.create_task(self._blob(source, origin, blob, repository, slots, advance))
        except* (RemoteError, UnprovenError) as failures:
            raise first_of(failures) from None

    async def _blob(self, source: Registry, origin: str, blob: Descriptor, repository: str, slots: asyncio.Semaphore, advance: Advance) -> None:
        async with slots:
            if await self._registry.has_blob(repository, blob.digest) or await self._mounted(repository, blob.digest):
                advance(blob.size)
                return
            told = _Told(advance)
            for left in reversed(range(_TRIES)):
                try:
                    async with source.read_blob(origin, blob.digest) as chunks:
                        await self._registry.write_blob(repository, blob, told.through(chunks))
                    break
                except RemoteError as error:
                    if not error.retryable or left == 0:
                        raise
            self._home_of[blob.digest] = repository

    async def _mounted(self, repository: str, digest: str) -> bool:
        home = self._home_of.get(digest)
        return home is not None and home != repository and await self._registry.mount(repository, digest, home)


class _Told:
    """Tells of a blob's bytes as they pass, and of none twice when it is tried again."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._furthest = 0

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same chunks."""
        passed = 0
        async for chunk in chunks:
            passed += len(chunk)
            if passed > self._furthest:
                self._advance(passed - self._furthest)
                self._furthest = passed
            yield chunk


async def replace_tag(registry: Registry, target: Target, manifest: Manifest, *, expected: str) -> None:
    """Let the target's tag mean this manifest; what it meant before is held first, and the result is read back (laws 1 and 5).

    Raises MovedError when the tag means neither `expected` nor this manifest already.
    """
    if await held_before(registry, target, manifest.digest, expected=expected):
        return
    await registry.put_manifest(target.repository, target.tag, manifest)
    there = await registry.manifest(target.repository, target.tag)
    if there.digest != manifest.digest:
        raise MovedError(f"{target}: it was written as {manifest.digest[:19]} and means {there.digest[:19]} now: somebody else writes it too")


async def held_before(registry: Registry, target: Target, wanted: str, *, expected: str) -> bool:
    """Hold what the target's tag means now, as it is about to be overwritten; True when it means `wanted` already."""
    try:
        current = await registry.manifest(target.repository, target.tag)
    except NotFoundError:
        if expected:
            raise MovedError(f"{target}: the plan saw {expected[:19]} in the registry and it is gone: look again") from None
        return False
    if wanted and current.digest == wanted:
        return True
    if current.digest != expected:
        raise MovedError(f"{target}: the plan saw {expected[:19] or 'nothing'} in the registry, and it is {current.digest[:19]} now: look again")
    await hold(registry, target.repository, current)
    return False
