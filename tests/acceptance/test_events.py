"""`wharf run` between two full looks: what happens on a host is acted on at once, whatever brought the image there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.wharf import Running, running
from tests.support.scene import Scene, tags_of
from tests.support.servers import build_image

KALI = "cyroid/kali:1"


def adopting(scene: Scene) -> None:
    """All that is cyroid's goes to the registry and leaves; the next full look is an hour away."""
    scene.spec = {"interval": "1h"}
    scene.host = {"adopt": ["cyroid/**"], "absent": ["cyroid/**"]}


def by_build(scene: Scene, _: Path) -> None:
    """A person builds."""
    scene.build(KALI)


def by_load(scene: Scene, archive: Path) -> None:
    """An archive is loaded."""
    scene.engine.docker("load", "-i", str(archive))


def by_tag(scene: Scene, _: Path) -> None:
    """An image that was none of our business gets a name that is."""
    scene.build("strangers/thing:1")
    scene.engine.docker("tag", "strangers/thing:1", KALI)


def by_import(scene: Scene, archive: Path) -> None:
    """A file system is imported."""
    scene.engine.docker("import", str(archive), KALI)


def by_commit(scene: Scene, _: Path) -> None:
    """A container is made an image."""
    scene.build("strangers/thing:1")
    scene.engine.docker("create", "--name", "thing", "strangers/thing:1", "/nothing")
    scene.engine.docker("commit", "thing", KALI)


def by_pull(scene: Scene, _: Path) -> None:
    """An image is pulled from somewhere else, under a name that is adopted."""
    full = f"{scene.internet.address}/{KALI}"
    scene.host["adopt"].append(f"{scene.internet.address}/**")
    build_image(scene.engine, full, {"data": b"pulled"})
    scene.engine.docker("push", "-q", full)
    scene.engine.docker("rmi", full)
    scene.engine.docker("pull", "-q", full)
    scene.engine.docker("tag", full, KALI)
    scene.engine.docker("rmi", full)


@pytest.mark.parametrize("bring", [by_build, by_load, by_tag, by_import, by_commit, by_pull])
async def test_whatever_appears_goes_to_the_registry_and_leaves(either_scene: Scene, bring: Callable[[Scene, Path], None]) -> None:
    """Pushed, proven, evicted, without another step and long before the interval."""
    scene = either_scene
    adopting(scene)
    archive = scene.folder / "archive.tar"
    scene.build(KALI)
    scene.engine.docker("save", "-o", str(archive), KALI)
    scene.engine.docker("rmi", KALI)
    with running(scene.file, state=scene.state) as controller:
        controller.wait_for("converged")
        bring(scene, archive)
        controller.wait_for(f"✓ - evict {KALI} from local")
        assert controller.end() == 0
    assert KALI not in scene.tags_on_host()
    assert set(await tags_of(scene.registry, "cyroid/kali")) == {"1"}
    scene.pulled_back(KALI)


async def test_an_image_leaves_when_its_container_has_gone(scene: Scene) -> None:
    """In use: it is in the registry and stays; the end of the container is news."""
    adopting(scene)
    scene.build(KALI)
    scene.engine.docker("create", "--name", "user", KALI, "/nothing")
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for("InUse")
        assert KALI in scene.tags_on_host()
        scene.engine.docker("rm", "user")
        controller.wait_for(f"✓ - evict {KALI} from local", after=seen)
        assert controller.end() == 0
    scene.pulled_back(KALI)


async def test_a_grace_period_ends_by_itself(scene: Scene) -> None:
    """It goes to the registry at once, and leaves when its time has come, though nothing else happens."""
    adopting(scene)
    scene.host["gracePeriod"] = "3s"
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for("converged")
        scene.build(KALI)
        seen = controller.wait_for(f"✓ ^ push {KALI}", after=seen)
        assert KALI in scene.tags_on_host()
        controller.wait_for(f"✓ - evict {KALI} from local", after=seen)
        assert controller.end() == 0
    scene.pulled_back(KALI)


async def test_an_engine_that_was_restarted_is_followed_again(scene: Scene) -> None:
    """Its stream of events ends with it; what happened meanwhile is found by listing again."""
    adopting(scene)
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for("converged")
        scene.engine.stop()
        seen = controller.wait_for("tells of no changes", after=seen)
        scene.engine.start()
        scene.build(KALI)
        controller.wait_for(f"✓ - evict {KALI} from local", after=seen)
        assert controller.end() == 0
    scene.pulled_back(KALI)


async def test_what_a_registry_missed_goes_there_when_it_is_back(scene: Scene) -> None:
    """While it is down the image stays on the host and that is said; nobody waits for the interval."""
    adopting(scene)
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for("converged")
        scene.registry.stop()
        scene.build(KALI)
        seen = _said_unknown(controller, seen)
        assert KALI in scene.tags_on_host()
        scene.registry.start()
        controller.wait_for(f"✓ - evict {KALI} from local", after=seen)
        assert controller.end() == 0
    scene.pulled_back(KALI)


def _said_unknown(controller: Running, seen: int) -> int:
    return controller.wait_for(lambda line: "held back" in line and "Unknown" in line, after=seen)
