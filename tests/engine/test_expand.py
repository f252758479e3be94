"""Rules for many tags become images; a listing decides nothing about deletion."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from controller.domain.actions import Reason
from controller.domain.desired import Desired, TagRule
from controller.domain.errors import UnreachableError
from controller.domain.reference import Target, parse
from controller.domain.spec import Internet
from controller.domain.tags import TagChoice
from tests.engine.worlds import Worlds
from tests.support.builders import desired, host, image


def rule(choice: TagChoice) -> TagRule:
    """A rule for alpine's tags."""
    return TagRule("ranges", "docker.io/library/alpine", replace(parse("alpine"), tag=""), choice)


def asked(*rules: TagRule, **more: Any) -> Desired:
    """A set that has only rules."""
    return desired([], [host("one", absent=["**"])], sets=("ranges",), rules=rules, deletes=1000, **more)


@dataclass
class Asking:
    """What was asked of the upstream; it answers unless told otherwise."""

    operations: list[str] = field(default_factory=list)
    silent: bool = False

    def __call__(self, operation: str) -> None:
        self.operations.append(operation)
        if self.silent and operation == "tags":
            raise UnreachableError("GET tags", "no answer")


def a_world() -> tuple[Worlds, Asking]:
    """Four tags upstream."""
    world = Worlds()
    for tag in ("3.18.9", "3.19.1", "3.20.0", "edge"):
        world.publish(f"alpine:{tag}", tag)
    asking = Asking()
    world.upstream.fault = asking
    return world, asking


def test_chosen_tags_are_copied_and_others_are_not() -> None:
    """The registry gets what the rule chooses, and the next plan is empty."""
    world, _ = a_world()
    done = world.reconcile(asked(rule(TagChoice(">=3.19"))))
    assert done.after.converged, done.after.plan
    assert set(world.registry.repositories["docker.io/library/alpine"].tags) == {"3.19.1", "3.20.0"}
    assert [each.name for each in done.after.sets[0].images] == ["docker.io/library/alpine:3.19.1", "docker.io/library/alpine:3.20.0"]


def test_a_tag_that_is_chosen_no_more_stays_in_the_registry() -> None:
    """A newer tag takes its place in the choice; the old one is not deleted, and its host copy does not become evictable by that alone."""
    world, _ = a_world()
    newest = asked(rule(TagChoice(newest=1)))
    world.reconcile(newest)
    world.publish("alpine:3.21.0", "newer")
    world.now += 4000
    done = world.reconcile(newest)
    assert done.after.converged
    assert set(world.registry.repositories["docker.io/library/alpine"].tags) == {"3.20.0", "3.21.0"}


def test_a_listing_is_remembered_for_refresh() -> None:
    """Upstream is asked for its tags once within `refresh`."""
    world, asking = a_world()
    wanted = asked(rule(TagChoice(newest=1)), refresh=3600.0)
    world.look(wanted)
    world.look(wanted)
    assert asking.operations.count("tags") == 1
    world.now += 3601
    world.look(wanted)
    assert asking.operations.count("tags") == 2


def test_a_repository_that_can_not_be_listed_keeps_its_last_known_tags_and_says_so() -> None:
    """Law 2: no answer is not an empty list."""
    world, asking = a_world()
    wanted = asked(rule(TagChoice(newest=1)))
    world.reconcile(wanted)
    asking.silent = True
    world.now += 4000
    look = world.look(wanted)
    assert [(held.reason, held.image) for held in look.plan.held_back] == [(Reason.UNKNOWN, "docker.io/library/alpine")]
    assert [each.name for each in look.sets[0].images] == ["docker.io/library/alpine:3.20.0"]
    world.restart()
    again = world.look(wanted)
    assert not again.converged
    assert not again.plan.actions


def test_nothing_chosen_is_told() -> None:
    """A choice that no tag fulfils is a mistake in the file."""
    world, _ = a_world()
    assert [held.reason for held in world.look(asked(rule(TagChoice(">=9")))).plan.held_back] == [Reason.NOT_FOUND]


def test_a_rule_asks_only_whom_the_file_allows() -> None:
    """internet Deny: no listing, and the reason is told."""
    world, asking = a_world()
    look = world.look(asked(rule(TagChoice(">=3")), internet=Internet.DENY))
    assert [held.reason for held in look.plan.held_back] == [Reason.DENIED]
    assert "tags" not in asking.operations


def test_an_entry_of_its_own_comes_before_a_rule() -> None:
    """What is listed by name is that entry's alone, with its own platforms and its own `ensure`."""
    own = image("docker.io/library/alpine:3.20.0", referrers=False)
    chosen = desired([own], sets=("ranges",)).expanded([rule(TagChoice()).image("3.20.0"), rule(TagChoice()).image("3.19.1")])
    assert [(each.target, each.referrers) for each in chosen.images] == [
        (Target("docker.io/library/alpine", "3.20.0"), False),
        (Target("docker.io/library/alpine", "3.19.1"), True),
    ]
