"""What an image's tag will mean when only some platforms are wanted: found out without moving anything."""

from __future__ import annotations

from collections.abc import Sequence

from controller.domain.oci import Descriptor, Manifest
from controller.domain.platforms import check_single, choose
from controller.domain.ports.registries import ReadableRegistry
from controller.engine.manifests import Manifests


async def wanted(manifests: Manifests, registry: ReadableRegistry, repository: str, digest: str, platforms: Sequence[str]) -> Descriptor:
    """Digest, media type and size of what the registry's tag will mean; of one child its manifest is not read.

    Reads the manifest, and for a single image its config. Raises RefusedError, which lists what there is, for a platform that is not there.
    """
    found = await _chosen(manifests, registry, repository, digest, platforms)
    return found if isinstance(found, Descriptor) else Descriptor(found.media_type, found.digest, len(found.raw))


async def chosen(manifests: Manifests, registry: ReadableRegistry, repository: str, digest: str, platforms: Sequence[str]) -> Manifest:
    """The same as a manifest: the child verbatim, the index itself, or a new one. Raises as wanted() does."""
    found = await _chosen(manifests, registry, repository, digest, platforms)
    return await manifests.get(registry, repository, found.digest) if isinstance(found, Descriptor) else found


async def _chosen(manifests: Manifests, registry: ReadableRegistry, repository: str, digest: str, platforms: Sequence[str]) -> Manifest | Descriptor:
    manifest = await manifests.get(registry, repository, digest)
    if not platforms:
        return manifest
    if manifest.is_index:
        return choose(manifest, platforms)
    if manifest.config is not None:
        check_single(await manifests.config(registry, repository, manifest.config), platforms, name=repository)
    return manifest
