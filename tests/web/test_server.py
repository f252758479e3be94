"""The HTTP server, on a real port: what it answers to whom, and where it listens."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controller.domain.errors import UsageError
from controller.domain.spec import Web
from controller.web.notifications import Change
from controller.web.operations import Operations
from controller.web.server import MAX_BODY, Server
from tests.support.servers import free_port
from tests.web.test_notifications import body, event


class Hints(Operations):
    """Remembers what it is told of the registry."""

    def __init__(self) -> None:
        super().__init__()
        self.hints: list[Change] = []

    def hint(self, change: Change) -> None:
        self.hints.append(change)


class Asker:
    """A server, and requests to it."""

    def __init__(self) -> None:
        self.operations = Hints()
        self.server = Server(self.operations)
        self.port = free_port()

    async def serve(self, base: Path = Path(), **more: Any) -> None:
        await self.server.serve(Web.model_validate({"listen": f"127.0.0.1:{self.port}", **more}), base)

    async def ask(self, path: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
        """The status and the body of an answer."""

        def ask() -> tuple[int, str]:
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as refused:
                with refused:
                    return refused.code, refused.read().decode()

        return await asyncio.to_thread(ask)


@pytest.fixture
async def asker() -> AsyncIterator[Asker]:
    """A server that does not listen yet."""
    found = Asker()
    yield found
    await found.server.close()


async def test_what_is_there_and_what_is_not(asker: Asker) -> None:
    """Health and metrics answer before the first look too; other paths and methods do not."""
    await asker.serve()
    assert await asker.ask("/healthz") == (200, "ok\n")
    assert await asker.ask("/readyz") == (503, "no full look has ended yet\n")
    status, metrics = await asker.ask("/metrics")
    assert status == 200
    assert 'wharf_actions_total{action="Evict",result="failed"} 0.0' in metrics
    assert 'wharf_queue_depth{state="due"} 0.0' in metrics
    assert (await asker.ask("/"))[0] == 404
    assert (await asker.ask("/healthz", b""))[0] == 405
    assert (await asker.ask("/notifications"))[0] == 405


async def test_prometheus_gets_the_format_that_it_asks_for(asker: Asker) -> None:
    """OpenMetrics ends with its own mark; the plain text does not."""
    await asker.serve()
    _, modern = await asker.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert modern.endswith("# EOF\n")
    assert "# EOF" not in (await asker.ask("/metrics"))[1]


async def test_notifications_are_hints(asker: Asker) -> None:
    """What others changed is told on; what is malformed or too large is refused, with the reason, and nothing is told."""
    await asker.serve()
    assert (await asker.ask("/notifications", body(event("push"), event("pull", "2"))))[0] == 202
    assert asker.operations.hints == [Change("cyroid/kali", "1")]
    assert await asker.ask("/notifications", b"{") == (400, "the body is not JSON\n")
    assert (await asker.ask("/notifications", body(event("push")) + b" " * MAX_BODY))[0] == 413
    assert asker.operations.hints == [Change("cyroid/kali", "1")]


async def test_with_a_token_only_who_knows_it_is_heard(asker: Asker, tmp_path: Path) -> None:
    """It is read at each request, so it can be changed; when it can't be read nobody is let in. It is in no answer."""
    (tmp_path / "token").write_text("s3cret-token\n")
    await asker.serve(tmp_path, notifications={"tokenFile": "token"})
    hint = body(event("push"))
    for wrong in ({}, {"Authorization": "Bearer other"}, {"Authorization": "s3cret-token"}):
        status, words = await asker.ask("/notifications", hint, **wrong)
        assert status == 401
        assert "s3cret" not in words
    assert asker.operations.hints == []
    assert (await asker.ask("/notifications", hint, Authorization="Bearer s3cret-token"))[0] == 202
    (tmp_path / "token").write_text("changed")
    assert (await asker.ask("/notifications", hint, Authorization="Bearer s3cret-token"))[0] == 401
    (tmp_path / "token").write_text("")
    assert (await asker.ask("/notifications", hint, Authorization="Bearer "))[0] == 503
    (tmp_path / "token").unlink()
    assert (await asker.ask("/notifications", hint, Authorization="Bearer changed"))[0] == 503
    assert len(asker.operations.hints) == 1


async def test_an_address_that_is_taken(asker: Asker) -> None:
    """An error that names the address; a server that listens elsewhere can be moved there later."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", asker.port))
        other.listen()
        with pytest.raises(UsageError, match=rf"web.listen 127.0.0.1:{asker.port}: .*in use"):
            await asker.serve()
    await asker.serve()
    old, asker.port = asker.port, free_port()
    await asker.serve()
    assert (await asker.ask("/healthz"))[0] == 200
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", old)):
        pass


async def test_what_is_not_http_is_answered_and_forgotten(asker: Asker, caplog: pytest.LogCaptureFixture) -> None:
    """Noise on the port fills no log and stops nothing."""
    await asker.serve()
    for noise in (b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 100_000 + b"\r\n\r\n", b"\r\n" * 50):
        reader, writer = await asyncio.open_connection("127.0.0.1", asker.port)
        writer.write(noise)
        await writer.drain()
        writer.write_eof()
        await reader.read()
        writer.close()
    assert (await asker.ask("/healthz"))[0] == 200
    assert "Traceback" not in caplog.text


def test_events_as_the_registry_names_them() -> None:
    """The example of the tests is JSON as posted."""
    assert json.loads(body(event("push")))["events"][0]["target"]["repository"] == "cyroid/kali"
