"""A whole scene on real parts: a registry, an upstream, an engine, a desired-state file; and what a test asks of them."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

from controller.domain.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, digest_of, once, parse_manifest
from controller.domain.ports.stores import Store
from controller.domain.spec import API_VERSION
from controller.engine.apply import Outcome
from controller.engine.reconcile import Look, Pass, Reconciler
from controller.registry.client import RegistryClient
from controller.wiring.setup import read
from controller.wiring.state import locked
from controller.wiring.world import open_world
from tests.support.archives import layer, oci_image
from tests.support.memory import config_of, image_manifest
from tests.support.servers import EngineServer, RegistryServer, build_image


class Quiet:
    """Progress that nobody sees."""

    def started(self, action: object) -> None: ...

    def advanced(self, action: object, count: int) -> None: ...

    def finished(self, outcome: Outcome) -> None: ...


@dataclass
class Scene:
    """`spec` is merged into the Wharf's spec, `host` into its one host."""

    folder: Path
    registry: RegistryServer
    internet: RegistryServer
    engine: EngineServer
    images: list[dict[str, Any]] = field(default_factory=list)
    spec: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The desired-state file, written anew from what the scene says now."""
        host = {"name": "local", "engine": self.engine.url, "gracePeriod": "0s", **self.host}
        upstreams = [{"domain": "docker.io", "url": self.internet.url}]
        spec = {"registry": {"url": self.registry.url}, "upstreams": upstreams, "hosts": [host], **self.spec}
        wharf = {"apiVersion": API_VERSION, "kind": "Wharf", "metadata": {"name": "default"}, "spec": spec}
        images = {"apiVersion": API_VERSION, "kind": "ImageSet", "metadata": {"name": "ranges"}, "spec": {"images": self.images}}
        path = self.folder / "desired-state.yaml"
        path.write_text(yaml.safe_dump_all([wharf, images], sort_keys=False))
        return path

    @property
    def state(self) -> Path:
        """The state file."""
        return self.folder / "state.sqlite"

    @asynccontextmanager
    async def opened(self, *, fresh: bool = False) -> AsyncIterator[tuple[Reconciler, Store]]:
        """The controller's parts, with the lock; with `fresh` upstreams are asked whatever they answered before."""
        setup = read([self.file])
        with locked(setup, str(self.state)) as store:
            async with open_world(setup, store, actor="test", fresh=fresh) as reconciler:
                yield reconciler, store

    async def look(self) -> Look:
        """One look."""
        async with self.opened() as (reconciler, _):
            return await reconciler.look(read([self.file]).desired)

    async def apply(self, *, allow_deletes: int = 0, fresh: bool = False) -> Pass:
        """One whole pass."""
        async with self.opened(fresh=fresh) as (reconciler, _):
            return await reconciler.reconcile(read([self.file]).desired, Quiet(), allow_deletes=allow_deletes)

    # The host.

    def build(self, tag: str, size: int = 4096) -> str:
        """Build an image of its own on the host; its Id."""
        return build_image(self.engine, tag, {"data": os.urandom(size)})

    async def pulled(self, name: str) -> str:
        """Publish an image on the upstream and pull it to the host as `<upstream's address>/<name>`; the digest that upstream knows it by."""
        full = f"{self.internet.address}/{name}"
        self.build(full)
        self.engine.docker("push", "-q", full)
        self.engine.docker("rmi", full)
        self.engine.docker("pull", "-q", full)
        repository, _, tag = name.rpartition(":")
        return (await tags_of(self.internet, repository))[tag]

    def tags_on_host(self) -> set[str]:
        """Every tag of the engine."""
        with self.engine.client() as client:
            return {tag for image in client.api.images() for tag in image["RepoTags"] or () if tag != "<none>:<none>"}

    def id_on_host(self, name: str) -> str:
        """The Id that a name means on the engine."""
        with self.engine.client() as client:
            return str(client.images.get(name).id)

    def pulled_back(self, target: str) -> str:
        """Pull from the registry, and give the Id: the last proof that an image was not lost. Its name is taken off again."""
        name = f"{self.registry.address}/{target}"
        self.engine.docker("pull", "-q", name)
        image_id = self.id_on_host(name)
        self.engine.docker("rmi", name)
        return image_id


class Reachable(Protocol):
    """A registry, or what stands before one."""

    @property
    def url(self) -> str:
        """Where it is."""
        ...


@asynccontextmanager
async def client(server: Reachable) -> AsyncIterator[RegistryClient]:
    """A client of a registry, for looking behind the scenes."""
    found = RegistryClient(server.url)
    try:
        yield found
    finally:
        await found.close()


async def tags_of(server: RegistryServer, repository: str) -> dict[str, str]:
    """Each tag of a repository, and what it means."""
    async with client(server) as registry:
        return {tag: (await registry.resolve(repository, tag)).digest for tag in await registry.tags(repository)}


async def publish(server: Reachable, repository: str, tag: str, *, platforms: Iterable[str] = (), size: int = 8192) -> Manifest:
    """A synthetic image of random content, one layer of this size; with platforms an index of one child each. What was written."""
    async with client(server) as registry:
        if not platforms:
            return await _publish_one(registry, repository, tag, size)
        children = [(await _publish_one(registry, repository, "", size), platform) for platform in platforms]
        listed = [_described(child, platform) for child, platform in children]
        index = parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}, indent=3).encode())
        await registry.put_manifest(repository, tag, index)
        return index


async def release(server: RegistryServer, repository: str, tag: str) -> Manifest:
    """An image of random content that an engine can pull; what was written."""
    manifest, members = oci_image([layer(os.urandom(8).hex())])
    async with client(server) as registry:
        for blob in manifest.blobs:
            await registry.write_blob(repository, blob, once(members[f"blobs/sha256/{blob.digest[7:]}"]))
        await registry.put_manifest(repository, tag, manifest)
    return manifest


def _described(child: Manifest, platform: str) -> Mapping[str, Any]:
    system, _, architecture = platform.partition("/")
    return {
        "mediaType": child.media_type,
        "digest": child.digest,
        "size": len(child.raw),
        "platform": {"os": system, "architecture": architecture},
    }


async def _publish_one(registry: RegistryClient, repository: str, tag: str, size: int) -> Manifest:
    layer = os.urandom(size)
    config = config_of([layer])
    for data in (layer, config):
        await registry.write_blob(repository, Descriptor("", digest_of(data), len(data)), once(data))
    manifest = image_manifest(config, [layer], OCI_MANIFEST)
    await registry.put_manifest(repository, tag or manifest.digest, manifest)
    return manifest
