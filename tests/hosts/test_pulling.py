"""Pulls: as pushes, what the stream says is believed when it is bad, and a pull can be ended at any moment."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable

import pytest

from controller.domain.errors import RemoteError, UnreachableError
from controller.hosts.docker_engine import DockerHost
from controller.registry.credentials import Login
from tests.support.hostile import Asked, Then, hostile, reply
from tests.support.servers import EngineServer

NAME = "127.0.0.1:5000/cyroid/kali:1"


def _version(asked: Asked) -> bytes | None:
    return reply(200, '{"ApiVersion": "1.41"}', Content_Type="application/json") if asked.path.endswith("/version") else None


async def test_a_pull_that_stalls_is_cancelled_at_once() -> None:
    """A stream in which nothing comes any more does not hold up the end of the program."""

    def engine(asked: Asked) -> bytes | Iterable[bytes | Then]:
        line = b'{"status": "Downloading", "id": "a", "progressDetail": {"current": 7}}\n'
        head = reply(200, Content_Length=None, Transfer_Encoding="chunked")
        return _version(asked) or [head, b"%x\r\n%s\r\n" % (len(line), line), Then.STALL]

    async with hostile(engine) as server:
        host = DockerHost("local", server.url.replace("http", "tcp"))
        pulling = asyncio.create_task(host.pull(NAME, lambda _: None))
        await server.stalled.wait()
        pulling.cancel()
        done, _ = await asyncio.wait({pulling}, timeout=20)
        assert done
        assert pulling.cancelled()
        await host.close()


@pytest.mark.parametrize(("name", "known"), [(NAME, {"identitytoken": "t"}), ("docker.io/library/nginx:1", {}), ("cyroid/kali:1", {})])
async def test_the_login_goes_to_no_other_registry(name: str, known: dict[str, str]) -> None:
    """A pull from Docker Hub does not carry the login of the registry that is pushed to."""

    async def login() -> Login:
        return Login(identity_token="t")

    async with hostile(lambda asked: _version(asked) or reply(200, '{"status": "done"}\n')) as server:
        host = DockerHost("local", server.url.replace("http", "tcp"), credentials=login)
        await host.pull(name, lambda _: None)
        await host.close()
        (asked,) = server.of("POST")
    assert json.loads(base64.urlsafe_b64decode(asked.headers["x-registry-auth"])) == known


async def test_bytes_are_told_once_for_each_layer() -> None:
    """Progress is told as what is new of each layer; unpacking is no transfer."""
    said = [("Downloading", "a", 10), ("Downloading", "b", 5), ("Downloading", "a", 30), ("Downloading", "a", 20), ("Extracting", "a", 99)]
    lines = "".join(json.dumps({"status": s, "id": i, "progressDetail": {"current": n}}) + "\n" for s, i, n in said)
    moved: list[int] = []
    async with hostile(lambda asked: _version(asked) or reply(200, lines)) as server:
        host = DockerHost("local", server.url.replace("http", "tcp"))
        await host.pull(NAME, moved.append)
        await host.close()
    assert moved == [10, 5, 20]


async def test_a_registry_that_is_down(either_engine: EngineServer) -> None:
    """Engines answer 200 and report failure inside the stream."""
    host = DockerHost("local", either_engine.url)
    with pytest.raises((UnreachableError, RemoteError), match=r"pulling 127\.0\.0\.1:1/cyroid/kali:1.*refused"):
        await host.pull("127.0.0.1:1/cyroid/kali:1", lambda _: None)
    await host.close()
