"""Image archives, read and written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from controller.domain.archived import ArchivedContent, ArchivedImage, Form, Packing
from controller.domain.desired import ArchiveSource
from controller.domain.oci import Descriptor


class PassingBlob(Protocol):
    """A blob of an archive on its way. Its chunks are taken once; a plain layer without a `blob` comes packed."""

    @property
    def member(self) -> str:
        """Where it lies in the archive."""
        ...

    @property
    def blob(self) -> Descriptor | None:
        """Digest and size where they are known beforehand; then the chunks are the member's own bytes."""
        ...

    @property
    def form(self) -> Form:
        """How the chunks are stored."""
        ...

    @property
    def read(self) -> int:
        """The bytes of the archive that were read for it so far."""
        ...

    @property
    def diff_id(self) -> str:
        """The digest of its plain bytes, known when all chunks were taken."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes; CorruptError when the archive is damaged there."""
        ...


class OpenArchive(Protocol):
    """One archive that is being read."""

    @property
    def contents(self) -> tuple[ArchivedContent, ...] | None:
        """Its images; None for a stream of which not all has passed."""
        ...

    @property
    def at_once(self) -> int:
        """How many blobs may be under way at a time: one of a stream, where the next one ends the one before."""
        ...

    def blobs(self, members: Collection[str] | None) -> AsyncIterator[PassingBlob]:
        """These members, each once, in whatever order is best; None: all that a stream has, as long as its contents are not known."""
        ...


class Archives(Protocol):
    """Image archives of this machine."""

    async def look(self, source: ArchiveSource) -> ArchivedImage:
        """Which image that is. NotFoundError when there is no such file or image, CorruptError when it is no archive."""
        ...

    def open(self, path: str, packing: Packing) -> AbstractAsyncContextManager[OpenArchive]:
        """Open an archive to read all of it; `-` is standard input. Errors as of look()."""
        ...

    def passing(self, what: str, chunks: AsyncIterator[bytes], packing: Packing) -> AbstractAsyncContextManager[OpenArchive]:
        """An archive that comes in chunks, once, and is called `what`."""
        ...

    def written(self, write: Callable[[ArchiveWriter], Awaitable[object]]) -> AsyncGenerator[bytes, None]:
        """The chunks of the archive that `write` writes, as they are taken; its errors are raised where the archive ends."""
        ...


class ArchiveWriter(Protocol):
    """One archive that is being written."""

    async def document(self, name: str, data: bytes) -> None:
        """Append a small member."""
        ...

    async def blob(self, name: str, size: int, chunks: AsyncIterator[bytes]) -> None:
        """Append a member of this size, as its bytes come; CorruptError when they are more or fewer."""
        ...
