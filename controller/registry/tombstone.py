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
from controller.domain.oci import DOCKER_MANIFEST, Descriptor, Manifest, digest_of, once, parse_manifest

_CONFIG = "application/vnd.docker.container.image.v1+json"


class _Registry(Protocol):
    async def resolve(self, repository: str, identifier: str) -> Descriptor: ...

    async def put_manifest(self, repository: str, identifier: str, manifest: Manifest) -> None: ...

    async def delete_manifest(self, repository: str, digest: str) -> None: ...

    async def write_blob(self, repository: str, blob: Descriptor, chunks: AsyncIterator[bytes]) -> None: ...


async def delete_tag(registry: _Registry, repository: str, tag: str, current: Manifest) -> None:
    """Remove a tag that means `current`. Whatever fails after the overwriting, the tag is given back what it meant."""
    await _check_deletes(registry, repository)
    stone = await _carve(registry, repository)
    try:
        await registry.put_manifest(repository, tag, stone)
        with contextlib.suppress(NotFoundError):  # Gone already: an answer was lost and the request sent again.
            await registry.delete_manifest(repository, stone.digest)
    except BaseException as failure:
        await _give_back(registry, repository, tag, current, stone, failure)
        raise


async def _give_back(registry: _Registry, repository: str, tag: str, current: Manifest, stone: Manifest, failure: BaseException) -> None:
    """Let the tag mean `current` again if it means the tombstone; what it was left as otherwise is somebody else's, or gone as it should be.

    The overwriting itself may have failed, or only its answer been lost.
    """
    try:
        if (await registry.resolve(repository, tag)).digest == stone.digest:
            await registry.put_manifest(repository, tag, current)
    except NotFoundError:
        return
    except RemoteError as again:
        answer = f"{failure.answer if isinstance(failure, RemoteError) else type(failure).__name__}; then, giving it back: {again.answer}"
        hint = f"{repository}:{tag} may mean an empty image now; what it meant is {repository}@{current.digest}"
        raise RefusedError(f"deleting {repository}:{tag}", answer, hint=hint, retryable=again.retryable) from None


async def _check_deletes(registry: _Registry, repository: str) -> None:
    """Find out that deletes are off before anything is overwritten: ask for a digest that no manifest can have."""
    nobody = digest_of(secrets.token_bytes(32))
    with contextlib.suppress(NotFoundError):
        await registry.delete_manifest(repository, nobody)


async def _carve(registry: _Registry, repository: str) -> Manifest:
    """A manifest of an image without layers, unique by its config."""
    config = json.dumps({"wharfinger.dev/tombstone": secrets.token_hex(16)}).encode()
    blob = Descriptor(_CONFIG, digest_of(config), len(config))
    await registry.write_blob(repository, blob, once(config))
    said = {"mediaType": blob.media_type, "size": blob.size, "digest": blob.digest}
    return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": said, "layers": []}).encode())
