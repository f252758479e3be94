"""A Unix socket before a real engine's: everything is the engine's, but a test may act before a request is passed on, or lose events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.support.connections import served

_CHUNK = 1 << 16


@dataclass
class EngineProxy:
    """`before` is awaited with the first line of each request that begins a connection; with `deaf`, what the engine tells as events is lost."""

    url: str
    before: Callable[[str], Awaitable[None]] | None = None
    deaf: bool = False
    _listening: set[asyncio.StreamWriter] = field(default_factory=set)

    async def listened(self) -> None:
        """Wait until somebody listens."""
        while not self._listening:  # noqa: ASYNC110 - told by nobody
            await asyncio.sleep(0.01)

    def cut(self) -> None:
        """Break off every stream of events."""
        for writer in self._listening:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def engine_proxy(socket: Path, at: Path) -> AsyncIterator[EngineProxy]:
    """Before the engine that listens at `socket`, for who connects to `at`."""
    proxy = EngineProxy(f"unix://{at}")
    async with served(partial(_serve, proxy, socket), lambda connected: asyncio.start_unix_server(connected, at)):
        yield proxy


async def _serve(proxy: EngineProxy, socket: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Each connection to its end, both ways at once. Requests on a kept connection pass by their first lines, too."""
    with contextlib.suppress(OSError):
        there, to_there = await asyncio.open_unix_connection(socket)
        try:
            async with asyncio.TaskGroup() as group:
                back = group.create_task(_back(proxy, there, writer))
                await _forth(proxy, reader, to_there, writer)
                back.cancel()
        except* OSError:
            pass
        finally:
            proxy._listening.discard(writer)
            for each in (to_there, writer):
                each.close()


async def _forth(proxy: EngineProxy, reader: asyncio.StreamReader, to_there: asyncio.StreamWriter, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        first = chunk.partition(b"\r\n")[0].decode("latin-1")
        if first.endswith(" HTTP/1.1"):
            if "/events" in first:
                proxy._listening.add(writer)
            if proxy.before is not None:
                await proxy.before(first)
        to_there.write(chunk)
        await to_there.drain()


async def _back(proxy: EngineProxy, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await there.read(_CHUNK):
        if proxy.deaf and writer in proxy._listening and not chunk.startswith(b"HTTP/1.1"):
            continue
        writer.write(chunk)
        await writer.drain()
    writer.close()
