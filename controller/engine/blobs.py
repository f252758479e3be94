"""Blobs into one registry: each is moved once, whoever needs it; the others wait for it and mount it.

A blob costs the registry one request where it has it already (a mount), two where it has not (the mount that became an upload, and the upload).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable

from controller.domain.errors import CorruptError, RemoteError, UnprovenError
from controller.domain.oci import Descriptor
from controller.domain.ports.registries import Advance, Registry
from controller.domain.reference import is_digest
from controller.engine.prove import first_of
from controller.engine.tree import Origin

log = logging.getLogger(__name__)

BLOBS_AT_ONCE = 3
"""Of one image: as many as leave a place for each image that is worked on at a time. A blob on its way takes some 4 MiB of memory."""

UPLOADS = 3
"""How often an upload is begun."""

_REMEMBERED = 50_000
_STALLED = 30.0
"""Seconds without a byte, after which who waits for a blob goes and gets it by himself."""

_RECONNECTS = 50
_IN_VAIN = 4
"""How often a download may break off: in all, and in a row without a byte. Never when a pause is asked for: the client has sat out some already."""

_IN_A_THREAD = 128 << 10
"""Bytes from which a chunk is hashed in a thread: below, the way there takes as long as the hashing."""


class Blobs:
    """The book of a registry's blobs: which repository has which, and which are on their way. Bounded, and forgotten at a restart."""

    def __init__(self, registry: Registry, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._registry = registry
        self._sleep = sleep
        self._moving: dict[str, _Move] = {}
        self._home_of: OrderedDict[str, str] = OrderedDict()
        self._there: OrderedDict[tuple[str, str], None] = OrderedDict()

    def knows(self, repository: str, blobs: Iterable[Descriptor]) -> bool:
        """Whether the book says of one of these that the repository has it; the registry may have lost it since."""
        return any((repository, blob.digest) in self._there for blob in blobs)

    def forget(self, repository: str, blobs: Iterable[Descriptor]) -> None:
        """The registry says that it lacks one of these: what the book says of them is worth nothing."""
        for blob in blobs:
            self._there.pop((repository, blob.digest), None)
            self._home_of.pop(blob.digest, None)

    async def bring(self, origin: Origin, blobs: Iterable[Descriptor], repository: str, advance: Advance) -> None:
        """Let the repository have these blobs. Raises the first RemoteError; what came until then stays, for the next try."""
        slots = asyncio.Semaphore(BLOBS_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                for blob in blobs:
                    group.create_task(self._bring(origin, blob, repository, slots, advance))
        except* (RemoteError, UnprovenError) as failures:
            raise first_of(failures) from None

    async def _bring(self, origin: Origin, blob: Descriptor, repository: str, slots: asyncio.Semaphore, advance: Advance) -> None:
        """Until the repository has it: wait for whoever moves it, mount it from its home, or move it. Only who moves holds a slot."""
        told, impatient = _Told(advance), False
        while (repository, blob.digest) not in self._there:
            move, home = self._moving.get(blob.digest), self._home_of.get(blob.digest)
            if move is not None and not impatient:
                impatient = await move.stalls()
            elif home is not None:
                await self._mount(repository, blob.digest, home)
            else:
                async with slots:
                    if impatient or (blob.digest not in self._moving and blob.digest not in self._home_of):
                        await self._move(origin, blob, repository, told)
        told.up_to(blob.size)

    async def _mount(self, repository: str, digest: str, home: str) -> None:
        if await self._registry.mount(repository, digest, home):
            self._note(repository, digest)
        elif self._home_of.get(digest) == home:
            del self._home_of[digest]

    async def _move(self, origin: Origin, blob: Descriptor, repository: str, told: _Told) -> None:
        move = self._moving[blob.digest] = _Move()
        try:
            # A mount from the repository itself asks whether it is there, and opens the upload if not: two requests in one.
            upload = await self._registry.offer(repository, blob.digest, repository)
            if upload:
                await self._upload(origin, blob, repository, upload, told, move)
            self._note(repository, blob.digest)
        finally:
            if self._moving.get(blob.digest) is move:
                del self._moving[blob.digest]
            move.done.set()

    def _note(self, repository: str, digest: str) -> None:
        self._there[repository, digest] = None
        self._home_of.setdefault(digest, repository)
        self._home_of.move_to_end(digest)
        for book in (self._there, self._home_of):
            while len(book) > _REMEMBERED:
                book.popitem(last=False)

    async def _upload(self, origin: Origin, blob: Descriptor, repository: str, upload: str, told: _Told, move: _Move) -> None:
        """Stream it. An upload that breaks is begun anew; a download that breaks goes on in the same upload."""
        for turn in range(1, UPLOADS + 1):
            download = Download(origin, blob, self._sleep)
            chunks = download.chunks()
            try:
                await self._registry.write_blob(repository, blob, _watched(chunks, told, move), upload)
            except RemoteError as error:
                final = not error.retryable or turn == UPLOADS or download.failed or bool(error.retry_after)
                if final:
                    raise _named(error, origin, blob, self._registry) from None
                log.info("the upload of %s is begun anew: %s", blob.digest, error)
                upload = ""
                await self._sleep(0.2 * 2**turn)
            else:
                return
            finally:
                with contextlib.suppress(RuntimeError):  # Still read from, by what is being cancelled: that closes it too.
                    await chunks.aclose()


class Download:
    """A blob on its way in: goes on from where it broke off, and is hashed as it passes. `failed`: it is the source's fault that it ended."""

    def __init__(self, origin: Origin, blob: Descriptor, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._origin = origin
        self._blob = blob
        self._sleep = sleep
        self._at = 0
        self.failed = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The chunks; the last one only if all of them are what the digest says."""
        hasher = _Hasher("" if self._origin.hashed else self._blob.digest)
        in_vain = 0
        for left in reversed(range(_RECONNECTS)):
            before = self._at
            try:
                async with self._origin.registry.read_blob(self._origin.repository, self._blob.digest, self._at) as chunks:
                    async for chunk in chunks:
                        self._at += len(chunk)
                        await hasher.add(chunk)
                        if self._at >= self._blob.size:
                            await self._check(hasher)
                        yield chunk
                break
            except RemoteError as error:
                in_vain = 0 if self._at > before else in_vain + 1
                if not error.retryable or not left or in_vain == _IN_VAIN or error.retry_after:
                    self.failed = True
                    raise
                log.info("going on with %s from byte %d: %s", self._blob.digest, self._at, error)
                await self._sleep(0.2 * 2**in_vain)
        if self._at < self._blob.size or not self._blob.size:
            await self._check(hasher)

    async def _check(self, hasher: _Hasher) -> None:
        blob, tried = self._blob, f"GET of blob {self._blob.digest} from {self._origin.registry.address}"
        if self._at != blob.size:
            found = f"more than {blob.size}" if self._at > blob.size else self._at
            raise CorruptError(tried, f"{found} bytes, {blob.size} by its manifest", hint="the manifest and the blob do not belong together")
        if not await hasher.is_right():
            raise CorruptError(tried, "other bytes than its digest says", hint="the registry's storage or the way to it is damaged")


class _Hasher:
    """Hashes in a thread, which the event loop does not wait for until the next chunk is there."""

    def __init__(self, digest: str) -> None:
        algorithm, _, self._expected = digest.partition(":")
        self._hasher = hashlib.new(algorithm) if is_digest(digest) else None
        self._under_way: asyncio.Future[None] | None = None

    async def add(self, chunk: bytes) -> None:
        if self._hasher is None:
            return
        if self._under_way is not None:
            await self._under_way
            self._under_way = None
        if len(chunk) < _IN_A_THREAD:
            self._hasher.update(chunk)
        else:
            self._under_way = asyncio.get_running_loop().run_in_executor(None, self._hasher.update, chunk)

    async def is_right(self) -> bool:
        """Whether all of it is what the digest says; of an algorithm that we don't know, the registry has to tell."""
        if self._under_way is not None:
            await self._under_way
        return self._hasher is None or self._hasher.hexdigest() == self._expected


class _Move:
    """One blob on its way."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.passed = 0

    async def stalls(self) -> bool:
        """Wait for its end; True when it does not come nearer."""
        before = self.passed
        try:
            async with asyncio.timeout(_STALLED):
                await self.done.wait()
        except TimeoutError:
            return self.passed == before
        return False


class _Told:
    """Tells of a blob's bytes, and of none twice when it is tried again."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._furthest = 0

    def up_to(self, passed: int) -> None:
        if passed > self._furthest:
            self._advance(passed - self._furthest)
            self._furthest = passed


async def _watched(chunks: AsyncIterator[bytes], told: _Told, move: _Move) -> AsyncIterator[bytes]:
    passed = 0
    async for chunk in chunks:
        passed += len(chunk)
        move.passed += len(chunk)
        told.up_to(passed)
        yield chunk


def _named(error: RemoteError, origin: Origin, blob: Descriptor, registry: Registry) -> RemoteError:
    """The same error, which says of which image and which blob it is."""
    more = f"copying {origin.name}, blob {blob.digest[:19]}, from {origin.registry.address} to {registry.address}: {error.tried}"
    return type(error)(more, error.answer, hint=error.hint, retryable=error.retryable, retry_after=error.retry_after)
