"""Large bodies, which go from one socket or file to another in the kernel."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from controller.gateway import relay
from tests.gateway.conftest import Quay
from tests.gateway.test_pulling import until
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.scene import publish
from tests.support.servers import RegistryServer

SIZE = 5_000_000


@pytest.fixture
async def behind(registry: RegistryServer) -> AsyncIterator[FaultProxy]:
    """Between the gateway and its registry."""
    async with fault_proxy(registry.url) as found:
        yield found


@pytest.fixture
async def proxied(registry: RegistryServer, internet: RegistryServer, behind: FaultProxy) -> AsyncIterator[Quay]:
    """A gateway that reaches its registry by that."""
    async with fault_proxy(internet.url) as upstream:
        found = Quay.before(registry, internet, upstream)
        found.behind = behind.url
        async with found.open():
            yield found


@pytest.fixture
def relayed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was sent so: by which way."""
    found: list[str] = []
    outlet = relay.outlet

    def seen(request: object, first: bytes) -> object:
        found.append("relayed")
        return outlet(request, first)  # type: ignore[arg-type] # passed on as it came

    monkeypatch.setattr("controller.gateway.answers.outlet", seen)
    return found


def descriptors() -> int:
    """That this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_cold_and_warm_by_one_connection(quay: Quay, relayed: list[str]) -> None:
    """On its way from upstream, and out of the registry: all of it, a part of it, and the connection is good for what follows."""
    layer = (await publish(quay.internet, "library/nginx", "1", size=SIZE)).layers[0].digest
    async with httpx.AsyncClient(base_url=f"http://{quay.address}/v2/library/nginx", timeout=60) as http:
        before = 0
        for turn in range(2):
            manifest = await http.get("/manifests/1")
            assert manifest.status_code == 200
            whole = (await http.get(f"/blobs/{layer}")).content
            assert f"sha256:{hashlib.sha256(whole).hexdigest()}" == layer
            part = await http.get(f"/blobs/{layer}", headers={"Range": f"bytes=1000000-{SIZE - 1}"})
            assert (part.status_code, part.content) == (206, whole[1_000_000:])
            assert len(relayed) == 2 * (turn + 1)
            await until(lambda: bool(quay.kept))
            before = before or descriptors()
        assert descriptors() <= before + 2


async def test_a_client_that_takes_its_time(quay: Quay, relayed: list[str]) -> None:
    """It reads when it likes to, more slowly than the socket holds; all comes, and nobody else waits."""
    layer = (await publish(quay.registry, "cyroid/kali", "1", size=3 * SIZE)).layers[0].digest
    reader, writer = await asyncio.open_connection("127.0.0.1", quay.port, limit=1 << 16)
    writer.write(f"GET /v2/cyroid/kali/blobs/{layer} HTTP/1.1\r\nHost: {quay.address}\r\nConnection: close\r\n\r\n".encode())
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    await until(lambda: bool(relayed))
    async with httpx.AsyncClient(base_url=f"http://{quay.address}", timeout=60) as http:
        assert (await http.get("/v2/cyroid/kali/manifests/1")).status_code == 200
    assert f"sha256:{hashlib.sha256(await reader.read(-1)).hexdigest()}" == layer
    writer.close()


@pytest.mark.parametrize("warm", [True, False])
async def test_a_client_that_leaves_in_the_middle(quay: Quay, relayed: list[str], warm: bool) -> None:  # noqa: FBT001 - a parameter
    """Nothing of it stays open."""
    place = quay.registry if warm else quay.internet
    name = "cyroid/kali" if warm else "library/nginx"
    layer = (await publish(place, name, "1", size=3 * SIZE)).layers[0].digest
    async with quay.client() as asking:
        await asking.manifest(name, "1")
    await until(lambda: warm or bool(quay.kept))
    before = descriptors()
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", quay.port, limit=1 << 16)
        writer.write(f"GET /v2/{name}/blobs/{layer} HTTP/1.1\r\nHost: {quay.address}\r\n\r\n".encode())
        await reader.readexactly(10_000)
        writer.transport.abort()
    await until(lambda: len(relayed) == 3 and descriptors() <= before)


async def test_a_registry_that_breaks_off(proxied: Quay, behind: FaultProxy, relayed: list[str]) -> None:
    """The client's connection is cut, so that nobody takes it for whole; the next try works."""
    layer = (await publish(proxied.registry, "cyroid/kali", "1", size=SIZE)).layers[0].digest
    behind.spoil("GET", layer, Fault(cut=2_000_000))
    async with httpx.AsyncClient(base_url=f"http://{proxied.address}/v2/cyroid/kali", timeout=60) as http:
        with pytest.raises(httpx.HTTPError):
            await http.get(f"/blobs/{layer}")
        assert len((await http.get(f"/blobs/{layer}")).content) == SIZE
    assert len(relayed) == 2
