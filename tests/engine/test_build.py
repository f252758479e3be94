"""Build: a folder becomes an image in the registry, proven, and nothing is left on the host; broken off anywhere, nothing is lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest

from controller.domain.actions import Build, Reason
from controller.domain.desired import BuildSource
from controller.domain.errors import MovedError, NotFoundError, RefusedError, RemoteError, UnprovenError, UnreachableError, WharfError
from controller.domain.labels import CONTEXT_HASH, label_of
from controller.domain.observation import HostState, StoreKind
from controller.domain.ports.hosts import Contexts, Host, ImageDetail
from controller.domain.ports.stores import Store
from controller.domain.reference import Target
from controller.engine.building import Builder
from controller.engine.journal import open_entry
from controller.engine.manifests import Manifests
from controller.engine.prove import Prover
from controller.engine.push import Pusher
from controller.hosts.docker_engine import DockerHost
from controller.registry.client import RegistryClient
from controller.sources.contexts import FolderContexts
from tests.conftest import StartRegistry
from tests.support.builders import ADDRESS
from tests.support.folders import sleeping, source_of, with_shell
from tests.support.memory import MemoryHost, MemoryRegistry
from tests.support.memory_store import MemoryStore
from tests.support.scene import Scene, publish, tags_of

KALI = Target("cyroid/kali", "1")
DOCKERFILE = "FROM scratch\nCOPY data /\n"


@dataclass
class Yard:
    """What a build works with."""

    registry: RegistryClient | MemoryRegistry
    host: Host
    store: Store
    contexts: Contexts
    source: BuildSource
    address: str

    @property
    def tag(self) -> str:
        """The name that the host pushes."""
        return f"{self.address}/{KALI}"

    async def action(self, **more: str) -> Build:
        """What a plan would say now."""
        folder = await self.contexts.look(self.source)
        said = {"context_hash": folder.hash, "replaces": "", **more}
        return Build(target=KALI, sets=(), reason=Reason.MISSING, message="", host="local", source=self.source, **said)  # type: ignore[arg-type] # texts

    def write(self, name: str, text: str) -> None:
        """Change the folder."""
        Path(self.source.context, name).write_text(text)

    async def build(self, action: Build | None = None) -> str:
        """One build, as the applier does it."""
        state = await self.host.look()
        builder, prover = Builder(self.registry, self.store, Manifests(), self.contexts), Prover(self.registry, time.monotonic)
        return await builder.build(action or await self.action(), self.host, state.engine_id, state.store, self.address, lambda _: None, prover)

    async def recover(self) -> None:
        """How a pass begins."""
        state = await self.host.look()
        pusher = Pusher(self.registry, self.store, Manifests())
        await pusher.recover(self.host, state.engine_id, state.store)

    async def label(self) -> str:
        """What the registry's image says that it was built from; "" when there is none."""
        manifests, registry = Manifests(), self.registry
        try:
            found = await registry.resolve(KALI.repository, KALI.tag)
        except NotFoundError:
            return ""
        whole = await manifests.whole(registry, KALI.repository, found.digest)
        return await manifests.label(registry, KALI.repository, whole, CONTEXT_HASH)

    async def images(self) -> set[tuple[str, ...]]:
        """The names of each image on the host."""
        return {tuple(map(str, image.tags)) for image in (await self.host.look()).images}


@asynccontextmanager
async def yard_of(scene: Scene) -> AsyncIterator[Yard]:
    """On real parts."""
    source = source_of(scene.folder / "kali", {"Dockerfile": DOCKERFILE, "data": "data"})
    registry, host = RegistryClient(scene.registry.url), DockerHost("local", scene.engine.url)
    try:
        yield Yard(registry, host, MemoryStore(), FolderContexts(), source, scene.registry.address)
    finally:
        await registry.close()
        await host.close()


async def test_a_folder_becomes_an_image_that_is_in_the_registry_alone(either_scene: Scene) -> None:
    """Built, pushed, proven, and the host is as it was: no image, no tag; the label says what it was built from."""
    async with yard_of(either_scene) as yard:
        action = await yard.action()
        digest = await yard.build(action)
        assert await yard.images() == set()
        assert not yard.store.open_pushes()
        assert await yard.label() == action.context_hash
        assert await tags_of(either_scene.registry, "cyroid/kali") == {"1": digest}
        assert yard.store.last_pushed((await yard.host.look()).engine_id) == {KALI: digest}
    either_scene.pulled_back(str(KALI))


async def test_what_is_built_is_the_folder_as_it_is_now(scene: Scene) -> None:
    """A folder that changed since the plan is built and labelled as it is."""
    async with yard_of(scene) as yard:
        action = await yard.action()
        yard.write("data", "newer")
        await yard.build(action)
        assert await yard.label() == (await yard.contexts.look(yard.source)).hash != action.context_hash


async def test_what_the_tag_meant_is_held(either_scene: Scene) -> None:
    """A newer build takes the tag; the older one is kept under its own, and the host stays clear."""
    async with yard_of(either_scene) as yard:
        first = await yard.build()
        yard.write("data", "newer")
        second = await yard.build(await yard.action(replaces=first))
        assert await tags_of(either_scene.registry, "cyroid/kali") == {"1": second, f"wharf-held-{first[7:19]}": first}
        assert await yard.images() == set()


async def test_a_tag_of_others_is_not_overwritten(scene: Scene) -> None:
    """The registry's tag is not what the plan saw: nothing is built, nothing changes."""
    theirs = await publish(scene.registry, "cyroid/kali", "1")
    async with yard_of(scene) as yard:
        with pytest.raises(MovedError, match="cyroid/kali:1"):
            await yard.build()
        assert await tags_of(scene.registry, "cyroid/kali") == {"1": theirs.digest}
        assert await yard.images() == set()
        assert not yard.store.open_pushes()


async def test_a_tag_that_moves_while_it_is_built_is_not_overwritten(scene: Scene) -> None:
    """Others may push during a long build: theirs stays, and so does what was built, journalled."""
    async with yard_of(scene) as yard:
        action, real = await yard.action(), yard.contexts

        class Meanwhile:
            """The folder, beside which somebody else pushes."""

            look = staticmethod(real.look)
            concerned = staticmethod(real.concerned)

            async def tar(self, source: BuildSource) -> AsyncIterator[bytes]:
                async for chunk in real.tar(source):
                    yield chunk
                await publish(scene.registry, "cyroid/kali", "1")

        yard.contexts = Meanwhile()
        with pytest.raises(MovedError, match="cyroid/kali:1"):
            await yard.build(action)
        assert await yard.label() == ""
        assert await yard.images() == {(yard.tag,)}
        assert [entry.reference for entry in yard.store.open_pushes()] == [yard.tag]


async def test_a_name_of_the_operators_is_not_taken(scene: Scene) -> None:
    """An image that a person tagged under the registry's address keeps that name: refused before anything is built."""
    mine = f"{scene.registry.address}/{KALI}"
    image_id = scene.build(mine)
    async with yard_of(scene) as yard:
        with pytest.raises(RefusedError, match="remove or rename that tag"):
            await yard.build()
        assert scene.id_on_host(mine) == image_id
        assert not yard.store.open_pushes()


async def test_a_failed_build_leaves_nothing(either_scene: Scene) -> None:
    """A Dockerfile that is wrong: the engine's words, no image, no journal entry, no tag in the registry."""
    async with yard_of(either_scene) as yard:
        yard.write("Dockerfile", "FROM scratch\nCOPY nothing /\n")
        with pytest.raises(RemoteError, match="nothing"):
            await yard.build()
        assert await yard.images() == set()
        assert not yard.store.open_pushes()
        assert await tags_of(either_scene.registry, "cyroid/kali") == {}


async def test_a_refused_push_keeps_the_image_until_it_can_be_finished(either_scene: Scene, start_registry: StartRegistry) -> None:
    """A registry that is read-only: what was built stays under our journalled name, and the next build brings it there and takes it off."""
    scene = either_scene
    good, scene.registry = scene.registry, start_registry({"storage": {"maintenance": {"readonly": {"enabled": True}}}})
    async with yard_of(scene) as yard:
        with pytest.raises(RemoteError, match="405"):
            await yard.build()
        assert await yard.images() == {(yard.tag,)}
        await yard.recover()
        assert await yard.images() == {(yard.tag,)}, "it is nowhere else"
        scene.registry.stop()
        good.stop()
        good.config.write_text(good.config.read_text().replace(good.address, scene.registry.address))
        good.port = scene.registry.port
        good.start()
        await yard.build()
        assert await yard.images() == set()
        assert not yard.store.open_pushes()


async def test_an_image_that_got_another_name_meanwhile_keeps_it(scene: Scene) -> None:
    """Only our own name is taken off what somebody has tagged for himself."""
    async with yard_of(scene) as yard:
        real = yard.host.push

        async def tagging(reference: str, advance: Callable[[int], None]) -> None:
            scene.engine.docker("tag", reference, "mine/kali:1")
            await real(reference, advance)

        yard.host.push = tagging  # type: ignore[method-assign] # what a person does in that moment
        await yard.build()
        assert await yard.images() == {("docker.io/mine/kali:1",)}
        assert not yard.store.open_pushes()


async def test_an_image_in_use_is_no_failure_and_goes_later(scene: Scene) -> None:
    """It is in the registry; it goes from the host when the container is gone."""
    async with yard_of(scene) as yard:
        real = yard.host.push

        async def using(reference: str, advance: Callable[[int], None]) -> None:
            scene.engine.docker("create", "--name", "user", reference, "nothing")
            await real(reference, advance)

        yard.host.push = using  # type: ignore[method-assign] # what a person does in that moment
        await yard.build()
        assert await yard.images() == {(yard.tag,)}
        await yard.recover()
        assert await yard.images() == {(yard.tag,)}
        scene.engine.docker("rm", "user")
        await yard.recover()
        assert await yard.images() == set()
        assert not yard.store.open_pushes()


async def test_a_damaged_blob_keeps_what_was_built(either_scene: Scene) -> None:
    """The manifest looks fine and the bytes are not: unproven, so the host keeps the last good copy."""
    scene = either_scene
    async with yard_of(scene) as yard:
        real = yard.host.push

        async def rotting(reference: str, advance: Callable[[int], None]) -> None:
            await real(reference, advance)
            scene.registry.damage((await yard.registry.manifest("cyroid/kali", "1")).layers[0].digest)

        yard.host.push = rotting  # type: ignore[method-assign] # what a disk does
        with pytest.raises(UnprovenError, match="cyroid/kali"):
            await yard.build()
        await yard.recover()
        assert await yard.images() == {(yard.tag,)}


async def test_what_was_not_proven_keeps_our_name_too(scene: Scene) -> None:
    """A build is done when its content was read back, whatever else the image is called by then."""
    async with yard_of(scene) as yard:
        real = yard.host.push

        async def rotting(reference: str, advance: Callable[[int], None]) -> None:
            scene.engine.docker("tag", reference, "mine/kali:1")
            await real(reference, advance)
            scene.registry.damage((await yard.registry.manifest("cyroid/kali", "1")).layers[0].digest)

        yard.host.push = rotting  # type: ignore[method-assign] # what a disk does
        with pytest.raises(UnprovenError, match="cyroid/kali"):
            await yard.build()
        assert await yard.images() == {tuple(sorted((yard.tag, "docker.io/mine/kali:1")))}


async def test_a_build_that_is_cancelled_leaves_nothing_to_the_next_pass(scene: Scene) -> None:
    """Ctrl-C in the middle of a step: the next pass finds no tag, and closes the journal."""
    async with yard_of(scene) as yard:
        word = str(random.randrange(10**6, 10**9))
        with_shell(Path(yard.source.context))
        yard.write("Dockerfile", f"FROM scratch\nCOPY shell /\nRUN sleep {word}\n")
        building = asyncio.create_task(yard.build())
        async with asyncio.timeout(100):
            while not sleeping(word):  # noqa: ASYNC110 - another program's start has no event
                await asyncio.sleep(0.05)
            building.cancel()
            await asyncio.wait({building})
            assert building.cancelled()
        assert [entry.image_id for entry in yard.store.open_pushes()] == [""]
        await yard.recover()
        assert not yard.store.open_pushes()
        assert await yard.images() == set()


async def test_a_name_that_somebody_gave_after_a_crash_is_his(scene: Scene) -> None:
    """A build died before it made anything, and a person used the name since then: it stays."""
    async with yard_of(scene) as yard:
        open_entry(yard.store, yard.host, (await yard.host.look()).engine_id, yard.tag, there="", tried="")
        image_id = scene.build(yard.tag)
        await yard.recover()
        assert not yard.store.open_pushes()
        assert scene.id_on_host(yard.tag) == image_id


class DeadError(BaseException):
    """The process is killed at this point: nothing runs after it."""


FAULTS: list[BaseException] = [
    UnreachableError("asking", "no answer"),
    RefusedError("asking", "no"),
    asyncio.CancelledError(),
    DeadError(),
]


class _Mortal:
    """A host, registry or store behind which the world ends at the chosen operation."""

    def __init__(self, at: int, fault: BaseException) -> None:
        self.left, self.error, self.happened, self.dead = at, fault, False, False

    def __call__(self, _: str) -> None:
        if self.dead:
            raise self.error
        if self.left == 0 and not self.happened:
            self.happened = True
            self.dead = isinstance(self.error, DeadError)
            raise self.error
        self.left -= 1


def _memory_yard(folder: Path, fault: _Mortal) -> Yard:
    registry = MemoryRegistry(ADDRESS, fault)
    host = MemoryHost("local", [registry], fault)
    source = source_of(folder, {"Dockerfile": DOCKERFILE, "data": "data"})
    return Yard(registry, host, MemoryStore(), FolderContexts(), source, ADDRESS)


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("rebuilt", [False, True])
async def test_broken_off_at_each_step(tmp_path: Path, error: BaseException, *, rebuilt: bool) -> None:
    """Whatever fails or dies, and wherever: the next pass leaves no name of ours on what is in the registry, and the build after it ends well."""
    for at in count():
        fault = _Mortal(at, error)
        yard = _memory_yard(tmp_path, fault)
        assert isinstance(yard.registry, MemoryRegistry)
        assert isinstance(yard.host, MemoryHost)
        replaces = ""
        if rebuilt:
            fault.left = -1
            before = yard.registry.add(KALI.repository, KALI.tag, b"older")
            replaces, fault.left = before.digest, at
        action = await yard.action(replaces=replaces)
        fault.left = at
        with suppress(WharfError, asyncio.CancelledError, DeadError, BaseExceptionGroup):
            await yard.build(action)
        happened, fault.happened, fault.dead = fault.happened, True, False
        await yard.recover()
        held = yard.registry.repositories.get(KALI.repository)
        for image in yard.host.images.values():
            assert image.tags == {yard.tag}
            assert not any(yard.registry.holds(layer) for layer in image.layers), f"proven and still there, after operation {at}"
            assert [entry.reference for entry in yard.store.open_pushes()] == [yard.tag]
        if await yard.label() != action.context_hash:
            current = held.tags.get(KALI.tag, "") if held else ""
            await yard.build(replace(action, replaces=current))
        assert await yard.label() == action.context_hash
        assert yard.host.images == {}
        assert not yard.store.open_pushes()
        assert not rebuilt or yard.registry.holds(b"older")
        if not happened:
            assert at > 10
            break


async def test_an_engine_of_an_unknown_store_keeps_what_it_built(tmp_path: Path) -> None:
    """How it stores images is not known, so nothing can be compared: the image stays, and that is said."""

    class Strange(MemoryHost):
        """An engine of a store that nobody knows."""

        async def look(self) -> HostState:
            return replace(await super().look(), store=StoreKind.UNKNOWN)

    yard = _memory_yard(tmp_path, _Mortal(-1, DeadError()))
    assert isinstance(yard.registry, MemoryRegistry)
    yard.host = Strange("local", [yard.registry])
    with pytest.raises(UnprovenError, match="not known"):
        await yard.build()
    assert await yard.images() == {(yard.tag,)}


@pytest.mark.parametrize("config", [b"", b"[]", b"{}", b'{"config": null}', b'{"config": {"Labels": [1]}}', b'{"config": {"Labels": {"x": 1}}}'])
def test_a_config_without_the_label(config: bytes) -> None:
    """Whatever a config says in its place: it was not built from a folder."""
    assert label_of(config, CONTEXT_HASH) == ""
    assert label_of(config, "x") == ""


def test_a_detail_has_no_labels_by_itself() -> None:
    """What was made before there were labels is read as it was."""
    assert ImageDetail("sha256:0", (), (), None).labels == ()
