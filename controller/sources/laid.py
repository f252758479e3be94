"""Archives of which any member can be read at any time: a plain tar in a file, and a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

from controller.domain.archived import ArchivedContent, Packing
from controller.domain.errors import CorruptError
from controller.domain.ports.archives import PassingBlob
from controller.sources.blobs import Blob, Member
from controller.sources.documents import MAX_DOCUMENT, Documents
from controller.sources.files import File, FolderFile, FolderMembers, Part, SeekingSectors
from controller.sources.members import Members
from controller.sources.passing import blob_of
from controller.sources.saved import contents
from controller.sources.streams import Prefixed, Readable, filled, form_of
from controller.sources.tar import Entry, Headers
from controller.sources.workers import Workers

_HEAD = 4

Opener = Callable[[Entry], Readable]


class LaidArchive:
    """Fulfils `domain.ports.archives.OpenArchive`. `opener` gives a member's bytes from its beginning, as often as it is asked."""

    def __init__(self, what: str, members: Members, opener: Opener, packing: Packing, workers: Workers) -> None:
        self._what = what
        self._members = members
        self._opener = opener
        self._packing = packing
        self._workers = workers
        self.at_once = workers.blobs
        self.contents: tuple[ArchivedContent, ...] = contents(Documents(what, members, self._load))

    async def blobs(self, members: Collection[str] | None) -> AsyncIterator[PassingBlob]:
        """These members, the largest first: so none of them is left alone at the end."""
        wanted = members if members is not None else {blob.member for each in self.contents for blob in each.blobs}
        entries = [self._members.file(name, "the blob") for name in wanted]
        for entry in sorted(entries, key=lambda each: (-each.size, each.name)):
            yield await self._workers.start(lambda entry=entry: self._blob(entry))  # type: ignore[misc] # the entry of this turn

    def _blob(self, entry: Entry) -> Blob:
        opened = self._opener(entry)
        head = filled(opened, _HEAD)
        member = Member(Prefixed(head, opened), entry.size, f"{entry.name} in {self._what}")
        return blob_of(entry, member, form_of(head), self._packing, self._workers)

    def _load(self, entry: Entry) -> bytes:
        return filled(Member(self._opener(entry), entry.size, f"{entry.name} in {self._what}"), min(entry.size, MAX_DOCUMENT))


def in_file(file: File, packing: Packing, workers: Workers) -> LaidArchive:
    """A plain tar: its headers are read, the data between them jumped over."""
    sectors = SeekingSectors(file)
    headers, members = Headers(sectors, file.name), Members(file.name)
    while (entry := headers.next()) is not None:
        if not sectors.holds(entry):
            raise CorruptError(f"reading {file.name}", "it ends in the middle of a member", hint="it was not copied whole: fetch it again")
        members.add(entry)
        sectors.skip(entry.stored)
    return LaidArchive(file.name, members, lambda entry: Part(file, entry.offset, entry.size), packing, workers)


def in_folder(file: File, packing: Packing, workers: Workers, closing: list[Callable[[], None]]) -> LaidArchive:
    """A folder with an OCI layout."""
    home = Path(file.path)

    def opener(entry: Entry) -> Readable:
        opened = FolderFile(str(home / entry.name), entry.size)
        closing.append(opened.close)
        return opened

    return LaidArchive(file.name, FolderMembers(file.path), opener, packing, workers)
