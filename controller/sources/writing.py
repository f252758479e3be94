"""Writing an archive: one tar, to a file that appears only when it is whole, or to standard output."""

from __future__ import annotations

import asyncio
import os
import select
import stat
import sys
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from controller.domain.errors import CorruptError, UsageError
from controller.domain.ports.archives import ArchiveWriter
from controller.sources.tar import SECTOR
from controller.sources.workers import finished

_PART = ".part"
_AHEAD = 2
"""Chunks that wait for who takes them."""

_WAKE = 0.2
"""Seconds after which a writer to a full pipe looks whether it is still wanted."""


class TarWriter:
    """Fulfils `domain.ports.archives.ArchiveWriter`. The same content gives the same bytes: no times, no owners."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name
        self._wanted = True

    async def document(self, name: str, data: bytes) -> None:
        """Append a small member."""
        await self._write(_header(name, len(data)) + data + _padding(len(data)))

    async def blob(self, name: str, size: int, chunks: AsyncIterator[bytes]) -> None:
        """Append a member as its bytes come."""
        await self._write(_header(name, size))
        written = 0
        async for chunk in chunks:
            written += len(chunk)
            if written > size:
                break
            await self._write(chunk)
        if written != size:
            found = f"more than {size}" if written > size else written
            raise CorruptError(f"reading {name}", f"{found} bytes, {size} by its manifest", hint="the registry's storage is damaged")
        await self._write(_padding(size))

    async def finish(self) -> None:
        """The end of the tar."""
        await self._write(bytes(2 * SECTOR))

    async def _write(self, data: bytes) -> None:
        await finished(lambda: self._written(data), self._give_up)

    def _give_up(self) -> None:
        self._wanted = False

    def _written(self, data: bytes) -> None:
        left = memoryview(data)
        with _explained(self._name):
            while left and self._wanted:
                try:
                    left = left[os.write(self._fd, left) :]
                except BlockingIOError:
                    select.select([], [self._fd], [], _WAKE)


class _Passing(TarWriter):
    """Writes for who takes the chunks, and waits for him."""

    def __init__(self, chunks: asyncio.Queue[bytes]) -> None:
        super().__init__(-1, "an archive")
        self._chunks = chunks

    async def _write(self, data: bytes) -> None:
        if data:
            await self._chunks.put(data)


async def written(write: Callable[[ArchiveWriter], Awaitable[object]]) -> AsyncGenerator[bytes, None]:
    """The chunks of what `write` writes; none is kept but those of the moment."""
    chunks: asyncio.Queue[bytes] = asyncio.Queue(_AHEAD)

    async def all_of_it() -> None:
        writer = _Passing(chunks)
        try:
            await write(writer)
            await writer.finish()
        except asyncio.CancelledError:
            raise  # Nobody takes anything any more.
        except BaseException:
            await chunks.put(b"")
            raise
        await chunks.put(b"")

    writing = asyncio.create_task(all_of_it())
    try:
        while chunk := await chunks.get():
            yield chunk
        await writing
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


@asynccontextmanager
async def open_writer(path: Path | None) -> AsyncIterator[TarWriter]:
    """A writer to a file, or to standard output; UsageError when nothing can be written there."""
    if path is None:
        if sys.stdout.isatty():
            raise UsageError("an archive is nothing for a terminal: name a file with -o, or send it to a program")
        fd = _unblocked(sys.stdout.fileno())
        try:
            writer = TarWriter(fd, "standard output")
            yield writer
            await writer.finish()
        finally:
            os.close(fd)
        return
    part = path.with_name(path.name + _PART)
    with _explained(str(part)):
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        writer = TarWriter(fd, str(part))
        try:
            yield writer
            await writer.finish()
            await finished(lambda: os.fsync(fd))
        finally:
            os.close(fd)
        with _explained(str(path)):
            part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def _unblocked(fd: int) -> int:
    """The same pipe, opened anew: who writes to that one is never kept by a reader that does not read, and who shares `fd` notices nothing."""
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        with suppress(OSError):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.dup(fd)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What the system says of a file that is written, as our error; a reader that went away stays what it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"writing {name}: {error.strerror or error}") from None


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % SECTOR)
