"""Collections of a real registry's garbage: what is collected, what is refused, and how a registry with a cache is put right."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.domain.errors import LockedError, NotFoundError, RefusedError, UsageError
from controller.domain.ports.collecting import Doubt
from controller.domain.reference import Target
from controller.engine.collect import Cache
from controller.engine.copy import Copier
from controller.engine.manifests import Manifests
from controller.engine.survey import survey
from controller.registry.collector import CollectorCommand
from controller.registry.folder import FolderStorage
from controller.registry.forward import ForwardingClient
from tests.conftest import StartRegistry
from tests.engine.copies import copies
from tests.engine.copies import image as make_image
from tests.support.collections import CACHED, Collections, SlowCollector, collections, image_of
from tests.support.scene import client, publish, tags_of
from tests.support.servers import RegistryServer

KALI = "cyroid/kali"


@pytest.fixture
async def cached(start_registry: StartRegistry, tmp_path: Path) -> AsyncIterator[Collections]:
    """A registry with its cache in memory."""
    async with collections(start_registry(CACHED), tmp_path) as found:
        yield found


@pytest.fixture
async def plain(registry: RegistryServer, tmp_path: Path) -> AsyncIterator[Collections]:
    """One without."""
    async with collections(registry, tmp_path) as found:
        yield found


def stored(server: RegistryServer) -> set[Path]:
    """Every file that the registry has."""
    return {path for path in (server.home / "data").rglob("*") if path.is_file()}


async def forgotten(garbage: Collections, repository: str = KALI) -> str:
    """An image that nobody names any more; its digest."""
    manifest = await publish(garbage.server, repository, "1")
    await garbage.registry.delete_manifest(repository, manifest.digest)
    return manifest.digest


async def test_what_is_won(plain: Collections) -> None:
    """The blobs that no manifest needs, and their bytes; what a tag names stays. Without a cache nothing has to be put right."""
    kept = await publish(plain.server, KALI, "kept", platforms=["linux/amd64", "linux/arm64"])
    await forgotten(plain)
    before = sum(path.stat().st_size for path in stored(plain.server) if path.name == "data")
    done = await plain.collect()
    after = sum(path.stat().st_size for path in stored(plain.server) if path.name == "data")
    assert (done.blobs, done.bytes, done.cache) == (3, before - after, Cache.OFF)
    assert plain.gate.doubt is Doubt.NONE
    assert (await image_of(plain.server, KALI, kept.children[0].digest)).blobs
    again = await plain.collect()
    assert (again.blobs, again.bytes, again.links) == (0, 0, 0)


async def test_looking_changes_nothing(plain: Collections) -> None:
    """Not one file; what would be collected is told."""
    await publish(plain.server, KALI, "kept")
    await forgotten(plain)
    before = stored(plain.server)
    marked = await plain.collection().would(await survey(plain.registry))
    assert len(marked.garbage) == 3
    assert stored(plain.server) == before


async def test_the_configuration_of_another_registry(plain: Collections, internet: RegistryServer) -> None:
    """It is found out before anything is collected there, by looking and by doing."""
    await publish(plain.server, KALI, "1")
    theirs = await publish(internet, "their/own", "1")
    async with client(internet) as registry:
        await registry.delete_manifest("their/own", theirs.digest)
    before = stored(internet)
    wrong = plain.collection(CollectorCommand([internet.binary, "garbage-collect", str(internet.config)]))
    with pytest.raises(UsageError, match="collector's configuration is not that of"):
        await wrong.would(await survey(plain.registry))
    with pytest.raises(UsageError, match="collector's configuration is not that of"):
        await wrong.collect(plain.terms)
    assert stored(internet) == before
    assert not plain.gate.closed


async def test_the_files_of_another_registry(plain: Collections, internet: RegistryServer) -> None:
    """A folder that is not this registry's tells nothing of it."""
    await forgotten(plain)
    done = await plain.collect(storage=FolderStorage(internet.home / "data"))
    assert (done.blobs, done.bytes) == (3, None)


async def test_a_gateway_that_goes_on(plain: Collections) -> None:
    """Then nothing is collected."""
    await forgotten(plain)
    before = stored(plain.server)

    async def goes_on() -> str:
        return "the gateway goes on taking writes"

    plain.terms = replace(plain.terms, held_off=goes_on)
    with pytest.raises(UsageError, match="goes on taking writes"):
        await plain.collect()
    assert stored(plain.server) >= before
    plain.gate.enter()()


async def test_somebody_writes(plain: Collections) -> None:
    """Its patience ends, nothing is collected, and writing goes on."""
    await forgotten(plain)
    before = stored(plain.server)
    plain.terms = replace(plain.terms, patience=0.0)
    with plain.gate.writing(), pytest.raises(LockedError, match="still writes"):
        await plain.collect()
    assert stored(plain.server) >= before


async def test_a_registry_that_does_not_delete(start_registry: StartRegistry, tmp_path: Path) -> None:
    """Its cache could not be put right, so it is not collected, unless it has none or can be restarted."""
    server = start_registry({"storage": {"delete": {"enabled": False}}})
    async with collections(server, tmp_path) as garbage:
        with pytest.raises(UsageError, match=r"does not delete.*--restart"):
            await garbage.collect()
        garbage.terms = replace(garbage.terms, cached=False)
        assert (await garbage.collect()).cache is Cache.OFF


@pytest.mark.parametrize("words", ["-m", "--delete-untagged", "--delete-untagged=true", "-dm"])
def test_platforms_are_never_deleted(words: str) -> None:
    """With this option the collector takes the children of tagged indexes."""
    with pytest.raises(UsageError, match="never with --delete-untagged"):
        CollectorCommand(f"docker exec -e M registry registry garbage-collect {words} config.yml")


@pytest.mark.parametrize(
    ("command", "words"),
    [("no-such-collector", "can't be run"), ("'", "No closing quotation"), (" ", "expected a command line")],
)
async def test_a_collector_that_is_none(plain: Collections, command: str, words: str) -> None:
    """It is a usage error that says so."""
    with pytest.raises(UsageError, match=words):
        await plain.collect(CollectorCommand(command))


async def test_a_collector_that_fails(cached: Collections) -> None:
    """Half-way: what it took is put right, its words are told, and the gate is open."""
    image = await image_of(cached.server, KALI, (await publish(cached.server, KALI, "1")).digest)
    await cached.registry.delete_manifest(KALI, image.manifest.digest)
    script = cached.server.home / "fails"
    own = f'{cached.server.binary} garbage-collect "$@" {cached.server.config}'
    script.write_text(f'#!/bin/sh\n{own}\n[ "$1" = --dry-run ] && exit 0\necho "the disk is full" >&2\nexit 3\n')
    script.chmod(0o755)
    with pytest.raises(RefusedError, match="running fails: exit code 3: the disk is full"):
        await cached.collect(CollectorCommand(str(script)))
    assert not cached.gate.closed
    assert not any([await cached.registry.has_blob(KALI, digest) for digest in image.blobs])


async def test_copied_again(cached: Collections, internet: RegistryServer) -> None:
    """A copier that remembers what it copied, into a registry that remembers what was collected: all of it is there afterwards."""
    async with copies(cached.server.url, internet.url) as made:
        made.copier = Copier(cached.registry, Manifests())
        layers = [b"a" * 5000, b"b" * 5000]
        published = await make_image(made.source, "library/nginx", "1", layers)
        await made.copy("library/nginx:1", published.digest)
        await cached.registry.delete_manifest("library/nginx", published.digest)
        assert (await cached.collect()).cache is Cache.CLEARED
        await made.copy("library/nginx:1", published.digest)
    assert len((await image_of(cached.server, "library/nginx", "1")).blobs) == 3


async def test_an_index_copied_again(cached: Collections, internet: RegistryServer) -> None:
    """Its children too, of which nobody asks for the tag."""
    published = await publish(internet, "library/nginx", "1", platforms=["linux/amd64", "linux/arm64"])
    async with copies(cached.server.url, internet.url) as made:
        made.copier = Copier(cached.registry, Manifests())
        await made.copy("library/nginx:1", published.digest)
        for digest in (published.digest, *(child.digest for child in published.children)):
            await cached.registry.delete_manifest("library/nginx", digest)
        await cached.collect()
        await made.copy("library/nginx:1", published.digest)
    for child in published.children:
        assert (await image_of(cached.server, "library/nginx", child.digest)).blobs


async def test_copied_again_after_a_collection_that_was_broken_off(cached: Collections, internet: RegistryServer) -> None:
    """Of what the registry says to have, the first byte is read."""
    async with copies(cached.server.url, internet.url) as made:
        made.copier = Copier(cached.registry, Manifests())
        published = await make_image(made.source, "library/nginx", "1", [b"a" * 5000])
        await made.copy("library/nginx:1", published.digest)
        await cached.registry.delete_manifest("library/nginx", published.digest)
        async with cached.gate.collecting(5) as shut:
            shut.believe(Doubt.BLOBS)
            cached.server.collect()
        made.copier = Copier(cached.registry, Manifests())
        await made.copy("library/nginx:1", published.digest)
    assert len((await image_of(cached.server, "library/nginx", "1")).blobs) == 2


async def test_restarted(cached: Collections) -> None:
    """Reads wait for the registry to come back; its cache is empty then, as asking shows."""
    kept = await publish(cached.server, KALI, "kept")
    await forgotten(cached)
    wish = cached.server.home / "restart"
    stop, seen = asyncio.Event(), 0

    async def restarts() -> None:
        while not wish.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        await asyncio.to_thread(cached.server.stop)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(cached.server.start)
        wish.unlink()

    async def reads() -> None:
        """As a gateway passes it on: without another try."""
        nonlocal seen
        gateway = ForwardingClient(cached.server.url, gate=cached.gate)
        while not stop.is_set():
            async with gateway.forward("GET", f"/v2/{KALI}/manifests/kept", {"Accept": kept.media_type}, None, "") as found:
                assert b"".join([chunk async for chunk in found.chunks]) == kept.raw
            seen += 1
            await asyncio.sleep(0.01)
        await gateway.close()

    cached.terms = replace(cached.terms, restarts=True)
    asks = f"{sys.executable} -c 'import pathlib, time; p = pathlib.Path(\"{wish}\"); p.touch()\nwhile p.exists(): time.sleep(0.01)'"
    program = CollectorCommand([cached.server.binary, "garbage-collect", str(cached.server.config)], asks)
    async with asyncio.TaskGroup() as group:
        group.create_task(restarts())
        group.create_task(reads())
        done = await cached.collect(program)
        stop.set()
    assert done.cache is Cache.RESTARTED
    assert cached.gate.doubt is Doubt.NONE
    assert seen


async def test_what_was_let_go_of(plain: Collections) -> None:
    """A manifest that was held until its time was over is deleted with its children before the collection; what a tag means by then is not."""
    index = await publish(plain.server, KALI, "1", platforms=["linux/amd64", "linux/arm64"])
    single, kept = await publish(plain.server, KALI, "2"), await publish(plain.server, KALI, "3")
    for tag in ("1", "2"):
        await plain.registry.delete_tag(KALI, tag)
    assert (await plain.collect()).gone == {}, "without it nothing would be won"
    await plain.registry.resolve(KALI, index.children[0].digest)
    done = await plain.collect(expired={KALI: [index.digest, single.digest, kept.digest], "gone/since": [index.digest]})
    assert set(done.gone[KALI]) == {index.digest, single.digest, *(child.digest for child in index.children)}
    assert done.blobs >= 6 + 4
    for digest in done.gone[KALI]:
        with pytest.raises(NotFoundError):
            await plain.registry.resolve(KALI, digest)
    assert await tags_of(plain.server, KALI) == {"3": kept.digest}
    assert (await image_of(plain.server, KALI, "3")).blobs


@pytest.mark.parametrize("tagged", [True, False])
async def test_what_can_not_be_read_may_name_what_was_let_go_of(plain: Collections, *, tagged: bool) -> None:
    """A manifest of the repository, tagged or not, is broken: what it names is not known, so all stays (law 2), in whatever order it is read."""
    olds, broken = [await publish(plain.server, KALI, f"old-{number}") for number in range(6)], await publish(plain.server, KALI, "2")
    for number in range(6):
        await plain.registry.delete_tag(KALI, f"old-{number}")
    if not tagged:
        await plain.registry.delete_tag(KALI, "2")
    plain.server.blob_file(broken.digest).write_bytes(broken.raw.replace(b'"schemaVersion"', b'"schemaversion"'))
    assert (await plain.collect(expired={KALI: [old.digest for old in olds]})).gone == {}
    for old in olds:
        await plain.registry.resolve(KALI, old.digest)


async def test_nobody_writes_meanwhile(plain: Collections, internet: RegistryServer) -> None:
    """A copy is refused as a whole, with when to try again; one that is under way is waited for."""
    published = await publish(internet, "library/nginx", "1")
    slow = SlowCollector(plain.server)
    async with copies(plain.server.url, internet.url) as made, asyncio.TaskGroup() as group:
        made.copier = Copier(plain.registry, Manifests())
        group.create_task(plain.collect(slow.program))
        await slow.collected()
        assert plain.gate.doubt is Doubt.BLOBS, "should we die now, nobody believes what it says of blobs"
        with pytest.raises(RefusedError, match="garbage is being collected") as refused:
            await made.copy("library/nginx:1", published.digest)
        assert refused.value.retry_after
        slow.let_go()
    assert await tags_of(plain.server, "library/nginx") == {}


async def test_usage(plain: Collections) -> None:
    """A blob counts once in a repository, and once in all; what others share is said; the largest comes first."""
    async with client(plain.server) as registry:
        shared = b"s" * 10_000
        await make_image(registry, "b/small", "1", [shared])
        await make_image(registry, "a/large", "1", [shared, b"x" * 30_000])
        await make_image(registry, "a/large", "2", [shared, b"y" * 20_000])
    await forgotten(plain)
    found = (await survey(plain.registry)).usage
    assert [(each.repository, each.tags, each.shared) for each in found.repositories] == [("a/large", 2, 10_000), ("b/small", 1, 10_000)]
    assert 60_000 < found.repositories[0].bytes < 62_000
    assert found.bytes == sum(each.bytes for each in found.repositories) - 10_000


async def test_usage_of_what_is_broken(plain: Collections) -> None:
    """What can't be read is said, and all else is counted."""
    await publish(plain.server, KALI, "1")
    broken = await publish(plain.server, KALI, "2")
    plain.server.damage(broken.digest)
    found = await survey(plain.registry)
    assert set(found.unread) == {Target(KALI, "2")}
    assert [each.tags for each in found.usage.repositories] == [1]
