"""Small made-up images, to fill a registry and to ask for: the same arguments give the same bytes, so two registries hold the same digests."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator

import aiohttp

from controller.domain.oci import MANIFEST_TYPES, OCI_MANIFEST, Descriptor, Manifest, digest_of, parse_manifest
from controller.registry.client import RegistryClient

_AT_ONCE = 64


async def fill(url: str, repositories: list[str], tags: list[str]) -> None:
    """An image of one layer, which all tags of a repository share, under each tag of each repository."""
    client = RegistryClient(url)
    try:
        async with asyncio.TaskGroup() as group:
            for number, repository in enumerate(repositories):
                group.create_task(_repository(client, repository, number, tags))
    finally:
        await client.close()


async def fill_layered(url: str, repositories: list[str], tags: list[str], base: int, own: int, layers: int = 1) -> None:
    """An image under each tag of each repository: a base that all share, and layers of its own, of random bytes, so many each."""
    client = RegistryClient(url)
    shared, first = _random("base", base), ""
    try:
        for repository in repositories:
            if not (first and await client.mount(repository, digest_of(shared), first)):
                await client.write_blob(repository, _blob(shared), _once(shared))
            first = first or repository
            for tag in tags:
                stored = [shared]
                for number in range(layers):
                    stored.append(_random(f"{repository}:{tag}:{number}", own))
                    await client.write_blob(repository, _blob(stored[-1]), _once(stored[-1]))
                config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Labels": {"of": f"{repository}:{tag}"}}}).encode()
                await client.write_blob(repository, _blob(config), _once(config))
                await client.put_manifest(repository, tag, _manifest(config, *stored))
    finally:
        await client.close()


def _random(seed: str, size: int) -> bytes:
    """As packed layers are, for all who handle them: incompressible."""
    return random.Random(seed).randbytes(size)


async def ask(urls: list[str]) -> int:
    """HEAD all of these, as quickly as a client of ours could ever be; how many they were."""
    waiting = iter(urls)
    async with aiohttp.ClientSession(headers={"Accept": ", ".join(MANIFEST_TYPES)}) as session, asyncio.TaskGroup() as group:

        async def work() -> None:
            for url in waiting:
                async with session.head(url) as response:
                    response.raise_for_status()

        for _ in range(_AT_ONCE):
            group.create_task(work())
    return len(urls)


async def _repository(client: RegistryClient, repository: str, number: int, tags: list[str]) -> None:
    layer = b"layer %d" % number
    await client.write_blob(repository, _blob(layer), _once(layer))
    for tag in tags:
        said = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"tag": tag}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
        config = json.dumps(said).encode()
        await client.write_blob(repository, _blob(config), _once(config))
        await client.put_manifest(repository, tag, _manifest(config, layer))


def _manifest(config: bytes, *layers: bytes) -> Manifest:
    def entry(kind: str, data: bytes) -> dict[str, object]:
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest_of(data), "size": len(data)}

    listed = [entry("layer.v1.tar", layer) for layer in layers]
    said = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry("config.v1+json", config), "layers": listed}
    return parse_manifest(json.dumps(said).encode())


def _blob(data: bytes) -> Descriptor:
    return Descriptor("", digest_of(data), len(data))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
