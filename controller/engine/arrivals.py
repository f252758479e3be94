"""The blobs of one archive on their way into the registry: each is moved once, whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace

from controller.domain.archived import ArchivedBlob, Form
from controller.domain.errors import CorruptError, RemoteError, WharfError
from controller.domain.oci import Descriptor
from controller.domain.ports.archives import OpenArchive, PassingBlob
from controller.domain.ports.registries import Advance, Registry

_TRIES = 3


@dataclass(frozen=True, slots=True)
class Arrived:
    """A blob that the registry has in `repository`. `diff_id` is "" where it was there before, so that it was not read."""

    blob: Descriptor
    repository: str
    form: Form
    diff_id: str


class Arrivals:
    """Where each member of an archive is in the registry by now, or why it is not."""

    def __init__(self, registry: Registry, advance: Advance) -> None:
        self._registry = registry
        self._advance = advance
        self._members: dict[str, asyncio.Future[Arrived]] = {}

    def __contains__(self, member: str) -> bool:
        return member in self._members and self._members[member].done()

    async def of(self, member: str) -> Arrived:
        """The blob when it has arrived; its error when it can't."""
        return await asyncio.shield(self._future(member))

    def _future(self, member: str) -> asyncio.Future[Arrived]:
        return self._members.setdefault(member, asyncio.get_running_loop().create_future())

    def put(self, member: str, arrived: Arrived) -> None:
        """It is there."""
        future = self._future(member)
        if not future.done():
            future.set_result(arrived)

    def fail(self, member: str, error: WharfError) -> None:
        """It will not come."""
        future = self._future(member)
        if not future.done():
            future.set_exception(error)
            future.exception()  # Nobody may ask for it: that is no defect.

    async def there_already(self, blob: ArchivedBlob, repository: str) -> bool:
        """Whether the registry has a blob whose digest and type are known, so that it need not be read."""
        known = blob.blob
        if known is None or not known.media_type or not await self._registry.has_blob(repository, known.digest):
            return False
        self._advance(blob.size)
        self.put(blob.member, Arrived(known, repository, Form.PLAIN, ""))
        return True

    async def move(self, archive: OpenArchive, homes: Mapping[str, str] | None, home: str = "") -> None:
        """Bring members into their repositories, or into `home` whatever a stream has. What fails is that member's error."""
        try:
            await self._move(archive, homes, home)
        except WharfError as error:
            if homes is None:
                raise
            for member in homes:
                self.fail(member, error)
        for member in homes or ():
            self.fail(member, CorruptError(f"reading {member}", "the archive has it no more", hint="it changed meanwhile: import it again"))

    async def _move(self, archive: OpenArchive, homes: Mapping[str, str] | None, home: str) -> None:
        slots = asyncio.Semaphore(archive.at_once)
        blobs = archive.blobs(None if homes is None else homes.keys())

        async def one(passing: PassingBlob) -> None:
            try:
                await self._one(archive, passing, home if homes is None else homes[passing.member])
            finally:
                slots.release()

        failure: WharfError | None = None
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()  # Before the next one is asked for: of a stream, that ends the one before.
                try:
                    passing = await anext(blobs, None)
                except WharfError as error:
                    failure, passing = error, None
                if passing is None:
                    break
                group.create_task(one(passing))
        if failure is not None:  # Not inside: the blobs that are under way come to their own ends.
            raise failure

    async def _one(self, archive: OpenArchive, passing: PassingBlob, repository: str) -> None:
        told = _Told(self._advance)
        for left in reversed(range(_TRIES if archive.at_once > 1 else 1)):
            try:
                self.put(passing.member, await self._stored(passing, repository, told))
            except RemoteError as error:
                if not error.retryable or not left:
                    self.fail(passing.member, error)
                    return
                passing = await anext(archive.blobs([passing.member]))
            except WharfError as error:
                self.fail(passing.member, error)
                return
            else:
                return

    async def _stored(self, passing: PassingBlob, repository: str, told: _Told) -> Arrived:
        known = passing.blob
        if known is None:
            stored = await self._registry.stream_blob(repository, told.through(passing))
            return Arrived(stored, repository, passing.form, passing.diff_id)
        if await self._registry.has_blob(repository, known.digest):
            told.all_of(known.size)
            return Arrived(known, repository, passing.form, known.digest if passing.form is Form.PLAIN else "")
        await self._registry.write_blob(repository, known, told.through(passing))
        return Arrived(known, repository, passing.form, passing.diff_id)

    async def bring(self, arrived: Arrived, repository: str) -> None:
        """Make sure that a repository has it too: mounted, or where the registry does not mount, copied."""
        digest = arrived.blob.digest
        if arrived.repository == repository or await self._registry.has_blob(repository, digest):
            return
        if not await self._registry.mount(repository, digest, arrived.repository):
            async with self._registry.read_blob(arrived.repository, digest) as chunks:
                await self._registry.write_blob(repository, arrived.blob, chunks)


class _Told:
    """Tells of an archive's bytes as they are read, and of none twice when a blob is tried again."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self._furthest = 0

    def all_of(self, size: int) -> None:
        """The blob need not be read."""
        if size > self._furthest:
            self._advance(size - self._furthest)
            self._furthest = size

    async def through(self, passing: PassingBlob) -> AsyncIterator[bytes]:
        """The blob's chunks."""
        async for chunk in passing.chunks():
            self.all_of(passing.read)
            yield chunk
        self.all_of(passing.read)


def same_layer(blob: ArchivedBlob, arrived: Arrived) -> None:
    """CorruptError when a layer's plain bytes are not those that the image's config names."""
    if blob.diff_id and arrived.diff_id and blob.diff_id != arrived.diff_id:
        raise CorruptError(
            f"reading the layer {blob.member}",
            f"its content is {arrived.diff_id[:19]}, the config says {blob.diff_id[:19]}",
            hint="the archive is damaged: make or fetch it again",
        )


def typed(arrived: Arrived, media_type: str) -> Descriptor:
    """The descriptor of a layer in a manifest that is made here."""
    return replace(arrived.blob, media_type=media_type)
