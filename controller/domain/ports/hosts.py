"""A Docker Engine, and the folders that it builds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from controller.domain.desired import BuildSource
from controller.domain.observation import HostState
from controller.domain.ports.registries import Advance
from controller.domain.ranges import Container
from controller.domain.space import Layers


@dataclass(frozen=True, slots=True)
class ImageDetail:
    """What only a closer look at one image tells. `diff_ids` are RootFS.Layers; `tagged_at` is LastTagTime in seconds since the epoch."""

    id: str
    tags: tuple[str, ...]
    diff_ids: tuple[str, ...]
    tagged_at: float | None
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """An engine's answer to a removal: the names that it took off and the digests that it deleted."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]


STIRS = ("container start ", "container die ")
"""The beginnings of an engine's words that change no image and no use of one, but which containers run."""


class Host(Protocol):
    """One Docker Engine. `name` is the one in the Wharf document; references are strings as the engine takes them."""

    @property
    def name(self) -> str:
        """The host's name in the Wharf document."""
        ...

    async def look(self) -> HostState:
        """Engine ID, store kind, images with tags and with the containers that use them; UnreachableError when it does not answer."""
        ...

    async def inspect(self, image: str) -> ImageDetail:
        """One image by Id or reference; NotFoundError when the engine has it no more."""
        ...

    async def layers(self) -> Layers:
        """The layers of every image, of those without a name too. A request for each image: only where space is asked for."""
        ...

    async def tag(self, image_id: str, reference: str) -> None:
        """Give the image a further name. Moves the name when another image had it: look first."""
        ...

    async def remove(self, image: str) -> Removal:
        """Remove a tag, or an image by Id with its last tag; never forced, parents kept. RefusedError on 409: in use, or more than one tag."""
        ...

    async def untag(self, reference: str, image_id: str) -> None:
        """Take a name off an image. Nothing is ever deleted by it, whatever the name means by then: who gets it at the same moment keeps it.

        MovedError when the name means another image, NotFoundError when it means none.
        """
        ...

    async def tidy(self) -> None:
        """Remove what a kill left of untag()."""
        ...

    async def push(self, reference: str, advance: Advance) -> None:
        """Push a tag to the registry that its name says. Errors in the stream raise; that none came proves nothing: read it back."""
        ...

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """The engine's word for each change of its images or containers, as it happens: a hint to list again, never the truth (law 3).

        Words that begin with one of STIRS tell only that a container was started or ended.

        Entered once the engine listens, so that what happens after is not missed. The iterator raises UnreachableError when the stream ends, however.
        """
        ...

    async def pull(self, reference: str, advance: Advance) -> None:
        """Pull a name from the registry that it says. Errors in the stream raise; that none came proves nothing: look at what is there."""
        ...

    async def containers(self, label: str) -> Sequence[Container]:
        """The running containers that have a label: its key, or key=value."""
        ...

    def save(self, image_id: str, limit: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """An image as the archive that the engine saves, in chunks; CorruptError once it is more than `limit` bytes."""
        ...

    async def load(self, archive: AsyncIterator[bytes], advance: Advance) -> None:
        """Let the engine load an archive. Errors in the stream raise; that none came proves nothing: look at what is there."""
        ...

    async def build(self, request: BuildRequest, context: AsyncIterator[bytes], advance: Advance) -> str:
        """Build a tar of a Dockerfile folder, and give the image's Id, as read back by its tag. RefusedError with the failing step's last output."""
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What an engine is told beside the folder: the one tag of the result, its labels, and what the file says of the build."""

    tag: str
    source: BuildSource
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class BuildContext:
    """A Dockerfile folder as it is now. `hash` is of all that the build depends on, `size` what the tar would have in bytes."""

    hash: str
    size: int


class Contexts(Protocol):
    """Dockerfile folders of this machine; what .dockerignore names is no part of them."""

    async def look(self, source: BuildSource) -> BuildContext:
        """What the folder is now; NotFoundError when there is none, CorruptError when it can't be read."""
        ...

    async def concerned(self, source: BuildSource, names: Collection[str]) -> bool:
        """Whether one of these paths in the folder may be part of what Docker would send; in doubt it is."""
        ...

    def tar(self, source: BuildSource) -> AsyncIterator[bytes]:
        """The folder as a tar, in chunks, for an engine. MovedError, before its end, when it is not what the last look at this source saw."""
        ...
