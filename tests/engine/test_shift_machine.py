"""Queue and reconcile together, by a state machine: people, lost events, failures and deaths against a shift at work, in worlds in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controller.domain.errors import RefusedError, UnreachableError
from controller.domain.reference import Target
from controller.engine import hostwatch, workqueue
from controller.engine.reconcile import Look, Worked
from controller.engine.shift import Reports, Shift
from tests.engine.worlds import Worlds
from tests.support.builders import desired, host, image
from tests.support.scene import Quiet

NAMES = ["cyroid/kali:1", "cyroid/kali:2", "cyroid/web:1", "strangers/x:1"]
WANTED = desired(
    [image("cyroid/kali:1")],
    [host(name, adopt=["cyroid/**"], absent=["cyroid/**"], on_conflict="Push") for name in ("one", "two")],
    deletes=1000,
)
MOST_LOOKS = 200

hosts = st.sampled_from(["one", "two"])
names = st.sampled_from(NAMES)
words = st.sampled_from("abcdef")


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    """Pauses of no length to speak of."""
    with pytest.MonkeyPatch.context() as patch:
        for module, values in ((hostwatch, {"SETTLES": 0.0}), (workqueue, {})):
            for name, value in {"FIRST_PAUSE": 0.0005, "LONGEST_PAUSE": 0.001, **values}.items():
                patch.setattr(module, name, value)
        yield


class _Killed(BaseException):
    """Stands for SIGKILL."""


class ShiftMachine(RuleBasedStateMachine):
    """At every moment no content is lost and no image is worked on twice; when the failures end, nothing is left to do."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Worlds()
        self.runner = asyncio.Runner()
        self.looks: list[Look] = []
        self.twice: list[Target] = []
        self.tries = Counter[Target]()
        self.rotten = False
        self.runner.run(self._begin())

    @rule(name=hosts, tag=names, word=words, used=st.booleans())
    def build(self, name: str, tag: str, word: str, used: bool) -> None:  # noqa: FBT001 - Hypothesis gives it by name
        self.world.build(name, tag, word)
        if used:
            self.use(name, used=True)

    @rule(name=hosts, tag=names)
    def untag(self, name: str, tag: str) -> None:
        self.world.untag(name, tag)

    @rule(numbers=st.one_of(st.integers(0, 20).map(lambda number: [number]), st.just(range(50))))
    def the_registry_rots(self, numbers: Iterable[int]) -> None:
        """One blob, or all. What only the registry had then is not counted; what a host has still must not leave it on the strength of that."""
        for number in numbers:
            self.world.rot(number)
        self.rotten = True

    @rule(name=hosts, used=st.booleans())
    def use(self, name: str, used: bool) -> None:  # noqa: FBT001 - as above
        for each in self.world.hosts[name].images.values():
            each.containers = ["service"] if used else []
        self.world.hosts[name].tell("container create service")

    @rule(name=hosts, deaf=st.booleans())
    def events_are_lost(self, name: str, deaf: bool) -> None:  # noqa: FBT001 - as above
        self.world.hosts[name].__dict__.pop("tell", None)
        if deaf:
            self.world.hosts[name].__dict__["tell"] = lambda _: None

    @rule(at=st.integers(1, 40), every=st.integers(1, 5), silent=st.booleans())
    def things_fail(self, at: int, every: int, silent: bool) -> None:  # noqa: FBT001 - as above
        """From the operation number `at` on, one of `every` so many."""
        count = 0

        def fault(operation: str) -> None:
            nonlocal count
            count += 1
            if count >= at and count % every == 0:
                raise (UnreachableError if silent else RefusedError)(operation, "injected")

        self.world.fault = fault

    @rule()
    def nothing_fails(self) -> None:
        self.world.fault = lambda _: None

    @rule(steps=st.sampled_from([0, 1, 3, 10, 40]))
    def it_works(self, steps: int) -> None:
        self.runner.run(_steps(steps))

    @rule()
    def look(self) -> None:
        self.runner.run(self._look())

    @rule(steps=st.integers(0, 10))
    def die(self, steps: int) -> None:
        """Killed in the middle, and started again: only the store remembers."""
        self.runner.run(_steps(steps))

        def killed(_: str) -> None:
            raise _Killed

        self.world.fault = killed
        self.runner.run(self._end(killed=True))
        self.world.fault = lambda _: None
        self.world.restart()
        self.runner.run(self._begin())

    @invariant()
    def nothing_is_lost(self) -> None:
        assert not self.world.lost
        assert not self.twice

    def teardown(self) -> None:
        self.world.fault = lambda _: None
        for each in self.world.hosts.values():
            each.__dict__.pop("tell", None)
            self.use(each.name, used=False)  # So that all may leave its host that was shown to be in the registry, and nothing else.
        self.runner.run(self._all_is_tried() if self.rotten else self._comes_to_rest())
        self.runner.run(self._end(killed=False))
        self.runner.close()
        assert not self.world.lost

    async def _begin(self) -> None:
        reconciler, work_on, busy = self.world.reconciler, self.world.reconciler.work_on, Counter[Target]()

        async def watched(desired: Any, target: Target, *arguments: Any, **more: Any) -> Worked:
            busy[target] += 1
            if busy[target] > 1:
                self.twice.append(target)
            try:
                return await work_on(desired, target, *arguments, **more)
            finally:
                busy[target] -= 1
                self.tries[target] += 1

        reconciler.work_on = watched  # type: ignore[method-assign] # watched, and passed on
        self.shift = Shift(reconciler, WANTED, Reports(self.looks.append, lambda *_: None, Quiet()))
        self.staff = asyncio.create_task(self.shift.staff())
        await self._look()

    async def _look(self) -> None:
        await self.shift.look()

    async def _end(self, *, killed: bool) -> None:
        self.shift.close()
        if killed:
            self.staff.cancel()
        await asyncio.wait([self.staff], timeout=20)
        assert self.staff.done(), "it was not drained"
        if not self.staff.cancelled() and not killed:
            self.staff.result()
        else:
            self.staff.cancelled() or self.staff.exception()

    async def _comes_to_rest(self) -> None:
        for _ in range(MOST_LOOKS):
            await self.shift.look()
            if not self.looks[-1].plan.actions and all(self._last_name(entry) for entry in self.world.store.open_pushes()):
                return
            await asyncio.sleep(0.002)
        raise AssertionError(f"still to do: {self.looks[-1].plan.actions}, {self.world.store.open_pushes()}")

    async def _all_is_tried(self) -> None:
        """What is rotten people have to repair first, so it comes to no rest: each image that has to be worked on is, twice."""
        await self.shift.look()
        due = {action.target: self.tries[action.target] + 2 for action in self.looks[-1].plan.actions}
        for _ in range(MOST_LOOKS):
            await self.shift.look()
            due = {action.target: due[action.target] for action in self.looks[-1].plan.actions if action.target in due}
            if all(self.tries[target] >= tries for target, tries in due.items()):
                return
            await asyncio.sleep(0.002)
        raise AssertionError(f"not tried: {due}")

    def _last_name(self, entry: Any) -> bool:
        image = self.world.hosts[entry.host].images.get(entry.image_id)
        return image is not None and image.tags == {entry.reference}


async def _steps(count: int) -> None:
    """Some of its work is done in threads, so the loop alone does not carry it on."""
    await asyncio.sleep(0)
    for _ in range(count):
        await asyncio.sleep(0.0005)


TestShiftMachine = ShiftMachine.TestCase
TestShiftMachine.settings = settings(max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
