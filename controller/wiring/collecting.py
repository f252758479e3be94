"""What a collection of garbage needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from controller.documents.registry_config import RegistryConfig, read_registry_config
from controller.domain.compile import registry_address
from controller.domain.errors import UnreachableError, UsageError
from controller.domain.ports.collecting import COLLECTING, CollectedRegistry, CollectorProgram
from controller.domain.ports.stores import Store
from controller.engine.collect import GarbageCollection
from controller.registry.client import RegistryClient
from controller.registry.collector import CollectorCommand
from controller.registry.folder import FolderStorage
from controller.registry.forward import ForwardingClient
from controller.wiring.registries import client_of
from controller.wiring.setup import Setup


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
    registry = client_of(spec.registry.url, address, spec.registry, setup.base, RegistryClient, gate)
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
