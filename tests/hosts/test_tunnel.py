"""An engine behind a real sshd: all that a host can do is done through one tunnel, which is opened again when it broke."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from controller.domain.errors import UnreachableError
from controller.hosts.docker_engine import DockerHost
from tests.support.servers import EngineServer, RegistryServer, build_image
from tests.support.ssh import SSHD, SshServer

pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd here: it is in Debian's openssh-server")


@pytest.fixture
def sshd(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    """One of a test's own."""
    server = SshServer(short_path / "sshd").start()
    monkeypatch.setenv("PATH", f"{server.bin}:{os.environ['PATH']}")
    yield server
    server.stop()


@pytest.fixture
async def host(sshd: SshServer, engine: EngineServer) -> AsyncIterator[DockerHost]:
    """The classic engine, by ssh."""
    found = DockerHost("far", f"{sshd.url}{engine.socket}")
    yield found
    await found.close()


async def test_an_engine_by_ssh(host: DockerHost, engine: EngineServer, registry: RegistryServer) -> None:
    """It is looked at, listened to, and pushes; listening ends at once when it is told to."""
    name = f"{registry.address}/cyroid/kali:1"
    async with asyncio.timeout(60), host.changes() as changes:
        build_image(engine, name, {"data": b"x"})
        assert "tag" in await anext(changes)
    assert {str(tag) for image in (await host.look()).images for tag in image.tags} == {name}
    await host.push(name, lambda _: None)
    await host.remove(name)
    await host.pull(name, lambda _: None)
    assert len((await host.look()).images) == 1


async def test_a_tunnel_that_broke(host: DockerHost, sshd: SshServer) -> None:
    """The engine is unreachable with ssh's own words while there is no way to it, and is there again afterwards."""
    engine_id = (await host.look()).engine_id
    tunnel = host._tunnel
    assert tunnel is not None
    assert tunnel._ssh is not None
    sshd.stop()
    tunnel._ssh.kill()
    tunnel._ssh.wait()
    with pytest.raises(UnreachableError, match=r"looking at its images on host far: .*Connection refused.*does `ssh` get there"):
        await host.look()
    sshd.start()
    assert (await host.look()).engine_id == engine_id


async def test_it_leaves_nothing_behind(sshd: SshServer, engine: EngineServer) -> None:
    """Neither a process nor a folder."""
    host = DockerHost("far", f"{sshd.url}{engine.socket}")
    await host.look()
    tunnel = host._tunnel
    assert tunnel is not None
    assert tunnel._folder is not None
    folder, ssh = tunnel._folder, tunnel._ssh
    await host.close()
    assert not folder.exists()
    assert ssh is not None
    assert ssh.poll() is not None


def test_it_ends_with_a_controller_that_is_killed(sshd: SshServer, engine: EngineServer) -> None:
    """SIGKILL leaves no time to clean up: what runs on the other side ends with its input."""
    code = """if True:
        import asyncio, os, signal, sys
        from controller.hosts.docker_engine import DockerHost
        async def main():
            host = DockerHost("far", sys.argv[1])
            await host.look()
            print(host._tunnel._ssh.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
    """
    done = subprocess.run([sys.executable, "-c", code, f"{sshd.url}{engine.socket}"], capture_output=True, text=True, check=False, timeout=60)
    process = Path(f"/proc/{int(done.stdout)}")
    deadline = time.monotonic() + 60
    while process.exists() and "State:\tZ" not in (process / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_nobody_is_asked_anything(sshd: SshServer, engine: EngineServer) -> None:
    """A server whose key is not known, or an engine that is not there, is unreachable."""
    (sshd.home / "known").write_text("")
    stranger, none = DockerHost("far", f"{sshd.url}{engine.socket}"), DockerHost("none", f"{sshd.url}/none.sock")
    try:
        with pytest.raises(UnreachableError, match="Host key verification failed"):
            await stranger.look()
        (sshd.home / "known").write_text(f"[127.0.0.1]:{sshd.port} {(sshd.home / 'host.pub').read_text()}")
        with pytest.raises(UnreachableError, match="is a Docker Engine running there"):
            await none.look()
    finally:
        await stranger.close()
        await none.close()
