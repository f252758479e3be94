"""Deleting one tag of a real registry that only deletes digests (Distribution 2.8): the tag goes, and nothing else.

Faults in the middle are put between client and registry by a subclass: the registry itself does what it is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from controller.domain.errors import NotFoundError, RefusedError, RemoteError, UnreachableError
from controller.domain.oci import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Manifest
from controller.registry.client import RegistryClient
from tests.conftest import StartRegistry
from tests.registry.conftest import MakeClient
from tests.registry.images import index, pushed, whole
from tests.support.hostile import Asked, hostile, reply, said
from tests.support.servers import RegistryServer

LOST = UnreachableError("DELETE it", "the answer was lost")
Act = Callable[[], Awaitable[None]]


class Faulty(RegistryClient):
    """A client whose writes in a tombstone's life go wrong as a test says: each fault is given the real action, to do or to leave."""

    faults: dict[str, Callable[[Act], Awaitable[None]]] = {}  # noqa: RUF012 # set for one test's client

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.stones: list[Manifest] = []

    async def put_manifest(self, repository: str, identifier: str, manifest: Manifest) -> None:
        async def act() -> None:
            await super(Faulty, self).put_manifest(repository, identifier, manifest)

        stone = manifest.media_type == DOCKER_MANIFEST and not manifest.layers
        self.stones += [manifest] if stone else []
        await self.faults.get("overwrite" if stone else "give back", _no_fault)(act)

    async def delete_manifest(self, repository: str, digest: str) -> None:
        async def act() -> None:
            await super(Faulty, self).delete_manifest(repository, digest)

        there = await self.has_manifest(repository, digest)
        await (self.faults.get("delete", _no_fault) if there else _no_fault)(act)

    async def has_manifest(self, repository: str, digest: str) -> bool:
        try:
            await self.resolve(repository, digest)
        except NotFoundError:
            return False
        return True


async def _no_fault(act: Act) -> None:
    await act()


async def before(_act: Act) -> None:
    """It fails before it is done."""
    raise LOST


async def after(act: Act) -> None:
    """It is done, and its answer lost."""
    await act()
    raise LOST


async def sent_twice(act: Act) -> None:
    """It is done, its answer lost, and it is sent again, as the client does by itself."""
    await act()
    await act()


@pytest.fixture
async def faulty(registry: RegistryServer) -> AsyncIterator[Faulty]:
    """A client whose faults are set by the test."""
    there = Faulty(registry.url)
    yield there
    await there.close()


@pytest.mark.parametrize("media_type", [DOCKER_MANIFEST, OCI_MANIFEST])
async def test_another_tag_of_the_same_digest_stays(registry: RegistryServer, client: MakeClient, media_type: str) -> None:
    """A tag is deleted; another tag of the same digest is as whole as before, and so is the digest."""
    there = client(registry.url)
    manifest = await pushed(there, "a/b", "old", "word", media_type)
    await there.put_manifest("a/b", "other", manifest)
    await there.delete_tag("a/b", "old")
    with pytest.raises(NotFoundError):
        await there.resolve("a/b", "old")
    assert await there.tags("a/b") == ["other"]
    assert await whole(there, "a/b", "other") == await whole(there, "a/b", manifest.digest) == manifest.digest


@pytest.mark.parametrize(("list_type", "media_type"), [(DOCKER_LIST, DOCKER_MANIFEST), (OCI_INDEX, OCI_MANIFEST)])
async def test_an_index_with_the_image_as_child_stays(registry: RegistryServer, client: MakeClient, list_type: str, media_type: str) -> None:
    """The tag of an index's child is deleted, and the index keeps the child."""
    there = client(registry.url)
    children = [await pushed(there, "a", f"child{n}", str(n), media_type) for n in range(2)]
    both = index(children, list_type)
    await there.put_manifest("a", "both", both)
    await there.delete_tag("a", "child0")
    assert sorted(await there.tags("a")) == ["both", "child1"]
    assert await whole(there, "a", "both") == both.digest


async def test_the_tag_of_an_index_goes_alone(registry: RegistryServer, client: MakeClient) -> None:
    """An index's tag is deleted, and the tags of its children stay."""
    there = client(registry.url)
    child = await pushed(there, "a", "child", "word", OCI_MANIFEST)
    await there.put_manifest("a", "both", index([child]))
    await there.delete_tag("a", "both")
    assert await there.tags("a") == ["child"]
    assert await whole(there, "a", "child") == child.digest


async def test_many_tags_of_one_digest_at_once(faulty: Faulty) -> None:
    """Deleting tags at the same time deletes those and no other; no two tombstones are the same, as deleting one would take both tags."""
    manifest = await pushed(faulty, "a", "kept", "word")
    for number in range(8):
        await faulty.put_manifest("a", str(number), manifest)
    await asyncio.gather(*(faulty.delete_tag("a", str(number)) for number in range(8)))
    assert await faulty.tags("a") == ["kept"]
    assert await whole(faulty, "a", "kept") == manifest.digest
    assert len({stone.digest for stone in faulty.stones}) == len(faulty.stones) == 8


async def test_a_tag_that_is_not_there(registry: RegistryServer, client: MakeClient) -> None:
    """What is not there is NotFoundError, and no tombstone is left in its place."""
    there = client(registry.url)
    await pushed(there, "a", "1", "word")
    for repository in ("a", "never-was"):
        with pytest.raises(NotFoundError):
            await there.delete_tag(repository, "2")
    assert await there.tags("a") == ["1"]


async def test_deletes_that_are_off(start_registry: StartRegistry, client: MakeClient) -> None:
    """Where deletes are off the error says how to turn them on, and the tag means what it meant: nothing was overwritten."""
    there = client(start_registry(extra={"storage": {"delete": {"enabled": False}}}).url)
    manifest = await pushed(there, "a", "1", "word")
    with pytest.raises(RefusedError, match=r"DELETE http://.*/v2/a/manifests/1: 405 .*storage\.delete\.enabled"):
        await there.delete_tag("a", "1")
    assert await there.tags("a") == ["1"]
    assert await whole(there, "a", "1") == manifest.digest


@pytest.mark.parametrize(("step", "fault"), [("overwrite", before), ("overwrite", after), ("delete", before)])
async def test_a_deletion_that_fails_halfway(faulty: Faulty, step: str, fault: Callable[[Act], Awaitable[None]]) -> None:
    """Whatever fails around the overwriting, a tag that means the tombstone is given back what it meant, and the error comes out."""
    manifest = await pushed(faulty, "a", "1", "word")
    faulty.faults = {step: fault}
    with pytest.raises(UnreachableError) as caught:
        await faulty.delete_tag("a", "1")
    assert caught.value is LOST
    assert await whole(faulty, "a", "1") == manifest.digest


async def test_a_deletion_that_is_cancelled_halfway(faulty: Faulty) -> None:
    """A cancellation between overwriting and deleting leaves the tag meaning what it meant."""
    manifest = await pushed(faulty, "a", "1", "word")
    reached = asyncio.Event()

    async def forever(_act: Act) -> None:
        reached.set()
        await asyncio.Event().wait()

    faulty.faults = {"delete": forever}
    task = asyncio.create_task(faulty.delete_tag("a", "1"))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await whole(faulty, "a", "1") == manifest.digest


async def test_a_deletion_whose_answer_was_lost(faulty: Faulty) -> None:
    """A deletion that was done and sent again is done: the 404 on the second is no failure, and the tag does not come back."""
    await pushed(faulty, "a", "1", "word")
    faulty.faults = {"delete": sent_twice}
    await faulty.delete_tag("a", "1")
    assert await faulty.tags("a") == []


async def test_a_tag_that_somebody_else_writes_meanwhile(faulty: Faulty) -> None:
    """Giving back does not overwrite what somebody else put there between."""
    await pushed(faulty, "a", "1", "old")
    newer = await pushed(faulty, "a", "2", "new")

    async def overtaken(_act: Act) -> None:
        await faulty.put_manifest("a", "1", newer)
        raise LOST

    faulty.faults = {"delete": overtaken}
    with pytest.raises(UnreachableError):
        await faulty.delete_tag("a", "1")
    assert await whole(faulty, "a", "1") == newer.digest


async def test_a_tag_that_cannot_be_given_back(faulty: Faulty) -> None:
    """When giving back fails too, the error says what the tag meant, by digest: it is still there."""
    manifest = await pushed(faulty, "a", "1", "word")
    faulty.faults = {"delete": before, "give back": before}
    with pytest.raises(RefusedError, match=f"deleting a:1: .*lost.*a@{manifest.digest}") as caught:
        await faulty.delete_tag("a", "1")
    assert caught.value.retryable
    assert await whole(faulty, "a", manifest.digest) == manifest.digest


@pytest.mark.parametrize("answer", [reply(202), said(401, "UNAUTHORIZED"), said(500, "UNKNOWN")], ids=["accepted", "denied", "broken"])
async def test_a_registry_that_deletes_tags_is_believed_only_when_it_is_gone(client: MakeClient, answer: bytes) -> None:
    """A registry that takes the deletion of a tag (3.x) and goes on to have it, or refuses it, is an error, and nothing is overwritten (law 5)."""
    raw = b'{"schemaVersion": 2, "manifests": []}'

    def script(asked: Asked) -> bytes:
        return answer if asked.method == "DELETE" else reply(200, raw if asked.method == "GET" else b"", Content_Type=OCI_INDEX, Content_Length="37")

    async with hostile(script) as server:
        with pytest.raises(RemoteError, match=r"a:1: the tag still means sha256:|/v2/a/manifests/1: (401|500)"):
            await client(server.url).delete_tag("a", "1")
        assert not server.of("PUT")
        assert not server.of("POST")


async def test_a_registry_that_deletes_neither_tags_nor_digests(client: MakeClient) -> None:
    """Whether digests are deleted is found out before the tag is overwritten: by one that no manifest has."""
    raw = b'{"schemaVersion": 2, "manifests": []}'

    def script(asked: Asked) -> bytes:
        if asked.method == "DELETE":
            return said(400, "DIGEST_INVALID") if asked.path.endswith("/1") else said(405, "UNSUPPORTED")
        return reply(200, raw, Content_Type=OCI_INDEX)

    async with hostile(script) as server:
        with pytest.raises(RefusedError, match=r"DELETE .*/v2/a/manifests/sha256:.*: 405 .*storage\.delete\.enabled"):
            await client(server.url).delete_tag("a", "1")
        assert not server.of("PUT")
        assert not server.of("POST")
