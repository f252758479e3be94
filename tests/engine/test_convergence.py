"""Properties of whole passes, over worlds in memory (see tests/support/memory.py for what makes these twins true)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller.domain.actions import Delete, Evict
from controller.domain.desired import BuildSource, Desired, DesiredHost, DesiredImage
from controller.domain.errors import RefusedError, UnreachableError
from controller.domain.observation import Unknown
from controller.domain.spec import Ensure, Mode, OnConflict
from tests.engine.worlds import Worlds
from tests.support.builders import desired, host, image

WORDS = [f"content {number}" for number in range(6)]
LOCAL = [f"cyroid/{name}:{tag}" for name in ("kali", "web") for tag in ("1", "2")]
PUBLIC = ["docker.io/library/nginx:1", "docker.io/library/nginx:2"]
PATTERNS = [["cyroid/**"], ["cyroid/kali:*"], ["**:2"], ["library/*"], []]

FOLDER = BuildSource("/srv/folder", "one")

ASKED = ["ping", "resolve", "manifest", "tags", "look", "inspect"]

words = st.sampled_from(WORDS)
host_tags = st.sampled_from([*LOCAL, "nginx:1", "nginx:2", "127.0.0.1:5000/cyroid/kali:1"])
patterns = st.sampled_from(PATTERNS)


@st.composite
def hosts(draw: st.DrawFn, name: str) -> DesiredHost:
    """A host with any patterns and any conflict rule, without a grace period."""
    present = draw(st.sets(st.sampled_from([*LOCAL, *PUBLIC]), max_size=1))
    more: dict[str, Any] = {"on_conflict": draw(st.sampled_from(OnConflict)), "present": present}
    return host(name, absent=draw(st.none() | patterns), adopt=draw(patterns), keep=draw(patterns), **more)


@st.composite
def states(draw: st.DrawFn, *, deletes: bool) -> Desired:
    """Any desired state over these few names; some of the local ones are built of a folder."""
    ensure = st.sampled_from(Ensure) if deletes else st.just(Ensure.PRESENT)
    images: list[DesiredImage] = [image(name, ensure=draw(ensure)) for name in draw(st.sets(st.sampled_from([*LOCAL, *PUBLIC])))]
    built = [each.ensure is Ensure.PRESENT and not each.upstream and draw(st.booleans()) for each in images]
    images = [replace(each, source=FOLDER) if build else each for each, build in zip(images, built, strict=True)]
    return desired(images, [draw(hosts("one")), draw(hosts("two"))], deletes=1000)


@st.composite
def worlds(draw: st.DrawFn) -> Worlds:
    """Any world over these few names and contents."""
    world = Worlds()
    world.contexts.folders[FOLDER.context] = draw(words)
    for tag, word in draw(st.lists(st.tuples(st.sampled_from(PUBLIC), words), max_size=3)):
        world.publish(tag, word)
    for tag, word in draw(st.lists(st.tuples(st.sampled_from([*LOCAL, *PUBLIC]), words), max_size=3)):
        world.fill(tag, word)
    for name, tag, word in draw(st.lists(st.tuples(st.sampled_from(["one", "two"]), host_tags, words), max_size=6)):
        world.build(name, tag, word)
    for name in draw(st.sets(st.sampled_from(["one", "two"]))):
        for each in list(world.hosts[name].images.values())[:1]:
            each.containers.append("service")
    return world


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds(), states(deletes=False))
def test_after_a_pass_or_two_nothing_is_left_to_do_and_nothing_was_lost(world: Worlds, wanted: Desired) -> None:
    """Plan, apply, observe, plan: empty. Two passes where one push makes the next eviction possible. No content is lost on the way."""
    for _ in range(2):
        world.reconcile(wanted)
        assert not world.lost
    done = world.reconcile(wanted)
    assert not world.lost
    assert not done.after.plan.actions, [outcome.error for outcome in done.outcomes]
    assert not world.store.open_pushes()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds(), states(deletes=True), st.sets(st.sampled_from(ASKED), min_size=1), st.integers(0, 8))
def test_unknown_never_leads_to_a_deletion(world: Worlds, wanted: Desired, silent: set[str], after: int) -> None:
    """Whatever does not answer, from whatever moment on: no eviction and no deletion is planned for what was not seen."""
    calls = 0

    def fault(operation: str) -> None:
        nonlocal calls
        calls += operation in silent
        if operation in silent and calls > after:
            raise UnreachableError(operation, "no answer")

    world.fault = fault
    look = world.look(wanted)
    for action in look.plan.actions:
        if isinstance(action, Evict | Delete):
            assert not isinstance(look.seen.registry[action.target], Unknown)
            assert not action.host or not isinstance(look.seen.hosts[action.host], Unknown)
    if look.seen.registry_error:
        assert not look.plan.deletions


def test_a_tag_that_the_registry_does_not_tell_of_is_unknown() -> None:
    """It answers, but not for this one: what the tag means is not known, so nothing is brought there, and nothing leaves for it (law 2)."""
    world, wanted = Worlds(), desired([image(LOCAL[0])], [host("one", adopt=["cyroid/**"])])
    world.fill(LOCAL[0], WORDS[0])
    world.build("one", LOCAL[0], WORDS[1])

    def fault(operation: str) -> None:
        if operation == "resolve":
            raise RefusedError(operation, "500")

    world.fault = fault
    look = world.look(wanted)
    assert [type(fact) for fact in look.seen.registry.values()] == [Unknown]
    assert not look.plan.actions


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds(), states(deletes=True), st.integers(0, 20))
def test_a_registry_with_bit_rot_costs_no_host_its_copy(world: Worlds, wanted: Desired, number: int) -> None:
    """One blob of the registry is bad: every content that could still be had before a pass can be had after it."""
    world.reconcile(replace(wanted, images=tuple(each for each in wanted.images if each.ensure is Ensure.PRESENT), mode=Mode.PUSH))
    world.rot(number)
    world.reconcile(replace(wanted, images=tuple(each for each in wanted.images if each.ensure is Ensure.PRESENT)))
    assert not world.lost


class Machine(RuleBasedStateMachine):
    """People and faults against the controller: at every moment no content is lost, and when the faults end it converges."""

    @initialize(wanted=states(deletes=False))
    def begin(self, wanted: Desired) -> None:
        self.world = Worlds()
        self.world.contexts.folders[FOLDER.context] = "folder"
        self.wanted = wanted
        self.passes = 0

    @rule(name=st.sampled_from(["one", "two"]), tag=host_tags, word=words)
    def build(self, name: str, tag: str, word: str) -> None:
        self.world.build(name, tag, word)

    @rule(tag=st.sampled_from(PUBLIC), word=words)
    def publish(self, tag: str, word: str) -> None:
        self.world.publish(tag, word)

    @rule(word=words)
    def change_the_folder(self, word: str) -> None:
        self.world.contexts.folders[FOLDER.context] = word

    @rule(tag=st.sampled_from(LOCAL), word=words)
    def somebody_pushes(self, tag: str, word: str) -> None:
        self.world.fill(tag, word)

    @rule(name=st.sampled_from(["one", "two"]), used=st.booleans())
    def use(self, name: str, used: bool) -> None:  # noqa: FBT001 - Hypothesis gives it by name
        for each in self.world.hosts[name].images.values():
            each.containers = ["service"] if used else []

    @rule(wanted=states(deletes=False))
    def edit_the_file(self, wanted: Desired) -> None:
        self.wanted = wanted

    @rule(at=st.integers(0, 60), lasting=st.booleans(), silent=st.booleans())
    def reconcile_with_a_fault(self, at: int, lasting: bool, silent: bool) -> None:  # noqa: FBT001 - as above
        """The operation number `at` fails, and with `lasting` every one after it; silence or a refusal."""
        left = at

        def fault(operation: str) -> None:
            nonlocal left
            left -= 1
            if left == 0 or (lasting and left < 0):
                raise (UnreachableError if silent else RefusedError)(operation, "injected")

        self.world.fault = fault
        self.world.reconcile(self.wanted)
        self.world.fault = lambda _: None

    @rule(at=st.integers(0, 60), name=st.sampled_from(["one", "two"]), tag=host_tags, word=st.none() | words, refused=st.booleans())
    def reconcile_while_people_work(self, at: int, name: str, tag: str, word: str | None, refused: bool) -> None:  # noqa: FBT001 - as above
        """Before the operation number `at` somebody builds over a name, or takes it off; that operation may fail besides."""
        left = at

        def fault(operation: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                if word:
                    self.world.build(name, tag, word)
                else:
                    self.world.untag(name, tag)
                if refused:
                    raise RefusedError(operation, "injected")

        self.world.fault = fault
        self.world.reconcile(self.wanted)
        self.world.fault = lambda _: None

    @rule(at=st.integers(0, 60))
    def die_in_the_middle(self, at: int) -> None:
        """The controller is killed at the operation number `at`; not even its clean-up runs."""
        left = at

        def fault(_: str) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                raise Killed

        self.world.fault = fault
        with suppress_killed():
            self.world.reconcile(self.wanted)
        self.world.fault = lambda _: None
        self.world.restart()

    @invariant()
    @precondition(lambda self: hasattr(self, "world"))
    def nothing_is_lost(self) -> None:
        assert not self.world.lost

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        for _ in range(3):
            self.world.reconcile(self.wanted)
            assert not self.world.lost
        done = self.world.reconcile(self.wanted)
        assert not done.after.plan.actions, [outcome.error for outcome in done.outcomes]
        for entry in self.world.store.open_pushes():
            image = self.world.hosts[entry.host].images[entry.image_id]
            assert image.tags == {entry.reference}, "only a last name of an image is left by a push"


class Killed(BaseException):
    """Stands for SIGKILL; the real one is in test_crash.py."""


@contextmanager
def suppress_killed() -> Iterator[None]:
    """In a task, it comes as a group."""
    try:
        yield
    except* Killed:
        pass


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
