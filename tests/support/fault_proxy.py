"""A proxy on loopback before a real registry, which breaks what a test tells it to, and counts what passes.

Everything is the real registry's but for what a `Fault` does. The registry is sent `Connection: close`: there each request is a connection of its
own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from tests.support.connections import served

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Fault:
    """What is done to one answer. Positions are bytes of its body."""

    cut: int | None = None
    """Hang up after so many."""
    cut_upload: int | None = None
    """Hang up, on both sides, after so many bytes of the request's body."""
    flip: int | None = None
    """Change this one."""
    answer: bytes = b""
    """Give this in place of the registry's answer, which is not asked."""
    drop_header: str = ""
    """Leave out this header of the request: `range`, say, for a registry that does not know it."""
    hold: asyncio.Event | None = None
    """Wait for it before the answer's body."""
    wait: float = 0.0
    """So many seconds before the request is passed on."""
    reset: bool = False
    """Reset the connection, without an answer."""


@dataclass
class Passed:
    """One request that came by, with the bytes of the bodies that passed each way."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    up: int = 0
    down: int = 0


@dataclass
class FaultProxy:
    """A running proxy. `faults` are used up, each by the first request of its method whose path contains its text."""

    url: str
    passed: list[Passed] = field(default_factory=list)
    faults: list[tuple[str, str, Fault]] = field(default_factory=list)
    always: list[tuple[str, str, Fault]] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def address(self) -> str:
        """host:port."""
        return self.url.partition("//")[2]

    def spoil(self, method: str, path: str, *faults: Fault) -> None:
        """The next requests that match meet these, one each."""
        self.faults += [(method, path, fault) for fault in faults]

    def of(self, method: str, path: str = "") -> list[Passed]:
        """What came by with this method, and with this in its path."""
        return [each for each in self.passed if each.method == method and path in each.path]

    def down(self, path: str) -> int:
        """The bytes of answers' bodies to GETs that have this in their path."""
        return sum(each.down for each in self.of("GET", path))

    async def until(self, method: str, path: str, count: int = 1) -> None:
        """Wait until so many such requests have arrived."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.of(method, path)) >= count)

    def fault_for(self, method: str, path: str) -> Fault:
        """What this request meets."""
        for found in (each for each in self.faults if each[0] == method and each[1] in path):
            self.faults.remove(found)
            return found[2]
        return next((fault for wanted, part, fault in self.always if wanted == method and part in path), Fault())


@contextlib.asynccontextmanager
async def fault_proxy(url: str) -> AsyncIterator[FaultProxy]:
    """Before the registry at this URL."""
    upstream, proxy = urlsplit(url), FaultProxy("")
    serve = partial(_serve, proxy, upstream.hostname or "", upstream.port or 80)
    async with served(serve, lambda connected: asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)) as server:
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy


async def _serve(proxy: FaultProxy, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await _one(proxy, host, port, reader, writer):
            pass
    except (OSError, asyncio.IncompleteReadError):
        pass  # One side hung up, as it may.
    finally:
        await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    return first, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}


def _written(first: str, headers: dict[str, str]) -> bytes:
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode("latin-1")


async def _one(proxy: FaultProxy, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """One request and its answer; whether the connection lives on."""
    first, headers = await _head(reader)
    method, target, _ = first.split(" ")
    passed = Passed(method, target, headers)
    fault = proxy.fault_for(method, target)
    async with proxy.arrived:
        proxy.passed.append(passed)
        proxy.arrived.notify_all()
    await asyncio.sleep(fault.wait)
    if fault.reset:
        writer.transport.abort()
        return False
    if fault.answer:
        await reader.readexactly(int(headers.get("content-length", 0)))
        passed.status = int(fault.answer.split(b" ", 2)[1])
        writer.write(fault.answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" else fault.answer)
        await writer.drain()
        return True
    there, to_there = await asyncio.open_connection(host, port, limit=1 << 20)
    try:
        sent = {name: value for name, value in headers.items() if name != fault.drop_header}
        to_there.write(_written(first, {**sent, "connection": "close"}))
        if headers.get("transfer-encoding") == "chunked":  # As an engine pushes.
            await _chunks(reader, to_there, passed)
        elif not await _upload(reader, to_there, int(headers.get("content-length", 0)), passed, fault):
            return False
        return await _answer(there, writer, passed, fault)
    finally:
        await _closed(to_there)


async def _upload(reader: asyncio.StreamReader, to_there: asyncio.StreamWriter, length: int, passed: Passed, fault: Fault) -> bool:
    while passed.up < length:
        most = length if fault.cut_upload is None else min(length, fault.cut_upload)
        if passed.up >= most:
            return False
        chunk = await reader.read(min(_CHUNK, most - passed.up))
        if not chunk:
            return False
        passed.up += len(chunk)
        to_there.write(chunk)
        await to_there.drain()
    return True


async def _chunks(reader: asyncio.StreamReader, to_there: asyncio.StreamWriter, passed: Passed) -> None:
    size = -1
    while size:
        line = await reader.readuntil(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        to_there.write(line + await reader.readexactly(size + 2))
        await to_there.drain()
        passed.up += size


async def _answer(there: asyncio.StreamReader, writer: asyncio.StreamWriter, passed: Passed, fault: Fault) -> bool:
    first, headers = await _head(there)
    passed.status = int(first.split(" ", 2)[1])
    headers.pop("connection", None)
    lives = "content-length" in headers or passed.method == "HEAD"
    writer.write(_written(first, headers if lives else {**headers, "connection": "close"}))
    if fault.hold is not None:
        await writer.drain()
        await fault.hold.wait()
    while chunk := await there.read(_CHUNK):
        spoiled = _spoiled(chunk, passed.down, fault)
        passed.down += len(spoiled)
        writer.write(spoiled)
        await writer.drain()
        if fault.cut is not None and passed.down >= fault.cut:
            return False
    return lives


def _spoiled(chunk: bytes, at: int, fault: Fault) -> bytes:
    if fault.flip is not None and at <= fault.flip < at + len(chunk):
        changed = bytearray(chunk)
        changed[fault.flip - at] ^= 1
        chunk = bytes(changed)
    return chunk if fault.cut is None else chunk[: max(0, fault.cut - at)]
