"""Blobs on their way from an upstream: each is fetched once, into a file without a name, from which all read it that want it.

Who reads slowly holds nobody up, who leaves ends nothing, who comes late gets it from the start. The file is gone with the process.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path

from controller.domain.errors import RefusedError, RemoteError
from controller.domain.oci import Descriptor
from controller.engine.blobs import Download
from controller.engine.tree import Origin
from controller.gateway.relay import writable

CHUNK = 1 << 20
"""Bytes that are read at a time."""

Key = tuple[str, str, str]
"""The upstream's address, the repository there, the digest: who may read a repository may read what is fetched for it."""


class Flow:
    """One blob, as it comes. What is read of it was written to the file; the last bytes only once all of them are what the digest says."""

    def __init__(self, origin: Origin, blob: Descriptor, folder: Path | None, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.blob = blob
        self.readers = 0
        self.clients = 0
        self.ended = False
        self.failure: RemoteError | None = None
        self.task: asyncio.Task[None] | None = None
        self._origin = origin
        self._sleep = sleep
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close(), which is not here
        self._written = 0
        self._progress = asyncio.Event()
        self._using = threading.Lock()

    async def fetch(self) -> None:
        """From the upstream into the file; goes on with Range where the download breaks off."""
        try:
            async with aclosing(Download(self._origin, self.blob, self._sleep).chunks()) as chunks:
                async for chunk in chunks:
                    await asyncio.to_thread(self._write, chunk)
                    self._told()
        except RemoteError as error:
            error.retryable = False  # It was tried as often as it is worth; who reads here need not try the same again.
            self.failure = error
        except OSError as error:
            self.failure = RefusedError(f"keeping {self.blob.digest} of {self._origin.name} on its way", error.strerror or str(error))
        finally:
            self.ended = True
            self._told()

    async def read(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to before `end`, as they come; RemoteError when they don't."""
        at = start
        while at < end:
            chunk = await asyncio.to_thread(os.pread, self._file.fileno(), await self._there(at, end), at)
            at += len(chunk)
            yield chunk

    async def read_behind(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The same, for whom nobody waits: while the blob comes, and clients take it, they go first (docs/adr/0028)."""
        async with aclosing(self.read(start, end)) as chunks:
            while True:
                while self.clients and not self.ended:
                    await self._progress.wait()
                try:
                    yield await anext(chunks)
                except StopAsyncIteration:
                    return

    @contextmanager
    def serving(self) -> Iterator[None]:
        """A client takes it."""
        self.clients += 1
        try:
            yield
        finally:
            self.clients -= 1
            self._told()

    async def send(self, out: int, start: int, end: int) -> None:
        """The same to a socket; ConnectionError when nobody takes it."""
        at = start
        while at < end:
            there = await self._there(at, end)
            try:
                at += await _to_its_end(os.sendfile, out, self._file.fileno(), at, there)
            except BlockingIOError:
                await writable(out)

    async def begun(self) -> None:
        """Wait for the first bytes; RemoteError when none come."""
        if self.blob.size:
            await self._there(0, self.blob.size)

    async def _there(self, at: int, end: int) -> int:
        """How many bytes are there from `at` on, once there are some."""
        while at >= self._written:
            progress = self._progress
            if self.ended:
                raise self.failure or RefusedError(f"reading {self.blob.digest}", f"it ended after {self._written} bytes")
            await progress.wait()
        return min(CHUNK, end - at, self._written - at)

    def close(self) -> None:
        """Give the file back; a thread that still writes for who was cancelled ends first, as its descriptor may be another file's next."""
        with self._using:
            self._file.close()

    def _write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        with self._using:
            while view and not self._file.closed:
                count = os.pwrite(self._file.fileno(), view, self._written)
                self._written += count
                view = view[count:]

    def _told(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()


class Spooled:
    """A part of a blob that is on its way, for a socket."""

    first = b""

    def __init__(self, flow: Flow, start: int, end: int) -> None:
        self._flow, self._start, self._end = flow, start, end

    async def send(self, out: int) -> None:
        """Out of the flow's file."""
        await self._flow.send(out, self._start, self._end)


async def _to_its_end(work: Callable[..., int], *arguments: int) -> int:
    """In a thread, which who is cancelled waits for: its descriptors must be what they are until then."""
    working = asyncio.get_running_loop().run_in_executor(None, work, *arguments)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


class Spool:
    """All blobs that are on their way. One is kept while it is read, and while an image of its repository is brought to the registry."""

    def __init__(self, group: asyncio.TaskGroup, folder: Path | None = None, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._group = group
        self._folder = folder
        self._sleep = sleep
        self._flows: dict[Key, Flow] = {}
        self._wanted: Counter[tuple[str, str]] = Counter()

    @asynccontextmanager
    async def reading(self, origin: Origin, blob: Descriptor) -> AsyncIterator[Flow]:
        """The flow of a blob: the one that is under way, or a new one."""
        key = (origin.registry.address, origin.repository, blob.digest)
        flow = self._flows.get(key)
        if flow is None or flow.failure is not None:
            flow = self._flows[key] = Flow(origin, blob, self._folder, self._sleep)
            flow.task = self._group.create_task(flow.fetch())
            flow.task.add_done_callback(lambda _: self._tidy(key, flow))
        flow.readers += 1
        try:
            yield flow
        finally:
            flow.readers -= 1
            self._tidy(key, flow)

    @contextmanager
    def keeping(self, origin: Origin) -> Iterator[None]:
        """What was fetched of this repository stays for as long."""
        repository = (origin.registry.address, origin.repository)
        self._wanted[repository] += 1
        try:
            yield
        finally:
            self._wanted[repository] -= 1
            if not self._wanted[repository]:
                del self._wanted[repository]
                for key, flow in list(self._flows.items()):
                    if key[:2] == repository:
                        self._tidy(key, flow)

    def close(self) -> None:
        """Cancel what is under way."""
        for flow in self._flows.values():
            if flow.task is not None:
                flow.task.cancel()

    def _tidy(self, key: Key, flow: Flow) -> None:
        current = self._flows.get(key) is flow
        if flow.readers or not flow.ended or (current and not flow.failure and self._wanted[key[:2]]):
            return
        if current:
            del self._flows[key]
        flow.close()
