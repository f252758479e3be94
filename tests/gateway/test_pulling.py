"""Pulling through: from the registry first, from upstream once, streamed to whoever asks, kept whole."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import httpx
import pytest

from controller.domain.desired import Patterns, TagRule
from controller.domain.errors import DeniedError, NotFoundError, RemoteError
from controller.domain.oci import Manifest
from controller.domain.ports.stores import PULL_THROUGH
from controller.domain.reference import Target, held_tag, parse
from controller.domain.spec import Ensure, Internet
from controller.domain.tags import TagChoice
from controller.registry.client import RegistryClient
from tests.conftest import StartRegistry
from tests.gateway.conftest import Quay
from tests.support.builders import host, image
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.scene import client, publish, tags_of
from tests.support.servers import RegistryServer

NGINX = "docker.io/library/nginx"
NOT_FOUND = b'HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 44\r\n\r\n{"errors":[{"code":"MANIFEST_UNKNOWN"}]}    '


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that must become true."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - what becomes true tells of nothing
            await asyncio.sleep(0.01)


async def read(registry: RegistryClient, repository: str, digest: str, start: int = 0) -> bytes:
    """A blob, or the rest of it."""
    async with registry.read_blob(repository, digest, start) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def pull(registry: RegistryClient, repository: str, identifier: str) -> Manifest:
    """Everything of an image that is no index, each blob hashed."""
    manifest = await registry.manifest(repository, identifier)
    for blob in manifest.blobs:
        data = await read(registry, repository, blob.digest)
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == blob.digest
    return manifest


@pytest.mark.parametrize("name", ["docker.io/library/nginx", "docker.io/nginx", "library/nginx", "nginx"])
async def test_what_is_pulled_through_is_kept(quay: Quay, name: str) -> None:
    """Under the domain and the repository, by whatever name it was asked for; the second time upstream is not asked for content."""
    published = await publish(quay.internet, "library/nginx", "1")
    async with quay.client() as registry:
        assert (await pull(registry, name, "1")).digest == published.digest
        await until(lambda: bool(quay.kept))
        assert quay.kept[0].error == ""
        assert await tags_of(quay.registry, NGINX) == {"1": published.digest}
        asked = len(quay.upstream.passed)
        assert (await pull(registry, name, "1")).digest == published.digest
    assert len(quay.upstream.passed) == asked, "within refresh upstream is asked nothing"


async def test_an_index_is_kept_whole(quay: Quay) -> None:
    """A client takes one platform; the registry gets all of them, and no tag but the one that was asked for."""
    published = await publish(quay.internet, "library/nginx", "1", platforms=["linux/amd64", "linux/arm64"])
    async with quay.client() as registry:
        index = await registry.manifest("library/nginx", "1")
        await pull(registry, "library/nginx", index.children[0].digest)
    await until(lambda: bool(quay.kept))
    assert [(kept.pulled.target, kept.error) for kept in quay.kept] == [(Target(NGINX, "1"), "")]
    assert await tags_of(quay.registry, NGINX) == {"1": published.digest}
    async with client(quay.registry) as behind:
        for child in published.children:
            await pull(behind, NGINX, child.digest)


async def test_the_manifest_does_not_wait_for_blobs(quay: Quay) -> None:
    """It is answered while upstream gives not one byte of any blob."""
    await publish(quay.internet, "library/nginx", "1")
    held = asyncio.Event()
    quay.upstream.always.append(("GET", "/blobs/", Fault(hold=held)))
    async with quay.client() as registry:
        manifest = await registry.manifest("library/nginx", "1")
        assert not quay.kept
        held.set()
        await pull(registry, "library/nginx", manifest.digest)
    await until(lambda: bool(quay.kept))


async def test_each_blob_is_fetched_once_however_many_wait(quay: Quay) -> None:
    """Eight clients at once, and the registry: one download of each blob."""
    published = await publish(quay.internet, "library/nginx", "1")
    held = asyncio.Event()
    quay.upstream.always.append(("GET", "/blobs/", Fault(hold=held)))
    async with quay.client() as registry, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(pull(registry, "library/nginx", "1"))
        await quay.upstream.until("GET", "/blobs/", 2)
        await asyncio.sleep(0.2)
        held.set()
    await until(lambda: bool(quay.kept))
    assert sorted(each.path.rpartition("/")[2] for each in quay.upstream.of("GET", "/blobs/")) == sorted(blob.digest for blob in published.blobs)
    assert quay.kept[0].error == ""


async def test_a_client_that_leaves_ends_nothing(quay: Quay) -> None:
    """It asked for the manifest and went; the registry gets the image."""
    published = await publish(quay.internet, "library/nginx", "1")
    async with quay.client() as registry:
        await registry.manifest("library/nginx", "1")
    await until(lambda: bool(quay.kept))
    async with client(quay.registry) as behind:
        assert (await pull(behind, NGINX, "1")).digest == published.digest


async def test_a_range_of_what_is_on_its_way(quay: Quay) -> None:
    """A client that goes on where it broke off gets the rest; a range that is none gets 416."""
    published = await publish(quay.internet, "library/nginx", "1")
    layer = published.layers[0]
    async with client(quay.internet) as there:
        data = await read(there, "library/nginx", layer.digest)
    held = asyncio.Event()
    quay.upstream.always.append(("GET", "/blobs/", Fault(hold=held)))
    async with quay.client() as registry, httpx.AsyncClient(base_url=f"http://{quay.address}") as plain:
        await registry.manifest("library/nginx", "1")
        path = f"/v2/library/nginx/blobs/{layer.digest}"
        async with asyncio.TaskGroup() as group:
            rest = group.create_task(read(registry, "library/nginx", layer.digest, 5000))
            ranges = [group.create_task(plain.get(path, headers={"Range": f"bytes={wanted}"})) for wanted in ("0-9", "-10", f"{layer.size}-")]
            await quay.upstream.until("GET", "/blobs/")
            held.set()
        answers = [task.result() for task in ranges]
        await until(lambda: bool(quay.kept))
        kept = await plain.get(path, headers={"Range": f"bytes={layer.size}-"})
    assert rest.result() == data[5000:]
    assert [(answer.status_code, answer.content) for answer in answers[:2]] == [(206, data[:10]), (206, data[-10:])]
    assert answers[2].headers["Content-Range"] == f"bytes */{layer.size}"
    assert (answers[2].status_code, kept.status_code) == (416, 416)


async def test_a_download_that_breaks_off_goes_on(quay: Quay) -> None:
    """The client does not notice; upstream is asked for the rest."""
    published = await publish(quay.internet, "library/nginx", "1")
    quay.upstream.spoil("GET", f"/blobs/{published.layers[0].digest}", Fault(cut=4000))
    async with quay.client() as registry:
        await pull(registry, "library/nginx", "1")
    await until(lambda: bool(quay.kept))
    assert quay.kept[0].error == ""
    first, second = quay.upstream.of("GET", f"/blobs/{published.layers[0].digest}")
    assert "range" not in first.headers
    assert second.headers["range"] == "bytes=4000-"


async def test_other_bytes_are_given_to_nobody_and_not_kept(quay: Quay) -> None:
    """The connection is cut before the end, so that nobody takes it for whole; nothing is tagged; the next try works."""
    published = await publish(quay.internet, "library/nginx", "1")
    layer = published.layers[0]
    quay.upstream.always.append(("GET", f"/blobs/{layer.digest}", Fault(flip=100)))
    async with quay.client() as registry:
        await registry.manifest("library/nginx", "1")
        with pytest.raises(RemoteError):
            await read(registry, "library/nginx", layer.digest)
        await until(lambda: bool(quay.kept))
        assert "other bytes than its digest says" in quay.kept[0].error
        assert await tags_of(quay.registry, NGINX) == {}
        quay.upstream.always.clear()
        await pull(registry, "library/nginx", "1")
    await until(lambda: len(quay.kept) > 1)
    assert await tags_of(quay.registry, NGINX) == {"1": published.digest}


async def test_a_tag_that_moved_is_seen_after_refresh(quay: Quay) -> None:
    """Within it the old one is served; then the new one, and the old one is held."""
    old = await publish(quay.internet, "library/nginx", "1")
    async with quay.client() as registry:
        await pull(registry, "library/nginx", "1")
        await until(lambda: bool(quay.kept))
        new = await publish(quay.internet, "library/nginx", "1")
        assert (await registry.manifest("library/nginx", "1")).digest == old.digest
        quay.now += 3601
        assert (await pull(registry, "library/nginx", "1")).digest == new.digest
        await until(lambda: len(quay.kept) > 1)
        assert await tags_of(quay.registry, NGINX) == {"1": new.digest, held_tag(old.digest): old.digest}
        assert await registry.tags("docker.io/library/nginx") == ["1"], "what is held is shown to nobody"


async def test_an_immutable_tag_is_never_looked_up_again(quay: Quay) -> None:
    """However old it is."""
    quay.asks(immutable=Patterns(["*:1"]))
    old = await publish(quay.internet, "library/nginx", "1")
    async with quay.client() as registry:
        await pull(registry, "library/nginx", "1")
        await until(lambda: bool(quay.kept))
        await publish(quay.internet, "library/nginx", "1")
        quay.now += 1e6
        assert (await registry.manifest("library/nginx", "1")).digest == old.digest


async def test_what_is_kept_is_served_while_upstream_is_away(quay: Quay) -> None:
    """And it is said; what is not kept is an error that is no 404."""
    published = await publish(quay.internet, "library/nginx", "1")
    async with quay.client() as registry, httpx.AsyncClient(base_url=f"http://{quay.address}") as plain:
        await pull(registry, "library/nginx", "1")
        await until(lambda: bool(quay.kept))
        quay.internet.stop()
        quay.now += 3601
        stale = await plain.get("/v2/library/nginx/manifests/1", headers={"Accept": published.media_type})
        assert stale.headers["Docker-Content-Digest"] == published.digest
        assert stale.headers["Warning"].startswith('110 wharfinger "')
        other = await plain.get("/v2/library/other/manifests/1")
        assert other.status_code == 502
        assert other.json()["errors"][0]["code"] == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n", 429),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 401),
        (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", 502),
        (NOT_FOUND, 404),
    ],
)
async def test_upstreams_errors_come_out_as_what_they_are(quay: Quay, answer: bytes, status: int) -> None:
    """Never as "not found", unless that is what upstream said."""
    quay.upstream.always += [(method, "/manifests/", Fault(answer=answer)) for method in ("HEAD", "GET")]
    async with httpx.AsyncClient(base_url=f"http://{quay.address}", timeout=60) as plain:
        found = await plain.get("/v2/library/nginx/manifests/1")
    assert found.status_code == status
    assert found.json()["errors"]
    assert "Retry-After" in found.headers or status != 429


async def test_mirrors_are_asked_first(registry: RegistryServer, internet: RegistryServer, start_registry: StartRegistry) -> None:
    """In their order. Who lacks an image, does not answer, or gives a manifest and no blob, is followed by the next one."""
    mirror = start_registry()
    published = await publish(internet, "library/nginx", "1")
    async with fault_proxy(internet.url) as upstream, fault_proxy(internet.url) as second:
        quay = Quay.before(registry, internet, upstream)
        quay.mirrors = (mirror.url, second.url)
        second.always.append(("GET", published.layers[0].digest, Fault(answer=NOT_FOUND)))
        async with quay.open(), quay.client() as asking:
            assert (await pull(asking, "library/nginx", "1")).digest == published.digest
            await until(lambda: bool(quay.kept))
            assert quay.kept[0].error == ""
            assert upstream.of("GET", "/blobs/")
            assert not upstream.of("GET", "/manifests/")
            mirror.stop()
            quay.now += 3601
            other = await publish(internet, "library/other", "1")
            second.always.clear()
            asked = len(upstream.passed)
            assert (await pull(asking, "library/other", "1")).digest == other.digest
            assert len(upstream.passed) == asked


async def test_a_blob_that_upstream_lacks(quay: Quay) -> None:
    """Its manifest names it: the client is told so, before anything is sent, and not by a connection that is cut."""
    published = await publish(quay.internet, "library/nginx", "1")
    quay.upstream.always.append(("GET", published.layers[0].digest, Fault(answer=NOT_FOUND)))
    async with httpx.AsyncClient(base_url=f"http://{quay.address}", timeout=60) as plain:
        assert (await plain.get("/v2/library/nginx/manifests/1", headers={"Accept": published.media_type})).status_code == 200
        answer = await plain.get(f"/v2/library/nginx/blobs/{published.layers[0].digest}")
    assert (answer.status_code, published.layers[0].digest in answer.json()["errors"][0]["message"]) == (404, True)


async def test_reserved_names_never_ask_upstream(quay: Quay) -> None:
    """A missing cyroid/kali is not found, and never a stranger's image; neither is one of a namespace that a host adopts."""
    quay.asks(images=(image("cyroid/kali:1"),), hosts=(host(adopt=["team/**"]),))
    for name in ("cyroid/kali", "cyroid/other", "team/app"):
        await publish(quay.internet, name, "1")
    async with quay.client() as registry, httpx.AsyncClient(base_url=f"http://{quay.address}") as plain:
        for name in ("cyroid/kali", "cyroid/other", "team/app"):
            with pytest.raises(NotFoundError):
                await registry.manifest(name, "1")
            assert (await plain.get(f"/v2/{name}/manifests/1?ns=docker.io")).status_code == 404
    assert quay.upstream.passed == []


async def test_what_the_file_forbids(quay: Quay) -> None:
    """Deny, Listed, and a domain that is no upstream: refused with the rule; what is in the registry is served all the same."""
    published = await publish(quay.registry, NGINX, "kept")
    await publish(quay.internet, "library/nginx", "1")
    other = await publish(quay.internet, "library/other", "1")
    async with quay.client() as registry:
        quay.asks(internet=Internet.DENY)
        with pytest.raises(DeniedError, match=r"spec\.internet is Deny"):
            await registry.manifest("library/nginx", "1")
        assert (await registry.manifest("library/nginx", "kept")).digest == published.digest
        quay.asks(internet=Internet.ALLOW, images=(image("docker.io/library/nginx:1", ensure=Ensure.ABSENT),))
        with pytest.raises(DeniedError, match="the set ranges says Absent"):
            await registry.manifest("library/nginx", "1")
        quay.asks(internet=Internet.LISTED, images=(image("docker.io/library/nginx:1"),))
        with pytest.raises(DeniedError, match=r"spec\.internet is Listed"):
            await registry.manifest("library/other", "1")
        with pytest.raises(DeniedError, match=r"spec\.internet is Listed"):
            await read(registry, "docker.io/library/other", other.layers[0].digest)
        await pull(registry, "library/nginx", "1")
        async with httpx.AsyncClient(base_url=f"http://{quay.address}") as plain:
            refused = await plain.get("/v2/org/app/manifests/1?ns=evil.example")
    assert refused.status_code == 403
    assert "evil.example is not under spec.upstreams" in refused.json()["errors"][0]["message"]
    await until(lambda: bool(quay.kept))


async def test_listed_by_its_tags(quay: Quay) -> None:
    """A set that chooses tags lists those that it may choose."""
    for tag in ("2.9", "3.19"):
        await publish(quay.internet, "library/alpine", tag)
    rule = TagRule("ranges", "docker.io/library/alpine", parse("docker.io/library/alpine"), TagChoice(semver=">=3", newest=2))
    quay.asks(internet=Internet.LISTED, rules=(rule,))
    async with quay.client() as registry:
        with pytest.raises(DeniedError, match=r"no set lists 2\.9"):
            await registry.manifest("library/alpine", "2.9")
        await pull(registry, "library/alpine", "3.19")
    await until(lambda: bool(quay.kept))


async def test_a_push_where_the_internet_is_denied(quay: Quay) -> None:
    """An engine asks for each blob before it sends it: that the registry lacks it is 404, also for a name that could be docker.io's."""
    quay.asks(internet=Internet.DENY)
    async with quay.client() as registry:
        assert not await registry.has_blob("new/app", f"sha256:{'0' * 64}")
    published = await publish(quay, "new/app", "1")
    assert await tags_of(quay.registry, "new/app") == {"1": published.digest}


async def test_by_digest(quay: Quay) -> None:
    """Kept under the tag that holds it, as an image of a set that is listed by digest."""
    published = await publish(quay.internet, "library/nginx", "1")
    async with quay.client() as registry:
        await pull(registry, "library/nginx", published.digest)
    await until(lambda: bool(quay.kept))
    assert await tags_of(quay.registry, NGINX) == {held_tag(published.digest): published.digest}


async def test_head_then_get_by_digest_keeps_the_tag(quay: Quay) -> None:
    """containerd resolves a tag by HEAD, and gets what it means by digest."""
    published = await publish(quay.internet, "library/nginx", "1")
    async with quay.client() as registry:
        found = await registry.resolve("library/nginx", "1")
        assert (found.digest, found.size, found.media_type) == (published.digest, len(published.raw), published.media_type)
        await pull(registry, "library/nginx", found.digest)
    await until(lambda: bool(quay.kept))
    assert await tags_of(quay.registry, NGINX) == {"1": published.digest}


async def test_no_header_of_a_client_reaches_an_upstream(quay: Quay) -> None:
    """Neither its credentials nor who it is."""
    await publish(quay.internet, "library/nginx", "1")
    async with httpx.AsyncClient(base_url=f"http://{quay.address}", headers={"Authorization": "Bearer s3cret", "X-Mine": "1"}) as plain:
        assert (await plain.get("/v2/library/nginx/manifests/1")).status_code == 200
    await until(lambda: bool(quay.kept))
    assert all("authorization" not in each.headers and "x-mine" not in each.headers for each in quay.upstream.passed)


async def test_a_repository_may_not_be_read_by_the_name_of_another(quay: Quay) -> None:
    """A blob belongs to the repository whose manifest names it."""
    published = await publish(quay.internet, "library/nginx", "1")
    async with quay.client() as registry:
        await pull(registry, "library/nginx", "1")
        await until(lambda: bool(quay.kept))
        with pytest.raises(NotFoundError):
            await read(registry, "library/other", published.layers[0].digest)


async def test_each_pull_from_the_internet_is_recorded(quay: Quay) -> None:
    """Which image, what it means, how many bytes, who asked, and whether it is kept."""
    published = await publish(quay.internet, "library/nginx", "1")
    quay.upstream.always.append(("GET", "/blobs/", Fault(answer=b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")))
    async with quay.client() as registry:
        await registry.manifest("library/nginx", "1")
        await until(lambda: bool(quay.kept))
        quay.upstream.always.clear()
        await pull(registry, "library/nginx", "1")
        await until(lambda: len(quay.kept) > 1)
    kept, failed = quay.store.history(actions={PULL_THROUGH})
    assert (kept.image, kept.after, kept.host, kept.actor, kept.error) == (f"{NGINX}:1", published.digest, "127.0.0.1", "gateway", "")
    assert kept.bytes == sum(blob.size for blob in published.blobs)
    assert (failed.after, "403" in failed.error) == ("", True)
