"""A registry and an engine in memory, for property tests that need thousands of worlds.

They fulfil the ports of controller.domain.ports and run through the same contract suites as the real parts (tests/registry/test_contract.py and
tests/hosts/test_contract.py). `fault` is called with the name of every operation before it is done, and may raise.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from controller.domain.errors import CorruptError, MovedError, NotFoundError, RefusedError, UnreachableError
from controller.domain.observation import HostImage, HostState, StoreKind
from controller.domain.oci import DOCKER_MANIFEST, MAX_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, digest_of, once, parse_manifest
from controller.domain.ports.hosts import BuildRequest, ImageDetail, Removal
from controller.domain.ports.registries import Advance
from controller.domain.ranges import Container
from controller.domain.reference import HELD_PREFIX, Reference, is_digest, parse
from controller.domain.space import Layer, Layers
from tests.support.archives import members_of, tar_of

Fault = Callable[[str], None]


def no_fault(_: str) -> None:
    """Everything works."""


@dataclass
class _Repository:
    manifests: dict[str, Manifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)


class MemoryRegistry:
    """An OCI registry with deletes on."""

    def __init__(self, address: str = "127.0.0.1:5000", fault: Fault = no_fault) -> None:
        self._address = address
        self.fault = fault
        self.has_referrers = False
        self.repositories: dict[str, _Repository] = {}

    @property
    def address(self) -> str:
        return self._address

    async def close(self) -> None:
        return None

    def writing(self, _: str = "") -> AbstractContextManager[None]:
        return nullcontext()

    async def ping(self) -> None:
        self.fault("ping")

    async def resolve(self, repository: str, identifier: str) -> Descriptor:
        self.fault("resolve")
        found = self._manifest(repository, identifier)
        return Descriptor(found.media_type, found.digest, len(found.raw))

    async def manifest(self, repository: str, identifier: str, known: Manifest | None = None) -> Manifest:
        self.fault("manifest")
        found = self._manifest(repository, identifier)
        if known is not None and known.digest == found.digest:
            return known
        if digest_of(found.raw) != found.digest:
            raise CorruptError(f"GET {repository}/{identifier}", "other bytes than its digest says")
        return found

    def _manifest(self, repository: str, identifier: str) -> Manifest:
        home = self.repositories.get(repository, _Repository())
        digest = identifier if is_digest(identifier) else home.tags.get(identifier, "")
        if digest not in home.manifests:
            raise NotFoundError(f"GET {repository}/{identifier}", "404 MANIFEST_UNKNOWN")
        return home.manifests[digest]

    async def put_manifest(self, repository: str, identifier: str, manifest: Manifest) -> None:
        self.fault("put_manifest")
        home = self.repositories.setdefault(repository, _Repository())
        if len(manifest.raw) > MAX_MANIFEST:
            raise RefusedError(f"PUT {repository}/{identifier}", "400 MANIFEST_INVALID: too large")
        missing = [b.digest for b in manifest.blobs if b.digest not in home.blobs]
        missing += [c.digest for c in manifest.children if c.digest not in home.manifests]
        if missing:
            raise RefusedError(f"PUT {repository}/{identifier}", f"400 MANIFEST_BLOB_UNKNOWN: {missing[0]}")
        home.manifests[manifest.digest] = manifest
        if not is_digest(identifier):
            home.tags[identifier] = manifest.digest

    async def has_blob(self, repository: str, digest: str) -> bool:
        self.fault("has_blob")
        return digest in self.repositories.get(repository, _Repository()).blobs

    async def blob_size(self, repository: str, digest: str) -> int:
        self.fault("blob_size")
        if digest not in self.repositories.get(repository, _Repository()).blobs:
            raise NotFoundError(f"HEAD {digest}", "404 BLOB_UNKNOWN")
        return len(self.repositories[repository].blobs[digest])

    @asynccontextmanager
    async def read_blob(self, repository: str, digest: str, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        self.fault("read_blob")
        data = self.repositories.get(repository, _Repository()).blobs.get(digest)
        if data is None:
            raise NotFoundError(f"GET {repository}/blobs/{digest}", "404 BLOB_UNKNOWN")

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(start, len(data), 1 << 16):
                self.fault("read_blob chunk")
                yield data[at : at + (1 << 16)]

        yield chunks()

    async def write_blob(self, repository: str, blob: Descriptor, chunks: AsyncIterator[bytes], upload: str = "") -> None:
        del upload  # Opened or not, it takes the same.
        self.fault("write_blob")
        data = b"".join([chunk async for chunk in chunks])
        if digest_of(data) != blob.digest or len(data) != blob.size:
            raise CorruptError(f"PUT {repository}/blobs/{blob.digest}", "400 DIGEST_INVALID")
        self.repositories.setdefault(repository, _Repository()).blobs[blob.digest] = data

    async def stream_blob(self, repository: str, chunks: AsyncIterator[bytes]) -> Descriptor:
        self.fault("stream_blob")
        data = b"".join([chunk async for chunk in chunks])
        self.repositories.setdefault(repository, _Repository()).blobs[digest_of(data)] = data
        return Descriptor("", digest_of(data), len(data))

    async def mount(self, repository: str, digest: str, source: str) -> bool:
        self.fault("mount")
        data = self.repositories.get(source, _Repository()).blobs.get(digest)
        if data is not None:
            self.repositories.setdefault(repository, _Repository()).blobs[digest] = data
        return data is not None

    async def offer(self, repository: str, digest: str, source: str) -> str:
        return "" if await self.mount(repository, digest, source) else "upload"

    async def referrers(self, repository: str, digest: str) -> Manifest | None:
        """What the API would give where `has_referrers` is on."""
        self.fault("referrers")
        if not self.has_referrers:
            return None
        home = self.repositories.get(repository, _Repository())
        about = [each for each in home.manifests.values() if each.subject and each.subject.digest == digest]
        listed = [{"mediaType": m.media_type, "digest": m.digest, "size": len(m.raw), "artifactType": m.artifact_type} for m in about]
        return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode())

    async def tags(self, repository: str) -> list[str]:
        self.fault("tags")
        return sorted(self.repositories.get(repository, _Repository()).tags)

    async def catalog(self) -> list[str]:
        self.fault("catalog")
        return sorted(self.repositories)

    async def delete_tag(self, repository: str, tag: str) -> None:
        self.fault("delete_tag")
        self._manifest(repository, tag)
        del self.repositories[repository].tags[tag]

    # What a test puts there itself.

    def add(self, repository: str, tag: str, content: bytes) -> Manifest:
        """A single-platform image whose one layer is `content`."""
        config = config_of([content])
        blobs = {digest_of(data): data for data in (config, content)}
        self.repositories.setdefault(repository, _Repository()).blobs.update(blobs)
        manifest = image_manifest(config, [content], OCI_MANIFEST)
        home = self.repositories[repository]
        home.manifests[manifest.digest] = manifest
        home.tags[tag] = manifest.digest
        return manifest

    def add_index(self, repository: str, tag: str, contents: Iterable[bytes]) -> Manifest:
        """An index with one child a content."""
        children = [self.add(repository, "", content) for content in contents]
        home = self.repositories[repository]
        home.tags.pop("", None)
        listed = [{"mediaType": c.media_type, "digest": c.digest, "size": len(c.raw)} for c in children]
        index = parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode())
        home.manifests[index.digest] = index
        home.tags[tag] = index.digest
        return index

    def holds(self, layer: bytes, *, held: bool = True) -> bool:
        """Whether a tag of some repository means an image with this layer, plain or as an engine packs it, and everything of it is there.

        Without `held`, tags that only hold what was there before count for nothing.
        """
        wanted = {digest_of(layer), digest_of(packed(layer))}
        return any(
            not wanted.isdisjoint(b.digest for b in each.blobs) and all(digest_of(home.blobs.get(b.digest, b"")) == b.digest for b in each.blobs)
            for home in self.repositories.values()
            for tag, digest in home.tags.items()
            if held or not tag.startswith(HELD_PREFIX)
            for each in (home.manifests[digest], *(home.manifests[child.digest] for child in home.manifests[digest].children))
        )


def config_of(layers: Iterable[bytes], labels: Mapping[str, str] | None = None) -> bytes:
    """An image's config: its diff_ids, and its labels if it has any."""
    more = {"config": {"Labels": dict(labels)}} if labels else {}
    return json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest_of(each) for each in layers]}, **more}
    ).encode()


def image_manifest(config: bytes, layers: Iterable[bytes], media_type: str) -> Manifest:
    """The manifest of a config and of layers as they are stored."""
    stored = [{"mediaType": "application/octet-stream", "digest": digest_of(each), "size": len(each)} for each in layers]
    said = {"mediaType": "application/octet-stream", "digest": digest_of(config), "size": len(config)}
    return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": media_type, "config": said, "layers": stored}).encode())


def packed(layer: bytes) -> bytes:
    """A layer as a classic engine pushes it: recompressed, so with another digest than upstream's."""
    return b"packed:" + layer


@dataclass
class _Image:
    config: bytes
    layers: list[bytes]
    tags: set[str] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)
    containers: list[str] = field(default_factory=list)
    tagged_at: float | None = None


class MemoryHost:
    """A Docker Engine with the classic image store. Tags are canonical names. `labelled` are its running containers, with their labels."""

    def __init__(self, name: str = "local", registries: Iterable[MemoryRegistry] = (), fault: Fault = no_fault) -> None:
        self._name = name
        self._registries = {registry.address: registry for registry in registries}
        self.fault = fault
        self.images: dict[str, _Image] = {}
        self._hearing: list[Callable[[str], object]] = []
        self.labelled: list[tuple[dict[str, str], Container]] = []

    @property
    def name(self) -> str:
        return self._name

    async def close(self) -> None:
        return None

    async def look(self) -> HostState:
        self.fault("look")
        return HostState(f"engine of {self._name}", StoreKind.CLASSIC, tuple(self._seen(each) for each in sorted(self.images)))

    def _seen(self, image_id: str) -> HostImage:
        image = self.images[image_id]
        tags, digests = (tuple(sorted(map(parse, names))) for names in (image.tags, image.digests))
        return HostImage(image_id, tags, digests, sum(map(len, image.layers)), used_by=tuple(image.containers))

    async def inspect(self, image: str) -> ImageDetail:
        self.fault("inspect")
        image_id = self._id_of(image)
        found = self.images[image_id]
        labels = json.loads(found.config).get("config", {}).get("Labels", {})
        layers = tuple(digest_of(each) for each in found.layers)
        return ImageDetail(image_id, tuple(sorted(found.tags)), layers, found.tagged_at, tuple(sorted(labels.items())))

    async def layers(self) -> Layers:
        self.fault("layers")
        return {image_id: _chain(image.layers) for image_id, image in self.images.items()}

    def _id_of(self, image: str) -> str:
        if image in self.images:
            return image
        name = str(parse(image)) if not image.startswith("sha256:") else image
        for image_id, found in self.images.items():
            if name in found.tags or name in found.digests:
                return image_id
        raise NotFoundError(f"inspecting {image} on {self._name}", "404 No such image")

    async def tag(self, image_id: str, reference: str) -> None:
        self.fault("tag")
        self._name_it(self.images[self._id_of(image_id)], str(parse(reference)))

    async def remove(self, image: str) -> Removal:
        self.fault("remove")
        self.tell(f"image untag {image}")
        image_id = self._id_of(image)
        found = self.images[image_id]
        if image == image_id:
            return self._remove_id(image_id, found)
        name = str(parse(image))
        if found.tags | found.digests == {name} or (found.tags == {name} and self._digests_of(found, parse(name)) == found.digests):
            return self._remove_id(image_id, found)
        found.tags.discard(name)
        gone = {name}
        if not any(_repository(tag) == _repository(name) for tag in found.tags):
            gone |= self._digests_of(found, parse(name))
        found.digests -= gone
        return Removal(tuple(sorted(gone)), ())

    async def untag(self, reference: str, image_id: str) -> None:
        self.fault("untag")
        name = str(parse(reference))
        there = self._id_of(name)
        if there != image_id:
            raise MovedError(f"{name} means {there}")
        self.tell(f"image untag {name}")
        self.images[image_id].tags.discard(name)

    async def tidy(self) -> None: ...

    def _digests_of(self, found: _Image, name: Reference) -> set[str]:
        return {digest for digest in found.digests if _repository(digest) == (name.domain, name.repository)}

    def _remove_id(self, image_id: str, found: _Image) -> Removal:
        if len({_repository(name) for name in found.tags | found.digests}) > 1 or len(found.tags) > 1:
            raise RefusedError(f"removing {image_id}", "409 conflict: image is referenced in multiple repositories")
        if found.containers:
            raise RefusedError(f"removing {image_id}", f"409 conflict: container {found.containers[0]} is using its image")
        del self.images[image_id]
        chain = [digest_of(layer) for layer in found.layers[:1]]
        return Removal(tuple(sorted(found.tags | found.digests)), (image_id, *chain))

    async def push(self, reference: str, advance: Advance) -> None:
        self.fault("push")
        name = parse(reference)
        registry = self._registries.get(name.domain)
        if registry is None:
            raise UnreachableError(f"pushing {reference} from {self._name}", "connection refused")
        image = self.images[self._id_of(reference)]
        stored = [packed(layer) for layer in image.layers]
        for data in (*stored, image.config):
            await registry.write_blob(name.repository, Descriptor("", digest_of(data), len(data)), once(data))
            advance(len(data))
        self.fault("push manifest")
        manifest = image_manifest(image.config, stored, DOCKER_MANIFEST)
        await registry.put_manifest(name.repository, name.tag, manifest)
        image.digests.add(f"{name.domain}/{name.repository}@{manifest.digest}")

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[str]]:
        self.fault("changes")
        words: asyncio.Queue[str] = asyncio.Queue()

        async def heard() -> AsyncIterator[str]:
            while True:
                word = await words.get()
                self.fault("change")
                yield word

        loop = asyncio.get_running_loop()

        def hear(word: str) -> None:
            loop.call_soon_threadsafe(words.put_nowait, word)

        self._hearing.append(hear)
        try:
            yield heard()
        finally:
            self._hearing.remove(hear)

    def tell(self, word: str) -> None:
        """Say that something changed, to whoever listens."""
        for hear in self._hearing:
            hear(word)

    async def pull(self, reference: str, advance: Advance) -> None:
        self.fault("pull")
        name = parse(reference)
        registry = self._registries.get(name.domain)
        if registry is None:
            raise UnreachableError(f"pulling {reference} to {self._name}", "connection refused")
        try:
            manifest = await registry.manifest(name.repository, name.identifier)
        except NotFoundError as error:
            raise NotFoundError(f"pulling {reference} to {self._name}", error.answer) from None
        whole = await registry.manifest(name.repository, manifest.children[0].digest) if manifest.children else manifest
        stored = [await _read(registry, name.repository, blob) for blob in whole.blobs]
        if [digest_of(data) for data in stored] != [blob.digest for blob in whole.blobs]:
            raise RefusedError(f"pulling {reference} to {self._name}", "filesystem layer verification failed")
        for data in stored:
            advance(len(data))
        by_digest = {digest_of(data): data for data in (*stored, *(data.removeprefix(packed(b"")) for data in stored))}
        config = next(data for data in stored if whole.config is not None and digest_of(data) == whole.config.digest)
        self.fault("pull image")
        layers = [by_digest[diff_id] for diff_id in json.loads(config)["rootfs"]["diff_ids"]]
        image = self.images.setdefault(digest_of(config), _Image(config, layers))
        image.digests.add(f"{name.domain}/{name.repository}@{manifest.digest}")
        if name.tag:
            self._name_it(image, str(name))

    async def containers(self, label: str) -> list[Container]:
        self.fault("containers")
        key, equals, value = label.partition("=")
        return [each for labels, each in self.labelled if key in labels and (not equals or labels[key] == value)]

    @asynccontextmanager
    async def save(self, image_id: str, limit: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """As `docker save` of one Id does it: without a name."""
        self.fault("save")

        async def missing() -> AsyncIterator[bytes]:
            raise NotFoundError(f"saving {image_id}", "404 No such image")
            yield b""

        if image_id not in self.images:
            yield missing()
            return
        image = self.images[self._id_of(image_id)]
        layers = {f"{digest_of(layer)[7:]}/layer.tar": layer for layer in image.layers}
        config = f"{digest_of(image.config)[7:]}.json"
        listed = [{"Config": config, "RepoTags": None, "Layers": list(layers)}]
        saved = tar_of({config: image.config, **layers, "manifest.json": json.dumps(listed).encode()})
        if len(saved) > limit:
            raise CorruptError(f"saving {image_id}", f"more than {limit} bytes")
        yield once(saved)

    async def load(self, archive: AsyncIterator[bytes], advance: Advance) -> None:
        self.fault("load")
        data = b""
        async for chunk in archive:
            advance(len(chunk))
            data += chunk
        self.fault("load image")
        try:
            members = members_of(data)
        except tarfile.ReadError as error:
            raise RefusedError(f"loading into {self._name}", str(error)) from None
        (entry,) = json.loads(members["manifest.json"])
        config = members[entry["Config"]]
        layers = [members[name].removeprefix(packed(b"")) for name in entry["Layers"]]
        image = self.images.setdefault(digest_of(config), _Image(config, layers))
        for name in entry["RepoTags"] or ():
            self._name_it(image, str(parse(name)))

    async def build(self, request: BuildRequest, context: AsyncIterator[bytes], advance: Advance) -> str:
        """The tar is the image's one layer."""
        self.fault("build")
        layer = b""
        async for chunk in context:
            layer += chunk
            advance(len(chunk))
        self.fault("build image")
        return self._built(request.tag, [layer], dict(request.labels))

    # What a test puts there itself.

    def add(self, tag: str, layers: list[bytes], *, containers: Iterable[str] = ()) -> str:
        """An image that was built here; its Id."""
        image_id = self._built(tag, layers, {})
        self.images[image_id].containers += containers
        return image_id

    def _built(self, tag: str, layers: list[bytes], labels: Mapping[str, str]) -> str:
        config = config_of(layers, labels)
        image_id = digest_of(config)
        self._name_it(self.images.setdefault(image_id, _Image(config, layers)), str(parse(tag)))
        return image_id

    def _name_it(self, image: _Image, name: str) -> None:
        for other in self.images.values():
            other.tags.discard(name)
        image.tags.add(name)
        self.tell(f"image tag {name}")


def _chain(layers: Iterable[bytes]) -> tuple[Layer, ...]:
    found: list[Layer] = []
    for layer in layers:
        below = found[-1].id if found else ""
        found.append(Layer(digest_of(f"{below} {digest_of(layer)}".encode()), len(layer)))
    return tuple(found)


def _repository(name: str) -> tuple[str, str]:
    reference = parse(name)
    return reference.domain, reference.repository


async def _read(registry: MemoryRegistry, repository: str, blob: Descriptor) -> bytes:
    async with registry.read_blob(repository, blob.digest) as chunks:
        return b"".join([chunk async for chunk in chunks])


def layer_of(word: str, size: int = 0) -> bytes:
    """A layer that is the same for the same word, at least `size` bytes long."""
    seed = hashlib.sha256(word.encode()).digest()
    return seed * max(1, size // len(seed))
