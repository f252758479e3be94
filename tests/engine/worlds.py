"""Small worlds in memory for property tests: what exists, what a file asks for, one pass, and whether anything was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from controller.domain.desired import Desired
from controller.domain.oci import Manifest
from controller.domain.reference import parse
from controller.engine.reconcile import Look, Pass, Reconciler
from controller.engine.world import World
from tests.support.builders import ADDRESS
from tests.support.memory import Fault, MemoryHost, MemoryRegistry, layer_of, no_fault
from tests.support.memory_sources import MemoryContexts, NoArchives
from tests.support.memory_store import MemoryStore
from tests.support.scene import Quiet


@dataclass
class Worlds:
    """A registry, an upstream and two hosts in memory; `words` are the contents that a host or the registry was ever given."""

    fault: Fault = no_fault
    now: float = 1_000_000.0
    words: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.registry = MemoryRegistry(ADDRESS, self._maybe)
        self.upstream = MemoryRegistry("docker.io", self._maybe)
        self.hosts = {name: MemoryHost(name, [self.registry], self._maybe) for name in ("one", "two")}
        self.store, self.contexts = MemoryStore(), MemoryContexts()
        self._world = World(self.registry, lambda _: (self.upstream,), {**self.hosts}, NoArchives(), self.contexts, self.store, lambda: self.now)
        self.reconciler = Reconciler(self._world, actor="test")

    @property
    def world(self) -> World:
        """The parts."""
        return self._world

    def _maybe(self, operation: str) -> None:
        self.fault(operation)

    def restart(self) -> None:
        """The controller dies and starts again: only the store remembers."""
        self.reconciler = Reconciler(self._world, actor="test")

    def build(self, host: str, tag: str, word: str) -> None:
        """A host gets an image."""
        self.words.add(word)
        self.hosts[host].add(tag, [layer_of(word)])

    def publish(self, tag: str, word: str) -> None:
        """Upstream publishes; what is only there is nobody's to lose."""
        reference = parse(tag)
        self.upstream.add(reference.repository, reference.tag, layer_of(word))

    def fill(self, tag: str, word: str) -> Manifest:
        """Somebody else pushes to the registry. The old content of that tag is his to lose."""
        repository, _, name = tag.partition(":")
        manifest = self.registry.add(repository, name, layer_of(word))
        self.words.add(word)
        self.forget_lost()
        return manifest

    def untag(self, host: str, tag: str) -> None:
        """A person takes a name off; an image whose last name it was is his to lose."""
        for image_id, image in list(self.hosts[host].images.items()):
            image.tags.discard(str(parse(tag)))
            if not image.tags and not image.containers:
                del self.hosts[host].images[image_id]
        self.forget_lost()

    def rot(self, number: int) -> None:
        """One blob of the registry goes bad behind everybody's back."""
        blobs = [(home, digest) for home in self.registry.repositories.values() for digest in sorted(home.blobs)]
        if blobs:
            home, digest = blobs[number % len(blobs)]
            home.blobs[digest] = home.blobs[digest][:-1] + b"!"
        self.forget_lost()

    def forget_lost(self) -> None:
        """What others lost is not counted against the controller."""
        self.words = {word for word in self.words if self.kept(word)}

    def kept(self, word: str) -> bool:
        """Whether this content can still be had: on a host, or whole under a tag of the registry."""
        layer = layer_of(word)
        return self.registry.holds(layer) or any(layer in image.layers for host in self.hosts.values() for image in host.images.values())

    @property
    def lost(self) -> set[str]:
        """Contents that are nowhere any more."""
        return {word for word in self.words if not self.kept(word)}

    def look(self, desired: Desired) -> Look:
        """One look."""
        return asyncio.run(self.reconciler.look(desired, allow_deletes=1000))

    def reconcile(self, desired: Desired) -> Pass:
        """One pass."""
        return asyncio.run(self.reconciler.reconcile(desired, Quiet(), allow_deletes=1000))

    def stray_tags(self, own: Iterable[str]) -> set[str]:
        """Tags under the registry's address that nobody but a push of ours can have made."""
        return {tag for host in self.hosts.values() for image in host.images.values() for tag in image.tags if tag.startswith(ADDRESS)} - set(own)
