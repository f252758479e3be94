"""The only place where the parts meet: the rooms at the edge are put into the engine's ports."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from controller.documents.catalog import read_entry
from controller.documents.loader import load
from controller.domain.compile import compile_desired, registry_address
from controller.domain.desired import Desired
from controller.domain.errors import UsageError
from controller.domain.observation import HostState
from controller.domain.ports import Host, Registry, Store
from controller.domain.problems import DocumentsError
from controller.domain.reference import Target, parse, parse_local
from controller.domain.spec import Access, Upstream, WharfSpec
from controller.engine.build_once import OneBuild
from controller.engine.observe import World
from controller.engine.reconcile import Reconciler
from controller.hosts.docker_engine import DockerHost
from controller.registry.client import RegistryClient
from controller.registry.credentials import Credentials, from_docker_config, from_files
from controller.sources.contexts import FolderContexts
from controller.store.location import state_file
from controller.store.lock import ControllerLock
from controller.store.sqlite import SqliteStore


@dataclass(frozen=True)
class Setup:
    """What the files say: the desired state, and the Wharf document for what only the edge needs. `base` is the folder of its file."""

    desired: Desired
    wharf: WharfSpec
    base: Path
    files: tuple[Path, ...] = field(compare=False)


def read(paths: Sequence[Path]) -> Setup:
    """Read and check the files; DocumentsError with every problem."""
    documents = load(paths)
    desired = compile_desired(documents.wharfs, documents.sets)
    located = documents.wharfs[0]
    return Setup(desired, located.value.spec, Path(located.file).absolute().parent, documents.files)


@asynccontextmanager
async def open_world(setup: Setup, store: Store, *, actor: str, clock: Callable[[], float] = time.time) -> AsyncIterator[Reconciler]:
    """The registry, the upstreams and the hosts of a setup, behind their ports; closed at the end."""
    async with AsyncExitStack() as stack:

        def client(url: str, domain: str, access: Access) -> RegistryClient:
            registry = RegistryClient(url, credentials=_credentials(access, domain, setup.base), ca_file=_resolved(access.ca_file, setup.base))
            stack.push_async_callback(registry.close)
            return registry

        spec = setup.wharf
        address = registry_address(spec)
        registry = client(spec.registry.url, address, spec.registry)
        upstreams = {parse(f"{upstream.domain}/x").domain: _upstream_clients(upstream, client) for upstream in spec.upstreams}
        own = _credentials(spec.registry, address, setup.base)
        hosts: dict[str, Host] = {}
        for host in setup.desired.hosts:
            hosts[host.name] = engine = DockerHost(host.name, host.engine, credentials=own)
            stack.push_async_callback(engine.close)
        world = World(registry, lambda domain: upstreams.get(domain, ()), hosts, store, clock)
        yield Reconciler(world, actor=actor)


def _upstream_clients(upstream: Upstream, client: Callable[[str, str, Access], Registry]) -> tuple[Registry, ...]:
    """Mirrors first, without the upstream's credentials: those belong to its own host (law 7)."""
    domain = upstream.domain
    url = upstream.url or f"https://{'registry-1.docker.io' if domain == 'docker.io' else domain}"
    mirrors = (client(mirror, mirror.partition("//")[2], Access.model_validate({})) for mirror in upstream.mirrors)
    return (*mirrors, client(url, domain, upstream))


def _credentials(access: Access, domain: str, base: Path) -> Credentials:
    if access.username_file is not None and access.password_file is not None:
        return from_files(base / access.username_file, base / access.password_file)
    return from_docker_config(domain)


def _resolved(path: str | None, base: Path) -> Path | None:
    return None if path is None else base / path


@contextmanager
def stored(setup: Setup, state: str | None) -> Iterator[Store]:
    """The store of the setup's Wharf, for reading commands: nothing is written, and another controller may work on it meanwhile."""
    with closing(SqliteStore(state_file(state, os.environ, setup.desired.wharf), read_only=True)) as store:
        yield store


@contextmanager
def locked(setup: Setup, state: str | None) -> Iterator[Store]:
    """The store, with the lock that lets one controller work on a Wharf; LockedError when another one does."""
    path = state_file(state, os.environ, setup.desired.wharf)
    with ControllerLock(path), closing(SqliteStore(path)) as store:
        yield store


def confirm_engines(setup: Setup, store: Store, names: Iterable[str]) -> None:
    """Forget which engines these hosts were: the next look takes what is there. UsageError for a name that is no host."""
    known = {host.name for host in setup.desired.hosts}
    for name in names:
        if name not in known:
            raise UsageError(f"--confirm-engine {name}: no such host; the file has {', '.join(sorted(known)) or 'none'}")
        store.forget_engine(name)


@dataclass(frozen=True, slots=True)
class Contents:
    """What one engine holds, for a draft. `frees`, by Id, is what removing only that image would free, in bytes."""

    engine: str
    state: HostState
    frees: Mapping[str, int]


async def host_contents(engine: str) -> Contents:
    """Ask one engine; RemoteError when it does not answer."""
    if engine == "env" and not os.environ.get("DOCKER_TLS_VERIFY"):
        engine = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    host = DockerHost("local", engine)
    try:
        return Contents(engine, await host.look(), await host.frees())
    finally:
        await host.close()


@asynccontextmanager
async def open_build(setup: Setup, store: Store, host_name: str) -> AsyncIterator[OneBuild]:
    """The registry and one host of a setup, for one build; closed at the end."""
    spec, host = setup.wharf, next(host for host in setup.desired.hosts if host.name == host_name)
    own = _credentials(spec.registry, registry_address(spec), setup.base)
    registry = RegistryClient(spec.registry.url, credentials=own, ca_file=_resolved(spec.registry.ca_file, setup.base))
    engine = DockerHost(host.name, host.engine, credentials=own)
    try:
        yield OneBuild(registry, engine, store, FolderContexts(), setup.desired)
    finally:
        await registry.close()
        await engine.close()


def named_in(folder: Path) -> Target:
    """What a Dockerfile folder calls its image: by its image.yaml, else by its own name. DocumentsError when that is no name."""
    entry, problems = read_entry(folder.absolute())
    if entry is None:
        raise DocumentsError(problems)
    return parse_local(entry.name)


def local_target(name: str) -> Target:
    """The place in the registry of a name without a domain; UsageError for any other."""
    return parse_local(name)
