"""The registry and the upstreams of a setup, with their credentials."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from controller.domain.compile import registry_address
from controller.domain.desired import Desired
from controller.domain.gate import OPEN
from controller.domain.ports.collecting import Gate
from controller.domain.ports.registries import Advance, Registry
from controller.domain.ports.stores import Store
from controller.domain.reference import Reference, Target, canonical_domain, parse, split_domain
from controller.domain.spec import Access, Upstream, WharfSpec
from controller.engine.pace import Pace
from controller.engine.verify import Verifier
from controller.registry.client import RegistryClient
from controller.registry.credentials import Credentials, from_docker_config, from_files
from controller.store.gate import RegistryGate
from controller.store.location import state_file
from controller.wiring.setup import Setup, checked_url

ClientT = TypeVar("ClientT", bound=RegistryClient)


@asynccontextmanager
async def open_registries(
    spec: WharfSpec, base: Path, kind: type[ClientT], store: Store
) -> AsyncIterator[tuple[ClientT, Mapping[str, tuple[Registry, ...]]]]:
    """The registry, with its gate, and by domain the upstreams, mirrors first; closed at the end. `base` is where relative paths begin."""
    async with AsyncExitStack() as stack:

        def client(url: str, domain: str, access: Access) -> RegistryClient:
            upstream = client_of(url, domain, access, base, RegistryClient)
            stack.push_async_callback(upstream.close)
            return upstream

        gate = store.gate(registry_address(spec))
        registry = client_of(spec.registry.url, registry_address(spec), spec.registry, base, kind, gate)
        stack.push_async_callback(registry.close)
        yield registry, {canonical_domain(upstream.domain): _upstream_clients(upstream, client) for upstream in spec.upstreams}


def _upstream_clients(upstream: Upstream, client: Callable[[str, str, Access], Registry]) -> tuple[Registry, ...]:
    """Mirrors first, without the upstream's credentials: those belong to its own host (law 7)."""
    domain = upstream.domain
    url = upstream.url or f"https://{'registry-1.docker.io' if domain == 'docker.io' else domain}"
    mirrors = (client(mirror, mirror.partition("//")[2], Access.model_validate({})) for mirror in upstream.mirrors)
    return (*mirrors, client(url, domain, upstream))


def client_of(url: str, domain: str, access: Access, base: Path, kind: type[ClientT], gate: Gate = OPEN) -> ClientT:
    """A client with the credentials and the authority that a document names, or docker's for that domain."""
    ca_file = None if access.ca_file is None else base / access.ca_file
    return kind(url, credentials=credentials_of(access, domain, base), ca_file=ca_file, gate=gate)


def credentials_of(access: Access, domain: str, base: Path) -> Credentials:
    """The login of the files that a document names, else docker's for that domain."""
    if access.username_file is not None and access.password_file is not None:
        return from_files(base / access.username_file, base / access.password_file)
    return from_docker_config(domain)


Locate = Callable[[Reference], Target]


@asynccontextmanager
async def open_registry(setup: Setup | None, url: str | None, state: str | None = None) -> AsyncIterator[Registry]:
    """The registry of a URL, with docker's credentials for it; without one the setup's, with the setup's. Closed at the end.

    Its gate lies where the state file is, or would be.
    """

    def gate(address: str) -> Gate:
        return RegistryGate(state_file(state, os.environ, "default").resolve().parent, address)

    if url is None and setup is not None:
        spec, address = setup.wharf, registry_address(setup.wharf)
        registry = client_of(spec.registry.url, address, spec.registry, setup.base, RegistryClient, gate(address))
    else:
        checked = checked_url(url or "")
        address = checked.partition("//")[2]
        registry = RegistryClient(checked, credentials=from_docker_config(address), gate=gate(address))
    try:
        yield registry
    finally:
        await registry.close()


def place_of(setup: Setup | None, registry: Registry) -> Locate:
    """Where in the registry a name belongs: as the files say for what is adopted; without files, a name without a domain is local."""
    desired = setup.desired if setup else Desired("", frozenset({registry.address}))
    return lambda name: desired.locate(name, adopted=True)


def repository_of(setup: Setup | None, registry: Registry, name: str) -> str:
    """The repository that a name means, as a set would write it: local without a domain; the registry's own address stands for none."""
    reference, (domain, rest) = parse(name), split_domain(name.partition("@")[0])
    if domain:
        own = (setup.desired.addresses if setup else frozenset()) | {registry.address}
        return reference.repository if domain in own else reference.registry_repository
    return rest.partition(":")[0]


def verifier_of(registry: Registry, rate: float, advance: Advance) -> Verifier:
    """Reads a registry, at so many bytes a second; 0 for as many as come."""
    return Verifier(registry, Pace(rate), advance)
