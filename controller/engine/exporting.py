"""Export: registry to archive. One tar that is an OCI layout and what `docker load` takes; every blob verified on its way."""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform as machine
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from controller.domain.archived import CONFIG_TYPES
from controller.domain.errors import CorruptError, NotFoundError
from controller.domain.oci import MAX_MANIFEST, OCI_INDEX, Descriptor, Manifest, platform_of
from controller.domain.ports.archives import ArchiveWriter
from controller.domain.ports.registries import Advance, Registry
from controller.domain.reference import Reference, is_digest

_DEEPEST = 3
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "i686": "386"}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. `notes` are what people should know of it."""

    digest: str
    bytes: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The root of what is exported, and all manifests of it; `loaded` is the one that `docker load` takes, None where there is no image for it."""

    root: Manifest
    manifests: tuple[Manifest, ...]
    loaded: Manifest | None


class Exporter:
    """Exports out of one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def export(self, repository: str, name: Reference, platform: str, writer: ArchiveWriter, advance: Advance) -> Exported:
        """Write an image that `repository` has as `name`, all of it or one platform. `name` is what it is called in the archive.

        Raises NotFoundError when there is no such image or platform, CorruptError when the registry's bytes are not what their digests say.
        """
        chosen = await self._chosen(repository, name, platform)
        await writer.document("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        await writer.document("index.json", _index(chosen.root, name))
        if chosen.loaded is not None:
            await writer.document("manifest.json", _docker(chosen.loaded, name))
        for manifest in chosen.manifests:
            await writer.document(_path(manifest.digest), manifest.raw)
        size = 0
        for blob in {blob.digest: blob for manifest in chosen.manifests for blob in manifest.blobs}.values():
            async with self._registry.read_blob(repository, blob.digest) as chunks:
                await writer.blob(_path(blob.digest), blob.size, _verified(blob, chunks, advance))
            size += blob.size
        return Exported(chosen.root.digest, size, tuple(_notes(chosen)))

    async def _chosen(self, repository: str, name: Reference, platform: str) -> _Chosen:
        root = await self._registry.manifest(repository, name.identifier)
        if platform:
            root = await self._of_platform(repository, name, root, platform)
        found: dict[str, Manifest] = {}
        await self._below(repository, root, _DEEPEST, found)
        if not root.is_index:
            loaded = root
        else:
            here = f"linux/{_ARCHITECTURES.get(machine.machine(), machine.machine())}"
            images = [
                child for child in root.children if child.digest in found and not found[child.digest].is_index and child.platform != "unknown/unknown"
            ]
            best = next((child for child in images if _fits(child.platform, here)), images[0] if images else None)
            loaded = found[best.digest] if best else root
        is_image = loaded.config is not None and loaded.config.media_type in CONFIG_TYPES
        return _Chosen(root, tuple(found.values()), loaded if is_image else None)

    async def _below(self, repository: str, manifest: Manifest, depth: int, found: dict[str, Manifest]) -> None:
        """Find the manifest after all that it names, each once."""
        if depth == 0:
            raise CorruptError(f"exporting {repository}", "indexes are nested too deep", hint="the image is not usable")
        for child in manifest.children:
            if child.digest not in found:
                await self._below(repository, await self._registry.manifest(repository, child.digest), depth - 1, found)
        found[manifest.digest] = manifest

    async def _of_platform(self, repository: str, name: Reference, root: Manifest, platform: str) -> Manifest:
        if root.is_index:
            offered = [child.platform for child in root.children if child.platform]
            fitting = next((child for child in root.children if _fits(child.platform, platform)), None)
            if fitting is not None:
                return await self._registry.manifest(repository, fitting.digest)
        else:
            offered = [await self._platform(repository, root)]
            if _fits(offered[0], platform):
                return root
        raise NotFoundError(f"exporting {name.familiar} for {platform}", f"it has {', '.join(offered) or 'no platforms'}")

    async def _platform(self, repository: str, manifest: Manifest) -> str:
        """What an image's config says that it runs on."""
        if manifest.config is None or manifest.config.size > MAX_MANIFEST:
            return ""
        async with self._registry.read_blob(repository, manifest.config.digest) as chunks:
            raw = b"".join([chunk async for chunk in _verified(manifest.config, chunks, lambda _: None)])
        try:
            return platform_of(json.loads(raw))
        except (ValueError, RecursionError):
            return ""


def _fits(offered: str, wanted: str) -> bool:
    return offered == wanted or offered.startswith(f"{wanted}/")


def _path(digest: str) -> str:
    if not is_digest(digest):
        raise CorruptError("exporting a blob", f"{ascii(digest)[:40]} is no digest")
    algorithm, _, name = digest.partition(":")
    return f"blobs/{algorithm}/{name}"


def _index(root: Manifest, name: Reference) -> bytes:
    """index.json, with the name as containerd and as skopeo look for it."""
    entry: dict[str, object] = {"mediaType": root.media_type, "digest": root.digest, "size": len(root.raw)}
    if name.tag:
        full = f"{name.domain}/{name.repository}:{name.tag}"
        entry["annotations"] = {"io.containerd.image.name": full, "org.opencontainers.image.ref.name": name.tag}
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()


def _docker(manifest: Manifest, name: Reference) -> bytes:
    """manifest.json, as `docker load` reads it since 1.10."""
    assert manifest.config is not None  # noqa: S101 - only an image is loaded
    tags = [f"{name.familiar_repository}:{name.tag}"] if name.tag else None
    layers = [_path(layer.digest) for layer in manifest.layers]
    return json.dumps([{"Config": _path(manifest.config.digest), "RepoTags": tags, "Layers": layers}]).encode()


def _notes(chosen: _Chosen) -> Iterator[str]:
    layers = [layer for manifest in chosen.manifests for layer in manifest.layers]
    if any("zstd" in layer.media_type for layer in layers):
        yield "it has zstd layers, which engines before 23 can't read"
    if left := sum(layer.non_distributable for layer in layers):
        yield f"{left} layers are left at their urls, so they are not in the archive"
    if chosen.loaded is None:
        yield "it is no image that `docker load` takes, but an OCI layout only"
    elif chosen.root.is_index:
        platform = next((child.platform for child in chosen.root.children if child.digest == chosen.loaded.digest), "")
        yield f"it has several platforms; engines with the classic store load {platform or 'one of them'} of it"


async def _verified(blob: Descriptor, chunks: AsyncIterator[bytes], advance: Advance) -> AsyncIterator[bytes]:
    """The chunks; CorruptError at their end when they are not what the digest says."""
    algorithm, _, expected = blob.digest.partition(":")
    _path(blob.digest)
    hasher = hashlib.new(algorithm)
    async for chunk in chunks:
        hashing = asyncio.ensure_future(asyncio.to_thread(hasher.update, chunk))
        try:
            yield chunk
        finally:
            await hashing
        advance(len(chunk))
    if hasher.hexdigest() != expected:
        raise CorruptError(
            f"reading the blob {blob.digest[:19]}", "the registry sent other bytes than its digest says", hint="its storage is damaged"
        )
