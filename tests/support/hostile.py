"""An HTTP server that says what a test tells it, byte for byte, and keeps what it was asked.

It stands in for what no real registry can be brought to do: lie, stall, break off, answer with another server's pages, limit rates, hand out
tokens. Whatever the real registry can show is tested against the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.connections import served

MARK = {"Docker-Distribution-Api-Version": "registry/2.0"}
"""The header by which a registry's answer is known."""


class Then(enum.Enum):
    """What a server does in the middle of an answer. A connection stays open by itself."""

    CLOSE = enum.auto()
    STALL = enum.auto()


Steps = Iterable[bytes | Then]


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; header names are lowercase."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        """The path without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's fields."""
        return parse_qs(urlsplit(self.target).query)

    @property
    def authorization(self) -> str | None:
        """What came as Authorization."""
        return self.headers.get("authorization")


def reply(status: int = 200, body: bytes | str = b"", **headers: str | None) -> bytes:
    """A whole answer. Header names have underscores for dashes; None leaves out Content-Length, which is added otherwise."""
    raw = body.encode() if isinstance(body, str) else body
    named: dict[str, str | None] = {"Content-Length": str(len(raw))}
    named.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in named.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode() + raw


def said(status: int, code: str, message: str = "as told", **headers: str) -> bytes:
    """A registry's error (distribution-spec, "Error Codes")."""
    body = json.dumps({"errors": [{"code": code, "message": message}]})
    return reply(status, body, Content_Type="application/json", **{**_marks(), **headers})


def page(status: int = 200) -> bytes:
    """A page for people, as proxies and login walls give it."""
    return reply(status, "<html><body>Welcome to the <b>portal</b></body></html>", Content_Type="text/html")


def listed(name: str, values: Any, link: str = "") -> bytes:
    """One page of a listing."""
    more = {"Link": f'<{link}>; rel="next"'} if link else {}
    return reply(200, json.dumps({name: values}), Content_Type="application/json", **{**_marks(), **more})


def _marks() -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in MARK.items()}


def _without_body(answer: bytes) -> bytes:
    head, end, _ = answer.partition(b"\r\n\r\n")
    return head + end


Script = Callable[[Asked], bytes | Steps]


@dataclass
class Hostile:
    """A running server: where it is, what it was asked, how many bytes it got rid of, and how often its peer hung up on a stall."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    sent: int = 0
    reads_bodies: bool = True
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a connection has come to a Then.STALL."""

    @property
    def address(self) -> str:
        """host:port."""
        return self.url.partition("//")[2]

    def of(self, method: str, path: str = "") -> list[Asked]:
        """What was asked with this method, and with this in its path."""
        return [each for each in self.asked if each.method == method and path in each.path]


@contextlib.asynccontextmanager
async def hostile(script: Script, *, reads_bodies: bool = True, tls: ssl.SSLContext | None = None) -> AsyncIterator[Hostile]:
    """Serve a script on loopback. With `reads_bodies` off it answers as soon as it has seen the headers."""
    running = _Running(script)
    async with served(running.connection, lambda connected: asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls, limit=1 << 20)) as server:
        port = server.sockets[0].getsockname()[1]
        running.server = Hostile(f"{'https' if tls else 'http'}://127.0.0.1:{port}", reads_bodies=reads_bodies)
        yield running.server


class _Running:
    server: Hostile

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while (asked := await self._request(reader, number)) is not None:
                self.server.asked.append(asked)
                answer = self.script(asked)
                for step in [answer] if isinstance(answer, bytes) else answer:
                    if step is Then.CLOSE:
                        return
                    if isinstance(step, bytes):
                        writer.write(_without_body(step) if asked.method == "HEAD" else step)
                        await writer.drain()
                        self.server.sent += len(step)
                    else:
                        self.server.stalled.set()
                        await asyncio.Event().wait()
        except (OSError, asyncio.IncompleteReadError):
            pass  # The client hung up, as it may.
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _request(self, reader: asyncio.StreamReader, number: int) -> Asked | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        first, *rest = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        length = int(headers.get("content-length", 0)) if self.server.reads_bodies else 0
        return Asked(method, target, headers, await reader.readexactly(length), number)
