"""Push: host to registry, read back, journalled, and never over what others put there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from controller.domain.actions import Reason
from controller.domain.errors import RefusedError
from controller.domain.ports.stores import JournalEntry
from controller.domain.reference import Target
from controller.engine.apply import Outcome
from controller.hosts.docker_engine import DockerHost
from controller.hosts.standin import STAND_INS
from controller.wiring.setup import read
from tests.conftest import StartRegistry
from tests.engine.worlds import Worlds
from tests.support.builders import ADDRESS, desired, host, image
from tests.support.scene import Quiet, Scene, publish, tags_of


def errors(outcomes: tuple[Outcome, ...]) -> list[str]:
    """The errors of a pass."""
    return [outcome.error for outcome in outcomes if outcome.error]


async def test_what_only_a_host_has_is_pushed_proven_and_evicted(either_scene: Scene) -> None:
    """After one apply a listed image is in the registry by content, and off the host; a second plan is empty."""
    scene = either_scene
    image_id = scene.build("cyroid/kali:1")
    scene.images = [{"name": "cyroid/kali:1"}]
    done = await scene.apply()
    assert not errors(done.outcomes)
    assert done.after.converged
    assert not (await scene.look()).plan.actions
    assert scene.tags_on_host() == set()
    assert scene.pulled_back("cyroid/kali:1") == image_id


async def test_a_name_that_broke_off_on_its_way_off_is_ours_again(either_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag of ours was left on a stand-in, and nobody has tidied up yet: the next push under it is not refused, and takes it off."""
    scene = either_scene
    monkeypatch.setattr(DockerHost, "tidy", lambda _: asyncio.sleep(0))
    image_id = scene.build("cyroid/kali:1")
    with scene.engine.client() as client:
        list(client.api.load_image(STAND_INS[0].tar))
        (left,) = {image["Id"] for image in client.api.images()} & STAND_INS[0].ids
        client.api.tag(left, f"{scene.registry.address}/cyroid/kali", "1")
    scene.images = [{"name": "cyroid/kali:1"}]
    done = await scene.apply()
    assert not errors(done.outcomes)
    assert scene.tags_on_host() == set()
    assert scene.pulled_back("cyroid/kali:1") == image_id


async def test_what_is_adopted_is_pushed_and_stays(either_scene: Scene) -> None:
    """`adopt` pushes what no set lists; it evicts only what `absent` matches."""
    scene = either_scene
    image_id = scene.build("cyroid/web:1")
    scene.host = {"adopt": ["cyroid/**"], "absent": []}
    done = await scene.apply()
    assert done.after.converged
    assert scene.tags_on_host() == {"cyroid/web:1"}
    assert scene.pulled_back("cyroid/web:1") == image_id


async def test_a_tag_of_others_is_not_overwritten(either_scene: Scene) -> None:
    """onConflict Fail: the registry keeps its image, the host keeps its own, and the plan says so."""
    scene = either_scene
    theirs = await publish(scene.registry, "cyroid/kali", "1")
    scene.build("cyroid/kali:1")
    scene.images = [{"name": "cyroid/kali:1"}]
    done = await scene.apply()
    assert [held.reason for held in done.after.plan.held_back] == [Reason.CONFLICT]
    assert await tags_of(scene.registry, "cyroid/kali") == {"1": theirs.digest}
    assert scene.tags_on_host() == {"cyroid/kali:1"}


async def test_on_conflict_push_holds_what_was_there(either_scene: Scene) -> None:
    """onConflict Push: the old manifest is held under a tag of its own before its tag is overwritten."""
    scene = either_scene
    theirs = await publish(scene.registry, "cyroid/kali", "1")
    image_id = scene.build("cyroid/kali:1")
    scene.images, scene.host = [{"name": "cyroid/kali:1"}], {"onConflict": "Push"}
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    tags = await tags_of(scene.registry, "cyroid/kali")
    assert tags.pop(f"wharf-held-{theirs.digest[7:19]}") == theirs.digest
    assert set(tags) == {"1"}
    assert scene.pulled_back("cyroid/kali:1") == image_id


async def test_a_rebuilt_image_replaces_what_this_host_pushed(either_scene: Scene) -> None:
    """The registry still has what this host pushed last: the new build replaces it, and the old one is held."""
    scene = either_scene
    scene.build("cyroid/kali:1")
    scene.images, scene.host = [{"name": "cyroid/kali:1"}], {"absent": []}
    await scene.apply()
    before = await tags_of(scene.registry, "cyroid/kali")
    image_id = scene.build("cyroid/kali:1")
    done = await scene.apply()
    assert [outcome.action.reason for outcome in done.outcomes] == [Reason.RETAGGED]
    assert done.after.converged
    after = await tags_of(scene.registry, "cyroid/kali")
    assert set(after) == {"1", f"wharf-held-{before['1'][7:19]}"}
    assert before["1"] in after.values()
    assert scene.pulled_back("cyroid/kali:1") == image_id


async def test_a_refused_push_keeps_the_image(scene: Scene, start_registry: StartRegistry) -> None:
    """A registry that is read-only: the push is that image's error, nothing is removed, no tag and no journal entry is left."""
    scene.registry = start_registry({"storage": {"maintenance": {"readonly": {"enabled": True}}}})
    scene.build("cyroid/kali:1")
    scene.images = [{"name": "cyroid/kali:1"}]
    done = await scene.apply()
    (push, evict) = errors(done.outcomes)
    assert f"pushing {scene.registry.address}/cyroid/kali:1 from local" in push
    assert "405" in push
    assert "it stays on local" in evict
    assert scene.tags_on_host() == {"cyroid/kali:1"}
    async with scene.opened() as (_, store):
        assert store.open_pushes() == []
        assert set(store.errors()) == {Target("cyroid/kali", "1")}


async def test_the_tag_of_a_broken_push_is_taken_off_at_the_next_start(scene: Scene) -> None:
    """A journalled tag that still means the image goes, the operator's own name stays; and it is never adopted."""
    image_id = scene.build("cyroid/kali:1")
    mine = f"{scene.registry.address}/cyroid/kali:1"
    scene.engine.docker("tag", "cyroid/kali:1", mine)
    scene.host = {"adopt": ["**"], "absent": []}
    async with scene.opened() as (_, store):
        engine_id = scene.engine.docker("info", "-f", "{{.ID}}")
        store.open_push(JournalEntry("local", engine_id, image_id, mine, existed=False))
    look = await scene.look()
    assert [(str(a.target), a.kind) for a in look.plan.actions] == [("cyroid/kali:1", "Push")]
    await scene.apply()
    assert scene.tags_on_host() == {"cyroid/kali:1"}


async def test_a_tag_under_the_registrys_address_that_was_there_before_stays(scene: Scene) -> None:
    """What the operator tagged himself is used for the push, and not taken away."""
    scene.build("cyroid/kali:1")
    mine = f"{scene.registry.address}/cyroid/kali:1"
    scene.engine.docker("tag", "cyroid/kali:1", mine)
    scene.images, scene.host = [{"name": "cyroid/kali:1"}], {"absent": []}
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert scene.tags_on_host() == {"cyroid/kali:1", mine}


async def test_a_push_target_that_means_another_image_is_refused(scene: Scene) -> None:
    """Tagging would take the name from another image: refused, both images stay."""
    scene.build("cyroid/kali:1")
    mine = f"{scene.registry.address}/cyroid/kali:1"
    scene.build(mine)
    scene.images, scene.host = [{"name": "cyroid/kali:1"}], {"absent": []}
    ids = {scene.id_on_host("cyroid/kali:1"), scene.id_on_host(mine)}
    done = await scene.apply()
    assert not done.after.converged
    assert {scene.id_on_host("cyroid/kali:1"), scene.id_on_host(mine)} == ids


async def test_two_contents_under_one_name_are_a_conflict(scene: Scene) -> None:
    """An image and another one tagged for the registry both map to one place: neither is pushed."""
    scene.build("cyroid/kali:1")
    scene.build(f"{scene.registry.address}/cyroid/kali:1")
    scene.images = [{"name": "cyroid/kali:1"}]
    done = await scene.apply()
    assert {held.reason for held in done.after.plan.held_back} == {Reason.CONFLICT}
    assert len(scene.tags_on_host()) == 2


async def test_the_last_name_of_an_unpushed_image_is_not_taken_off(scene: Scene) -> None:
    """After a crash and a rebuild our tag is the old build's last name: it stays until the next push takes it over, and then the old build does."""
    old = scene.build("cyroid/kali:1")
    mine = f"{scene.registry.address}/cyroid/kali:1"
    scene.engine.docker("tag", "cyroid/kali:1", mine)
    async with scene.opened() as (_, store):
        store.open_push(JournalEntry("local", scene.engine.docker("info", "-f", "{{.ID}}"), old, mine, existed=False))
    new = scene.build("cyroid/kali:1")
    done = await scene.apply()
    assert scene.tags_on_host() == {"cyroid/kali:1", mine}, "no set lists it: nothing is pushed"
    scene.images, scene.host = [{"name": "cyroid/kali:1"}], {"absent": []}
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert scene.tags_on_host() == {"cyroid/kali:1"}
    assert scene.pulled_back("cyroid/kali:1") == new
    with scene.engine.client() as engine:
        assert engine.images.get(old).tags == []
    async with scene.opened() as (_, store):
        assert store.open_pushes() == [], "the old build's entry is done with"


async def test_a_tag_that_moved_since_the_plan_is_not_pushed() -> None:
    """What it meant is no longer what the host calls so: look again, nothing of it reaches the registry."""
    world, asked = Worlds(), desired([image("cyroid/kali:1")], [host("one", absent=[]), host("two", absent=[])])
    world.build("one", "cyroid/kali:1", "old")
    world.build("one", "mine/kali:1", "old")
    look = await world.reconciler.look(asked)
    world.build("one", "cyroid/kali:1", "new")
    (error,) = errors(await world.reconciler.apply(look, Quiet()))
    assert "look again" in error
    assert not world.registry.repositories
    assert not world.store.open_pushes()


async def test_a_name_that_somebody_took_since_the_plan_is_not_taken_away() -> None:
    """It means an image of his under the registry's address, perhaps by that name alone."""
    world, asked = Worlds(), desired([image("cyroid/kali:1")], [host("one", absent=[]), host("two", absent=[])])
    world.build("one", "cyroid/kali:1", "kali")
    look = await world.reconciler.look(asked)
    world.build("one", f"{ADDRESS}/cyroid/kali:1", "mine")
    (error,) = errors(await world.reconciler.apply(look, Quiet()))
    assert "means another image there" in error
    assert {f"{ADDRESS}/cyroid/kali:1"} in [found.tags for found in world.hosts["one"].images.values()]
    assert not world.lost


async def test_our_tag_is_journalled_before_it_is_made() -> None:
    """Else a kill in between leaves one on the host that nobody knows to be ours."""
    world, asked = Worlds(), desired([image("cyroid/kali:1")], [host("one", absent=[]), host("two", absent=[])])
    world.build("one", "cyroid/kali:1", "kali")
    one, known = world.hosts["one"], list[list[str]]()
    tag = one.tag

    async def watched(image_id: str, reference: str) -> None:
        known.append([entry.reference for entry in world.store.open_pushes() if entry.image_id == image_id])
        await tag(image_id, reference)

    one.tag = watched  # type: ignore[method-assign] # seen, and passed on
    assert not errors((await world.reconciler.reconcile(asked, Quiet())).outcomes)
    assert known == [[f"{ADDRESS}/cyroid/kali:1"]]


async def test_a_push_after_which_the_tag_means_another_image() -> None:
    """The engine says that it went well: what was read back says otherwise, so it was not pushed, and is not remembered as that (law 5)."""
    world, asked = Worlds(), desired([image("cyroid/kali:1")], [host("one", absent=[]), host("two", absent=[])])
    world.build("one", "cyroid/kali:1", "kali")
    one = world.hosts["one"]
    push = one.push

    async def overtaken(reference: str, advance: Callable[[int], None]) -> None:
        await push(reference, advance)
        world.fill("cyroid/kali:1", "theirs")

    one.push = overtaken  # type: ignore[method-assign] # somebody else pushes too
    (error,) = errors((await world.reconciler.reconcile(asked, Quiet())).outcomes)
    assert "the registry's tag means another image" in error
    assert not world.store.last_pushed("engine of one")


async def test_our_tag_stays_where_it_became_the_last_name_while_a_push_failed() -> None:
    """Somebody took the other one off meanwhile: ours is what keeps the image, which the registry has not, and it stays ours."""
    world, asked = Worlds(), desired([image("cyroid/kali:1")], [host("one", absent=[]), host("two", absent=[])])
    world.build("one", "cyroid/kali:1", "kali")
    one = world.hosts["one"]
    ours = f"{ADDRESS}/cyroid/kali:1"

    async def interrupted(*_: object) -> None:
        world.untag("one", "cyroid/kali:1")
        raise RefusedError("pushing", "injected")

    one.push = interrupted  # type: ignore[method-assign,assignment] # it fails in the middle
    assert errors((await world.reconciler.reconcile(asked, Quiet())).outcomes)
    assert [found.tags for found in one.images.values()] == [{ours}]
    assert [entry.reference for entry in world.store.open_pushes()] == [ours]


async def test_a_push_that_was_cut_off_at_its_very_end_is_remembered(scene: Scene) -> None:
    """The registry has it, the controller died before it noted so: the next build from that host is no conflict."""
    scene.build("cyroid/kali:1")
    scene.images, scene.host = [{"name": "cyroid/kali:1"}], {"absent": []}
    mine = f"{scene.registry.address}/cyroid/kali:1"
    scene.engine.docker("tag", "cyroid/kali:1", mine)
    scene.engine.docker("push", "-q", mine)
    async with scene.opened() as (_, store):
        engine_id = scene.engine.docker("info", "-f", "{{.ID}}")
        store.open_push(JournalEntry("local", engine_id, scene.id_on_host(mine), mine, existed=False))
    new = scene.build("cyroid/kali:1")
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert scene.pulled_back("cyroid/kali:1") == new


async def test_a_push_that_is_cancelled_cleans_up_behind_itself(either_scene: Scene) -> None:
    """Ctrl-C or SIGTERM in the middle of a push: no tag, no journal entry, nothing removed; the next pass does it."""
    scene = either_scene
    image_id = scene.build("cyroid/kali:1", size=30_000_000)
    scene.images = [{"name": "cyroid/kali:1"}]

    class Moving(Quiet):
        """Tells when the first bytes move."""

        def __init__(self) -> None:
            self.now = asyncio.Event()

        def started(self, action: object) -> None:  # noqa: ARG002 - whatever is begun
            asyncio.get_running_loop().call_later(0.05, self.now.set)

    async with scene.opened() as (reconciler, store):
        moving = Moving()
        passing = asyncio.create_task(reconciler.reconcile(read([scene.file]).desired, moving))
        await moving.now.wait()
        passing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await passing
        assert not store.open_pushes()
    assert scene.tags_on_host() == {"cyroid/kali:1"}
    assert scene.id_on_host("cyroid/kali:1") == image_id
    assert (await scene.apply()).after.converged
