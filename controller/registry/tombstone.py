"""Deleting a tag alone on registries that delete only digests (Distribution 2.8).

Deleting a digest removes every tag on it and breaks every index that holds it. So the tag is first overwritten with a manifest that nothing
else can mean, and that one's digest is deleted: the tag goes, the image that it meant stays as it was.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from typing import Protocol

from controller.domain.errors import NotFoundError, RefusedError, RemoteError
from controller.domain.oci import DOCKER_MANIFEST, Descriptor, Manifest, digest_of, parse_manifest

_CONFIG = "application/vnd.docker.container.image.v1+json"


class _Registry(Protocol):
    async def put_manifest(self, repository: str, identifier: str, manifest: Manifest) -> None: ...

    async def delete_manifest(self, repository: str, digest: str) -> None: ...

    async def write_blob(self, repository: str, blob: Descriptor, chunks: AsyncIterator[bytes]) -> None: ...


async def delete_tag(registry: _Registry, repository: str, tag: str, current: Manifest) -> None:
    """Remove a tag that means `current`. Whatever fails after the overwriting, the tag is given back what it meant."""
    await _check_deletes(registry, repository)
    stone = await _carve(registry, repository)
    await registry.put_manifest(repository, tag, stone)
    try:
        await registry.delete_manifest(repository, stone.digest)
    except BaseException:
        with contextlib.suppress(RemoteError):
            await registry.put_manifest(repository, tag, current)
        raise


async def _check_deletes(registry: _Registry, repository: str) -> None:
    """Find out that deletes are off before anything is overwritten: ask for a digest that no manifest can have."""
    nobody = digest_of(secrets.token_bytes(32))
    try:
        await registry.delete_manifest(repository, nobody)
    except NotFoundError:
        return
    except RefusedError as error:
        hint = "deletes are off: set storage.delete.enabled in the registry's configuration"
        raise RefusedError(error.tried, error.answer, hint=hint if error.answer.startswith("405") else error.hint) from None


async def _carve(registry: _Registry, repository: str) -> Manifest:
    """A manifest of an image without layers, unique by its config."""
    config = json.dumps({"wharfinger.dev/tombstone": secrets.token_hex(16)}).encode()
    blob = Descriptor(_CONFIG, digest_of(config), len(config))
    await registry.write_blob(repository, blob, _once(config))
    said = {"mediaType": blob.media_type, "size": blob.size, "digest": blob.digest}
    return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": said, "layers": []}).encode())


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
