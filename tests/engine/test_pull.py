"""Pull: registry to a host under the name that the host knows, and never over what has that name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count

import pytest

from controller.domain.actions import Pull, Reason
from controller.domain.errors import MovedError, RefusedError, UnreachableError, WharfError
from controller.domain.oci import OCI_INDEX, parse_manifest
from controller.domain.ports.hosts import Host
from controller.domain.ports.stores import Store
from controller.domain.reference import Reference, Target, parse
from controller.engine.loading import Loader
from controller.engine.manifests import Manifests
from controller.engine.pulling import Puller
from controller.engine.push import Pusher
from controller.hosts.docker_engine import DockerHost
from controller.registry.client import RegistryClient
from controller.sources.archives import ImageArchives
from tests.support.builders import ADDRESS
from tests.support.memory import MemoryHost, MemoryRegistry
from tests.support.memory_store import MemoryStore
from tests.support.scene import Scene, publish, tags_of

KALI = Target("cyroid/kali", "1")
NAME = parse("cyroid/kali:1")


@dataclass
class Yard:
    """What a pull works with."""

    registry: RegistryClient | MemoryRegistry
    host: Host
    store: Store
    address: str

    async def pull(self, *, digest: str = "", tag: Reference = NAME) -> str:
        """One pull, as the applier does it."""
        seen = digest or (await self.registry.resolve(KALI.repository, KALI.tag)).digest
        action = Pull(target=KALI, sets=(), reason=Reason.MISSING, message="", host="local", tag=tag, digest=seen)
        state = await self.host.look()
        puller = Puller(self.registry, self.store, Manifests(), Loader(self.registry, ImageArchives()))
        return await puller.pull(action, self.host, state.engine_id, state.store, self.address, lambda _: None)

    async def recover(self) -> None:
        """How a pass begins."""
        state = await self.host.look()
        pusher = Pusher(self.registry, self.store, Manifests())
        await pusher.recover(self.host, state.engine_id, state.store)

    async def names(self) -> set[str]:
        """Every tag on the host."""
        return {str(tag) for image in (await self.host.look()).images for tag in image.tags}


@asynccontextmanager
async def yard_of(scene: Scene) -> AsyncIterator[Yard]:
    """On real parts."""
    registry, host = RegistryClient(scene.registry.url), DockerHost("local", scene.engine.url)
    try:
        yield Yard(registry, host, MemoryStore(), scene.registry.address)
    finally:
        await registry.close()
        await host.close()


def _pushed(scene: Scene) -> str:
    """KALI in the registry and nowhere else; its Id."""
    image_id = scene.build(f"{scene.registry.address}/{KALI}")
    scene.engine.docker("push", "-q", f"{scene.registry.address}/{KALI}")
    scene.engine.docker("rmi", f"{scene.registry.address}/{KALI}")
    return image_id


async def test_a_host_gets_the_registrys_image_under_its_own_name(either_scene: Scene) -> None:
    """Pulled, named, and our own name is gone; it is remembered, so that the next build there is no conflict."""
    image_id = _pushed(either_scene)
    async with yard_of(either_scene) as yard:
        digest = await yard.pull()
        assert await yard.names() == {str(NAME)}
        assert either_scene.id_on_host("cyroid/kali:1") == image_id
        assert not yard.store.open_pushes()
        assert await tags_of(either_scene.registry, "cyroid/kali") == {"1": digest}
        assert yard.store.last_pushed((await yard.host.look()).engine_id) == {KALI: digest}
        assert await yard.pull() == digest, "once more is nothing to do"


async def test_a_multi_platform_image(either_scene: Scene) -> None:
    """The host takes its own platform of an index; that is the registry's image too."""
    scene = either_scene
    _pushed(scene)
    async with yard_of(scene) as yard:
        child = await yard.registry.manifest(KALI.repository, KALI.tag)
        platform = {"architecture": "amd64", "os": "linux"}
        listed = [{"mediaType": child.media_type, "digest": child.digest, "size": len(child.raw), "platform": platform}]
        index = parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode())
        await yard.registry.put_manifest(KALI.repository, KALI.tag, index)
        assert await yard.pull() == index.digest
        assert await yard.names() == {str(NAME)}


async def test_another_image_of_that_name_is_not_renamed(either_scene: Scene) -> None:
    """The host's own build keeps its name; nothing is pulled, nothing journalled."""
    _pushed(either_scene)
    mine = either_scene.build("cyroid/kali:1")
    async with yard_of(either_scene) as yard:
        with pytest.raises(RefusedError, match="means another image"):
            await yard.pull()
        assert either_scene.id_on_host("cyroid/kali:1") == mine
        assert await yard.names() == {str(NAME)}
        assert not yard.store.open_pushes()


async def test_a_name_of_the_operators_under_the_registrys_address_is_not_taken(scene: Scene) -> None:
    """Pulling would move it to another image: refused."""
    _pushed(scene)
    own = f"{scene.registry.address}/{KALI}"
    mine = scene.build(own)
    async with yard_of(scene) as yard:
        with pytest.raises(RefusedError, match="remove or rename that tag"):
            await yard.pull()
        assert scene.id_on_host(own) == mine
        assert not yard.store.open_pushes()


async def test_what_the_operator_pulled_himself_stays(either_scene: Scene) -> None:
    """A name under the registry's address that was there before, for this image, is used and left."""
    _pushed(either_scene)
    own = f"{either_scene.registry.address}/{KALI}"
    either_scene.engine.docker("pull", "-q", own)
    async with yard_of(either_scene) as yard:
        await yard.pull()
        assert await yard.names() == {str(NAME), own}
        assert not yard.store.open_pushes()


async def test_the_registrys_own_name_may_be_the_one_that_is_wanted(scene: Scene) -> None:
    """Then it stays, and is no name of ours."""
    _pushed(scene)
    own = f"{scene.registry.address}/{KALI}"
    async with yard_of(scene) as yard:
        await yard.pull(tag=parse(own))
        assert await yard.names() == {own}
        assert not yard.store.open_pushes()


async def test_a_tag_that_moved_since_the_plan_is_not_pulled(scene: Scene) -> None:
    """What was planned is what is pulled."""
    theirs = await publish(scene.registry, "cyroid/kali", "1")
    async with yard_of(scene) as yard:
        with pytest.raises(MovedError, match="look again"):
            await yard.pull(digest=f"sha256:{'0' * 64}")
        await yard.registry.delete_tag("cyroid/kali", "1")
        with pytest.raises(MovedError, match="gone"):
            await yard.pull(digest=theirs.digest)
        assert await yard.names() == set()


async def test_a_tag_that_moves_while_it_is_pulled_gets_no_name(scene: Scene) -> None:
    """What came is not what was planned: it gets no name of the host's, and goes again at the next pass."""
    _pushed(scene)
    async with yard_of(scene) as yard:
        real = yard.host.pull
        seen = (await yard.registry.resolve(KALI.repository, KALI.tag)).digest

        async def moving(reference: str, advance: Callable[[int], None]) -> None:
            _pushed(scene)
            await real(reference, advance)

        yard.host.pull = moving  # type: ignore[method-assign] # what somebody else does in that moment
        with pytest.raises(MovedError, match="while local pulled it"):
            await yard.pull(digest=seen)
        assert str(NAME) not in await yard.names()
        await yard.recover()
        assert await yard.names() == set()
        assert not yard.store.open_pushes()


class DeadError(BaseException):
    """The process is killed at this point."""


@pytest.mark.parametrize(
    "error", [UnreachableError("a", "b"), RefusedError("a", "b"), asyncio.CancelledError(), DeadError()], ids=lambda error: type(error).__name__
)
async def test_broken_off_at_each_step(error: BaseException) -> None:
    """Whatever fails or dies, and wherever: the next pass leaves no name of ours, and a pull after it ends well."""
    for at in count():
        left, happened, dead = at, False, False

        def fault(_: str) -> None:
            nonlocal left, happened, dead
            if dead or (left == 0 and not happened):
                happened, dead = True, isinstance(error, DeadError)
                raise error
            left -= 1

        registry = MemoryRegistry(ADDRESS)
        registry.add(KALI.repository, KALI.tag, b"content")
        host = MemoryHost("local", [registry])
        yard = Yard(registry, host, MemoryStore(), ADDRESS)
        registry.fault = host.fault = fault
        with suppress(WharfError, asyncio.CancelledError, DeadError, BaseExceptionGroup):
            await yard.pull()
        ended, dead, happened = not happened, False, True
        await yard.recover()
        assert await yard.names() <= {str(NAME)}
        assert not yard.store.open_pushes()
        await yard.pull()
        assert await yard.names() == {str(NAME)}
        assert not yard.store.open_pushes()
        if ended:
            assert at > 8
            break
