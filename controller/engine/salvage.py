"""Salvage: one place after the other from which what is broken may be brought again: upstream, an archive, a host. Called by repair.py."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from controller.domain.actions import Push, Reason
from controller.domain.archived import ArchivedContent, Packing, chosen
from controller.domain.desired import ArchiveSource, Desired, DesiredImage, HostCopy
from controller.domain.errors import RefusedError, RemoteError, UnprovenError
from controller.domain.observation import Present
from controller.domain.oci import Descriptor, Manifest, digest_of, once
from controller.domain.platforms import ATTESTATION_OF
from controller.domain.ports.archives import PassingBlob
from controller.domain.ports.registries import Registry
from controller.domain.reference import Reference
from controller.domain.verdict import Broken, Part, Verdict
from controller.engine import platforms
from controller.engine.manifests import Manifests
from controller.engine.observe import HostFacts, Observer
from controller.engine.prove import hold
from controller.engine.push import Pusher
from controller.engine.verify import Verifier
from controller.engine.world import World

log = logging.getLogger(__name__)

_ROUNDS = 5
"""What is below a manifest that was lost is seen once that is there again: so often is looked."""

Bring = Callable[[Verdict], Awaitable[int]]
"""Brings what it can of what is broken, and gives the bytes that moved; WharfError when it could not."""


class Salvage:
    """Knows the places, and brings from them into one registry. `desired` has the hosts whose images may be pushed."""

    def __init__(self, world: World, desired: Desired, verifier: Verifier) -> None:
        self._world = world
        self._registry = world.registry
        self._desired = desired
        self._verifier = verifier
        self._manifests = Manifests()
        self._pusher = Pusher(world.registry, world.store, self._manifests)
        self._hosts: HostFacts | None = None

    async def places(self, verdict: Verdict, entries: Sequence[DesiredImage]) -> dict[str, Bring]:
        """Each place by its name, the nearest to the image's source first."""
        found: dict[str, Bring] = {}
        for entry in entries:
            upstream = entry.upstream
            if upstream is not None and self._desired.may_ask(upstream.domain):
                for source in self._world.upstreams(upstream.domain):
                    found.setdefault(source.address, partial(self._from_upstream, source, upstream, entry.platforms))
            if isinstance(entry.source, ArchiveSource):
                found.setdefault(entry.source.path, partial(self._from_archive, entry.source))
        for copy in await self._copies(verdict):
            found.setdefault(copy.host.name, partial(self._from_host, copy))
        return found

    async def again(self, before: Verdict) -> Verdict:
        """Read again what was broken."""
        self._verifier.forget(before.broken)
        return await self._verifier.image(before.target, before.sets)

    # Upstream.

    async def _from_upstream(self, source: Registry, upstream: Reference, chosen_platforms: Sequence[str], verdict: Verdict) -> int:
        """By digest, whatever the upstream's tag means by now."""
        moved, seen = 0, frozenset[Broken]()
        first: RemoteError | None = None
        for _ in range(_ROUNDS):
            left = frozenset(verdict.broken)
            if not left or left == seen:
                break
            for broken in sorted(left, key=lambda each: (each.part, each.digest)):
                try:
                    moved += await self._fetch(verdict.target.repository, broken, source, upstream, chosen_platforms)
                except RemoteError as error:
                    first = first or error
            seen = left
            verdict = await self.again(verdict)
        if first is not None and not verdict.whole:
            raise first
        return moved

    async def _fetch(self, repository: str, broken: Broken, source: Registry, upstream: Reference, chosen_platforms: Sequence[str]) -> int:
        if broken.part is not Part.MANIFEST:
            blob = Descriptor("", broken.digest, broken.size)
            async with source.read_blob(upstream.repository, broken.digest) as chunks:
                await self._registry.write_blob(repository, blob, chunks)
            return broken.size
        if broken.digest:
            manifest = await source.manifest(upstream.repository, broken.digest)
        else:
            meant = await source.resolve(upstream.repository, upstream.identifier)
            manifest = await platforms.chosen(self._manifests, source, upstream.repository, meant.digest, chosen_platforms)
        await self._write(repository, manifest)
        return len(manifest.raw)

    async def _write(self, repository: str, manifest: Manifest) -> None:
        """A manifest's bytes, under its digest; no tag is touched. As a blob, which no cache prevents; then, if need be, as what it is."""
        await self._registry.write_blob(repository, Descriptor("", manifest.digest, len(manifest.raw)), once(manifest.raw))
        try:
            await self._registry.manifest(repository, manifest.digest)
        except RemoteError:
            await self._registry.put_manifest(repository, manifest.digest, manifest)

    # An archive.

    async def _from_archive(self, source: ArchiveSource, verdict: Verdict) -> int:
        """What has the very same digest; a plain layer is packed again, and counts if that gives the same bytes as before."""
        repository, moved, seen = verdict.target.repository, 0, frozenset[Broken]()
        for _ in range(_ROUNDS):
            left = frozenset(verdict.broken)
            if not left or left == seen:
                break
            wanted = {each.digest for each in left}
            async with self._world.archives.open(source.path, Packing.FAST) as archive:
                if archive.contents is None:
                    raise RefusedError(f"repairing {verdict.target} from {source.path}", "it is no regular file and no folder")
                content = chosen(archive.contents, source.name, source.path)
                moved += await self._small(repository, content, wanted)
                layers = [blob.member for blob in content.blobs if blob.blob is None or blob.blob.digest in wanted]
                async for blob in archive.blobs(layers):
                    moved += await self._passing(repository, blob)
            seen = left
            verdict = await self.again(verdict)
        return moved

    async def _small(self, repository: str, content: ArchivedContent, wanted: set[str]) -> int:
        """The config of an archive without manifests, and the manifests of one that has them."""
        moved = 0
        if content.config and digest_of(content.config) in wanted:
            blob = Descriptor("", digest_of(content.config), len(content.config))
            await self._registry.write_blob(repository, blob, once(content.config))
            moved += blob.size
        for manifest in content.manifests:
            if manifest.digest in wanted or "" in wanted:
                await self._write(repository, manifest)
                moved += len(manifest.raw)
        return moved

    async def _passing(self, repository: str, blob: PassingBlob) -> int:
        if blob.blob is not None:
            await self._registry.write_blob(repository, blob.blob, blob.chunks())
            return blob.blob.size
        return (await self._registry.stream_blob(repository, blob.chunks())).size

    # A host.

    async def _copies(self, verdict: Verdict) -> list[HostCopy]:
        """Those on hosts whose name means this place in the registry."""
        if self._hosts is None:
            self._hosts = await Observer(self._world, self._manifests).hosts(self._desired)
        trusted = (host for host in self._desired.hosts if not host.range)  # What a range's engine pushes may be anything (law 10).
        known = [(host, fact.value) for host in trusted if isinstance(fact := self._hosts[host.name], Present)]
        return [copy for copy in self._desired.copies(known) if copy.target == verdict.target]

    async def _from_host(self, copy: HostCopy, verdict: Verdict) -> int:
        """Push what the host has, if it is the same image: as any push, so what the tag means is held first, if it can be read."""
        tried = f"repairing {verdict.target} from {copy.host.name}"
        if not verdict.digest:
            hint = f"if it is: wharf push {copy.tag.familiar} --host {copy.host.name}"
            raise RefusedError(tried, "what the tag means can't be read, so whether that is the same image can't be told", hint=hint)
        if not await self._same(verdict, copy):
            raise RefusedError(tried, f"{copy.tag.familiar} there is another image, {copy.image.id[:19]}, or the manifest can't be read to tell")
        fact = (self._hosts or {}).get(copy.host.name)
        if not isinstance(fact, Present):
            raise RefusedError(tried, "the host was not seen")
        action = Push(
            target=verdict.target, sets=verdict.sets, reason=Reason.MISSING, message="broken in the registry", bytes=copy.image.size,
            host=copy.host.name, image_id=copy.image.id, tag=copy.tag, replaces=verdict.digest,
        )  # fmt: skip
        await self._hold(verdict)
        host, moved = self._world.hosts[copy.host.name], 0

        def advance(count: int) -> None:
            nonlocal moved
            moved += count

        await self._pusher.push(action, host, fact.value.engine_id, fact.value.store, copy.host.registry_address, advance, held=True)
        return moved

    async def _hold(self, verdict: Verdict) -> None:
        """What the tag means gets a tag of its own, where the registry takes that: it may refuse a manifest of which a blob is lost.

        Then nothing is lost by going on: the host's image is the same content.
        """
        try:
            await hold(self._registry, verdict.target.repository, await self._registry.manifest(verdict.target.repository, verdict.digest))
        except (RefusedError, UnprovenError) as error:
            log.info("%s: what its tag means can't be held: %s", verdict.target, error)

    async def _same(self, verdict: Verdict, copy: HostCopy) -> bool:
        """Whether the host's image is all that the tag means, each platform of it: what is pushed takes its place."""
        repository = verdict.target.repository
        try:
            root = await self._registry.manifest(repository, verdict.digest)
            platforms = [child.digest for child in root.children if not child.annotation(ATTESTATION_OF)] or [root.digest]
            return all([await self._holds(repository, digest, copy) for digest in platforms])
        except RemoteError:
            return False

    async def _holds(self, repository: str, digest: str, copy: HostCopy) -> bool:
        """By the manifest, which a containerd store knows; else by its config, which a classic store does."""
        if digest in {copy.image.id, *copy.image.manifests}:
            return True
        config = (await self._registry.manifest(repository, digest)).config
        return config is not None and config.digest == copy.image.id
