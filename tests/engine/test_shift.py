"""Work between full looks, in worlds in memory: events, queue and workers together, with faults and lost events in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.domain.desired import Desired
from controller.domain.errors import RefusedError, UnreachableError
from controller.domain.observation import HostState, Present
from controller.domain.ports.hosts import Removal
from controller.domain.ports.stores import JournalEntry
from controller.domain.reference import Target, parse_local
from controller.domain.spec import Mode
from controller.engine import hostwatch, workqueue
from controller.engine import shift as shift_module
from controller.engine.reconcile import Look, Reconciler, Worked
from controller.engine.shift import Reports, Shift
from tests.engine.worlds import Worlds
from tests.support.builders import ADDRESS, desired, host, image
from tests.support.scene import Quiet

KALI, WEB = "cyroid/kali:1", "cyroid/web:1"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds, so that a test of many takes no seconds."""
    monkeypatch.setattr(hostwatch, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(hostwatch, "LONGEST_PAUSE", 0.002)
    monkeypatch.setattr(hostwatch, "SETTLES", 0.0)
    monkeypatch.setattr(workqueue, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(workqueue, "LONGEST_PAUSE", 0.002)


def wanted(*names: str, **more: Any) -> Desired:
    """Two hosts that adopt what is cyroid's and may not keep it."""
    hosts = [host(name, adopt=["cyroid/**"], absent=["cyroid/**"], **more) for name in ("one", "two")]
    return desired([image(name) for name in names], hosts, sets=("ranges",), deletes=1000)


class Told:
    """What a shift told."""

    def __init__(self) -> None:
        self.looks: list[Look] = []
        self.works: list[tuple[str, Worked]] = []
        self.reports = Reports(self.looks.append, lambda target, worked: self.works.append((str(target), worked)), Quiet())

    @property
    def failures(self) -> list[str]:
        return [outcome.error for _, worked in self.works for outcome in worked.outcomes if outcome.error]


@asynccontextmanager
async def a_shift(world: Worlds, asked: Desired, told: Told) -> Any:
    """A shift at work, after its first look."""
    shift = Shift(world.reconciler, asked, told.reports)
    async with asyncio.TaskGroup() as group:
        staff = group.create_task(shift.staff())
        await shift.look()
        yield shift
        shift.close()
        staff.cancel()


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that must become true."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what becomes true is in a world that tells of nothing
            await asyncio.sleep(0.001)


def there(world: Worlds, name: str) -> bool:
    """Whether the registry has that tag."""
    repository, _, tag = name.partition(":")
    return repository in world.registry.repositories and tag in world.registry.repositories[repository].tags


def clean(world: Worlds) -> bool:
    """Whether no host has an image any more."""
    return not any(each.images for each in world.hosts.values())


async def test_news_is_acted_on_without_a_look() -> None:
    """What is built on a host goes to the registry and leaves, and no further full look is made."""
    world, told = Worlds(), Told()
    async with a_shift(world, wanted(), told):
        world.build("one", KALI, "kali")
        await until(lambda: clean(world))
    assert there(world, KALI)
    assert len(told.looks) == 1
    assert not world.lost
    assert not world.store.open_pushes()


async def test_one_image_does_not_hold_up_another() -> None:
    """While one image fails again and again, another one passes."""
    world, told = Worlds(), Told()

    def refuse(operation: str) -> None:
        if operation == "tag" and KALI in {tag.removeprefix("docker.io/") for each in world.hosts["one"].images.values() for tag in each.tags}:
            raise RefusedError("tagging", "injected")

    async with a_shift(world, wanted(), told):
        world.hosts["one"].fault = refuse
        world.build("one", KALI, "kali")
        world.build("two", WEB, "web")
        await until(lambda: there(world, WEB) and len(told.failures) > 3)
        assert not there(world, KALI)
        world.hosts["one"].fault = lambda _: None
        await until(lambda: clean(world))
    assert not world.lost


async def test_a_lost_event_is_repaired_by_the_next_look() -> None:
    """Law 3: events only say which name to look at again."""
    world, told = Worlds(), Told()
    async with a_shift(world, wanted(), told) as shift:
        await until(lambda: bool(world.hosts["one"]._hearing))
        hearing, world.hosts["one"]._hearing = world.hosts["one"]._hearing, []
        world.build("one", KALI, "kali")
        await asyncio.sleep(0.02)
        assert not there(world, KALI)
        world.hosts["one"]._hearing = hearing
        await shift.look()
        await until(lambda: clean(world))
    assert there(world, KALI)


async def test_a_host_that_is_down_disturbs_nobody() -> None:
    """It is Unknown; the other host's images go on, and its own go when it is back."""
    world, told = Worlds(), Told()

    def silent(operation: str) -> None:
        raise UnreachableError(operation, "no answer")

    world.hosts["one"].fault = silent
    world.hosts["one"].images.update(Worlds().hosts["one"].images)
    async with a_shift(world, wanted(), told):
        world.build("two", WEB, "web")
        await until(lambda: there(world, WEB) and not world.hosts["two"].images)
        world.hosts["one"].fault = lambda _: None
        world.build("one", KALI, "kali")
        await until(lambda: clean(world))
    assert not world.lost


async def test_what_is_pulled_again_while_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after, the name means the same image, so no change is seen: it leaves all the same, without a full look."""
    monkeypatch.setattr(shift_module, "BACK_AGAIN", 0.001)
    world, told = Worlds(), Told()
    one, pulls = world.hosts["one"], 2
    remove = one.remove

    async def pulled_at_once(name: str) -> Removal:
        nonlocal pulls
        removed, pulls = await remove(name), pulls - 1
        if pulls >= 0:
            world.build("one", KALI, "kali")
            one.tell(f"image pull {KALI}")
        return removed

    monkeypatch.setattr(one, "remove", pulled_at_once)
    async with a_shift(world, wanted(), told):
        world.build("one", KALI, "kali")
        await until(lambda: pulls < 0 and clean(world))
    assert there(world, KALI)
    assert len(told.looks) == 1


async def test_what_rotted_in_the_registry_leaves_no_host() -> None:
    """It was pushed and read back while a container used it; what the registry has lost since is proven by nobody, so it stays."""
    world, told = Worlds(), Told()
    world.build("one", KALI, "kali")
    (kali,) = world.hosts["one"].images.values()
    kali.containers = ["service"]
    async with a_shift(world, wanted(), told):
        await until(lambda: there(world, KALI))
        for number in range(2):
            world.rot(number)
        kali.containers = []
        world.hosts["one"].tell("container destroy service")
        await until(lambda: bool(told.failures) or clean(world))
    assert "is not whole" in told.failures[0] or "other bytes" in told.failures[0]
    assert not clean(world)


async def test_more_deletions_than_allowed_are_not_done_one_by_one() -> None:
    """Law 8: a full look that would delete too much deletes nothing, and an event about one of them does not get around that."""
    world, told = Worlds(), Told()
    for number in range(5):
        world.build("one", f"cyroid/kali:{number}", f"content {number}")
    asked = desired([], [host("one", adopt=["cyroid/**"], absent=["cyroid/**"]), host("two")], deletes=3)
    async with a_shift(world, asked, told):
        await until(lambda: all(there(world, f"cyroid/kali:{number}") for number in range(5)))
        world.hosts["one"].tell("image tag cyroid/kali:1")
        await asyncio.sleep(0.05)
        assert len(world.hosts["one"].images) == 5


async def test_an_event_prunes_nothing_that_a_full_look_did_not() -> None:
    """What no set lists any more is not deleted while something else is not known, even when an event makes it alone due."""
    world, told = Worlds(), Told()
    nginx, other = (image(f"docker.io/library/{name}:1") for name in ("nginx", "other"))
    world.publish("nginx:1", "nginx")
    world.publish("other:1", "other")
    await world.reconciler.reconcile(desired([nginx, other], [host("one", absent=[])]), Quiet())
    asked = desired([other], [host("one", absent=[])], prune=True)
    broken = True

    def silent(operation: str) -> None:
        if broken:
            raise UnreachableError(operation, "no answer")

    world.upstream.fault = silent
    world.now += 7200
    async with a_shift(world, asked, told) as shift:
        assert [row.image for row in told.looks[-1].plan.held_back if row.action == "Delete"] == ["docker.io/library/nginx:1"]
        world.build("one", "nginx:1", "nginx")
        await until(lambda: any(name == "docker.io/library/nginx:1" for name, _ in told.works))
        assert there(world, "docker.io/library/nginx:1")
        broken = False
        await shift.look()
        await until(lambda: not there(world, "docker.io/library/nginx:1"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["one", "two"]), st.sampled_from([KALI, WEB, "cyroid/kali:2"]), st.sampled_from("abcd"), st.integers(0, 12)),
        max_size=8,
    ),
    st.lists(st.integers(1, 150), max_size=8),
    st.booleans(),
)
def test_whatever_fails_on_the_way_it_converges_and_nothing_is_lost(steps: list[tuple[str, str, str, int]], fails: list[int], silent: bool) -> None:  # noqa: FBT001 - Hypothesis gives it
    """Images appear while operations fail at any moment; when the faults end, nothing is left to do and nothing was lost."""

    async def play() -> None:
        world, told = Worlds(), Told()
        count = 0

        def fault(operation: str) -> None:
            nonlocal count
            count += 1
            if count in fails:
                raise (UnreachableError if silent else RefusedError)(operation, "injected")

        world.fault = fault
        asked = wanted(on_conflict="Push")
        async with a_shift(world, asked, told) as shift:
            for name, tag, word, pause in steps:
                world.build(name, tag, word)
                assert not world.lost
                for _ in range(pause):
                    await asyncio.sleep(0)
            world.fault = lambda _: None
            async with asyncio.timeout(30):
                await shift.look()
                while told.looks[-1].plan.actions or world.store.open_pushes():
                    await asyncio.sleep(0.002)
                    await shift.look()
                    assert not world.lost
        assert not world.lost
        assert not world.store.open_pushes()

    asyncio.run(play())


async def test_a_quiet_controller_asks_the_registry_for_little() -> None:
    """What was seen within `refresh` is not asked for again by full looks; what is missing or different is; after `refresh` all of it is."""
    world, told = Worlds(), Told()
    world.reconciler = Reconciler(world._world, actor="test", remember=True)
    for number in range(5):
        world.fill(f"cyroid/kali:{number}", f"content {number}")
    asked = wanted(*(f"cyroid/kali:{number}" for number in range(5)), "cyroid/missing:1")
    operations: list[str] = []
    world.registry.fault = operations.append
    async with a_shift(world, asked, told) as shift:
        assert operations.count("resolve") == 6
        await shift.look()
        assert operations.count("resolve") == 7, "only for what is missing"
        world.reconciler.forget(parse_local("cyroid/kali:1"))
        await shift.look()
        assert operations.count("resolve") == 9, "for what is missing, and what somebody says changed"
        world.now += 3601
        await shift.look()
        assert operations.count("resolve") == 15
        assert (operations.count("ping"), len(told.looks)) == (4, 4)


async def test_what_is_no_more_looked_at_is_not_remembered() -> None:
    """Months of tags that came and went leave nothing in memory; nor is what was seen in a future believed when the clock was set back."""
    world, told = Worlds(), Told()
    world.reconciler = Reconciler(world._world, actor="test", remember=True)
    world.fill(KALI, "kali")
    world.fill(WEB, "web")
    operations: list[str] = []
    async with a_shift(world, wanted(KALI, WEB), told) as shift:
        shift.ask(wanted(WEB))
        await shift.look()
        assert [str(target) for target in world.reconciler._observer._remembered] == [WEB]
        world.registry.fault = operations.append
        world.now -= 1e8
        await shift.look()
    assert operations.count("resolve") == 1


async def test_what_is_remembered_of_the_registry_costs_no_image() -> None:
    """A tag that was lost behind the controller's back: its host copy is not evicted on the strength of what was remembered."""
    world, told = Worlds(), Told()
    world.reconciler = Reconciler(world._world, actor="test", remember=True)
    asked = replace(wanted(KALI), mode=Mode.PUSH)
    world.build("one", KALI, "kali")
    async with a_shift(world, asked, told) as shift:
        await until(lambda: there(world, KALI))
        await shift.look()
        del world.registry.repositories["cyroid/kali"]
        shift.ask(replace(asked, mode=Mode.FULL))
        await shift.look()
        await until(lambda: clean(world) and there(world, KALI))
    assert not world.lost


async def test_what_a_worker_changed_on_a_host_is_known_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine's events may be late or lost: an image that was evicted and comes up again is not evicted a second time by old facts."""
    world, told = Worlds(), Told()
    world.build("one", KALI, "kali")
    monkeypatch.setattr(world.hosts["one"], "tell", lambda _: None)
    async with a_shift(world, wanted(), told) as shift:
        await until(lambda: clean(world) and bool(told.works))
        before = len(told.works)
        shift._queue.add(Target(*KALI.rsplit(":", 1)))
        await until(lambda: len(told.works) > before)
    assert told.failures == []
    assert there(world, KALI)


async def test_a_hint_from_the_registry_repairs_what_somebody_deleted() -> None:
    """What was remembered of that tag counts no more; what is none of our business is not looked at; nobody waits for the next full look."""
    world, told = Worlds(), Told()
    world.reconciler = Reconciler(world._world, actor="test", remember=True)
    asked = replace(wanted(KALI), mode=Mode.PUSH)
    world.build("one", KALI, "kali")
    async with a_shift(world, asked, told) as shift:
        await until(lambda: there(world, KALI))
        await shift.look()
        for tag in ("1", ""):
            del world.registry.repositories["cyroid/kali"]
            shift.hint("cyroid/kali", tag)
            await until(lambda: there(world, KALI))
        done = len(told.works)
        shift.hint("strangers/thing", "1")
        shift.hint("cyroid/kali", "none")
        assert shift.standing.queue["due"] == 0
        assert len(told.works) == done
    assert len(told.looks) == 2
    assert not world.lost


async def test_a_hint_that_comes_before_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry tells of a manifest before the tag means it: the first look finds nothing new, and there is another one a little later."""
    monkeypatch.setattr(shift_module, "TAG_FOLLOWS", 0.1)
    world, told = Worlds(), Told()
    world.build("one", KALI, "kali")
    async with a_shift(world, replace(wanted(KALI), mode=Mode.PUSH), told) as shift:
        await until(lambda: there(world, KALI))
        done = len(told.works)
        shift.hint("cyroid/kali", "1")
        await until(lambda: len(told.works) > done)
        del world.registry.repositories["cyroid/kali"]
        await until(lambda: there(world, KALI))
    assert len(told.looks) == 1


async def test_how_it_stands_is_told() -> None:
    """Which hosts answer, and how many images are in the queue, while it works."""
    world, told = Worlds(), Told()

    def silent(operation: str) -> None:
        raise UnreachableError(operation, "no answer")

    world.hosts["one"].fault = silent
    took: list[float] = []
    told.reports = replace(told.reports, took=took.append)
    async with a_shift(world, wanted(), told) as shift:
        assert shift.standing.hosts == {"one": False, "two": True}
        world.build("two", WEB, "web")
        await until(lambda: clean(world) and shift.standing.queue == {"due": 0, "waiting": 0, "working": 0})
        world.hosts["one"].fault = lambda _: None
        await until(lambda: shift.standing.hosts == {"one": True, "two": True})
    assert took


async def test_a_push_that_ends_while_its_host_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that was begun before has our tag still: it is no news, or a failing push would be tried again at once, and again."""
    world = Worlds()
    world.build("one", KALI, "kali")
    engine = world.hosts["one"]
    (image_id,) = engine.images
    entry = JournalEntry("one", "engine of one", image_id, f"{ADDRESS}/{KALI}", existed=False)
    world.store.open_push(entry)
    await engine.tag(image_id, entry.reference)
    listed = await engine.look()

    async def look() -> HostState:
        await engine.remove(entry.reference)
        world.store.close_push(entry)
        return listed

    monkeypatch.setattr(engine, "look", look)
    fact = await world.reconciler.host("one")
    assert isinstance(fact, Present)
    assert [str(tag) for image in fact.value.images for tag in image.tags] == [f"docker.io/{KALI}"]


@pytest.mark.parametrize("told", ["forget", "read_back", "forget_all"])
async def test_an_answer_from_before_the_news_is_not_remembered(told: str) -> None:
    """While a full look asks for a tag, the tag changes, and that is told: the next look asks again, and does not believe the answer from before."""
    world, target = Worlds(), parse_local(KALI)
    reconciler = Reconciler(world.world, actor="test", remember=True)
    first, second = world.fill(KALI, "first"), world.fill("cyroid/other:1", "second")
    resolve, asked, news = world.registry.resolve, asyncio.Event(), asyncio.Event()

    async def slowly(repository: str, identifier: str) -> Any:
        found = await resolve(repository, identifier)
        asked.set()
        await news.wait()
        return found

    world.registry.resolve = slowly  # type: ignore[method-assign] # the answer is on its way for a while
    looking = asyncio.create_task(reconciler.look(wanted(KALI)))
    await asked.wait()
    home = world.registry.repositories["cyroid/kali"]
    home.manifests[second.digest], home.tags["1"] = second, second.digest
    arguments = {"forget": (target,), "read_back": (target, second.digest), "forget_all": ()}[told]
    getattr(reconciler._observer, told)(*arguments)
    news.set()
    facts = [(await looking).seen.registry[target], (await reconciler.look(wanted(KALI))).seen.registry[target]]
    assert [fact.value.digest for fact in facts if isinstance(fact, Present)] == [first.digest, second.digest]
