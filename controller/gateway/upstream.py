"""An upstream as the gateway reads it: blobs through the spool, so that clients and the registry get each of them from one download."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from controller.domain.oci import Descriptor, Manifest
from controller.domain.ports.registries import ReadableRegistry
from controller.engine.tree import Origin
from controller.gateway.spool import Flow, Spool

_SIZES = 100_000
"""Blobs whose sizes are remembered, by the manifests that passed."""


class SpooledUpstream:
    """Fulfils `domain.ports.registries.ReadableRegistry`."""

    def __init__(self, registry: ReadableRegistry, spool: Spool) -> None:
        self._registry = registry
        self._spool = spool
        self._sizes: OrderedDict[tuple[str, str], int] = OrderedDict()

    @property
    def address(self) -> str:
        """host[:port]."""
        return self._registry.address

    def origin(self, repository: str) -> Origin:
        """This upstream's repository, as one of whom blobs are read."""
        return Origin(self._registry, repository, f"{self.address}/{repository}")

    async def resolve(self, repository: str, identifier: str) -> Descriptor:
        """By one HEAD."""
        return await self._registry.resolve(repository, identifier)

    async def manifest(self, repository: str, identifier: str, known: Manifest | None = None) -> Manifest:
        """The manifest; what it says of its blobs' sizes is remembered."""
        manifest = await self._registry.manifest(repository, identifier, known)
        for blob in manifest.blobs:
            self._sizes[repository, blob.digest] = blob.size
        while len(self._sizes) > _SIZES:
            self._sizes.popitem(last=False)
        return manifest

    def has_named(self, repository: str, digest: str) -> bool:
        """Whether a manifest that passed names this blob."""
        return (repository, digest) in self._sizes

    async def blob_size(self, repository: str, digest: str) -> int:
        """As a manifest said, else by one HEAD."""
        known = self._sizes.get((repository, digest))
        return await self._registry.blob_size(repository, digest) if known is None else known

    @asynccontextmanager
    async def read_blob(self, repository: str, digest: str, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """The blob, as it comes from upstream: once, however many read it. Clients go first."""
        size = await self.blob_size(repository, digest)
        async with self._spool.reading(self.origin(repository), Descriptor("", digest, size)) as flow:
            yield flow.read_behind(start, size)

    @asynccontextmanager
    async def flow(self, repository: str, blob: Descriptor) -> AsyncIterator[Flow]:
        """The blob's one download, for a client."""
        async with self._spool.reading(self.origin(repository), blob) as flow:
            with flow.serving():
                yield flow

    async def referrers(self, repository: str, digest: str) -> Manifest | None:
        """By the referrers API."""
        return await self._registry.referrers(repository, digest)

    async def tags(self, repository: str) -> list[str]:
        """All tags."""
        return await self._registry.tags(repository)
