"""The gateway while the registry's garbage is collected, and after it: writes wait, reads don't, and 201 is never said of what can't be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from controller.domain.oci import Descriptor, digest_of, parse_manifest
from controller.domain.ports.collecting import COLLECTING, Doubt
from controller.domain.spec import Who
from controller.gateway import writes
from controller.gateway.access import Access
from controller.store import gate
from tests.conftest import StartRegistry
from tests.gateway.conftest import Quay
from tests.gateway.test_pulling import pull, until
from tests.support.collections import CACHED, Collections, Image, SlowCollector, collections, image_of, push, push_blobs, push_manifest
from tests.support.fault_proxy import fault_proxy
from tests.support.memory_store import MemoryStore
from tests.support.scene import client, publish
from tests.support.servers import RegistryServer


@pytest.fixture
async def quay(start_registry: StartRegistry, internet: RegistryServer, tmp_path: Path) -> AsyncIterator[Quay]:
    """Before a registry with its cache in memory, and with a gate."""
    async with fault_proxy(internet.url) as upstream:
        found = Quay.before(start_registry(CACHED), internet, upstream)
        found.store = MemoryStore(tmp_path)
        async with found.open():
            yield found


@pytest.fixture
async def people(quay: Quay) -> AsyncIterator[httpx.AsyncClient]:
    """Who pushes and pulls."""
    async with httpx.AsyncClient(base_url=f"http://{quay.address}") as found:
        yield found


@pytest.fixture
async def garbage(quay: Quay, tmp_path: Path) -> AsyncIterator[Collections]:
    """Who collects."""
    async with collections(quay.registry, tmp_path) as found:
        yield found


async def deleted(quay: Quay, repository: str = "cyroid/kali") -> Image:
    """An image that the registry had, and that only its cache and its pusher know any more once it is collected."""
    await publish(quay.registry, repository, "1")
    image = await image_of(quay.registry, repository, "1")
    async with client(quay.registry) as registry:
        for blob in image.blobs:
            assert await registry.has_blob(repository, blob)
        await registry.delete_manifest(repository, image.manifest.digest)
    return image


@asynccontextmanager
async def under_way(garbage: Collections) -> AsyncIterator[None]:
    """While a collection is."""
    slow = SlowCollector(garbage.server)
    async with asyncio.TaskGroup() as group:
        group.create_task(garbage.collect(slow.program))
        await slow.collected()
        yield
        slow.let_go()


async def readable(quay: Quay, image: Image) -> None:
    """Every byte, from the registry itself and through the gateway."""
    async with client(quay.registry) as registry:
        assert (await pull(registry, image.repository, image.tag)).digest == image.manifest.digest
    async with quay.client() as registry:
        assert (await pull(registry, image.repository, image.manifest.digest)).digest == image.manifest.digest


async def test_writes_are_held_off_and_reads_are_not(quay: Quay, people: httpx.AsyncClient, garbage: Collections) -> None:
    """Each kind of write: 503, with a time and words for people. Afterwards the push goes through."""
    kept = await publish(quay.registry, "cyroid/kept", "1")
    image = await deleted(quay)
    upload = f"/v2/{image.repository}/blobs/uploads/"
    async with under_way(garbage):
        for method, path in [
            ("POST", upload),
            ("PUT", f"{upload}x"),
            ("PATCH", f"{upload}x"),
            ("DELETE", f"/v2/cyroid/kept/manifests/{kept.digest}"),
        ]:
            refused = await people.request(method, path, content=b"x")
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
            assert refused.json()["errors"][0]["code"] == "UNAVAILABLE"
            assert "garbage is being collected" in refused.json()["errors"][0]["message"]
        assert (await push_manifest(people, image)).status_code == 503
        assert (await people.get("/v2/")).headers[COLLECTING] == "yes"
        async with quay.client() as registry:
            assert (await pull(registry, "cyroid/kept", "1")).digest == kept.digest
            assert await registry.tags("cyroid/kept") == ["1"]
    assert COLLECTING not in (await people.get("/v2/")).headers
    assert await push(people, image) == 201
    await readable(quay, image)


async def test_a_push_under_way_is_waited_for(quay: Quay, people: httpx.AsyncClient, garbage: Collections, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its blobs and its manifest nothing is collected; who sends nothing any more is not waited for."""
    monkeypatch.setattr(writes, "LINGER", 30.0)
    image, other = await deleted(quay), await deleted(quay, "cyroid/other")
    await garbage.collect()
    assert await push_blobs(people, image) == 201
    collecting = asyncio.create_task(garbage.collect())
    await until(lambda: garbage.gate.closed)
    assert (await people.post(f"/v2/{other.repository}/blobs/uploads/")).status_code == 503, "a new push is refused"
    assert (await push_manifest(people, image)).status_code == 201, "one that is under way is not"
    done = await collecting
    assert done.blobs == 0
    await readable(quay, image)


async def test_a_push_for_the_controller(quay: Quay, people: httpx.AsyncClient, garbage: Collections) -> None:
    """An action that has begun is waited for, and the engine that pushes for it through the gateway is let in: each would wait for the other."""
    image = await deleted(quay)
    with garbage.gate.writing(image.repository):
        collecting = asyncio.create_task(garbage.collect())
        await until(lambda: garbage.gate.closed)
        assert (await people.post("/v2/cyroid/other/blobs/uploads/")).status_code == 503
        assert await push(people, image) == 201
    await collecting
    await readable(quay, image)


async def test_a_push_that_lingers_is_refused_honestly(
    quay: Quay, people: httpx.AsyncClient, garbage: Collections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sent its blobs and then nothing for a while; they are collected, and its manifest is 400, until they are sent again."""
    monkeypatch.setattr(writes, "LINGER", 0.1)
    image = await deleted(quay)
    await garbage.collect()
    assert await push_blobs(people, image) == 201
    assert (await garbage.collect()).blobs == len(image.blobs)
    refused = await push_manifest(people, image)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert await push(people, image) == 201
    await readable(quay, image)


@pytest.mark.parametrize("files", [True, False])
async def test_the_trap(quay: Quay, people: httpx.AsyncClient, garbage: Collections, *, files: bool) -> None:
    """The same image again, as an engine pushes it: it must really be there. So it was not, before anything was put right."""
    image = await deleted(quay)
    done = await garbage.collect(files=files)
    assert (str(done.cache), done.blobs) == ("Cleared", len(image.blobs) + 1)
    assert garbage.gate.doubt is Doubt.MANIFESTS
    assert await push(people, image) == 201
    await readable(quay, image)


async def test_the_manifest_alone_was_collected(quay: Quay, people: httpx.AsyncClient, garbage: Collections) -> None:
    """Another image keeps its blobs; the registry answers 201 to its manifest, and writes nothing."""
    image = await deleted(quay)
    again = Image(image.repository, "2", image.manifest, image.blobs)
    assert await push_blobs(people, image) == 201
    raw = image.manifest.raw.rstrip()[:-1] + b', "annotations": {"a": "b"}}'
    keeper = Image(image.repository, "keeper", parse_manifest(raw, image.manifest.media_type), {})
    assert (await push_manifest(people, keeper)).status_code == 201
    await garbage.collect()
    async with httpx.AsyncClient(base_url=quay.registry.url) as behind:
        assert (await push_manifest(behind, again)).status_code == 201
        headers = {"Accept": image.manifest.media_type}
        assert (await behind.get(f"/v2/{image.repository}/manifests/2", headers=headers)).status_code == 404, "the trap is there"
    assert (await push_manifest(people, again)).status_code == 201
    await readable(quay, again)


async def test_a_collection_that_was_broken_off(quay: Quay, people: httpx.AsyncClient, garbage: Collections, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cache says is not believed: HEAD, mount and manifest tell the truth, a push is whole, and the next collection puts it right."""
    monkeypatch.setattr(writes, "LINGER", 0.1)
    image = await deleted(quay)
    async with garbage.gate.collecting(5) as shut:
        shut.believe(Doubt.BLOBS)
        quay.registry.collect()
    layer = image.manifest.layers[0].digest
    async with httpx.AsyncClient(base_url=quay.registry.url) as behind:
        assert (await behind.head(f"/v2/{image.repository}/blobs/{layer}")).status_code == 200, "the registry lies"
    assert (await people.head(f"/v2/{image.repository}/blobs/{layer}")).status_code == 404
    assert (await people.get(f"/v2/{image.repository}/blobs/{layer}")).status_code == 404
    mounted = await people.post(f"/v2/cyroid/new/blobs/uploads/?mount={layer}&from={image.repository}")
    assert mounted.status_code == 202
    refused = await push_manifest(people, image)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert await push(people, image) == 201
    await readable(quay, image)
    await garbage.collect()
    assert garbage.gate.doubt is Doubt.MANIFESTS
    await readable(quay, image)


async def test_what_is_pulled_through_meanwhile(quay: Quay, garbage: Collections, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client has it at once; the registry gets it when the collection is over."""
    monkeypatch.setattr(gate, "RETRY_AFTER", 0.05)
    published = await publish(quay.internet, "library/nginx", "1")
    async with quay.client() as registry:
        async with under_way(garbage):
            assert (await pull(registry, "library/nginx", "1")).digest == published.digest
            assert not quay.kept
        await until(lambda: bool(quay.kept))
    assert quay.kept[0].error == ""
    async with client(quay.registry) as behind:
        assert (await pull(behind, "docker.io/library/nginx", "1")).digest == published.digest


async def test_who_collects_need_not_log_in(quay: Quay, garbage: Collections) -> None:
    """To learn that writes are held off."""
    quay.access = Access(Who.USERS, Who.USERS, {}, b"secret")
    async with quay.open(), garbage.gate.collecting(5), httpx.AsyncClient(base_url=f"http://{quay.address}") as nobody:
        asked = await nobody.get("/v2/")
        assert (asked.status_code, asked.headers[COLLECTING]) == (401, "yes")


async def test_a_manifest_that_is_too_large(people: httpx.AsyncClient) -> None:
    """413, as the specification has it; and what is no manifest is the registry's to judge."""
    big = await people.put("/v2/cyroid/kali/manifests/1", content=b" " * ((4 << 20) + 1))
    assert big.status_code == 413
    assert (await people.put("/v2/cyroid/kali/manifests/1", content=b"{}")).status_code == 400


async def test_a_blob_without_a_byte_is_not_lost(garbage: Collections) -> None:
    """It has no first byte to read, and is there."""

    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    empty = Descriptor("", digest_of(b""), 0)
    await garbage.registry.write_blob("cyroid/kali", empty, nothing())
    assert await garbage.registry.holds("cyroid/kali", empty.digest)
    assert not await garbage.registry.holds("cyroid/kali", f"sha256:{'1' * 64}")
