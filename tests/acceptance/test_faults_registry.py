"""A registry that is slow, answers 500 or resets connections, while `wharf run` works: nothing is lost, and it goes on when that is over."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.acceptance.behind import behind, said_by
from tests.support.fault_proxy import Fault
from tests.support.hostile import said
from tests.support.scene import Scene, tags_of

KALI = "cyroid/kali:1"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH")
BROKEN = Fault(answer=said(500, "UNKNOWN"))
RESET = Fault(reset=True)
SLOW = Fault(wait=0.2)


async def test_a_registry_that_fails_for_a_while(scene: Scene) -> None:
    """The image stays and that is said; it goes when the registry is well again, long before the interval."""
    async with behind(scene) as (proxy, controller):
        proxy.always = [(method, "", BROKEN) for method in METHODS]
        seen = len(controller.lines)
        image_id = scene.build(KALI)
        seen = await said_by(controller, lambda line: "held back" in line and "Unknown" in line, seen)
        assert scene.tags_on_host() == {KALI}
        proxy.always.clear()
        await said_by(controller, f"✓ - evict {KALI}", seen)
    assert scene.pulled_back(KALI) == image_id


@pytest.mark.parametrize(
    ("method", "path", "fault"), [("PUT", "/manifests/1", RESET), ("GET", "/blobs/", BROKEN)], ids=["reset in the push", "500 in the proof"]
)
async def test_a_registry_that_fails_in_the_middle(scene: Scene, method: str, path: str, fault: Fault) -> None:
    """Whatever the push or the proof met is tried again, and no tag of ours stays behind."""
    async with behind(scene) as (proxy, controller):
        proxy.spoil(method, path, *[fault] * 2)
        image_id = scene.build(KALI)
        await said_by(controller, f"✓ - evict {KALI}")
    assert scene.tags_on_host() == set()
    assert scene.pulled_back(KALI) == image_id


async def test_a_registry_in_a_storm(scene: Scene) -> None:
    """Every third answer is a 500, a reset or late, at random, while images come: all of them arrive, each tag whole, and none is left over."""
    chance = random.Random()
    names = [f"cyroid/storm{number}:1" for number in range(4)]
    async with behind(scene) as (proxy, controller):
        calm = [(method, "", Fault()) for method in METHODS]

        async def storm() -> None:
            while True:
                wild = [(method, "", chance.choice([BROKEN, RESET, SLOW])) for method in METHODS]
                proxy.always = wild if chance.random() < 0.4 else calm
                await asyncio.sleep(0.05)

        weather = asyncio.create_task(storm())
        ids = [await asyncio.to_thread(scene.build, name) for name in names]
        await asyncio.sleep(2)  # No proof of anything: so long the storm lasts at least.
        weather.cancel()
        proxy.always.clear()
        for name in names:
            await said_by(controller, f"✓ - evict {name}")
    assert scene.tags_on_host() == set()
    assert [scene.pulled_back(name) for name in names] == ids
    for name in names:
        assert all(tag == "1" or tag.startswith("wharf-held-") for tag in await tags_of(scene.registry, name.partition(":")[0]))
