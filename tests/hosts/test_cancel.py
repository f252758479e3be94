"""Cancelling what an engine does: the thread has ended when the cancelling has, or the next step would overtake it.

A real engine can be brought neither to be slow nor to stall at will, so both are made up here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from controller.hosts.docker_engine import DockerHost
from tests.support.hostile import Asked, Then, hostile, reply


class _SlowClient:
    """The SDK's client of an engine that takes its time to tag."""

    def __init__(self) -> None:
        self.began, self.go, self.tagged = threading.Event(), threading.Event(), False

    def tag(self, *_: str) -> None:
        self.began.set()
        self.go.wait(10)
        self.tagged = True

    def close(self) -> None:
        return None


async def test_a_cancelled_tag_is_made_before_the_cancelling_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a push that is cancelled looks for its tag, finds none, and then the tag is made and stays."""
    slow: Any = _SlowClient()
    host = DockerHost("local", "unix:///nobody")
    monkeypatch.setattr(host, "_client", lambda _: slow)
    tagging = asyncio.create_task(host.tag("sha256:0", "127.0.0.1:5000/cyroid/kali:1"))
    assert await asyncio.to_thread(slow.began.wait, 20)
    tagging.cancel()
    asyncio.get_running_loop().call_later(0.05, slow.go.set)
    with pytest.raises(asyncio.CancelledError):
        await tagging
    assert slow.tagged
    await host.close()


async def test_what_had_not_begun_never_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that still waits for a thread is taken back."""
    slow: Any = _SlowClient()
    host = DockerHost("local", "unix:///nobody")
    monkeypatch.setattr(host, "_client", lambda _: slow)
    busy = [asyncio.create_task(host.tag("sha256:0", f"cyroid/kali:{n}")) for n in range(4)]
    assert await asyncio.to_thread(slow.began.wait, 20)
    waiting = asyncio.create_task(host.remove("cyroid/kali:1"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    slow.go.set()
    await asyncio.gather(*busy)
    await host.close()


async def test_a_push_that_stalls_is_cancelled_at_once() -> None:
    """A stream in which nothing comes any more does not hold up the end of the program."""

    def engine(asked: Asked) -> bytes | Iterable[bytes | Then]:
        if asked.path.endswith("/version"):
            return reply(200, '{"ApiVersion": "1.41"}', Content_Type="application/json")
        line = b'{"status": "Preparing"}\n'
        return [reply(200, Content_Length=None, Transfer_Encoding="chunked"), b"%x\r\n%s\r\n" % (len(line), line), Then.STALL]

    async with hostile(engine) as server:
        host = DockerHost("local", server.url.replace("http", "tcp"))
        pushing = asyncio.create_task(host.push("127.0.0.1:5000/cyroid/kali:1", lambda _: None))
        await server.stalled.wait()
        pushing.cancel()
        done, _ = await asyncio.wait({pushing}, timeout=20)
        assert done
        assert pushing.cancelled()
        await host.close()
