"""Evict: off a host only what was proven to be in the registry, and only if the host still means it (law 1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from controller.domain.actions import Reason
from controller.domain.observation import HostState
from controller.domain.oci import digest_of
from controller.domain.ports.hosts import Removal
from controller.engine.apply import Outcome
from controller.wiring.setup import read
from tests.conftest import StartRegistry
from tests.engine.worlds import Worlds
from tests.support.builders import desired, host, image
from tests.support.memory import layer_of
from tests.support.scene import Quiet, Scene, client, publish, tags_of

KALI = "cyroid/kali:1"


async def _held_there(scene: Scene) -> str:
    """KALI on the host and in the registry; its Id."""
    image_id = scene.build(KALI)
    scene.images, scene.host = [{"name": KALI}], {"absent": []}
    done = await scene.apply()
    assert done.after.converged
    scene.host = {}
    return image_id


async def _apply_late(scene: Scene, meanwhile: Callable[[], Awaitable[None] | None]) -> tuple[Outcome, ...]:
    """Plan, let something happen, and only then apply that plan."""
    async with scene.opened() as (reconciler, _):
        desired = read([scene.file]).desired
        look = await reconciler.look(desired)
        waited = meanwhile()
        if waited is not None:
            await waited
        return await reconciler.apply(look, Quiet())


@pytest.mark.parametrize("blob", ["layer", "config"])
async def test_a_damaged_blob_in_the_registry_keeps_the_image(either_scene: Scene, blob: str) -> None:
    """HEAD and manifest look fine, the bytes are not: unproven, so the host keeps the last good copy."""
    scene = either_scene
    await _held_there(scene)
    async with client(scene.registry) as registry:
        manifest = await registry.manifest("cyroid/kali", "1")
    assert manifest.config is not None
    scene.registry.damage(manifest.config.digest if blob == "config" else manifest.layers[0].digest)
    (outcome,) = (await scene.apply()).outcomes
    assert outcome.action.kind == "Evict"
    assert outcome.error
    assert scene.tags_on_host() == {KALI}


async def test_a_blob_that_a_collection_ate_keeps_the_image(either_scene: Scene) -> None:
    """The manifest is there, a layer is gone."""
    scene = either_scene
    await _held_there(scene)
    async with client(scene.registry) as registry:
        layer = (await registry.manifest("cyroid/kali", "1")).layers[0]
    scene.registry.blob_file(layer.digest).unlink()
    (outcome,) = (await scene.apply()).outcomes
    assert outcome.error
    assert scene.tags_on_host() == {KALI}


async def test_an_image_in_use_stays(either_scene: Scene) -> None:
    """A stopped container is a use: held back InUse with the container's name."""
    scene = either_scene
    await _held_there(scene)
    with scene.engine.client() as engine:
        engine.containers.create(KALI, "nothing", name="service")
    done = await scene.apply()
    assert [(held.reason, "service" in held.message) for held in done.after.plan.held_back] == [(Reason.IN_USE, True)]
    assert scene.tags_on_host() == {KALI}


async def test_a_container_that_came_since_the_plan_keeps_the_image(scene: Scene) -> None:
    """The guard is asked again with a fresh look right before the removal."""
    await _held_there(scene)

    def start() -> None:
        with scene.engine.client() as engine:
            engine.containers.create(KALI, "nothing", name="late")

    (outcome,) = await _apply_late(scene, start)
    assert "late" in outcome.error
    assert scene.tags_on_host() == {KALI}


async def test_a_tag_that_moved_since_the_plan_is_left(either_scene: Scene) -> None:
    """The name means a new build now, which is nowhere else: it stays."""
    scene = either_scene
    old = await _held_there(scene)

    def rebuild() -> None:
        scene.build(KALI)

    (outcome,) = await _apply_late(scene, rebuild)
    assert "means" in outcome.error or "404" in outcome.error
    assert scene.tags_on_host() == {KALI}
    assert scene.id_on_host(KALI) != old


async def test_kept_and_present_images_stay(scene: Scene) -> None:
    """`keep` protects the whole image by any of its tags; that is converged."""
    await _held_there(scene)
    scene.engine.docker("tag", KALI, "services/kali:1")
    scene.host = {"keep": ["services/*"]}
    done = await scene.apply()
    assert done.after.converged
    assert {held.reason for held in done.after.plan.held_back} == {Reason.KEPT}
    assert scene.tags_on_host() == {KALI, "services/kali:1"}


async def test_a_further_tag_that_nobody_named_keeps_the_content(either_scene: Scene) -> None:
    """Only the named tag goes; the image stays under the operator's other name."""
    scene = either_scene
    image_id = await _held_there(scene)
    scene.engine.docker("tag", KALI, "mine/kali:1")
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert scene.tags_on_host() == {"mine/kali:1"}
    assert scene.id_on_host("mine/kali:1") == image_id


async def test_several_names_of_one_image_all_go(either_scene: Scene) -> None:
    """Two listed names of one image: both pushed, both gone, the last one by Id."""
    scene = either_scene
    image_id = scene.build(KALI)
    scene.engine.docker("tag", KALI, "cyroid/kali:2")
    scene.engine.docker("tag", KALI, "tools/kali:1")
    scene.images = [{"name": KALI}, {"name": "cyroid/kali:2"}, {"name": "tools/kali:1"}]
    done = await scene.apply()
    assert done.after.converged, [outcome.error for outcome in done.outcomes]
    assert scene.tags_on_host() == set()
    assert {scene.pulled_back(name) for name in (KALI, "cyroid/kali:2", "tools/kali:1")} == {image_id}


async def test_a_pulled_index_is_evicted_against_the_copied_one(either_scene: Scene) -> None:
    """A host holds one platform of what the registry holds whole: its own platform is proven, the image goes."""
    scene = either_scene
    domain = scene.internet.address
    scene.build(f"{domain}/library/nginx:1")
    scene.engine.docker("push", "-q", f"{domain}/library/nginx:1")
    scene.engine.docker("rmi", f"{domain}/library/nginx:1")
    scene.engine.docker("pull", "-q", f"{domain}/library/nginx:1")
    scene.spec = {"upstreams": [{"domain": domain, "url": scene.internet.url}]}
    scene.images = [{"name": f"{domain}/library/nginx:1"}]
    done = await scene.apply()
    assert done.after.converged, [outcome.error for outcome in done.outcomes]
    assert [outcome.action.kind for outcome in done.outcomes] == ["Copy", "Evict"]
    assert scene.tags_on_host() == set()


async def test_an_image_that_is_known_by_digest_elsewhere_too(scene: Scene) -> None:
    """Pulled by digest from another repository as well: that name goes first, then the image, without force."""
    await _held_there(scene)
    other = f"{scene.registry.address}/cyroid/kali"
    digest = (await tags_of(scene.registry, "cyroid/kali"))["1"]
    scene.engine.docker("pull", "-q", f"{other}@{digest}")
    done = await scene.apply()
    assert done.after.converged, [outcome.error for outcome in done.outcomes]
    with scene.engine.client() as engine:
        assert engine.images.list() == []


async def test_the_old_build_is_evicted_when_another_tag_holds_it(scene: Scene) -> None:
    """The registry's tag means newer content, a held tag the host's: proven there, so it goes."""
    await _held_there(scene)
    async with client(scene.registry) as registry:
        old = await registry.manifest("cyroid/kali", "1")
        await registry.put_manifest("cyroid/kali", "before", old)
    theirs = await publish(scene.registry, "cyroid/kali", "1")
    scene.host = {"onConflict": "Keep"}
    done = await scene.apply()
    assert [(outcome.action.kind, outcome.error) for outcome in done.outcomes] == [("Evict", "")]
    assert scene.tags_on_host() == set()
    assert await tags_of(scene.registry, "cyroid/kali") == {"1": theirs.digest, "before": old.digest}


async def test_grace_runs_from_first_seen(scene: Scene) -> None:
    """Within gracePeriod an image waits, however surely the registry holds it."""
    await _held_there(scene)
    scene.host = {"gracePeriod": "10m"}
    done = await scene.apply()
    (held,) = done.after.plan.held_back
    assert held.reason is Reason.WAITING
    assert scene.tags_on_host() == {KALI}


async def test_modes(scene: Scene) -> None:
    """Push brings to the registry and removes nothing; Observe does nothing at all."""
    scene.build(KALI)
    scene.images, scene.spec = [{"name": KALI}], {"mode": "Observe"}
    done = await scene.apply()
    assert done.outcomes == ()
    assert await tags_of(scene.registry, "cyroid/kali") == {}
    scene.spec = {"mode": "Push"}
    done = await scene.apply()
    assert [outcome.action.kind for outcome in done.outcomes] == ["Push"]
    assert scene.tags_on_host() == {KALI}


async def test_more_evictions_than_the_limit_and_none_is_done(scene: Scene) -> None:
    """limits.deletes is a cap on the whole plan, until the operator says the number."""
    names = [f"cyroid/n{i}:1" for i in range(3)]
    for name in names:
        scene.build(name)
    scene.images, scene.spec = [{"name": name} for name in names], {"limits": {"deletes": 2}}
    done = await scene.apply()
    assert {held.reason for held in done.after.plan.held_back} == {Reason.TOO_MANY_DELETES}
    assert scene.tags_on_host() == set(names)
    done = await scene.apply(allow_deletes=3)
    assert done.after.converged
    assert scene.tags_on_host() == set()


async def test_a_registry_that_is_down_keeps_everything(scene: Scene) -> None:
    """Unknown is not absent, and not present either."""
    await _held_there(scene)
    scene.registry.stop()
    done = await scene.apply()
    assert done.outcomes == ()
    assert done.after.seen.unreachable
    assert scene.tags_on_host() == {KALI}


async def test_an_empty_registry_at_the_same_address_gets_the_image_again(scene: Scene, start_registry: StartRegistry) -> None:
    """What was pushed once is no proof: a registry that lost everything is filled from the host before anything leaves."""
    image_id = await _held_there(scene)
    scene.registry = start_registry()
    done = await scene.apply()
    assert [outcome.action.kind for outcome in done.outcomes] == ["Push", "Evict"]
    assert scene.pulled_back(KALI) == image_id


async def test_an_engine_that_was_replaced_is_not_touched(scene: Scene) -> None:
    """The name means another engine than before: Unknown until the operator confirms it."""
    await _held_there(scene)
    async with scene.opened() as (_, store):
        store.set_engine("local", "another engine")
    done = await scene.apply()
    assert done.outcomes == ()
    assert "--confirm-engine local" in done.after.seen.unreachable
    assert scene.tags_on_host() == {KALI}


async def test_an_engine_that_was_replaced_since_the_plan_is_not_touched() -> None:
    """It has the same image by the same name, and nobody has confirmed that it may be cleaned: the next look tells of it."""
    world, asked = Worlds(), desired([image(KALI)], [host("one")])
    world.build("one", KALI, "kali")
    world.fill(KALI, "kali")
    look = await world.reconciler.look(asked)
    one = world.hosts["one"]
    before = one.look

    async def another() -> HostState:
        return replace(await before(), engine_id="another")

    one.look = another  # type: ignore[method-assign] # another engine answers at its address
    (outcome,) = await world.reconciler.apply(look, Quiet())
    assert (outcome.action.kind, "another engine now" in outcome.error) == ("Evict", True)
    assert one.images


async def test_what_was_proven_in_the_pass_before_is_proven_again() -> None:
    """A moment ago it was whole, and let a host's copy go; it rotted since, so the other host keeps the last good one."""
    world, asked = Worlds(), desired([image(KALI)], [host("one"), host("two")])
    world.fill(KALI, "kali")
    world.build("one", KALI, "kali")
    await world.reconciler.reconcile(asked, Quiet())
    assert not world.hosts["one"].images
    world.build("two", KALI, "kali")
    world.registry.repositories["cyroid/kali"].blobs[digest_of(layer_of("kali"))] = b"!"
    (outcome,) = (await world.reconciler.reconcile(asked, Quiet())).outcomes
    assert outcome.error
    assert world.hosts["two"].images


async def test_a_name_that_moves_in_the_very_moment_of_the_removal() -> None:
    """The last name goes by the image's Id, so a build that has just got the name stays, which is nowhere else."""
    world, asked = Worlds(), desired([image(KALI)], [host("one")])
    world.build("one", KALI, "kali")
    world.fill(KALI, "kali")
    one = world.hosts["one"]
    remove = one.remove

    async def late(name: str) -> Removal:
        world.build("one", KALI, "new")
        return await remove(name)

    one.remove = late  # type: ignore[method-assign,assignment] # a build ends in that moment
    await world.reconciler.reconcile(asked, Quiet())
    assert [found.layers for found in one.images.values()] == [[layer_of("new")]]
    assert not world.lost


async def test_an_engine_that_deleted_more_is_told_of() -> None:
    """What it says that it deleted is compared with what was proven: it may be somebody's image that got the name in that moment."""
    world, asked = Worlds(), desired([image(KALI)], [host("one")])
    world.build("one", KALI, "kali")
    world.fill(KALI, "kali")
    one = world.hosts["one"]
    remove = one.remove

    async def more(name: str) -> Removal:
        done = await remove(name)
        return replace(done, deleted=(*done.deleted, f"sha256:{'7' * 64}"))

    one.remove = more  # type: ignore[method-assign,assignment] # an engine that takes something else with it
    (outcome,) = (await world.reconciler.reconcile(asked, Quiet())).outcomes
    assert "the engine deleted more than was proven, sha256:777" in outcome.error


async def test_two_names_for_one_engine(scene: Scene) -> None:
    """Neither is touched; both rows say which are one."""
    await _held_there(scene)
    link = scene.folder / "link.sock"
    link.symlink_to(scene.engine.socket)
    twin = {"name": "twin", "engine": f"unix://{link}", "gracePeriod": "0s"}
    scene.spec = {"hosts": [{"name": "local", "engine": scene.engine.url, "gracePeriod": "0s"}, twin]}
    done = await scene.apply()
    assert done.outcomes == ()
    assert all("local and twin are one and the same engine" in held.message for held in done.after.plan.held_back)


async def test_an_engine_that_is_not_there_disturbs_nobody(scene: Scene) -> None:
    """One host is Unknown with what to do; the other is worked on."""
    scene.build(KALI)
    scene.images = [{"name": KALI}]
    gone = {"name": "gone", "engine": f"unix://{scene.folder}/none.sock"}
    scene.spec = {"hosts": [{"name": "local", "engine": scene.engine.url, "gracePeriod": "0s"}, gone]}
    done = await scene.apply()
    assert scene.tags_on_host() == set()
    (held,) = done.after.plan.held_back
    assert (held.host, held.reason) == ("gone", Reason.UNKNOWN)
    assert "is the engine running" in held.message
