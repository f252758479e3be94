"""Manifests by digest, read once: what a digest means never changes. Never used as a proof: proving reads the registry itself."""

from __future__ import annotations

import json
from collections import OrderedDict

from controller.domain.errors import CorruptError
from controller.domain.oci import MAX_MANIFEST, Descriptor, Manifest, digest_of
from controller.domain.ports import Registry

_KEPT = 4096
"""Manifests are a few kilobytes each, so this bounds the memory at some tens of megabytes."""


class Manifests:
    """A bounded cache of manifests, shared by looks and copies."""

    def __init__(self) -> None:
        self._by_digest: OrderedDict[str, Manifest] = OrderedDict()
        self._labels: OrderedDict[tuple[str, str], str] = OrderedDict()

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

    async def label(self, registry: Registry, repository: str, whole: tuple[Manifest, ...], name: str) -> str:
        """What the config of an image says under a label; "" when it says nothing, or when there are several configs."""
        configs = [manifest.config for manifest in whole if manifest.config]
        if len(configs) != 1:
            return ""
        known = self._labels.get((configs[0].digest, name))
        if known is None:
            known = self._labels[configs[0].digest, name] = _label(await read_small(registry, repository, configs[0]), name)
            while len(self._labels) > _KEPT:
                self._labels.popitem(last=False)
        return known


async def read_small(registry: Registry, repository: str, blob: Descriptor) -> bytes:
    """A blob that is a small document: at most MAX_MANIFEST bytes, hashed; CorruptError when it is larger, or other bytes."""
    raw, tried = bytearray(), f"reading {blob.digest[:19]} of {repository}"
    async with registry.read_blob(repository, blob.digest) as chunks:
        async for chunk in chunks:
            raw += chunk
            if len(raw) > MAX_MANIFEST:
                raise CorruptError(tried, f"more than {MAX_MANIFEST} bytes", hint="a config is small")
    if digest_of(bytes(raw)) != blob.digest:
        raise CorruptError(tried, "other bytes than its digest says", hint="the registry's storage is damaged")
    return bytes(raw)


def _label(raw: bytes, name: str) -> str:
    try:
        return str((json.loads(raw).get("config") or {}).get("Labels", {}).get(name, ""))
    except (ValueError, AttributeError, RecursionError):
        return ""


def identities(manifests: tuple[Manifest, ...]) -> frozenset[str]:
    """The digests by which an engine may know this content: of manifests (containerd store) and of configs (classic store)."""
    return frozenset(m.digest for m in manifests) | {m.config.digest for m in manifests if m.config}


def content_size(manifests: tuple[Manifest, ...]) -> int:
    """The bytes of all blobs, each counted once."""
    return sum({blob.digest: blob.size for manifest in manifests for blob in manifest.blobs}.values())
