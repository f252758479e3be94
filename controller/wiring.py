"""The only place where the parts meet: the rooms at the edge are put into the engine's ports."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from controller.documents.catalog import read_catalog, read_entry
from controller.documents.loader import Documents, load
from controller.documents.registry_config import RegistryConfig, read_registry_config
from controller.domain.compile import Catalogs, compile_desired, registry_address
from controller.domain.desired import BuildSource, Desired, DesiredHost
from controller.domain.errors import UnreachableError, UsageError, WharfError
from controller.domain.gate import OPEN
from controller.domain.observation import HostState
from controller.domain.ports import COLLECTING, Advance, Archives, ArchiveWriter, CollectedRegistry, CollectorProgram, Gate, Host, Registry, Store
from controller.domain.problems import DocumentsError, Place
from controller.domain.ranges import is_found
from controller.domain.reference import Reference, Target, canonical_domain, parse, split_domain
from controller.domain.spec import API_VERSION, Access, TlsSpec, Upstream, Wharf, WharfSpec
from controller.domain.texts import RegistryUrl
from controller.engine.collect import GarbageCollection
from controller.engine.notices import Recipient
from controller.engine.pace import Pace
from controller.engine.reconcile import Reconciler
from controller.engine.verify import Verifier
from controller.engine.world import World
from controller.hosts.docker_engine import DockerHost, Tls
from controller.notify.messenger import AppriseMessenger
from controller.registry.client import RegistryClient
from controller.registry.collector import CollectorCommand
from controller.registry.credentials import Credentials, from_docker_config, from_files
from controller.registry.folder import FolderStorage
from controller.registry.forward import ForwardingClient
from controller.sources.archives import ImageArchives
from controller.sources.contexts import FolderContexts
from controller.sources.writing import open_writer
from controller.store.gate import RegistryGate
from controller.store.location import state_file
from controller.store.lock import ControllerLock
from controller.store.sqlite import SqliteStore

ClientT = TypeVar("ClientT", bound=RegistryClient)


@dataclass(frozen=True)
class Setup:
    """What the files say: the desired state, and the Wharf document for what only the edge needs.

    `base` is the folder of its file; `catalogs` are absolute.
    """

    desired: Desired
    wharf: WharfSpec
    base: Path
    catalogs: tuple[Path, ...]
    files: tuple[Path, ...] = field(compare=False)

    def same_world(self, other: Setup) -> bool:
        """Whether the same registry, upstreams and hosts serve both."""
        return (self.wharf, self.base) == (other.wharf, other.base)


def read(paths: Sequence[Path]) -> Setup:
    """Read and check the files; DocumentsError with every problem."""
    documents = load(paths)
    catalogs = _catalogs(documents)
    desired = compile_desired(documents.wharfs, documents.sets, catalogs)
    located = documents.wharfs[0]
    return Setup(desired, located.value.spec, Path(located.file).absolute().parent, tuple(map(Path, catalogs)), documents.files)


def _catalogs(documents: Documents) -> Catalogs:
    """What the catalogs hold that the sets name; DocumentsError with all that is wrong in them."""
    folders = {located.resolve(entry.catalog) for located in documents.sets for entry in located.value.spec.images if entry.catalog}
    read_all = {folder: read_catalog(Path(folder)) for folder in sorted(folders)}
    problems = [problem for _, found in read_all.values() for problem in found]
    if problems:
        raise DocumentsError(problems)
    return {folder: images for folder, (images, _) in read_all.items()}


@asynccontextmanager
async def open_world(
    setup: Setup, store: Store, *, actor: str, remember: bool = False, fresh: bool = False, clock: Callable[[], float] = time.time
) -> AsyncIterator[Reconciler]:
    """The registry, the upstreams and the hosts of a setup, behind their ports; closed at the end."""
    async with AsyncExitStack() as stack:
        registry, upstreams = await stack.enter_async_context(open_registries(setup.wharf, setup.base, RegistryClient, store))
        own = _credentials(setup.wharf.registry, registry.address, setup.base)
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


@asynccontextmanager
async def open_registries(
    spec: WharfSpec, base: Path, kind: type[ClientT], store: Store
) -> AsyncIterator[tuple[ClientT, Mapping[str, tuple[Registry, ...]]]]:
    """The registry, with its gate, and by domain the upstreams, mirrors first; closed at the end. `base` is where relative paths begin."""
    async with AsyncExitStack() as stack:

        def client(url: str, domain: str, access: Access) -> RegistryClient:
            upstream = _client(url, domain, access, base, RegistryClient)
            stack.push_async_callback(upstream.close)
            return upstream

        gate = store.gate(registry_address(spec))
        registry = _client(spec.registry.url, registry_address(spec), spec.registry, base, kind, gate)
        stack.push_async_callback(registry.close)
        yield registry, {canonical_domain(upstream.domain): _upstream_clients(upstream, client) for upstream in spec.upstreams}


def _upstream_clients(upstream: Upstream, client: Callable[[str, str, Access], Registry]) -> tuple[Registry, ...]:
    """Mirrors first, without the upstream's credentials: those belong to its own host (law 7)."""
    domain = upstream.domain
    url = upstream.url or f"https://{'registry-1.docker.io' if domain == 'docker.io' else domain}"
    mirrors = (client(mirror, mirror.partition("//")[2], Access.model_validate({})) for mirror in upstream.mirrors)
    return (*mirrors, client(url, domain, upstream))


def _client(url: str, domain: str, access: Access, base: Path, kind: type[ClientT], gate: Gate = OPEN) -> ClientT:
    """A client with the credentials and the authority that a document names, or docker's for that domain."""
    ca_file = None if access.ca_file is None else base / access.ca_file
    return kind(url, credentials=_credentials(access, domain, base), ca_file=ca_file, gate=gate)


def _credentials(access: Access, domain: str, base: Path) -> Credentials:
    if access.username_file is not None and access.password_file is not None:
        return from_files(base / access.username_file, base / access.password_file)
    return from_docker_config(domain)


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


@contextmanager
def recorded(setup: Setup, state: str | None) -> Iterator[Store]:
    """The store, for a command that only appends to the audit trail: a controller may work on the Wharf meanwhile."""
    with closing(SqliteStore(state_file(state, os.environ, setup.desired.wharf))) as store:
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
    engine = _engine(engine)
    host = DockerHost(LOCAL, engine)
    try:
        return Contents(engine, await host.look(), await host.frees())
    finally:
        await host.close()


def _engine(named: str) -> str:
    """`env` as the engine that it means, where no certificates are needed for that."""
    if named == "env" and not os.environ.get("DOCKER_TLS_VERIFY"):
        return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    return named


LOCAL = "local"
"""What the one host is called where no file names it, and in drafts."""


@dataclass(frozen=True, slots=True)
class _Said:
    """A document that no file holds."""

    value: Wharf

    def place(self, *_: str | int) -> Place:
        return Place("", 1, 1, "")

    def resolve(self, path: str) -> str:
        return path


def without_file(engine: str, registry: str) -> Setup:
    """The setup of who has no file yet: this registry, and this engine as the host `local`, as a draft would have them.

    UsageError for an engine or a URL that is none.
    """
    spec = {"registry": {"url": _checked(registry)}, "hosts": [{"name": LOCAL, "engine": _engine(engine)}]}
    try:
        wharf = Wharf.model_validate({"apiVersion": API_VERSION, "kind": "Wharf", "metadata": {"name": "default"}, "spec": spec})
    except ValidationError:
        raise UsageError(f"--from-host {engine}: expected unix:///path, tcp://host:port, ssh://user@host, or env") from None
    return Setup(compile_desired([_Said(wharf)], []), wharf.spec, Path.cwd(), (), ())


Locate = Callable[[Reference], Target]


def image_archives() -> Archives:
    """The archives of this machine."""
    return ImageArchives()


@asynccontextmanager
async def open_registry(setup: Setup | None, url: str | None, state: str | None = None) -> AsyncIterator[Registry]:
    """The registry of a URL, with docker's credentials for it; without one the setup's, with the setup's. Closed at the end.

    Its gate lies where the state file is, or would be.
    """

    def gate(address: str) -> Gate:
        return RegistryGate(state_file(state, os.environ, "default").resolve().parent, address)

    if url is None and setup is not None:
        spec, address = setup.wharf, registry_address(setup.wharf)
        registry = _client(spec.registry.url, address, spec.registry, setup.base, RegistryClient, gate(address))
    else:
        checked = _checked(url or "")
        address = checked.partition("//")[2]
        registry = RegistryClient(checked, credentials=from_docker_config(address), gate=gate(address))
    try:
        yield registry
    finally:
        await registry.close()


def _checked(url: str) -> str:
    try:
        return TypeAdapter(RegistryUrl).validate_python(url)
    except ValidationError:
        raise UsageError(f"--registry {url}: expected a URL such as http://127.0.0.1:5000, without a path and without credentials") from None


def archive_to(path: Path | None) -> AbstractAsyncContextManager[ArchiveWriter]:
    """An archive that is written to a file, or to standard output."""
    return open_writer(path)


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


def named_in(folder: Path) -> str:
    """What a Dockerfile folder calls its image: by its image.yaml, else by its own name. DocumentsError when that is no name."""
    entry, problems = read_entry(folder.absolute())
    if entry is None:
        raise DocumentsError(problems)
    return entry.name


async def check_folder(source: BuildSource) -> None:
    """That a Dockerfile folder can be read; UsageError when it can't."""
    try:
        await FolderContexts().look(source)
    except WharfError as error:
        raise UsageError(str(error)) from None


def verifier_of(registry: Registry, rate: float, advance: Advance) -> Verifier:
    """Reads a registry, at so many bytes a second; 0 for as many as come."""
    return Verifier(registry, Pace(rate), advance)


@dataclass(frozen=True)
class Collecting:
    """What a collection of garbage needs. `folder` is the registry's storage, where its configuration says that it is one of this machine."""

    registry: CollectedRegistry
    collection: GarbageCollection
    folder: FolderStorage | None
    config: RegistryConfig | None


def registry_config(file: Path | None) -> RegistryConfig | None:
    """The registry's configuration; UsageError for one that can't be read, and for a registry that nobody can write to."""
    config = read_registry_config(file) if file else None
    if config is not None and not config.takes_writes:
        raise UsageError(f"{file} is of a registry that takes no writes (`proxy`, or `maintenance.readonly`): this is for one that does")
    return config


def folder_of(config: RegistryConfig | None) -> FolderStorage | None:
    """Where the registry keeps its files, if its configuration says that it is a folder of this machine."""
    return FolderStorage(config.folder) if config and config.folder else None


def collector_of(config: RegistryConfig | None, collect: str | None, restart: str | None) -> CollectorProgram:
    """The registry's own collector; UsageError when nobody says which."""
    if collect is None and config is None:
        raise UsageError("say --config with the configuration that the registry runs with, or --collector with the command that collects")
    own = ["docker-registry", "garbage-collect", str(config.file)] if config else []
    return CollectorCommand(collect if collect is not None else own, restart or "")


@asynccontextmanager
async def open_collection(
    setup: Setup, store: Store, config: RegistryConfig | None, program: CollectorProgram, expired: Mapping[str, Collection[str]]
) -> AsyncIterator[Collecting]:
    """The registry of a setup, with what collects its garbage; closed at the end."""
    spec, address = setup.wharf, registry_address(setup.wharf)
    gate = store.gate(address)
    registry = _client(spec.registry.url, address, spec.registry, setup.base, RegistryClient, gate)
    folder = folder_of(config)
    try:
        yield Collecting(registry, GarbageCollection(registry, gate, program, folder, expired), folder, config)
    finally:
        await registry.close()


async def gateway_goes_on(setup: Setup) -> str:
    """Why the gateway that the file names would go on taking writes during a collection; "" if it would not, or does not run."""
    if setup.wharf.gateway is None:
        return ""
    listen = setup.wharf.gateway.listen
    gateway = ForwardingClient(f"http://{listen}")
    try:
        async with gateway.forward("GET", "/v2/", {}, None, "") as found:
            if any(name.lower() == COLLECTING.lower() for name, _ in found.headers):
                return ""
    except UnreachableError:
        return ""
    finally:
        await gateway.close()
    return (
        f"the gateway at {listen} goes on taking writes: it runs with another state folder (--state), on another machine, or before another address "
        f"of the registry than {registry_address(setup.wharf)}"
    )


def of_registry(url: str, gateway: str | None) -> Setup:
    """The setup of who has no file: this registry, and the gateway that `wharf gateway` serves before it."""
    checked, served = _checked(url), {"listen": gateway, "pull": "Anyone", "push": "Anyone"}
    try:
        spec = WharfSpec.model_validate({"registry": {"url": checked}} | ({"gateway": served} if gateway else {}))
    except ValidationError:
        raise UsageError(f"--gateway {gateway}: expected the address and the port where it serves, such as 127.0.0.1:5001") from None
    return Setup(Desired("gateway", frozenset({registry_address(spec)})), spec, Path.cwd(), (), ())


def recipients_of(setup: Setup) -> list[Recipient]:
    """Who is told when something goes wrong."""
    files = ((setup.base / each.url_file, frozenset(each.on)) for each in setup.wharf.notify)
    return [Recipient(str(file), kinds, AppriseMessenger(file)) for file, kinds in files]
