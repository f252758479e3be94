"""Collections of a real registry's garbage, without a command line; and people who push as engines do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from controller.domain.oci import Manifest
from controller.domain.ports.collecting import CollectorProgram, RegistryStorage
from controller.engine.collect import Collected, GarbageCollection, Terms
from controller.registry.client import RegistryClient
from controller.registry.collector import CollectorCommand
from controller.registry.folder import FolderStorage
from controller.store.gate import RegistryGate
from tests.support.scene import client
from tests.support.servers import RegistryServer

CACHED = {"storage": {"cache": {"blobdescriptor": "inmemory"}}}
"""A registry that remembers what a collection took."""


@dataclass
class SlowCollector:
    """The registry's own collector, which goes on running when it has done all, until it is let go."""

    server: RegistryServer

    def __post_init__(self) -> None:
        self.done, self._go, self.script = (self.server.home / name for name in ("done", "go", "collector"))
        own = f'{self.server.binary} garbage-collect "$@" {self.server.config}'
        waits = f"touch {self.done}; while [ ! -e {self._go} ]; do sleep 0.02; done"
        self.script.write_text(f'#!/bin/sh\n{own} || exit\n[ "$1" = --dry-run ] && exit\n{waits}\n')
        self.script.chmod(0o755)

    async def collected(self) -> None:
        """Wait until it has done all."""
        async with asyncio.timeout(30):
            while not self.done.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.01)

    @property
    def program(self) -> CollectorCommand:
        return CollectorCommand([str(self.script)])

    def let_go(self) -> None:
        """It may end."""
        self._go.touch()


async def _briefly(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.05))


async def nothing_to_say() -> str:
    """Writes are held off."""
    return ""


@dataclass
class Collections:
    """Of one registry; `gates` is the folder of its gate."""

    server: RegistryServer
    gates: Path
    registry: RegistryClient
    terms: Terms = field(default_factory=lambda: Terms(30.0, None, restarts=False, held_off=nothing_to_say))

    @property
    def gate(self) -> RegistryGate:
        return RegistryGate(self.gates, self.server.address)

    def collection(
        self,
        program: CollectorProgram | None = None,
        storage: RegistryStorage | None = None,
        expired: Mapping[str, list[str]] | None = None,
        *,
        files: bool = True,
    ) -> GarbageCollection:
        """With the registry's own collector and, but for `files`, its own files, unless others are given."""
        own = CollectorCommand([self.server.binary, "garbage-collect", str(self.server.config)])
        folder = FolderStorage(self.server.home / "data") if files else None
        return GarbageCollection(self.registry, self.gate, program or own, storage or folder, expired or {})

    async def collect(self, program: CollectorProgram | None = None, **more: object) -> Collected:
        """Do it."""
        return await self.collection(program, **more).collect(self.terms)  # type: ignore[arg-type] # passed on as it came


@asynccontextmanager
async def collections(server: RegistryServer, gates: Path) -> AsyncIterator[Collections]:
    """Of this registry."""
    registry = RegistryClient(server.url, sleep=_briefly, gate=RegistryGate(gates, server.address))
    try:
        yield Collections(server, gates, registry)
    finally:
        await registry.close()


@dataclass
class Image:
    """An image with its blobs, as somebody has it who pushes it."""

    repository: str
    tag: str
    manifest: Manifest
    blobs: dict[str, bytes]


async def image_of(server: RegistryServer, repository: str, tag: str) -> Image:
    """All of an image that a registry has."""
    async with client(server) as registry:
        manifest = await registry.manifest(repository, tag)
        blobs = {}
        for blob in manifest.blobs:
            async with registry.read_blob(repository, blob.digest) as chunks:
                blobs[blob.digest] = b"".join([chunk async for chunk in chunks])
        return Image(repository, tag, manifest, blobs)


async def push_blobs(http: httpx.AsyncClient, image: Image) -> int:
    """As engines do it: what HEAD says to be there is not sent. The first status that is no success, else 201."""
    for digest, data in image.blobs.items():
        if (await http.head(f"/v2/{image.repository}/blobs/{digest}")).status_code == 200:
            continue
        opened = await http.post(f"/v2/{image.repository}/blobs/uploads/")
        if opened.status_code != 202:
            return opened.status_code
        done = await http.put(
            opened.headers["Location"], params={**dict(httpx.URL(opened.headers["Location"]).params), "digest": digest}, content=data
        )
        if done.status_code != 201:
            return done.status_code
    return 201


async def push_manifest(http: httpx.AsyncClient, image: Image) -> httpx.Response:
    """The end of a push."""
    path = f"/v2/{image.repository}/manifests/{image.tag}"
    return await http.put(path, content=image.manifest.raw, headers={"Content-Type": image.manifest.media_type})


async def push(http: httpx.AsyncClient, image: Image) -> int:
    """All of it; the first status that is no success, else 201."""
    status = await push_blobs(http, image)
    return status if status != 201 else (await push_manifest(http, image)).status_code
