"""`wharf run`: keeps it right, follows the file, outlives a broken one, ends cleanly, alone on its Wharf."""

from __future__ import annotations

import signal

import pytest

from tests.acceptance.wharf import running, wharf
from tests.support.scene import Scene, publish, tags_of

CONVERGED = " converged: "


async def test_it_follows_the_file(scene: Scene) -> None:
    """A change of the file is acted on at once, long before the interval."""
    scene.spec = {"interval": "1h"}
    await publish(scene.internet, "library/nginx", "1")
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for(lambda line: CONVERGED in line and "not" not in line)
        scene.images = [{"name": "docker.io/library/nginx:1"}]
        _ = scene.file
        seen = controller.wait_for("✓ + copy docker.io/library/nginx:1", after=seen)
        controller.wait_for(CONVERGED, after=seen)
        assert controller.end() == 0
    assert set(await tags_of(scene.registry, "docker.io/library/nginx")) == {"1"}


async def test_it_looks_at_everything_when_asked(scene: Scene) -> None:
    """SIGHUP: upstreams are asked for what they were asked within `refresh`, long before the interval."""
    scene.spec, scene.images = {"interval": "1h"}, [{"name": "docker.io/library/nginx:1"}]
    await publish(scene.internet, "library/nginx", "1")
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for("✓ + copy docker.io/library/nginx:1")
        moved = await publish(scene.internet, "library/nginx", "1")
        controller.process.send_signal(signal.SIGHUP)
        controller.wait_for("✓ + copy docker.io/library/nginx:1", after=seen)
        assert controller.end() == 0
    assert (await tags_of(scene.registry, "docker.io/library/nginx"))["1"] == moved.digest


async def test_a_broken_file_keeps_the_last_good_one_in_force(scene: Scene) -> None:
    """It is told with its place, work goes on by the last good one, and the mended file is taken up."""
    scene.spec, scene.images = {"interval": "2s"}, [{"name": "cyroid/kali:1"}]
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for("held back")
        scene.file.write_text("apiVersion: [")
        seen = controller.wait_for("stays in force", after=seen)
        scene.build("cyroid/kali:1")
        seen = controller.wait_for("✓ - evict cyroid/kali:1", after=seen)
        await publish(scene.internet, "library/nginx", "1")
        scene.images = [{"name": "cyroid/kali:1"}, {"name": "docker.io/library/nginx:1"}]
        _ = scene.file
        controller.wait_for("✓ + copy docker.io/library/nginx:1", after=seen)
        assert controller.end() == 0
    assert scene.tags_on_host() == set()


async def test_a_registry_that_comes_back(scene: Scene) -> None:
    """While it is down the image stays and this is said; it goes when the registry is back."""
    scene.spec, scene.images = {"interval": "1s"}, [{"name": "cyroid/kali:1"}]
    scene.build("cyroid/kali:1")
    scene.registry.stop()
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for("unreachable")
        assert scene.tags_on_host() == {"cyroid/kali:1"}
        scene.registry.start()
        controller.wait_for("✓ - evict cyroid/kali:1", after=seen)
        assert controller.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly(scene: Scene, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C end it with 0 and a word, and give the lock back."""
    with running(scene.file, state=scene.state) as controller:
        controller.wait_for(CONVERGED)
        assert controller.end(number) == 0
        assert "stopped" in controller.lines[-1]
    assert wharf("apply", scene.file, state=scene.state).code == 0


def test_two_controllers_never_work_on_one_wharf(scene: Scene) -> None:
    """The second one says who has it and ends with 1; reading commands still answer."""
    with running(scene.file, state=scene.state) as controller:
        controller.wait_for(CONVERGED)
        second = wharf("apply", scene.file, state=scene.state)
        assert second.code == 1
        assert str(controller.process.pid) in second.err
        assert wharf("status", scene.file, state=scene.state).code == 0
        assert controller.end() == 0


async def test_how_far_it_may_go(scene: Scene) -> None:
    """Observe does nothing, to what comes up while it runs too; Push brings it to the registry and takes nothing off; Full does."""
    scene.spec = {"interval": "1h", "mode": "Observe"}
    scene.host = {"adopt": ["cyroid/**"], "absent": ["cyroid/**"]}
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for(CONVERGED)
        scene.build("cyroid/kali:1")
        seen = controller.wait_for("held back: push cyroid/kali:1 on local: Mode", after=seen)
        assert await tags_of(scene.registry, "cyroid/kali") == {}
        scene.spec["mode"] = "Push"
        _ = scene.file
        seen = max(controller.wait_for(words, after=seen) for words in ("✓ ^ push cyroid/kali:1", "held back: evict cyroid/kali:1 on local: Mode"))
        assert scene.tags_on_host() == {"cyroid/kali:1"}
        scene.spec["mode"] = "Full"
        _ = scene.file
        controller.wait_for("✓ - evict cyroid/kali:1", after=seen)
        assert controller.end() == 0
    assert set(await tags_of(scene.registry, "cyroid/kali")) == {"1"}
