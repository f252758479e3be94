"""A registry whose disk is full."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.acceptance.wharf import running
from tests.conftest import StartRegistry
from tests.support.scene import Scene
from tests.support.servers import EngineServer

KALI = "cyroid/kali:1"


def test_a_disk_that_is_full_for_a_while(short_path: Path, small_disk: Path, start_registry: StartRegistry, newer_engine: EngineServer) -> None:
    """What does not fit stays on the host, and that is said; it goes when there is room again, without a word to the controller.

    On the newer engine: the classic one tries an upload five times, in a minute, before it tells.
    """
    registry = start_registry({"storage": {"filesystem": {"rootdirectory": str(small_disk)}}})
    scene = Scene(short_path, registry, registry, newer_engine)
    scene.spec, scene.host = {"interval": "1h"}, {"adopt": ["cyroid/**"], "absent": ["cyroid/**"]}
    filler = small_disk / "filler"
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for("converged")
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free))
        image_id = scene.build(KALI, size=1_000_000)
        seen = controller.wait_for(f"✗ ^ push {KALI}", after=seen)
        assert scene.tags_on_host() == {KALI}
        filler.unlink()
        controller.wait_for(f"✓ - evict {KALI}", after=seen)
        assert controller.end() == 0
    assert scene.tags_on_host() == set()
    assert scene.pulled_back(KALI) == image_id
