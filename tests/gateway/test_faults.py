"""What breaks around a gateway: clients get an honest error, the next try works, and nothing false is kept."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from controller.domain.errors import RemoteError
from controller.domain.oci import Manifest
from controller.registry import transport
from tests.acceptance.wharf import WHARF
from tests.conftest import StartRegistry
from tests.gateway.conftest import Quay
from tests.gateway.test_pulling import NGINX, pull, until
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.scene import client, publish, tags_of
from tests.support.servers import RegistryServer, free_port


@asynccontextmanager
async def before(registry: RegistryServer, internet: RegistryServer) -> AsyncIterator[Quay]:
    """A gateway before this registry."""
    async with fault_proxy(internet.url) as upstream:
        found = Quay.before(registry, internet, upstream)
        async with found.open():
            yield found


async def status(quay: Quay, path: str, published: Manifest, method: str = "GET") -> int:
    """What a client is answered."""
    async with httpx.AsyncClient(base_url=f"http://{quay.address}", timeout=60) as plain:
        return (await plain.request(method, f"/v2/{path}", headers={"Accept": published.media_type})).status_code


async def test_the_registry_behind_is_down_for_a_while(quay: Quay) -> None:
    """What it holds and what it lacks are a 502 until it is back, and never "not found": that would send clients elsewhere for another image."""
    published = await publish(quay.internet, "library/nginx", "1")
    await publish(quay.registry, "cyroid/kali", "1")
    quay.registry.stop()
    for path in ("library/nginx/manifests/1", "cyroid/kali/manifests/1", f"cyroid/kali/blobs/{published.blobs[0].digest}", "cyroid/kali/tags/list"):
        assert await status(quay, path, published) == 502, path
    assert await status(quay, "cyroid/kali/blobs/uploads/", published, "POST") == 502
    quay.registry.start()
    assert await status(quay, "cyroid/kali/manifests/1", published) == 200
    async with quay.client() as registry:
        await pull(registry, "library/nginx", "1")
    await until(lambda: bool(quay.kept))
    assert (quay.kept[0].error, await tags_of(quay.registry, NGINX)) == ("", {"1": published.digest})


async def test_a_registry_that_only_reads(start_registry: StartRegistry, internet: RegistryServer) -> None:
    """In maintenance: a push gets the registry's own answer; a pull from the internet works, and that it is not kept is told."""
    published = await publish(internet, "library/nginx", "1")
    readonly = start_registry({"storage": {"maintenance": {"readonly": {"enabled": True}}}})
    async with before(readonly, internet) as quay:
        async with quay.client() as registry:
            await pull(registry, "library/nginx", "1")
        await until(lambda: bool(quay.kept))
        assert "405" in quay.kept[0].error
        assert await status(quay, "cyroid/kali/blobs/uploads/", published, "POST") == 405
    assert await tags_of(readonly, NGINX) == {}


async def test_a_disk_that_is_full_for_a_while(start_registry: StartRegistry, internet: RegistryServer, small_disk: Path) -> None:
    """The client gets its image all the same; nothing is tagged of what did not fit; the next pull keeps it."""
    published = await publish(internet, "library/nginx", "1", size=1_000_000)
    full = start_registry({"storage": {"filesystem": {"rootdirectory": str(small_disk)}}})
    filler = small_disk / "filler"
    async with before(full, internet) as quay, quay.client() as registry:
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free))
        await pull(registry, "library/nginx", "1")
        await until(lambda: bool(quay.kept))
        assert quay.kept[0].error
        filler.unlink()
        assert await tags_of(full, NGINX) == {}
        await pull(registry, "library/nginx", "1")
        await until(lambda: len(quay.kept) > 1)
        assert (quay.kept[1].error, await tags_of(full, NGINX)) == ("", {"1": published.digest})
    async with client(full) as behind:
        await pull(behind, NGINX, "1")


async def test_an_upstream_that_stalls(registry: RegistryServer, internet: RegistryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing any more in the middle of a blob: after the time-out the rest is asked for, and the client does not notice."""
    monkeypatch.setattr(transport, "TIMEOUT", httpx.Timeout(connect=10, read=0.5, write=60, pool=None))
    published = await publish(internet, "library/nginx", "1")
    layer, never = published.layers[0].digest, asyncio.Event()
    async with before(registry, internet) as quay, httpx.AsyncClient(base_url=f"http://{quay.address}", timeout=60) as plain:
        quay.upstream.spoil("GET", layer, Fault(hold=never))
        assert await status(quay, "library/nginx/manifests/1", published) == 200
        got = (await plain.get(f"/v2/library/nginx/blobs/{layer}")).content
        assert f"sha256:{hashlib.sha256(got).hexdigest()}" == layer
        await until(lambda: bool(quay.kept))
        assert quay.kept[0].error == ""
        assert len(quay.upstream.of("GET", layer)) == 2
        never.set()


async def test_an_upstream_that_dies_in_the_middle(quay: Quay) -> None:
    """The connection is cut, so that nobody takes it for whole; nothing is tagged; when it is back, the next try works."""
    published = await publish(quay.internet, "library/nginx", "1", size=300_000)
    layer = published.layers[0].digest
    quay.upstream.spoil("GET", layer, Fault(cut=100_000))
    quay.upstream.always.append(("GET", layer, Fault(reset=True)))
    async with quay.client() as asking:
        with pytest.raises(RemoteError):
            await pull(asking, "library/nginx", "1")
        await until(lambda: bool(quay.kept))
        assert layer in quay.kept[0].error
        assert await tags_of(quay.registry, NGINX) == {}
        quay.upstream.always.clear()
        await pull(asking, "library/nginx", "1")
        await until(lambda: len(quay.kept) > 1)
    assert (quay.kept[1].error, await tags_of(quay.registry, NGINX)) == ("", {"1": published.digest})


async def test_killed_in_the_middle(registry: RegistryServer, internet: RegistryServer, short_path: Path) -> None:
    """SIGKILL while a layer is on its way: no tag is made, and the next gateway brings all of it."""
    published = await publish(internet, "library/nginx", "1", size=300_000)
    async with fault_proxy(internet.url) as upstream:
        held = asyncio.Event()
        upstream.always.append(("GET", published.layers[0].digest, Fault(hold=held)))
        quay = Quay.before(registry, internet, upstream)
        for turn in range(2):
            quay.port = free_port()
            options = ["--listen", quay.address, "--registry", registry.url, "--upstream", f"docker.io={upstream.url}"]
            environment = {**os.environ, "WHARF_STATE": f"{short_path}/", "PYTHONUNBUFFERED": "1"}
            process = await asyncio.create_subprocess_exec(*WHARF, "gateway", *options, stderr=asyncio.subprocess.PIPE, env=environment)
            try:
                assert process.stderr is not None
                assert b"serving" in await process.stderr.readline()
                async with quay.client() as asking:
                    await asking.manifest("library/nginx", "1")
                    if turn:
                        await pull(asking, "library/nginx", "1")
                        assert b"it is in the registry now" in await process.stderr.readline()
                    else:
                        await upstream.until("GET", published.layers[0].digest)
                        assert await tags_of(registry, NGINX) == {}
            finally:
                process.send_signal(signal.SIGKILL)
                await process.wait()
            held.set()
            assert await tags_of(registry, NGINX) == ({"1": published.digest} if turn else {})
    async with client(registry) as behind:
        await pull(behind, NGINX, "1")
