"""Manifests by digest, read once: what a digest means never changes. Never used as a proof: proving reads the registry itself."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Generic, TypeVar

from controller.domain.errors import CorruptError
from controller.domain.labels import label_of
from controller.domain.oci import MAX_MANIFEST, Descriptor, Manifest
from controller.domain.ports.registries import ReadableRegistry

_KEPT = 4096
_KEPT_BYTES = 32 << 20
"""Manifests are a few kilobytes each; this bounds what large ones may take."""

T = TypeVar("T")


class Manifests:
    """A bounded cache of manifests and configs, shared by looks and copies."""

    def __init__(self) -> None:
        self._by_digest: _Kept[Manifest] = _Kept()
        self._configs: _Kept[bytes] = _Kept()

    async def get(self, registry: ReadableRegistry, repository: str, digest: str) -> Manifest:
        """The manifest of that digest; raises RemoteError when the registry can't show it."""
        known = self._by_digest.get(digest)
        if known is not None:
            return known
        manifest = await registry.manifest(repository, digest)
        self._by_digest.put(digest, manifest, len(manifest.raw))
        return manifest

    async def whole(self, registry: ReadableRegistry, repository: str, digest: str) -> tuple[Manifest, ...]:
        """The manifest and, for an index, its children."""
        manifest = await self.get(registry, repository, digest)
        return (manifest, *[await self.get(registry, repository, child.digest) for child in manifest.children])

    async def config(self, registry: ReadableRegistry, repository: str, config: Descriptor) -> bytes:
        """An image's config; CorruptError when its bytes are not what its digest says, or more than any config has."""
        known = self._configs.get(config.digest)
        if known is not None:
            return known
        tried, raw = f"reading the config {config.digest} of {repository} in {registry.address}", bytearray()
        async with registry.read_blob(repository, config.digest) as chunks:
            async for chunk in chunks:
                raw += chunk
                if len(raw) > MAX_MANIFEST:
                    raise CorruptError(tried, f"more than {MAX_MANIFEST} bytes", hint="the image is not usable")
        algorithm, _, expected = config.digest.partition(":")
        if hashlib.new(algorithm, raw).hexdigest() != expected:
            raise CorruptError(tried, "other bytes than its digest says", hint="the registry's storage is damaged")
        self._configs.put(config.digest, bytes(raw), len(raw))
        return bytes(raw)

    async def label(self, registry: ReadableRegistry, repository: str, whole: tuple[Manifest, ...], name: str) -> str:
        """What the config of an image says under a label; "" when it says nothing, or when there are several configs."""
        configs = [manifest.config for manifest in whole if manifest.config]
        return label_of(await self.config(registry, repository, configs[0]), name) if len(configs) == 1 else ""


class _Kept(Generic[T]):
    """The values that were asked for last."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._bytes = 0

    def get(self, digest: str) -> T | None:
        found = self._values.get(digest)
        if found is None:
            return None
        self._values.move_to_end(digest)
        return found[0]

    def put(self, digest: str, value: T, size: int) -> None:
        self._bytes += size - self._values.get(digest, (value, 0))[1]
        self._values[digest] = (value, size)
        while len(self._values) > _KEPT or self._bytes > _KEPT_BYTES:
            self._bytes -= self._values.popitem(last=False)[1][1]


def identities(manifests: tuple[Manifest, ...]) -> frozenset[str]:
    """The digests by which an engine may know this content: of manifests (containerd store) and of configs (classic store)."""
    return frozenset(m.digest for m in manifests) | {m.config.digest for m in manifests if m.config}


def content_size(manifests: tuple[Manifest, ...]) -> int:
    """The bytes of all blobs, each counted once."""
    return sum({blob.digest: blob.size for manifest in manifests for blob in manifest.blobs}.values())
