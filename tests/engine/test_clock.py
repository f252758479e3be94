"""A clock that jumps by years while the controller runs: no image leaves before its grace period has passed, and none stays for years."""

from __future__ import annotations

import pytest

from controller.domain.actions import Reason
from controller.domain.desired import Desired
from controller.domain.errors import UnreachableError
from tests.engine.worlds import Worlds
from tests.support.builders import desired, host

KALI = "cyroid/kali:1"
GRACE = 600.0
YEARS = 10 * 365 * 86400.0


class Time:
    """The time of day, which may be set, and the time that really passes."""

    def __init__(self, world: Worlds) -> None:
        self._world = world
        self.passed = 0.0
        world.reconciler._observer._monotonic = lambda: self.passed

    def passes(self, seconds: float) -> None:
        """Both go on."""
        self.passed += seconds
        self._world.now += seconds

    def is_set(self, seconds: float) -> None:
        """Only the time of day."""
        self._world.now += seconds


def waiting() -> tuple[Worlds, Time, Desired]:
    """An image that was named a moment ago, in the registry by now; it waits."""
    world = Worlds()
    time, wanted = Time(world), desired([], [host("one", adopt=["cyroid/**"], absent=["cyroid/**"], grace=GRACE)])
    world.build("one", KALI, "kali")
    (image,) = world.hosts["one"].images.values()
    image.tagged_at = world.now
    assert reasons(world, wanted) == [Reason.WAITING]
    return world, time, wanted


def reasons(world: Worlds, wanted: Desired) -> list[Reason]:
    """A pass; what is held back after it."""
    return [row.reason for row in world.reconcile(wanted).after.plan.held_back]


def test_time_that_passes_ends_it() -> None:
    """As a rule: not before, and then at once, however long nobody looked."""
    world, time, wanted = waiting()
    time.passes(GRACE - 1)
    assert reasons(world, wanted) == [Reason.WAITING]
    time.passes(YEARS)
    assert reasons(world, wanted) == []
    assert not world.hosts["one"].images


@pytest.mark.parametrize("jump", [YEARS, -YEARS, 3600.0, -3600.0])
def test_a_clock_that_is_set_begins_it_anew(jump: float) -> None:
    """Forward or back: the whole grace period has still to pass, and no more than that."""
    world, time, wanted = waiting()
    time.passes(GRACE - 1)
    time.is_set(jump)
    assert reasons(world, wanted) == [Reason.WAITING]
    time.passes(GRACE - 1)
    assert reasons(world, wanted) == [Reason.WAITING]
    time.passes(2 if abs(jump) == YEARS else 3601)  # An engine's own time is believed within an hour.
    assert reasons(world, wanted) == []
    assert not world.hosts["one"].images


def test_a_clock_that_goes_there_and_back() -> None:
    """As when a wrong time server is asked, and then the right one."""
    world, time, wanted = waiting()
    for jump in (YEARS, -YEARS, YEARS, -YEARS):
        time.is_set(jump)
        assert reasons(world, wanted) == [Reason.WAITING]
    time.passes(GRACE)
    assert reasons(world, wanted) == []
    assert not world.lost


def test_a_time_that_an_engine_does_not_tell_may_be_now() -> None:
    """It does not answer when it is asked for the tag's time: Unknown is no reason to remove (law 2), so the image waits until it answers."""
    world, time, wanted = waiting()
    time.passes(GRACE)
    (image,) = world.hosts["one"].images.values()
    image.tagged_at = world.now

    def silent(operation: str) -> None:
        if operation == "inspect" and broken:
            raise UnreachableError(operation, "no answer")

    broken = True
    world.hosts["one"].fault = silent
    look = world.look(wanted)
    assert [row.reason for row in look.plan.held_back] == [Reason.WAITING]
    assert not look.plan.actions
    broken = False
    assert reasons(world, wanted) == [Reason.WAITING]
    time.passes(GRACE)
    assert reasons(world, wanted) == []
    assert not world.hosts["one"].images
