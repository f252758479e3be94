"""Archives and Dockerfile folders in memory, for property tests and benchmarks that need none on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from controller.domain.archived import ArchivedImage, Packing
from controller.domain.desired import ArchiveSource, BuildSource
from controller.domain.errors import NotFoundError
from controller.domain.oci import digest_of
from controller.domain.ports.archives import OpenArchive
from controller.domain.ports.hosts import BuildContext
from controller.sources.archives import ImageArchives


class NoArchives(ImageArchives):
    """A machine without archives; those that pass are read and written as ever."""

    async def look(self, source: ArchiveSource) -> ArchivedImage:
        raise NotFoundError(f"reading {source.path}", "no such file")

    @asynccontextmanager
    async def open(self, path: str, packing: Packing) -> AsyncIterator[OpenArchive]:  # noqa: ARG002 - the port's
        raise NotFoundError(f"reading {path}", "no such file")
        yield


@dataclass
class MemoryContexts:
    """Folders by their path: what is in them, as one text."""

    folders: dict[str, str] = field(default_factory=dict)

    async def look(self, source: BuildSource) -> BuildContext:
        data = self._data(source)
        return BuildContext(digest_of(data), len(data))

    async def concerned(self, source: BuildSource, names: Collection[str]) -> bool:
        return source.context in self.folders and bool(names)

    async def tar(self, source: BuildSource) -> AsyncIterator[bytes]:
        yield self._data(source)

    def _data(self, source: BuildSource) -> bytes:
        if source.context not in self.folders:
            raise NotFoundError(f"reading {source.context}", "no such folder")
        return self.folders[source.context].encode()
