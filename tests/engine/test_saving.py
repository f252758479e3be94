"""Saving out of a range whose engine lies: under the range's own name comes what was asked for, or nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from controller.domain.actions import Reason, Save
from controller.domain.errors import CorruptError, MovedError, RemoteError, UsageError, WharfError
from controller.domain.reference import Target
from controller.engine.importing import Importer
from controller.engine.manifests import Manifests
from controller.engine.saving import Saver
from controller.sources.archives import ImageArchives
from tests.support.archives import layer, saved, tar_of
from tests.support.memory import MemoryHost, MemoryRegistry

OWN = Target("ranges/42/cyroid/kali", "1")


@dataclass
class Lab:
    """A registry, and a range with an image."""

    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    host: MemoryHost = field(default_factory=lambda: MemoryHost("ranges/42"))

    def __post_init__(self) -> None:
        self.image_id = self.host.add("cyroid/kali:1", [layer("kali")])

    async def save(self, replaces: str = "", size: int = 10_000) -> str:
        """Once."""
        manifests = Manifests()
        saver = Saver(self.registry, Importer(self.registry, ImageArchives(), manifests), manifests)
        action = Save(
            target=OWN, sets=(), reason=Reason.FETCHED, message="", bytes=size, host=self.host.name, image_id=self.image_id, replaces=replaces
        )
        return await saver.save(action, self.host, lambda _: None)

    @property
    def tags(self) -> dict[str, str]:
        home = self.registry.repositories.get(OWN.repository)
        return home.tags if home else {}

    def sends(self, data: bytes, error: WharfError | None = None) -> None:
        """The engine sends this, and then perhaps breaks off."""

        @asynccontextmanager
        async def save(_: str, limit: int) -> AsyncIterator[AsyncIterator[bytes]]:
            del limit

            async def chunks() -> AsyncIterator[bytes]:
                for at in range(0, len(data), 1000):
                    yield data[at : at + 1000]
                if error is not None:
                    raise error

            yield chunks()

        self.host.save = save  # type: ignore[method-assign,assignment] # what a hostile engine does


async def test_an_image_is_saved_once() -> None:
    """With its content, under its name; once more is nothing to do."""
    lab = Lab()
    digest = await lab.save()
    assert lab.tags == {"1": digest}
    assert (await lab.registry.manifest(OWN.repository, "1")).config is not None
    lab.sends(b"nothing")
    assert await lab.save(replaces="sha256:other") == digest


async def test_another_image_than_was_asked_for() -> None:
    """No tag is made of it."""
    lab = Lab()
    lab.sends(tar_of(saved({"cyroid/kali:1": [layer("evil")]})))
    with pytest.raises(MovedError, match="was asked for"):
        await lab.save()
    assert lab.tags == {}


@pytest.mark.parametrize(
    ("data", "error", "kind"),
    [
        (b"", None, CorruptError),
        (b"no tar at all" * 100, None, CorruptError),
        (tar_of(saved({"a:1": [layer("a")], "b:1": [layer("b")]})), None, UsageError),
        (tar_of(saved({"a:1": [layer("a")]}))[:3000], CorruptError("saving", "it sends more than 1 bytes"), CorruptError),
        (tar_of(saved({"a:1": [layer("a")]}))[:3000], None, CorruptError),
    ],
    ids=["nothing", "no archive", "several images", "more than it told", "half"],
)
async def test_no_archive_of_one_image(data: bytes, error: WharfError | None, kind: type[WharfError]) -> None:
    """It is an error of this image, in words, and no tag is made."""
    lab = Lab()
    lab.sends(data, error)
    with pytest.raises(kind):
        await lab.save()
    assert lab.tags == {}


async def test_a_place_that_moved_since_the_plan() -> None:
    """Somebody else wrote it: look again."""
    lab = Lab()
    lab.registry.add(OWN.repository, "1", b"other")
    with pytest.raises(MovedError, match="look again"):
        await lab.save()
    with pytest.raises((MovedError, RemoteError)):
        await lab.save(replaces="sha256:" + "0" * 64)
