"""Real clients: an engine that pushes and pulls, one whose mirror the gateway is, and containerd with hosts.toml."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.conftest import Quay
from tests.gateway.test_pulling import NGINX, until
from tests.support.scene import publish, tags_of
from tests.support.servers import EngineServer, build_image

pytestmark = pytest.mark.engine


@pytest.fixture
def mirrored(quay: Quay, short_path: Path) -> Iterator[EngineServer]:
    """An engine that asks the gateway for whatever is docker.io's, as a range does."""
    home = short_path / "range"
    home.mkdir()
    engine = EngineServer(home)
    settings = json.loads((home / "daemon.json").read_text())
    (home / "daemon.json").write_text(json.dumps(settings | {"registry-mirrors": [f"http://{quay.address}"]}))
    engine.start()
    yield engine
    engine.stop()


async def publish_from(engine: EngineServer, address: str, name: str) -> str:
    """Build an image on an engine and push it to that address; its Id."""
    full = f"{address}/{name}"
    image_id = await asyncio.to_thread(build_image, engine, full, {"data": name.encode() * 1000})
    await asyncio.to_thread(engine.docker, "push", "-q", full)
    await asyncio.to_thread(engine.docker, "rmi", full)
    return image_id


async def id_of(engine: EngineServer, name: str) -> str:
    """The Id that a name means there."""
    return (await asyncio.to_thread(engine.docker, "image", "inspect", "--format", "{{.Id}}", name)).strip()


async def test_an_engine_pushes_and_pulls(quay: Quay, engine: EngineServer) -> None:
    """To and from one address, streamed to the registry behind."""
    pushed = await publish_from(engine, quay.address, "cyroid/kali:1")
    await asyncio.to_thread(engine.docker, "pull", "-q", f"{quay.registry.address}/cyroid/kali:1")
    assert await id_of(engine, f"{quay.registry.address}/cyroid/kali:1") == pushed
    await asyncio.to_thread(engine.docker, "rmi", f"{quay.registry.address}/cyroid/kali:1")
    await asyncio.to_thread(engine.docker, "pull", "-q", f"{quay.address}/cyroid/kali:1")
    assert await id_of(engine, f"{quay.address}/cyroid/kali:1") == pushed
    assert quay.upstream.passed == [], "a name that is pushed is told to no upstream"


async def test_nobody_pushes_under_an_upstream(quay: Quay, engine: EngineServer) -> None:
    """The engine shows the rule."""
    with pytest.raises(RuntimeError, match=r"denied: .* belongs to the upstream docker\.io"):
        await publish_from(engine, quay.address, "docker.io/library/nginx:1")


async def test_a_range_pulls_plain_names(quay: Quay, engine: EngineServer, mirrored: EngineServer) -> None:
    """By registry-mirrors: what upstream has comes through and is kept, what is local is the local one."""
    nginx = await publish_from(engine, quay.internet.address, "library/nginx:1")
    kali = await publish_from(engine, quay.registry.address, "cyroid/kali:1")
    for name in ("nginx:1", "cyroid/kali:1"):
        await asyncio.to_thread(mirrored.docker, "pull", "-q", name)
    assert [await id_of(mirrored, name) for name in ("nginx:1", "cyroid/kali:1")] == [nginx, kali]
    await until(lambda: bool(quay.kept))
    assert [(str(kept.pulled.target), kept.error) for kept in quay.kept] == [(f"{NGINX}:1", "")]
    assert not [each.path for each in quay.upstream.passed if "cyroid" in each.path]


async def test_containerd_with_hosts_toml(quay: Quay, engine: EngineServer, mirrored: EngineServer, short_path: Path) -> None:
    """It says by ns whose name that is; one file serves every upstream."""
    await publish_from(engine, quay.internet.address, "library/nginx:1")
    hosts = short_path / "hosts" / "docker.io"
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(f'server = "http://{quay.address}"\n[host."http://{quay.address}"]\ncapabilities = ["pull", "resolve"]\n')
    ctr = ["ctr", "--address", str(mirrored.home / "exec" / "containerd" / "containerd.sock"), "--namespace", "test"]
    await asyncio.to_thread(
        subprocess.run,
        [*ctr, "images", "pull", "--hosts-dir", str(hosts.parent), "docker.io/library/nginx:1"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    await until(lambda: bool(quay.kept))
    assert [(str(kept.pulled.target), kept.error) for kept in quay.kept] == [(f"{NGINX}:1", "")]


async def test_skopeo(quay: Quay, short_path: Path) -> None:
    """It copies from upstream through the gateway, to a folder and to a local name, byte for byte."""
    published = await publish(quay.internet, "library/nginx", "1", platforms=["linux/amd64", "linux/arm64"])
    source = f"docker://{quay.address}/docker.io/library/nginx:1"
    for target in (f"dir:{short_path / 'copy'}", f"docker://{quay.address}/cyroid/nginx:1"):
        copy = ["skopeo", "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", source, target]
        done = await asyncio.to_thread(subprocess.run, copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (short_path / "copy" / "manifest.json").read_bytes() == published.raw
    assert await tags_of(quay.registry, "cyroid/nginx") == {"1": published.digest}
