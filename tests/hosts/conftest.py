"""The three engines that the contract holds for: classic, containerd store, and the one in memory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import pytest

from controller.domain.ports.hosts import Host
from controller.hosts.docker_engine import DockerHost
from tests.support.memory import MemoryHost, MemoryRegistry
from tests.support.servers import EngineServer, RegistryServer, build_image


class Subject(Protocol):
    """One engine, and what a test does behind the controller's back."""

    host: Host
    registry: str
    """The address of a registry that this engine reaches."""

    def build(self, tag: str) -> str:
        """Build a small image of its own; its Id."""
        ...

    def use(self, image: str) -> None:
        """A stopped container, named `user`, of that image."""
        ...


@dataclass
class RealSubject:
    """A real engine and a real registry."""

    host: Host
    registry: str
    engine: EngineServer

    def build(self, tag: str) -> str:
        return build_image(self.engine, tag, {"data": os.urandom(4096)})

    def use(self, image: str) -> None:
        with self.engine.client() as client:
            client.containers.create(image, "nothing", name="user")


@dataclass
class MemorySubject:
    """The twin in memory."""

    host: Host
    registry: str
    twin: MemoryHost

    def build(self, tag: str) -> str:
        return self.twin.add(tag, [os.urandom(64)])

    def use(self, image: str) -> None:
        self.twin.images[self.twin._id_of(image)].containers.append("user")
        self.twin.tell("container create user")


@pytest.fixture(params=["memory", "classic", "containerd"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """Each of the three in turn."""
    if request.param == "memory":
        twin = MemoryHost(registries=[MemoryRegistry()])
        yield MemorySubject(twin, "127.0.0.1:5000", twin)
        return
    engine: EngineServer = request.getfixturevalue("engine" if request.param == "classic" else "newer_engine")
    registry: RegistryServer = request.getfixturevalue("registry")
    host = DockerHost("local", engine.url)
    yield RealSubject(host, registry.address, engine)
    await host.close()
