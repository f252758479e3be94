"""The guard: what may pass, in which precedence, and with which reason it does not."""

from __future__ import annotations

from typing import Any

import pytest

from controller.domain.actions import Plan, Reason
from controller.domain.desired import DesiredHost
from controller.domain.observation import HostImage, StoreKind
from controller.domain.plan import make_plan
from controller.domain.policy import guard
from controller.domain.reference import Target
from controller.domain.spec import Ensure, Mode
from tests.support.builders import NOW, desired, engine, host, image, on_host, seen, sha

KALI = "cyroid/kali:1"


def guarded(on: DesiredHost, copy: HostImage, store: StoreKind = StoreKind.CLASSIC, registry: str | None = "x", **more: Any) -> Plan:
    """The guarded plan for one listed image with one copy."""
    allow = more.pop("allow_deletes", 0)
    settings = {key: more.pop(key) for key in ("mode", "deletes") if key in more}
    want = desired([image(KALI)], [on], **settings)
    world = seen({KALI: registry}, {on.name: engine(copy, store=store)}, **more)
    return guard(make_plan(want, world), want, world, allow_deletes=allow)


def reasons(plan: Plan) -> list[Reason]:
    """Why things are held back."""
    return [held.reason for held in plan.held_back]


def test_nothing_against_it_lets_it_pass() -> None:
    """Held in the registry, unused, unkept, out of grace: it may go."""
    plan = guarded(host(), on_host("x", KALI))
    assert [a.kind for a in plan.actions] == ["Evict"]
    assert not plan.held_back


@pytest.mark.parametrize(
    ("on", "copy", "expected"),
    [
        (host(keep=["cyroid/kali"]), on_host("x", KALI, used_by=("web",)), Reason.KEPT),
        (host(keep=["other/name"]), on_host("x", KALI, "other/name:1"), Reason.KEPT),
        (host(present=[KALI]), on_host("x", KALI, used_by=("web",)), Reason.IN_USE),
        (host(present=[KALI]), on_host("x", KALI), Reason.KEPT),
        (host(grace=60), on_host("x", KALI, used_by=("web",)), Reason.IN_USE),
        (host(grace=60), on_host("x", KALI), Reason.WAITING),
        (host(grace=60), on_host("y", KALI), Reason.CONFLICT),
    ],
    ids=["keep before in use", "keep by another tag of the Id", "in use before present", "present", "in use before grace", "grace", "other content"],
)
def test_precedence(on: DesiredHost, copy: HostImage, expected: Reason) -> None:
    """Design, "Precedence": keep, in use, present, absent; then proof and grace."""
    plan = guarded(on, copy)
    assert not plan.actions
    assert reasons(plan) == [expected]


def test_only_keep_leaves_a_plan_converged() -> None:
    """Converged: nothing held back except by keep."""
    assert guarded(host(keep=["**"]), on_host("x", KALI)).converged
    assert not guarded(host(), on_host("x", KALI, used_by=("web",))).converged


def test_grace_runs_from_the_later_of_first_seen_and_last_tag_time() -> None:
    """Either may be the later one; at the end of the period it passes."""

    def actions(since: float, tagged: float | None) -> int:
        copy = on_host("x", KALI, tagged_at=tagged)
        first = {("local", sha("x"), "docker.io/cyroid/kali:1"): since}
        return len(guarded(host(grace=60), copy, first_seen=first).actions)

    assert actions(NOW - 61, None) == 1
    assert actions(NOW - 60, NOW - 60) == 1
    assert actions(NOW - 59, NOW - 600) == 0
    assert actions(NOW - 600, NOW - 59) == 0
    assert actions(NOW - 59, NOW + 86_400) == 0
    assert actions(NOW - 600, NOW + 86_400) == 1, "a tag of tomorrow is from before a clock was set back"


def test_an_unknown_store_gets_no_evictions() -> None:
    """Facts: identity depends on the store; unknown store, no deletion."""
    plan = guarded(host(), on_host("x", KALI), StoreKind.UNKNOWN)
    assert not plan.actions
    assert Reason.UNKNOWN in reasons(plan)


def test_what_the_registry_may_not_hold_stays() -> None:
    """Unknown is not absent, and absent is no reason to remove."""
    assert reasons(guarded(host(), on_host("x", KALI), registry="?")) == [Reason.UNKNOWN, Reason.UNKNOWN]


def test_mode_observe_and_push() -> None:
    """Observe does nothing at all, Push neither evicts nor deletes."""
    copy = on_host("x", KALI)
    observed = guarded(host(), copy, registry=None, mode=Mode.OBSERVE)
    assert not observed.actions
    assert set(reasons(observed)) == {Reason.MODE}
    pushed = guarded(host(), copy, registry=None, mode=Mode.PUSH)
    assert [a.kind for a in pushed.actions] == ["Push"]
    assert reasons(pushed) == [Reason.MODE]


def test_more_deletions_than_the_limit_and_none_is_done() -> None:
    """Law 8: the cap counts evictions and deletions together; --allow-deletes N lets N pass and not one more."""
    names = [f"team/app:{i}" for i in range(3)]
    want = desired([*map(image, names), image("team/old:1", ensure=Ensure.ABSENT)], [host()], deletes=3)
    held = {**{name: name for name in names}, "team/old:1": "old"}
    world = seen(held, {"local": engine(*(on_host(name, name) for name in names))})
    plan = make_plan(want, world)
    assert plan.deletions == 4
    capped = guard(plan, want, world)
    assert not capped.actions
    assert reasons(capped) == [Reason.TOO_MANY_DELETES] * 4
    assert not guard(plan, want, world, allow_deletes=3).actions
    assert guard(plan, want, world, allow_deletes=4).deletions == 4


def test_what_is_held_back_does_not_count_for_the_limit() -> None:
    """Only what would really be done can be too much."""
    names = [f"team/app:{i}" for i in range(3)]
    want = desired(map(image, names), [host(keep=["team/app:0", "team/app:1"])], deletes=1)
    world = seen({name: name for name in names}, {"local": engine(*(on_host(name, name) for name in names))})
    assert guard(make_plan(want, world), want, world).deletions == 1


def test_a_retired_image_stays_on_its_host() -> None:
    """Absent in the registry beats adopt: blocked RetiredOnHost, unless keep has it."""
    want = desired([image(KALI, ensure=Ensure.ABSENT)], [host(adopt=["**"]), host("b", keep=["**"])])
    world = seen({KALI: None}, {"local": engine(on_host("x", KALI)), "b": engine(on_host("x", KALI), engine_id="b")})
    assert sorted(reasons(guard(make_plan(want, world), want, world))) == [Reason.KEPT, Reason.RETIRED_ON_HOST]


def test_an_eviction_falls_with_the_push_that_it_waits_for() -> None:
    """An eviction whose push is held back must not be tried: the registry does not hold the content."""
    want = desired([image(KALI)], [host(), host("b", present=[KALI])])
    world = seen({KALI: None}, {"local": engine(on_host("x", KALI)), "b": engine(engine_id="b")})
    plan = guard(make_plan(want, world), want, world)
    assert [a.kind for a in plan.actions] == ["Push", "Pull", "Evict"]
    assert plan.actions[0].target == Target("cyroid/kali", "1")
    without = guard(Plan.of(plan.actions[1:], ()), want, world)
    assert not without.actions
    assert {(row.action, row.reason) for row in without.held_back} == {("Evict", Reason.UNPROVEN), ("Pull", Reason.NOT_FOUND)}
