"""A registry that is garbage-collected while it runs, with its cache in memory: it says that it has what it has not."""

from __future__ import annotations

from tests.acceptance.wharf import running
from tests.conftest import StartRegistry
from tests.support.scene import Scene, client

KALI = "cyroid/kali:1"


async def test_collected_behind_its_back(scene: Scene, start_registry: StartRegistry) -> None:
    """It takes a push of what it lost and keeps nothing of it: the host's copy stays until the registry, restarted, really has it."""
    scene.registry = start_registry({"storage": {"cache": {"blobdescriptor": "inmemory"}}})
    scene.spec, scene.host = {"interval": "1h"}, {"adopt": ["cyroid/**"], "absent": ["cyroid/**"]}
    image_id = scene.build(KALI)
    scene.engine.docker("tag", KALI, "strangers/copy:1")
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for(f"✓ - evict {KALI}")
        async with client(scene.registry) as registry:
            await registry.delete_tag("cyroid/kali", "1")
        scene.registry.collect("--delete-untagged")
        scene.engine.docker("tag", "strangers/copy:1", KALI)
        seen = controller.wait_for(lambda line: "✗" in line and KALI in line, after=seen)
        assert KALI in scene.tags_on_host()
        scene.registry.stop()
        scene.registry.start()
        controller.wait_for(f"✓ - evict {KALI}", after=seen)
        assert controller.end() == 0
    scene.engine.docker("rmi", "strangers/copy:1")
    assert scene.tags_on_host() == set()
    assert scene.pulled_back(KALI) == image_id
