"""Manifests by digest, read once: what a digest means never changes. Never used as a proof: proving reads the registry itself."""

from __future__ import annotations

from collections import OrderedDict

from controller.domain.oci import Manifest
from controller.domain.ports import Registry

_KEPT = 4096
"""Manifests are a few kilobytes each, so this bounds the memory at some tens of megabytes."""


class Manifests:
    """A bounded cache of manifests, shared by looks and copies."""

    def __init__(self) -> None:
        self._by_digest: OrderedDict[str, Manifest] = OrderedDict()

    async def get(self, registry: Registry, repository: str, digest: str) -> Manifest:
        """The manifest of that digest; raises RemoteError when the registry can't show it."""
        known = self._by_digest.get(digest)
        if known is not None:
            self._by_digest.move_to_end(digest)
            return known
        manifest = await registry.manifest(repository, digest)
        self._by_digest[digest] = manifest
        while len(self._by_digest) > _KEPT:
            self._by_digest.popitem(last=False)
        return manifest

    async def whole(self, registry: Registry, repository: str, digest: str) -> tuple[Manifest, ...]:
        """The manifest and, for an index, its children."""
        manifest = await self.get(registry, repository, digest)
        return (manifest, *[await self.get(registry, repository, child.digest) for child in manifest.children])


def identities(manifests: tuple[Manifest, ...]) -> frozenset[str]:
    """The digests by which an engine may know this content: of manifests (containerd store) and of configs (classic store)."""
    return frozenset(m.digest for m in manifests) | {m.config.digest for m in manifests if m.config}


def content_size(manifests: tuple[Manifest, ...]) -> int:
    """The bytes of all blobs, each counted once."""
    return sum({blob.digest: blob.size for manifest in manifests for blob in manifest.blobs}.values())
