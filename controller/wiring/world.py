"""The whole world of a setup: registry, upstreams and hosts; and who is told of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from controller.domain.desired import DesiredHost
from controller.domain.observation import HostState
from controller.domain.ports.hosts import Host
from controller.domain.ports.stores import Store
from controller.domain.ranges import is_found
from controller.domain.spec import TlsSpec
from controller.engine.notices import Recipient
from controller.engine.reconcile import Reconciler
from controller.engine.world import World
from controller.hosts.docker_engine import DockerHost, Tls
from controller.notify.messenger import AppriseMessenger
from controller.registry.client import RegistryClient
from controller.sources.archives import ImageArchives
from controller.sources.contexts import FolderContexts
from controller.wiring.registries import credentials_of, open_registries
from controller.wiring.setup import LOCAL, Setup, engine_of


@asynccontextmanager
async def open_world(
    setup: Setup, store: Store, *, actor: str, remember: bool = False, fresh: bool = False, clock: Callable[[], float] = time.time
) -> AsyncIterator[Reconciler]:
    """The registry, the upstreams and the hosts of a setup, behind their ports; closed at the end."""
    async with AsyncExitStack() as stack:
        registry, upstreams = await stack.enter_async_context(open_registries(setup.wharf, setup.base, RegistryClient, store))
        own = credentials_of(setup.wharf.registry, registry.address, setup.base)
        hosts: dict[str, Host] = {}
        tls = {each.name: _tls(each.tls, setup.base) for each in setup.wharf.hosts if each.tls}
        for host in setup.desired.hosts:
            told = {} if host.range else {"credentials": own}
            hosts[host.name] = engine = DockerHost(host.name, host.engine, tls=tls.get(host.name), **told)
            stack.push_async_callback(engine.close)

        def open_range(host: DesiredHost) -> Host:
            # Without credentials: a range's people see what its engine is told (law 7).
            return DockerHost(host.name, host.engine, tls=tls.get(host.name.partition("/")[0]))

        world = World(registry, lambda domain: upstreams.get(domain, ()), hosts, ImageArchives(), FolderContexts(), store, clock, open_range)
        world.ranges.update(host.name for host in setup.desired.hosts if host.range)
        stack.push_async_callback(_close_found, hosts)
        yield Reconciler(world, actor=actor, remember=remember, fresh=fresh)


async def _close_found(hosts: Mapping[str, Host]) -> None:
    for name, host in hosts.items():
        if is_found(name):
            await host.close()


def _tls(files: TlsSpec, base: Path) -> Tls:
    return Tls(*(base / file if file else None for file in (files.ca_file, files.cert_file, files.key_file)))


@dataclass(frozen=True, slots=True)
class Contents:
    """What one engine holds, for a draft. `frees`, by Id, is what removing only that image would free, in bytes."""

    engine: str
    state: HostState
    frees: Mapping[str, int]


async def host_contents(engine: str) -> Contents:
    """Ask one engine; RemoteError when it does not answer."""
    engine = engine_of(engine)
    host = DockerHost(LOCAL, engine)
    try:
        return Contents(engine, await host.look(), await host.frees())
    finally:
        await host.close()


def recipients_of(setup: Setup) -> list[Recipient]:
    """Who is told when something goes wrong."""
    files = ((setup.base / each.url_file, frozenset(each.on)) for each in setup.wharf.notify)
    return [Recipient(str(file), kinds, AppriseMessenger(file)) for file, kinds in files]
