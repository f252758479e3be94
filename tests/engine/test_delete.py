"""Delete: a tag out of the registry, that tag alone."""

from __future__ import annotations

from controller.domain.actions import Reason
from controller.domain.oci import OCI_INDEX, Manifest, parse_manifest
from controller.domain.reference import held_tag
from controller.domain.spec import Ensure
from tests.conftest import StartRegistry
from tests.engine.worlds import Worlds
from tests.support.builders import desired, image
from tests.support.scene import Quiet, Scene, client, publish, tags_of

RETIRED = {"name": "cyroid/retired:1", "ensure": "Absent"}


def held(manifest: Manifest) -> dict[str, str]:
    """The tag that holds it for the restore window."""
    return {held_tag(manifest.digest): manifest.digest}


async def test_a_retired_tag_goes_alone(scene: Scene) -> None:
    """Another tag of the same digest stays, and can be pulled."""
    image = await publish(scene.registry, "cyroid/retired", "1")
    async with client(scene.registry) as registry:
        await registry.put_manifest("cyroid/retired", "other", image)
    scene.images = [RETIRED]
    done = await scene.apply()
    assert [(outcome.action.kind, outcome.error) for outcome in done.outcomes] == [("Delete", "")]
    assert done.after.converged
    assert await tags_of(scene.registry, "cyroid/retired") == {"other": image.digest, **held(image)}


async def test_a_manifest_that_an_index_references_is_refused(scene: Scene) -> None:
    """Deleting would break the index: refused with its tag, both stay."""
    index = await publish(scene.registry, "cyroid/retired", "all", platforms=["linux/amd64", "linux/arm64"])
    async with client(scene.registry) as registry:
        child = await registry.manifest("cyroid/retired", index.children[0].digest)
        await registry.put_manifest("cyroid/retired", "1", child)
    scene.images = [RETIRED]
    (outcome,) = (await scene.apply()).outcomes
    assert "the index cyroid/retired:all references it" in outcome.error
    assert await tags_of(scene.registry, "cyroid/retired") == {"1": child.digest, "all": index.digest}


async def test_an_index_that_is_only_held_forbids_nothing(scene: Scene) -> None:
    """It was deleted itself; what it references is held for longer than it is."""
    index = await publish(scene.registry, "cyroid/retired", "all", platforms=["linux/amd64"])
    async with client(scene.registry) as registry:
        child = await registry.manifest("cyroid/retired", index.children[0].digest)
        await registry.put_manifest("cyroid/retired", "1", child)
    scene.images = [{"name": "cyroid/retired:all", "ensure": "Absent"}]
    assert (await scene.apply()).after.converged
    scene.images = [RETIRED]
    assert (await scene.apply()).after.converged
    assert await tags_of(scene.registry, "cyroid/retired") == {**held(index), **held(child)}


async def test_a_retired_index_goes_and_leaves_its_children_manifests(scene: Scene) -> None:
    """The tag of an index is deleted alone, too."""
    index = await publish(scene.registry, "cyroid/retired", "1", platforms=["linux/amd64"])
    scene.images = [RETIRED]
    done = await scene.apply()
    assert done.after.converged, [outcome.error for outcome in done.outcomes]
    async with client(scene.registry) as registry:
        assert parse_manifest((await registry.manifest("cyroid/retired", index.digest)).raw).media_type == OCI_INDEX


async def test_a_tag_that_moved_since_the_plan_is_left() -> None:
    """Somebody pushed to it: what it means now nobody asked to delete, and nothing holds it."""
    world = Worlds()
    world.fill("cyroid/retired:1", "old")
    look = await world.reconciler.look(desired([image("cyroid/retired:1", ensure=Ensure.ABSENT)]))
    theirs = world.fill("cyroid/retired:1", "theirs")
    (outcome,) = await world.reconciler.apply(look, Quiet())
    assert "look again" in outcome.error
    assert world.registry.repositories["cyroid/retired"].tags["1"] == theirs.digest
    assert not world.store.tombstones()
    assert not world.lost


async def test_a_registry_that_does_not_delete(scene: Scene, start_registry: StartRegistry) -> None:
    """Deletes off: that image's error says what to set, and its tag means what it meant."""
    scene.registry = start_registry({"storage": {"delete": {"enabled": False}}})
    image = await publish(scene.registry, "cyroid/retired", "1")
    scene.images = [RETIRED]
    (outcome,) = (await scene.apply()).outcomes
    assert "storage.delete.enabled" in outcome.error
    assert await tags_of(scene.registry, "cyroid/retired") == {"1": image.digest, **held(image)}


async def test_a_retired_image_on_a_host_stays(scene: Scene) -> None:
    """Absent in the registry beats adopt: the host's copy is the last one, so it stays, RetiredOnHost."""
    scene.build("cyroid/retired:1")
    scene.images, scene.host = [RETIRED], {"adopt": ["cyroid/**"], "absent": ["cyroid/**"]}
    done = await scene.apply()
    assert done.outcomes == ()
    assert [held.reason for held in done.after.plan.held_back] == [Reason.RETIRED_ON_HOST]
    assert scene.tags_on_host() == {"cyroid/retired:1"}


async def test_nothing_to_delete(scene: Scene) -> None:
    """What is not there is as the file says."""
    scene.images = [RETIRED]
    assert (await scene.look()).converged
