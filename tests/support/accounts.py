"""Where each content is at last: whole under a tag of a registry, or on a host. Contents are known by people's label (tests/support/people.py)."""

from __future__ import annotations

import asyncio
import json

from controller.domain.oci import Manifest, digest_of
from controller.engine.bounded import bounded
from controller.registry.client import RegistryClient
from tests.support.people import WORD
from tests.support.scene import client
from tests.support.servers import EngineServer, RegistryServer, listed

_AT_ONCE = 16


def in_registry(server: RegistryServer) -> dict[str, set[str]]:
    """Each word whose every byte was read, and the tags that mean it. AssertionError for a tag that means less than a whole image."""
    return asyncio.run(_in_registry(server))


def on_host(engine: EngineServer) -> set[str]:
    """The words of all images, named or not."""
    return {(each["Labels"] or {}).get(WORD, "") for each in listed(engine)}


async def _in_registry(server: RegistryServer) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    async with client(server) as registry:

        async def read(place: tuple[str, str]) -> None:
            repository, tag = place
            root = await registry.manifest(repository, tag)
            for each in [root, *[await registry.manifest(repository, child.digest) for child in root.children]]:
                found.setdefault(await _word(registry, repository, tag, each), set()).add(tag)

        places = [(repository, tag) for repository in await registry.catalog() for tag in await registry.tags(repository)]
        await bounded(read, places, _AT_ONCE)
    return found


async def _word(registry: RegistryClient, repository: str, tag: str, manifest: Manifest) -> str:
    blobs: dict[str, bytes] = {}
    for blob in manifest.blobs:
        async with registry.read_blob(repository, blob.digest) as chunks:
            blobs[blob.digest] = b"".join([chunk async for chunk in chunks])
        assert digest_of(blobs[blob.digest]) == blob.digest, f"{repository}:{tag} is not whole"
    if manifest.config is None:
        return ""
    return str((json.loads(blobs[manifest.config.digest]).get("config", {}).get("Labels") or {}).get(WORD, ""))
