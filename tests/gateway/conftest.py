"""A gateway before a real registry, with a fault proxy before a second real one as its upstream, docker.io."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from controller.domain.desired import Desired
from controller.domain.ports.stores import Store
from controller.domain.spec import WharfSpec, Who
from controller.gateway.access import Access
from controller.gateway.keeper import Kept
from controller.gateway.serving import Parts, serving
from controller.registry.client import RegistryClient
from controller.registry.forward import ForwardingClient
from controller.wiring.registries import open_registries
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.memory_store import MemoryStore
from tests.support.servers import RegistryServer


@dataclass
class Quay:
    """All of it. `now` is the gateway's clock; `kept` what it told of images that it brought to the registry, with what became of them.

    `behind` is where it reaches the registry, if that is not the registry's own address; `mirrors` are asked before the upstream.
    """

    registry: RegistryServer
    internet: RegistryServer
    upstream: FaultProxy
    desired: Desired
    store: Store = field(default_factory=MemoryStore)
    kept: list[Kept] = field(default_factory=list)
    now: float = field(default_factory=time.time)
    access: Access = field(default_factory=lambda: Access(Who.ANYONE, Who.ANYONE, {}, b"secret"))
    port: int = 0
    behind: str = ""
    mirrors: tuple[str, ...] = ()

    @classmethod
    def before(cls, registry: RegistryServer, internet: RegistryServer, upstream: FaultProxy) -> Quay:
        """One that knows one upstream, and lists nothing."""
        return cls(registry, internet, upstream, Desired("default", frozenset({registry.address}), upstreams=frozenset({"docker.io"})))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """As clients reach it."""
        return f"http://{self.address}"

    def asks(self, **more: object) -> None:
        """The files ask for something else."""
        self.desired = replace(self.desired, **more)  # type: ignore[arg-type] # passed on as it came

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve."""
        upstream = {"domain": "docker.io", "url": self.upstream.url, "mirrors": self.mirrors}
        spec = WharfSpec.model_validate({"registry": {"url": self.behind or self.registry.url}, "upstreams": [upstream]})
        async with open_registries(spec, Path(), ForwardingClient, self.store) as (registry, upstreams):
            parts = Parts(registry, upstreams, self.store, lambda: self.desired, self.access, "", self.kept.append, lambda: self.now)
            async with serving(parts, "127.0.0.1:0") as self.port:
                yield

    @asynccontextmanager
    async def client(self) -> AsyncIterator[RegistryClient]:
        """A client of the gateway."""
        found = RegistryClient(f"http://{self.address}")
        try:
            yield found
        finally:
            await found.close()


@pytest.fixture
async def quay(registry: RegistryServer, internet: RegistryServer) -> AsyncIterator[Quay]:
    """Served already."""
    async with fault_proxy(internet.url) as upstream:
        found = Quay.before(registry, internet, upstream)
        async with found.open():
            yield found
