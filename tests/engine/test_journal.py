"""Our own tags on hosts, in memory: what happens between two looks, and no image's last name goes unproven (law 1)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from controller.domain.errors import RefusedError, UnprovenError
from controller.domain.observation import HostState, StoreKind
from controller.domain.ports.stores import JournalEntry
from controller.engine.journal import open_entry, settle
from controller.engine.prove import Prover
from tests.support.builders import ADDRESS
from tests.support.memory import MemoryHost, MemoryRegistry
from tests.support.memory_store import MemoryStore

OURS = f"{ADDRESS}/cyroid/kali:1"
ENGINE = "engine of local"


class Pier:
    """A host with an image that has our name, and its open entry; `meanwhile` happens between the first look and the next one."""

    def __init__(self) -> None:
        self.registry, self.store = MemoryRegistry(ADDRESS), MemoryStore()
        self.host = MemoryHost("local", [self.registry])
        self.image_id = self.host.add(OURS, [b"kali"])
        self.entry = JournalEntry("local", ENGINE, self.image_id, OURS, existed=False)
        self.store.open_push(self.entry)

    async def settle(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Once."""
        look, looks = self.host.look, list[HostState]()

        async def then() -> HostState:
            looks.append(await look())
            if len(looks) == 1:
                meanwhile()
            return looks[-1]

        self.host.look = then  # type: ignore[method-assign] # others work there too
        await settle(self.store, self.host, self.entry, StoreKind.CLASSIC, Prover(self.registry, time.monotonic), lambda _: None)

    @property
    def names(self) -> dict[str, set[str]]:
        """Of each image."""
        return {image_id: image.tags for image_id, image in self.host.images.items()}


@pytest.fixture
def pier() -> Pier:
    """One image."""
    return Pier()


async def test_the_last_name_goes_when_its_content_was_shown(pier: Pier) -> None:
    """And not before."""
    with pytest.raises(UnprovenError):
        await pier.settle()
    assert pier.names == {pier.image_id: {OURS}}
    await pier.host.push(OURS, lambda _: None)
    await pier.settle()
    assert pier.names == {}
    assert not pier.store.open_pushes()


async def test_a_name_that_became_the_last_one_in_between(pier: Pier) -> None:
    """Nothing was proven, as there was another one at the first look."""
    pier.host.images[pier.image_id].tags.add("docker.io/mine/kali:1")
    with pytest.raises(UnprovenError, match="last name now"):
        await pier.settle(lambda: pier.host.images[pier.image_id].tags.discard("docker.io/mine/kali:1"))
    assert pier.names == {pier.image_id: {OURS}}
    assert pier.store.open_pushes() == [pier.entry]


async def test_a_name_that_moved_in_between(pier: Pier) -> None:
    """What was proven is what it meant before: the new image is nowhere else, and not ours."""
    await pier.host.push(OURS, lambda _: None)
    await pier.settle(lambda: pier.host.add(OURS, [b"new"]))
    assert {OURS} in pier.names.values()
    assert pier.host.images[pier.image_id].tags == set()
    assert not pier.store.open_pushes()


async def test_another_engine_at_the_same_address(pier: Pier) -> None:
    """The entry is not about what that one has."""
    await pier.host.push(OURS, lambda _: None)
    pier.entry = JournalEntry("local", "another", pier.image_id, OURS, existed=False)
    with pytest.raises(RefusedError, match="another engine now"):
        await pier.settle()
    assert pier.names == {pier.image_id: {OURS}}


async def test_a_name_is_not_taken_from_what_is_not_ours(pier: Pier) -> None:
    """It would be that image's last one, perhaps. What we made ourselves, and what means nothing, may be named anew."""
    with pytest.raises(RefusedError, match="means another image there"):
        open_entry(pier.store, pier.host, ENGINE, OURS, there="sha256:others", tried="building")
    assert pier.store.open_pushes() == [pier.entry]
    for there in (pier.image_id, ""):
        assert open_entry(pier.store, pier.host, ENGINE, OURS, there=there, tried="building").image_id == ""
