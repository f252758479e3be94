"""Copies from one registry to another, without a file and a plan: what a Copier is given, and what it is asked for."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from controller.domain.actions import Copy, Reason
from controller.domain.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, digest_of, once, parse_manifest
from controller.domain.reference import Reference, Target
from controller.engine.copy import Copier
from controller.engine.manifests import Manifests
from controller.registry.client import RegistryClient

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"


class Waits(list[float]):
    """Stands where a copy sleeps: keeps the seconds, and waits for none."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


@dataclass
class Copies:
    """A Copier into `registry`, and the source that it is given. `told` are the bytes that it told of."""

    registry: RegistryClient
    source: RegistryClient
    waits: Waits
    copier: Copier
    told: list[int] = field(default_factory=list)

    async def copy(self, image: str, digest: str, *, to: str = "", replaces: str = "", wanted: str = "", **more: Any) -> str:
        """Copy `repository:tag` of the source to the same name, or to another."""
        repository, _, tag = image.rpartition(":")
        target = Target(*(to or image).rsplit(":", 1))
        source = Reference("docker.io", repository, tag, "")
        what = {"source": source, "digest": digest, "wanted": wanted or digest, "replaces": replaces, **more}
        action = Copy(target=target, sets=(), reason=Reason.MISSING, message="", **what)
        return await self.copier.copy(action, [self.source], self.told.append)

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not any(limit._running for client in (self.registry, self.source) for limit in client._manners.limits.values())

    def restart(self) -> None:
        """A copier that remembers nothing."""
        self.copier = Copier(self.registry, Manifests(), sleep=self.waits)


@asynccontextmanager
async def copies(registry: str, source: str) -> AsyncIterator[Copies]:
    """Between the registries at two URLs; between tries nobody waits."""
    async with AsyncExitStack() as stack:
        waits = Waits()

        def client(url: str) -> RegistryClient:
            made = RegistryClient(url, sleep=waits, jitter=lambda: 0.5)
            stack.push_async_callback(made.close)
            return made

        here, there = client(registry), client(source)
        yield Copies(here, there, waits, Copier(here, Manifests(), sleep=waits))


def entry(kind: str, data: bytes, **more: Any) -> dict[str, Any]:
    """The descriptor of some bytes."""
    return {"mediaType": kind, "digest": digest_of(data), "size": len(data), **more}


async def upload(client: RegistryClient, repository: str, *blobs: bytes) -> None:
    """Write some blobs."""
    for data in blobs:
        await client.write_blob(repository, Descriptor("", digest_of(data), len(data)), once(data))


async def image(
    client: RegistryClient, repository: str, tag: str, layers: Sequence[bytes], *, kind: str = GZIP, platform: str = "linux/amd64", **more: Any
) -> Manifest:
    """An image of these layers, under a tag or, with an empty one, by its digest; `more` are further fields of its manifest."""
    system, architecture, *variant = platform.split("/")
    config = json.dumps({"os": system, "architecture": architecture, "variant": "".join(variant), "id": os.urandom(4).hex()}).encode()
    await upload(client, repository, config, *layers)
    said = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry("application/vnd.oci.image.config.v1+json", config)}
    said |= {"layers": [entry(kind, layer) for layer in layers], **more}
    manifest = parse_manifest(json.dumps(said).encode())
    await client.put_manifest(repository, tag or manifest.digest, manifest)
    return manifest


def child(manifest: Manifest, platform: str = "", **more: Any) -> dict[str, Any]:
    """A manifest's entry in an index."""
    if platform:
        more["platform"] = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
    return entry(manifest.media_type, manifest.raw, **more)


def index_of(entries: Iterable[dict[str, Any]], **more: Any) -> Manifest:
    """An index, indented on purpose: who encodes it anew changes its digest."""
    return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries), **more}, indent=2).encode())


async def index(client: RegistryClient, repository: str, tag: str, entries: Iterable[dict[str, Any]], **more: Any) -> Manifest:
    """The same, written."""
    made = index_of(entries, **more)
    await client.put_manifest(repository, tag, made)
    return made
