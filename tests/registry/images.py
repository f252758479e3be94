"""Images of a few bytes, put into a real registry through the client that is tested."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from controller.domain.oci import DOCKER_MANIFEST, OCI_INDEX, Descriptor, Manifest, digest_of, parse_manifest
from controller.registry.client import RegistryClient

_CONFIGS = {DOCKER_MANIFEST: "application/vnd.docker.container.image.v1+json"}
_LAYERS = {DOCKER_MANIFEST: "application/vnd.docker.image.rootfs.diff.tar.gzip"}


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """A stream of some parts."""
    for part in parts:
        yield part


def blob(data: bytes) -> Descriptor:
    """What a manifest says of these bytes."""
    return Descriptor("application/octet-stream", digest_of(data), len(data))


def image(word: str, media_type: str) -> tuple[Manifest, tuple[bytes, bytes]]:
    """A manifest of one layer and its two blobs. Indented on purpose: who encodes it anew changes its digest."""
    config, layer = json.dumps({"word": word}).encode(), f"layer of {word}".encode()
    said = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": _entry(config, _CONFIGS.get(media_type, "application/vnd.oci.image.config.v1+json")),
        "layers": [_entry(layer, _LAYERS.get(media_type, "application/vnd.oci.image.layer.v1.tar+gzip"))],
    }
    return parse_manifest(json.dumps(said, indent=3).encode()), (config, layer)


def index(children: list[Manifest], media_type: str = OCI_INDEX) -> Manifest:
    """An index of some manifests, one for each of as many platforms."""
    entries = [{**_entry(each.raw, each.media_type), "platform": {"os": "linux", "architecture": f"cpu{i}"}} for i, each in enumerate(children)]
    return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}, indent=3).encode())


async def pushed(client: RegistryClient, repository: str, identifier: str, word: str, media_type: str = DOCKER_MANIFEST) -> Manifest:
    """Put an image there, blobs and all; an empty identifier means by its digest."""
    manifest, blobs = image(word, media_type)
    for data in blobs:
        await client.write_blob(repository, blob(data), chunks(data))
    await client.put_manifest(repository, identifier or manifest.digest, manifest)
    return manifest


async def whole(client: RegistryClient, repository: str, identifier: str) -> str:
    """Read an image with all that it needs, hash it all, and give its digest."""
    manifest = await client.manifest(repository, identifier)
    for child in manifest.children:
        assert await whole(client, repository, child.digest) == child.digest
    for each in manifest.blobs:
        assert digest_of(await read(client, repository, each.digest)) == each.digest
    return manifest.digest


async def read(client: RegistryClient, repository: str, digest: str) -> bytes:
    """All bytes of a blob."""
    async with client.read_blob(repository, digest) as parts:
        return b"".join([part async for part in parts])


def _entry(data: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "size": len(data), "digest": digest_of(data)}
