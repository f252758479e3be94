"""Ranges that come and go, in worlds in memory: hosts from their start to their end, and a host of ranges that does not answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from controller.domain.desired import Desired, DesiredHost, Patterns, RangeGroup
from controller.domain.errors import UnreachableError
from controller.domain.observation import HostState, Present, Unknown
from controller.domain.ports.hosts import Host
from controller.domain.ports.registries import Advance
from controller.domain.ports.stores import JournalEntry
from controller.domain.ranges import Container
from controller.engine import hostwatch, patience, shift
from controller.engine.observe import without_twins
from controller.engine.reconcile import Look, Reconciler
from controller.engine.world import World
from tests.engine.test_shift import Told, a_shift, until
from tests.engine.worlds import Worlds
from tests.support.archives import layer
from tests.support.builders import NOW, desired, engine, host, image
from tests.support.memory import MemoryHost
from tests.support.memory_sources import NoArchives
from tests.support.scene import Quiet

LABEL = "cyroid.range_id"
KALI = "cyroid/kali:1"


class Lab(Worlds):
    """A world in which the host `one` has ranges: their engines by the address at which they are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.engines: dict[str, MemoryHost] = {}
        self.closed: list[str] = []

        def open_range(asked: DesiredHost) -> Host:
            found = self.engines[asked.engine]
            found._name = asked.name

            async def close() -> None:
                self.closed.append(asked.name)

            found.close = close  # type: ignore[method-assign] # to hear of it
            return found

        self._world = World(
            self.registry, lambda _: (self.upstream,), {**self.hosts}, NoArchives(), self.contexts, self.store, lambda: self.now, open_range
        )
        self.reconciler = Reconciler(self._world, actor="test")

    def start(self, range_id: str, address: str = "10.0.0.2") -> MemoryHost:
        """A range runs, and the host says so."""
        found = self.engines.setdefault(f"tcp://{address}:2375", MemoryHost(f"engine of {address}", [self.registry, self.upstream]))
        self.hosts["one"].labelled.append(({LABEL: range_id}, Container(f"{range_id}@{address}", range_id, range_id, (("net", address),))))
        self.hosts["one"].tell(f"container start {range_id}")
        return found

    def stop(self, range_id: str, *, tells: bool = True) -> None:
        """It runs no more."""
        self.hosts["one"].labelled = [each for each in self.hosts["one"].labelled if each[1].label != range_id]
        if tells:
            self.hosts["one"].tell(f"container die {range_id}")


def asked(**more: Any) -> Desired:
    """A host with ranges that shall have KALI."""
    like = host("ranges", absent=[], range="ranges", present=[KALI], **more)
    return desired([image(KALI)], [host("one", absent=[])], groups=(RangeGroup(like, "one", LABEL, 2375),), sets=("ranges",))


def hosts_of(look: Look) -> dict[str, bool]:
    """Each host, and whether it was seen."""
    return {name: isinstance(fact, Present) for name, fact in look.seen.hosts.items()}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds."""
    for module, name in ((hostwatch, "FIRST_PAUSE"), (hostwatch, "LONGEST_PAUSE"), (hostwatch, "SETTLES"), (shift, "NOTICES")):
        monkeypatch.setattr(module, name, 0.001)
    monkeypatch.setattr(shift, "CHECKS", (0.001, 0.02, 0.03))


async def test_a_range_is_a_host_while_it_runs() -> None:
    """Found at a look, given what it shall have; gone, it is none, and Unknown for nobody."""
    world = Lab()
    world.fill(KALI, "kali")
    found = world.start("42")
    done = await world.reconciler.reconcile(asked(), Quiet())
    assert hosts_of(done.after) == {"one": True, "ranges/42": True}
    assert {tag for each in found.images.values() for tag in each.tags} == {f"docker.io/{KALI}"}
    assert done.after.converged, done.after.plan
    assert world.store.engine_of("ranges/42") is None, "another container is another engine, and that is nothing to confirm"
    world.stop("42")
    look = await world.reconciler.look(asked())
    assert hosts_of(look) == {"one": True}
    assert look.converged
    assert world.closed == ["ranges/42"]


async def test_a_range_that_is_elsewhere_now_is_opened_anew() -> None:
    """The same id at another address: another container."""
    world = Lab()
    world.start("42")
    await world.reconciler.look(asked())
    world.stop("42")
    world.start("42", "10.0.0.3")
    look = await world.reconciler.look(asked())
    assert look.desired.hosts[-1].engine == "tcp://10.0.0.3:2375"
    assert world.closed == ["ranges/42"]


async def test_while_their_host_is_silent_ranges_stay_and_are_not_known() -> None:
    """Nothing is concluded from that (law 2): neither that they are gone nor what they have; and not that nothing else may be pruned for ever."""
    world = Lab()
    world.start("42")
    await world.reconciler.look(asked())

    def silent(operation: str) -> None:
        raise UnreachableError(operation, "no answer")

    world.hosts["one"].fault = silent
    look = await world.reconciler.look(asked())
    assert hosts_of(look) == {"one": False, "ranges/42": False}
    assert {(row.host, row.reason) for row in look.plan.held_back if row.image == "*"} == {
        ("one", "Unknown"),
        ("ranges", "Unknown"),
        ("ranges/42", "Unknown"),
    }
    assert world.closed == []
    world.hosts["one"].fault = lambda _: None
    assert hosts_of(await world.reconciler.look(asked())) == {"one": True, "ranges/42": True}


async def test_a_range_that_does_not_answer_holds_up_no_pruning() -> None:
    """Its people may have broken it. What is evicted from must be known; nothing is evicted from a range that says no `absent`."""
    world = Lab()
    found = world.start("42")
    world.publish("nginx:1", "nginx")
    nginx = image("docker.io/library/nginx:1")
    with_nginx = replace(asked(), images=(*asked().images, nginx))
    world.fill(KALI, "kali")
    await world.reconciler.reconcile(with_nginx, Quiet())

    def silent(operation: str) -> None:
        raise UnreachableError(operation, "no answer")

    found.fault = silent
    look = await world.reconciler.look(replace(asked(), prune=True))
    assert [(action.kind, str(action.target)) for action in look.plan.actions] == [("Delete", "docker.io/library/nginx:1")]


async def test_a_stopped_group_keeps_what_it_shall_have() -> None:
    """No range runs: what `present` names is pruned all the same not."""
    world = Lab()
    world.publish("nginx:1", "nginx")
    nginx = image("docker.io/library/nginx:1")
    await world.reconciler.reconcile(replace(asked(), images=(nginx,)), Quiet())
    world.fill(KALI, "kali")
    unlisted = replace(asked(), prune=True)
    group = replace(unlisted.groups[0], like=replace(unlisted.groups[0].like, present=frozenset({nginx.host_name})))
    look = await world.reconciler.look(replace(unlisted, groups=(group,)))
    assert look.plan.actions == ()


async def test_a_controller_follows_ranges_without_another_look_than_it_is_told_to() -> None:
    """One starts: it is due; its engine comes up later: it gets its images then; what it fetches is brought; one stops: nothing fails by it."""
    world, told = Lab(), Told()
    world.fill(KALI, "kali")
    stirred = 0

    def stir() -> None:
        nonlocal stirred
        stirred += 1

    told.reports = replace(told.reports, stirred=stir)
    async with a_shift(world, asked(), told) as working:
        await until(lambda: bool(world.hosts["one"]._hearing))
        world.hosts["one"].tell("container start none-of-our-business")
        await asyncio.sleep(0.05)
        assert stirred == 0
        found = world.start("42")
        await until(lambda: stirred == 1)

        def silent(operation: str) -> None:
            raise UnreachableError(operation, "no answer yet")

        found.fault = silent
        await working.look()
        assert working.standing.hosts == {"one": True, "ranges/42": False}
        found.fault = lambda _: None
        await until(lambda: any(f"docker.io/{KALI}" in each.tags for each in found.images.values()))
        world.publish("nginx:1", "nginx")
        await found.pull("docker.io/library/nginx:1", lambda _: None)
        await until(
            lambda: "docker.io/library/nginx" in world.registry.repositories and bool(world.registry.repositories["docker.io/library/nginx"].tags)
        )
        stirred = 0
        world.hosts["one"].tell("container die 42")
        await asyncio.sleep(0.01)
        assert stirred == 0, "an engine tells it before it lists it"
        world.stop("42", tells=False)
        await until(lambda: stirred > 0)
        await working.look()
        assert working.standing.hosts == {"one": True}
        before = len(told.looks)
        found.tell("image tag x")
        world.build("one", "cyroid/other:1", "other")
        await until(lambda: working.standing.queue == {"due": 0, "waiting": 0, "working": 0})
        assert len(told.looks) == before
    assert told.failures == []


async def test_what_a_pull_left_in_a_range_goes_with_it() -> None:
    """The journal is not kept for a host that is none any more, once all hosts of ranges have answered."""
    world = Lab()
    world.fill(KALI, "kali")
    entry = JournalEntry("ranges/42", "engine", "", f"{world.registry.address}/{KALI}", existed=False)
    world.store.open_push(entry)
    look = await world.reconciler.look(asked())
    (target,) = world.reconciler.unfinished()
    await world.reconciler.work_on(look.desired, target, look.seen.hosts, Quiet())
    assert not world.store.open_pushes()


def test_of_one_engine_under_two_names_a_range_is_refused_and_the_host_stays() -> None:
    """A range can say whatever ID it likes; it can't take its host away by that, nor another range's word."""
    same, other = engine(engine_id="a"), engine(engine_id="b")
    facts = {
        name: Present(state, NOW) for name, state in {"one": same, "r/1": same, "r/2": other, "r/3": other, "two": engine(engine_id="c")}.items()
    }
    found = without_twins(facts, NOW, {"r/1", "r/2", "r/3"})
    assert {name: fact.why.partition(":")[0] for name, fact in found.items() if isinstance(fact, Unknown)} == {
        "r/1": "refused as a range",
        "r/2": "r/2 and r/3 are one and the same engine",
        "r/3": "r/2 and r/3 are one and the same engine",
    }
    assert {name for name, fact in without_twins({"a": facts["one"], "b": facts["one"]}, NOW).items() if isinstance(fact, Unknown)} == {"a", "b"}


async def test_a_range_that_went_in_the_middle_of_work_is_an_error_of_that_work() -> None:
    """Not the end of a worker: the plan was made with it, and it is no host any more when it is done."""
    world = Lab()
    world.fill(KALI, "kali")
    world.start("42")
    look = await world.reconciler.look(asked())
    world.stop("42")
    await world.reconciler.look(asked())
    outcomes = await world.reconciler.apply(look, Quiet())
    assert [("no host any more" in outcome.error) for outcome in outcomes] == [True]


async def test_a_range_that_lets_us_wait_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has so long to say what it holds, and so long for anything to move; it is not asked again before it has answered."""
    monkeypatch.setattr(patience, "LOOK", 0.05)
    monkeypatch.setattr(patience, "STILL", 0.05)
    world = Lab()
    world.fill(KALI, "kali")
    found = world.start("42")
    waiting, asked_for = asyncio.Event(), 0
    real = found.look

    async def look() -> HostState:
        nonlocal asked_for
        asked_for += 1
        await waiting.wait()
        return await real()

    monkeypatch.setattr(found, "look", look)
    for _ in range(2):
        assert hosts_of(await world.reconciler.look(asked())) == {"one": True, "ranges/42": False}
    assert asked_for == 1
    waiting.set()
    await asyncio.sleep(0)
    looked = await world.reconciler.look(asked())
    assert hosts_of(looked) == {"one": True, "ranges/42": True}

    async def pull(reference: str, advance: Advance) -> None:
        del reference, advance
        await asyncio.Event().wait()

    monkeypatch.setattr(found, "pull", pull)
    (outcome,) = await world.reconciler.apply(looked, Quiet())
    assert "nothing has moved" in outcome.error


async def test_what_one_range_makes_up_counts_for_no_other() -> None:
    """It says that its image is one of the registry's, and gives it the Id of another range's: that one is kept all the same."""
    world = Lab()
    published = world.fill("other/thing:1", "thing")
    honest, liar = world.start("42"), world.start("7", "10.0.0.3")
    mine = honest.add("other/thing:1", [layer("mine")])
    liar.add("other/thing:1", [layer("mine")])
    liar.images[mine].digests.add(f"docker.io/other/thing@{published.digest}")
    like = replace(asked().groups[0].like, present=frozenset(), adopt=Patterns(["other/**"]))
    done = await world.reconciler.reconcile(replace(asked(), groups=(replace(asked().groups[0], like=like),)), Quiet())
    assert [(str(outcome.action.target), outcome.error) for outcome in done.outcomes] == [("ranges/42/other/thing:1", "")]
