"""Archives that pass once, from front to back: standard input, and what is packed as a whole. Nothing is kept but small documents."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass

from controller.domain.archived import ArchivedContent, Form, Packing
from controller.domain.errors import CorruptError
from controller.domain.oci import Descriptor
from controller.domain.ports.archives import PassingBlob
from controller.domain.reference import is_digest
from controller.sources.blobs import Blob, Member
from controller.sources.documents import MAX_DOCUMENT, MAX_DOCUMENTS, Documents
from controller.sources.files import PassingSectors
from controller.sources.members import Members, digest_in, matters
from controller.sources.packing import PACKERS
from controller.sources.saved import contents
from controller.sources.streams import BLOCK, Prefixed, Readable, filled, form_of, unpacked
from controller.sources.tar import Entry, Headers, Kind
from controller.sources.workers import Workers

_HEAD = 4


@dataclass(frozen=True, slots=True)
class _Found:
    """One file as it passes: a small one whole in `data`, of another one the bytes in `member`."""

    entry: Entry
    member: Member
    form: Form
    data: bytes | None

    @property
    def is_document(self) -> bool:
        """Whether it may be JSON that manifests are made of."""
        return self.data is not None and (self.entry.name.endswith(".json") or self.data.lstrip()[:1] in {b"{", b"["})


class _Pass:
    """One reading of the whole archive, step by step; each step is done by one thread."""

    def __init__(self, raw: Readable, what: str) -> None:
        head = filled(raw, _HEAD)
        if not head:
            raise CorruptError(f"reading {what}", "it is empty", hint="was the program that writes it started?")
        self._what = what
        self._sectors = PassingSectors(unpacked(Prefixed(head, raw), form_of(head), what), what)
        self._headers = Headers(self._sectors, what)
        self._member: Member | None = None
        self._padding = 0
        self.others: list[Entry] = []

    def next(self) -> _Found | None:
        """The next file that matters, None at the end. Who reads the one before reads no further. What is no file is in `others`."""
        while True:
            if self._member is not None:
                self._sectors.skip(self._member.end() + self._padding)
                self._member = None
            entry = self._headers.next()
            if entry is None:
                return None
            self._member = Member(self._sectors.plain, entry.size, f"{entry.name} in {self._what}")
            self._padding = entry.stored - entry.size
            if entry.kind is Kind.FILE and matters(entry):
                return self._found(entry, self._member)
            self.others.append(entry)

    def _found(self, entry: Entry, member: Member) -> _Found:
        if entry.size <= MAX_DOCUMENT:
            data = filled(member, entry.size)
            return _Found(entry, Member(io.BytesIO(data), entry.size, entry.name), form_of(data), data)
        head = filled(member, _HEAD)
        whole = Member(Prefixed(head, member), entry.size, f"{entry.name} in {self._what}")
        return _Found(entry, whole, form_of(head), None)

    def drain(self) -> bytes:
        """Read on behind the tar's end: only there a packed stream tells whether it was whole."""
        return self._sectors.plain.read(BLOCK)


class PassedArchive:
    """Fulfils `domain.ports.archives.OpenArchive`. With `again`, which goes back to the beginning, it can be read a second time."""

    def __init__(self, what: str, raw: Readable, packing: Packing, workers: Workers, *, again: Callable[[], None] | None = None) -> None:
        self._what = what
        self._raw = raw
        self._packing = packing
        self._workers = workers
        self._again = again
        self._members = Members(what)
        self._kept: dict[str, bytes] = {}
        self._kept_bytes = 0
        self.contents: tuple[ArchivedContent, ...] | None = None
        self.at_once = 1

    async def survey(self) -> None:
        """Read it all for its documents alone."""
        async for _ in self._first():
            pass

    async def blobs(self, members: Collection[str] | None) -> AsyncIterator[PassingBlob]:
        """The blobs in the archive's order. Of a stream that has passed only documents are left, which may be blobs as well."""
        if self.contents is None:
            async for found in self._first():
                if members is None or found.entry.name in members:
                    yield self._blob(found)
            return
        left = set(members or ())
        for name in sorted(left & self._kept.keys()):
            data = self._kept[name]
            yield self._blob(_Found(self._members.file(name, "the blob"), Member(io.BytesIO(data), len(data), name), form_of(data), data))
        left -= self._kept.keys()
        if left and self._again is not None:
            await self._workers.start(self._again)
            async for found in self._second(left):
                yield self._blob(found)
        elif left:
            raise CorruptError(f"reading {self._what}", f"{min(left)} has passed already", hint="import it from a file")

    def _blob(self, found: _Found) -> Blob:
        return blob_of(found.entry, found.member, found.form, self._packing, self._workers)

    async def _first(self) -> AsyncIterator[_Found]:
        """What passes and is no document; at the end the contents are known."""
        reading = await self._workers.start(lambda: _Pass(self._raw, self._what))
        seen: set[str] = set()
        while (found := await self._workers.start(reading.next)) is not None:
            self._took(found, reading)
            claimed = digest_in(found.entry.name)
            if not found.is_document and found.entry.name not in seen and (not claimed or is_digest(claimed)):
                seen.add(found.entry.name)
                yield found
        for entry in reading.others:
            self._members.add(entry)
        while await self._workers.start(reading.drain):
            pass
        self.contents = await self._workers.start(lambda: contents(Documents(self._what, self._members, lambda entry: self._kept.get(entry.name))))

    def _took(self, found: _Found, reading: _Pass) -> None:
        for entry in reading.others:
            self._members.add(entry)
        reading.others.clear()
        self._members.add(found.entry)
        if found.is_document and found.data is not None:
            self._kept[found.entry.name] = found.data
            self._kept_bytes += len(found.data)
            if self._kept_bytes > MAX_DOCUMENTS:
                raise CorruptError(f"reading {self._what}", f"more than {MAX_DOCUMENTS >> 20} MiB of documents", hint="that is no image archive")

    async def _second(self, members: set[str]) -> AsyncIterator[_Found]:
        """These members only, and no further than the last of them."""
        reading = await self._workers.start(lambda: _Pass(self._raw, self._what))
        while members and (found := await self._workers.start(reading.next)) is not None:
            if found.entry.name in members:
                members.discard(found.entry.name)
                yield found


def blob_of(entry: Entry, member: Member, form: Form, packing: Packing, workers: Workers) -> Blob:
    """A member as it goes to the registry: verbatim when its name claims a digest or when it is packed already."""
    claimed = digest_in(entry.name)
    blob = Descriptor("", claimed, entry.size) if claimed else None
    return Blob(entry.name, member, form, blob, PACKERS[packing] if blob is None and form is Form.PLAIN else None, workers)
