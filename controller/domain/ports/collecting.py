"""A registry whose garbage is collected: the gate before its writers, the collector, its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from controller.domain.ports.registries import Registry

COLLECTING = "Wharfinger-Collecting"
"""The header by which a gateway says that it holds writes off."""


class Doubt(IntEnum):
    """What a registry may say after its garbage was collected beside it, as its blob cache remembers what is gone."""

    NONE = 0
    MANIFESTS = 1
    """A manifest that was collected once is answered 201, and kept only when its bytes are uploaded as a blob too."""
    BLOBS = 2
    """A collection was broken off: of blobs, too, it may say that it has what is gone."""


class Gate(Protocol):
    """Between all who write to one registry and who collects its garbage, over the processes of a machine. Who reads does not ask."""

    @property
    def closed(self) -> bool:
        """Whether a collection is under way."""
        ...

    @property
    def doubt(self) -> Doubt:
        """How far the registry can be believed since the last collection."""
        ...

    def enter(self, repository: str = "") -> Callable[[], None]:
        """Begin to write; what it gives is called at the end. CollectingError while a collection is under way.

        While that waits for somebody who writes to the same repository, this may be a part of what he does, an engine's push, say: it may come in.
        """
        ...

    def writing(self, repository: str = "") -> AbstractContextManager[None]:
        """The same for this task and what it starts from here on; who is inside already, passes."""
        ...

    def passing(self) -> AbstractContextManager[None]:
        """This task, and what it starts, is a part of something that has entered."""
        ...

    def collecting(self, patience: float) -> AbstractAsyncContextManager[Shut]:
        """Let no writer in any more, and wait so many seconds for those inside. Who collects may write himself.

        LockedError when another collection is under way, or when somebody still writes then; the gate is open again in that case.
        """
        ...


class Shut(Protocol):
    """A gate that is shut, by who collects."""

    @property
    def files(self) -> tuple[int, ...]:
        """The locks' descriptors. A program that inherits them keeps the gate shut until it ends, whatever becomes of us."""
        ...

    def believe(self, doubt: Doubt) -> None:
        """How far the registry can be believed from now on; outlives us."""
        ...


@dataclass(frozen=True, slots=True)
class Marked:
    """What a registry's collector said: by repository each manifest that it knows, the blobs that no manifest needs, and links to such."""

    manifests: Mapping[str, frozenset[str]]
    garbage: frozenset[str]
    links: frozenset[tuple[str, str]] = frozenset()


class CollectedRegistry(Registry, Protocol):
    """A registry whose garbage is collected."""

    async def holds(self, repository: str, digest: str) -> bool:
        """Whether a blob can be read, by its first byte."""
        ...

    async def delete_blob(self, repository: str, digest: str) -> bool:
        """Take away a repository's link to a blob, and what a cache remembers of it; whether there was one. RefusedError where deletes are off."""
        ...

    async def delete_manifest(self, repository: str, digest: str) -> None:
        """Remove a manifest with every tag on it: only where nothing else can mean it."""
        ...


class CollectorProgram(Protocol):
    """The garbage collector that a registry comes with."""

    async def look(self) -> Marked:
        """What it would collect; nothing is changed. UsageError when there is no such program, RefusedError when it fails."""
        ...

    async def collect(self, files: Iterable[int]) -> Marked:
        """Collect. The program inherits these descriptors."""
        ...

    async def restart(self) -> bool:
        """Have the registry restarted, if there is a command for that."""
        ...


class RegistryStorage(Protocol):
    """A registry's files, where they are in a folder of this machine."""

    async def blobs(self) -> Mapping[str, int]:
        """The bytes of each blob, by its digest."""
        ...

    async def links(self) -> frozenset[tuple[str, str]]:
        """Each (repository, digest) by which a repository knows a blob."""
        ...
