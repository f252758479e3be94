"""Image archives of this machine, behind `domain.ports.archives.Archives`: what they hold, and their blobs on the way into a registry."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from controller.domain.archived import ArchivedContent, ArchivedImage, Form, Packing, chosen
from controller.domain.desired import ArchiveSource
from controller.domain.ports.archives import ArchiveWriter, OpenArchive
from controller.sources.fed import Fed
from controller.sources.files import STDIN, File, explained
from controller.sources.laid import LaidArchive, in_file, in_folder
from controller.sources.passing import PassedArchive
from controller.sources.streams import form_of
from controller.sources.workers import Workers
from controller.sources.writing import written

_REMEMBERED = 256
_REMEMBERED_WHOLE, _SMALL = 32, 1 << 20
"""Archives whose documents are kept as well, if they are no more than that in bytes: one that is packed need not be read for them a second time."""

_HEAD = 4

_Key = tuple[tuple[str, int, int, int], ...]


class ImageArchives:
    """Fulfils `domain.ports.archives.Archives`. What was found in a file is remembered until the file changes."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Key, tuple[ArchivedContent, ...]] = OrderedDict()
        self._whole: OrderedDict[_Key, tuple[ArchivedContent, ...]] = OrderedDict()
        self._looking: dict[str, asyncio.Lock] = {}

    async def look(self, source: ArchiveSource) -> ArchivedImage:
        """Which image that is; quick when asked again for a file that did not change."""
        key = await asyncio.to_thread(_key, source.path)
        async with self._looking.setdefault(source.path, asyncio.Lock()):  # Several images of one archive are often asked for at once.
            contents = self._known.get(key) or await self._looked(source.path)
        self._known[key] = contents
        self._known.move_to_end(key)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return chosen(contents, source.name, source.path).image

    async def _looked(self, path: str) -> tuple[ArchivedContent, ...]:
        key = await asyncio.to_thread(_key, path)
        async with self.open(path, Packing.FAST) as archive:
            contents = archive.contents or ()
        if sum(map(_document_bytes, contents)) <= _SMALL:
            self._whole[key] = contents
            while len(self._whole) > _REMEMBERED_WHOLE:
                self._whole.popitem(last=False)
        return tuple(_small(each) for each in contents)

    @asynccontextmanager
    async def open(self, path: str, packing: Packing) -> AsyncIterator[OpenArchive]:
        """Open an archive; at the end all of its threads are at rest, and its files closed."""
        known = self._whole.get(await asyncio.to_thread(_key, path))
        file = await asyncio.to_thread(File, path)
        workers = Workers()
        closing: list[Callable[[], None]] = [file.close]
        try:
            yield await _opened(file, packing, workers, closing, known)
        finally:
            file.unwanted()
            await workers.close()
            for close in closing:
                close()

    @asynccontextmanager
    async def passing(self, what: str, chunks: AsyncIterator[bytes], packing: Packing) -> AsyncIterator[OpenArchive]:
        """An archive that comes in chunks; at the end all of its threads are at rest."""
        fed, workers = Fed(chunks), Workers()
        try:
            yield PassedArchive(what, fed, packing, workers)
        finally:
            fed.unwanted()
            await workers.close()

    def written(self, write: Callable[[ArchiveWriter], Awaitable[object]]) -> AsyncGenerator[bytes, None]:
        """See writing.py."""
        return written(write)


async def _opened(
    file: File, packing: Packing, workers: Workers, closing: list[Callable[[], None]], known: tuple[ArchivedContent, ...] | None
) -> OpenArchive:
    laid: LaidArchive
    if file.is_folder:
        laid = await workers.start(lambda: in_folder(file, packing, workers, closing))
        return laid
    if not file.can_seek:
        return PassedArchive(file.name, file, packing, workers)
    head = await workers.start(lambda: file.read_at(0, _HEAD))
    if form_of(head) is Form.PLAIN:
        laid = await workers.start(lambda: in_file(file, packing, workers))
        return laid
    passed = PassedArchive(file.name, file, packing, workers, again=lambda: _rewound(file))
    if known is None:
        await passed.survey()
    else:
        passed.contents = known
    return passed


def _rewound(file: File) -> None:
    with explained(file.name):
        os.lseek(file.fd, 0, os.SEEK_SET)


def _document_bytes(content: ArchivedContent) -> int:
    return len(content.config) + sum(len(each.raw) for each in content.manifests)


def _small(content: ArchivedContent) -> ArchivedContent:
    """What a look needs of an image; its documents are not kept."""
    return ArchivedContent(content.image, content.title, error=content.error)


def _key(path: str) -> _Key:
    """What changes when the archive does. Of a folder its documents tell it: blobs are named after their content."""
    found: list[tuple[str, int, int, int]] = []
    if path == STDIN:
        return ()
    with explained(path):
        found.append(_one(path))
    for name in ("index.json", "manifest.json"):
        with suppress(OSError):
            found.append(_one(str(Path(path) / name)))
    return tuple(found)


def _one(path: str) -> tuple[str, int, int, int]:
    status = Path(path).stat()
    return (path, status.st_size, status.st_mtime_ns, status.st_ino)
