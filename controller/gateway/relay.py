"""Bodies that go from one descriptor to another in the kernel: passing through Python costs more than all else that is done for them (docs/adr/0028).

Only to clients without TLS. Descriptors are duplicated for as long, so that one that is closed meanwhile is not somebody else's.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Protocol

from aiohttp import web

from controller.domain.errors import UnreachableError
from controller.domain.ports.registries import Rest

SMALL = 256 << 10
"""Bytes. For fewer it is not worth it."""

AT_ONCE = 1 << 20
"""Bytes that are moved at a time; as many as a pipe holds."""

_SILENCE = 60.0
"""Seconds in which a source must give something."""

_PATIENCE = 300.0
"""Seconds in which a client must take something."""


class Source(Protocol):
    """A body, or the rest of one, in a descriptor."""

    @property
    def first(self) -> bytes:
        """Its first bytes, which are in memory already and are sent before."""
        ...

    async def send(self, out: int) -> None:
        """Send all that follows to a socket; RemoteError when it breaks off, ConnectionError when nobody takes it."""
        ...


@asynccontextmanager
async def outlet(request: web.Request, first: bytes) -> AsyncIterator[int]:
    """The client's socket, once the answer's head and its first bytes are out."""
    transport: Any = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    transport.set_write_buffer_limits(high=0)  # drain() waits until nothing is left.
    try:
        await request.writer.write(first)
        await request.writer.drain()
    finally:
        transport.set_write_buffer_limits()
    with _duplicated(transport.get_extra_info("socket").fileno()) as out:
        yield out


def is_plain(request: web.Request) -> bool:
    """Whether what is written to the client's socket is what it gets."""
    transport = request.transport
    return transport is not None and transport.get_extra_info("sslcontext") is None and transport.get_extra_info("socket") is not None


class Spliced:
    """The rest of a body that comes by another connection; `tried` is the request, for an error's words."""

    def __init__(self, rest: Rest, tried: str) -> None:
        self.first = rest.first
        self._rest = rest
        self._tried = tried

    async def send(self, out: int) -> None:
        """By a pipe, which splice() needs between two sockets."""
        left = self._rest.left
        with _duplicated(self._rest.descriptor) as source, _pipe() as (reading, writing):
            while left:
                there = await self._taken(source, writing, left)
                left -= there
                while there:
                    try:
                        there -= _splice(reading, out, there)
                    except BlockingIOError:
                        await writable(out)
                await asyncio.sleep(0)  # Others have their turn, however fast both sides are.

    async def _taken(self, source: int, writing: int, left: int) -> int:
        """How many bytes went from the source into the pipe."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                with suppress(BlockingIOError):
                    if count := _splice(source, writing, left):
                        return count
                    raise UnreachableError(self._tried, f"the body ended {left} bytes too early")
                await _ready(loop.add_reader, loop.remove_reader, source, _SILENCE)
        except TimeoutError:
            raise UnreachableError(self._tried, f"nothing came for {_SILENCE:g} s") from None
        except OSError as error:
            raise UnreachableError(self._tried, error.strerror or str(error)) from None


async def writable(out: int) -> None:
    """Wait until that socket takes something; ConnectionError when it does not for long."""
    loop = asyncio.get_running_loop()
    try:
        await _ready(loop.add_writer, loop.remove_writer, out, _PATIENCE)
    except TimeoutError:
        raise ConnectionAbortedError(f"the client took nothing for {_PATIENCE:g} s") from None


async def _ready(add: Callable[..., None], remove: Callable[[int], Any], descriptor: int, seconds: float) -> None:
    ready = asyncio.Event()
    add(descriptor, ready.set)
    try:
        async with asyncio.timeout(seconds):
            await ready.wait()
    finally:
        remove(descriptor)


def _splice(source: int, target: int, count: int) -> int:
    return os.splice(source, target, min(count, AT_ONCE), flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)


@contextmanager
def _duplicated(descriptor: int) -> Iterator[int]:
    own = os.dup(descriptor)
    try:
        yield own
    finally:
        os.close(own)


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # One that is smaller is slower.
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, AT_ONCE)
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)
