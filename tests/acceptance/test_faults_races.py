"""People and the controller at the same name in the same moment."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable

import pytest

from tests.acceptance.behind import said_by
from tests.acceptance.wharf import running
from tests.support.engine_proxy import engine_proxy
from tests.support.scene import Scene, tags_of

KALI = "cyroid/kali:1"
PULLS = 12
MOMENTS = (r"POST \S+/images/sha256:\w+/tag\S+repo=docker.io", r"DELETE \S+/images/sha256:")
"""The steps by which one of several names is taken off, and at which it may have moved."""
PATIENCE = 120


async def test_a_tag_that_moves_between_the_last_look_and_the_removal(either_scene: Scene) -> None:
    """Somebody builds over a name when its removal is on its way to the engine: his build goes to the registry too, and the old one is held."""
    scene, built = either_scene, list[str]()
    scene.spec = {"interval": "1h"}
    async with engine_proxy(scene.engine.socket, scene.folder / "proxy.sock") as proxy:
        scene.host = {"engine": proxy.url, "adopt": ["cyroid/**"], "absent": ["cyroid/**"]}

        async def build_over(request: str) -> None:
            if request.startswith("DELETE") and "sha256" in request and len(built) == 1:
                built.append(await asyncio.to_thread(scene.build, KALI))

        proxy.before = build_over
        with running(scene.file, state=scene.state) as controller:
            await said_by(controller, "converged")
            built.append(await asyncio.to_thread(scene.build, KALI))
            await _left(scene, lambda: len(built) == 2)
            assert await asyncio.to_thread(controller.end) == 0
    assert scene.pulled_back(KALI) == built[1]
    (held,) = set(await tags_of(scene.registry, "cyroid/kali")) - {"1"}
    assert scene.pulled_back(f"cyroid/kali:{held}") == built[0]


@pytest.mark.parametrize("at", MOMENTS)
async def test_one_of_several_names_that_moves_before_it_is_taken_off(either_scene: Scene, at: str) -> None:
    """An engine has no removal that looks first: whenever somebody builds over a name meanwhile, his build goes to the registry under that name."""
    scene, built = either_scene, list[str]()
    scene.spec = {"interval": "1h"}
    async with engine_proxy(scene.engine.socket, scene.folder / "proxy.sock") as proxy:
        scene.host = {"engine": proxy.url, "adopt": ["cyroid/**"], "absent": ["cyroid/**"]}

        async def build_over(request: str) -> None:
            if len(built) == 1 and re.match(at, request):
                built.append(await asyncio.to_thread(scene.build, KALI))

        built.append(scene.build(KALI))
        scene.engine.docker("tag", KALI, "cyroid/kali:2")
        proxy.before = build_over
        with running(scene.file, state=scene.state) as controller:
            await _left(scene, lambda: len(built) == 2)
            assert await asyncio.to_thread(controller.end) == 0
    there = await tags_of(scene.registry, "cyroid/kali")
    assert built[1] in {scene.pulled_back(f"cyroid/kali:{tag}") for tag in there}
    assert built[0] in {scene.pulled_back(f"cyroid/kali:{tag}") for tag in there}


async def test_a_pull_and_an_eviction_of_the_same_name_at_once(scene: Scene) -> None:
    """Somebody pulls again and again what must not linger: it leaves again and again, the registry keeps it whole, and at last the host is clean."""
    scene.spec, scene.host = {"interval": "1h"}, {"adopt": ["cyroid/**"], "absent": ["cyroid/**"]}
    image_id = scene.build(KALI)
    with running(scene.file, state=scene.state) as controller:
        controller.wait_for(f"✓ - evict {KALI}")
        for _ in range(PULLS):
            with contextlib.suppress(RuntimeError):  # It may come too late for a name that has just gone.
                scene.engine.docker("pull", "-q", f"{scene.registry.address}/{KALI}")
        await _left(scene)
        assert controller.end() == 0
        assert "Traceback" not in "\n".join(controller.lines)
    assert set(await tags_of(scene.registry, "cyroid/kali")) == {"1"}
    assert scene.pulled_back(KALI) == image_id


async def _left(scene: Scene, then: Callable[[], bool] = lambda: True) -> None:
    """Wait until the host is clean."""
    deadline = time.monotonic() + PATIENCE
    while scene.tags_on_host() or not then():
        assert time.monotonic() < deadline, scene.tags_on_host()
        await asyncio.sleep(0.1)
