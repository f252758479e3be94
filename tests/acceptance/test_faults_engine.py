"""An engine that is killed in the middle of a push or of an eviction, and one whose events are lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.acceptance.behind import behind, said_by
from tests.acceptance.wharf import running
from tests.support.engine_proxy import engine_proxy
from tests.support.fault_proxy import Fault
from tests.support.scene import Scene

KALI = "cyroid/kali:1"


@pytest.mark.parametrize(("method", "path"), [("PUT", "/manifests/1"), ("GET", "/blobs/")], ids=["push", "evict"])
async def test_an_engine_killed_in_the_middle(scene: Scene, method: str, path: str) -> None:
    """What was under way is finished when it is back: the image is in the registry and off the host, and no tag of ours is left."""
    async with behind(scene) as (proxy, controller):
        going = asyncio.Event()
        proxy.spoil(method, path, Fault(hold=going))
        image_id = await asyncio.to_thread(scene.build, KALI)
        await proxy.until(method, path)
        await asyncio.to_thread(scene.engine.stop, kill=True)
        going.set()
        seen = await said_by(controller, "tells of no changes")
        await asyncio.to_thread(scene.engine.start)
        await said_by(controller, f"✓ - evict {KALI}", seen)
    assert scene.tags_on_host() == set()
    assert scene.pulled_back(KALI) == image_id


@pytest.mark.parametrize("found_by", ["the next full look", "listing again"])
async def test_events_that_are_lost(scene: Scene, found_by: str) -> None:
    """An image of which no event tells is found by the next full look, and before that when the stream breaks and is opened again."""
    async with engine_proxy(scene.engine.socket, scene.folder / "proxy.sock") as proxy:
        scene.spec = {"interval": "3s" if found_by == "the next full look" else "1h"}
        scene.host = {"engine": proxy.url, "adopt": ["cyroid/**"], "absent": ["cyroid/**"]}
        with running(scene.file, state=scene.state) as controller:
            seen = await said_by(controller, "converged")
            await proxy.listened()
            proxy.deaf = True
            image_id = await asyncio.to_thread(scene.build, KALI)
            if found_by == "listing again":
                proxy.cut()
            await said_by(controller, f"✓ - evict {KALI}", seen)
            assert await asyncio.to_thread(controller.end) == 0
    assert scene.tags_on_host() == set()
    assert scene.pulled_back(KALI) == image_id
