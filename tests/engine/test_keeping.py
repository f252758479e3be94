"""What is held in the registry: how long, what stays longer, and that no content is lost before its time (worlds in memory)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller.domain.actions import Reason
from controller.domain.desired import Desired, Patterns
from controller.domain.errors import RefusedError, UnreachableError
from controller.domain.observation import HostState, StoreKind, Unknown
from controller.domain.oci import Manifest
from controller.domain.reference import HELD_PREFIX, Target, held_tag
from controller.domain.spec import Ensure, Mode, OnConflict
from controller.engine.holdings import Holdings
from controller.engine.restore import Restorer
from controller.engine.sweep import LONGEST_GAP
from tests.engine.test_convergence import Killed, suppress_killed
from tests.engine.worlds import Worlds
from tests.support.builders import desired, host, image
from tests.support.memory import layer_of

DAY = 86_400.0
KALI, NGINX = "cyroid/kali:1", "docker.io/library/nginx:1"
ABSENT = Ensure.ABSENT


def wanted(*images: Any, **more: Any) -> Desired:
    """Two hosts that adopt nothing, a restore window of five days."""
    hosts = more.pop("hosts", [host("one", absent=[]), host("two", absent=[])])
    return desired(images or [image(NGINX)], hosts, keep_held=more.pop("keep_held", 5 * DAY), deletes=more.pop("deletes", 1000), **more)


def tags(world: Worlds, repository: str) -> dict[str, str]:
    """What the registry's tags mean."""
    home = world.registry.repositories.get(repository)
    return dict(home.tags) if home else {}


def passes(world: Worlds, asked: Desired, days: int) -> None:
    """One pass a day."""
    for _ in range(days):
        world.now += DAY
        world.reconcile(asked)


@pytest.fixture
def overwritten() -> Worlds:
    """Upstream moved on: what the tag meant is held."""
    world = Worlds()
    for word in ("old", "new"):
        world.publish("nginx:1", word)
        passes(world, wanted(), 1)
    return world


def held_of(world: Worlds, repository: str = "docker.io/library/nginx") -> set[str]:
    """The held tags of a repository."""
    return {tag for tag in tags(world, repository) if tag.startswith(HELD_PREFIX)}


def test_what_is_held_goes_when_its_time_is_over(overwritten: Worlds) -> None:
    """It is there for keepHeld, then its tag goes and nothing else; that is recorded."""
    (tag,) = held_of(overwritten)
    passes(overwritten, wanted(), 4)
    assert held_of(overwritten) == {tag}
    passes(overwritten, wanted(), 2)
    assert held_of(overwritten) == set()
    assert set(tags(overwritten, "docker.io/library/nginx")) == {"1"}
    (entry,) = (each for each in overwritten.store.history() if each.action == "Expire")
    assert (entry.image, entry.actor, entry.error) == (f"docker.io/library/nginx:{tag}", "test", "")


def test_one_of_unknown_age_counts_from_when_it_was_first_seen() -> None:
    """The state was lost: nobody knows since when it is held, so its whole time begins at the first look."""
    world = Worlds()
    old = world.fill("docker.io/library/nginx:1", "old")
    world.registry.repositories["docker.io/library/nginx"].tags[held_tag(old.digest)] = old.digest
    world.publish("nginx:1", "new")
    world.now += 100 * DAY
    passes(world, wanted(), 5)
    assert held_of(world) == {held_tag(old.digest)}
    passes(world, wanted(), 2)
    assert held_of(world) == set()


@pytest.mark.parametrize("more", [{"mode": Mode.PUSH}, {"mode": Mode.OBSERVE}, {"deletes": 0}], ids=["Push", "Observe", "limits.deletes 0"])
def test_where_nothing_may_be_deleted_nothing_expires(overwritten: Worlds, more: dict[str, Any]) -> None:
    """The mode and the limit hold for held tags too."""
    passes(overwritten, wanted(**more), 20)
    assert len(held_of(overwritten)) == 1


def test_no_more_of_them_at_once_than_the_limit() -> None:
    """Whatever the clock says: `limits.deletes` of them in one sweep, the oldest first."""
    world, asked = Worlds(), wanted(deletes=1)
    for word in ("first", "second", "third"):
        world.publish("nginx:1", word)
        passes(world, asked, 1)
    first, second = (world.upstream.add("x", "x", layer_of(word)).digest for word in ("first", "second"))
    assert held_of(world) == {held_tag(first), held_tag(second)}
    world.now += 6 * DAY
    world.reconcile(asked)
    assert held_of(world) == {held_tag(second)}
    passes(world, asked, 1)
    assert held_of(world) == set()


def test_while_a_host_is_unknown_nothing_expires(overwritten: Worlds) -> None:
    """Nobody knows what it has, and whether its proof will need what is held."""

    def silent(operation: str) -> None:
        raise UnreachableError(operation, "no answer")

    overwritten.hosts["two"].fault = silent
    passes(overwritten, wanted(), 20)
    assert len(held_of(overwritten)) == 1
    overwritten.hosts["two"].fault = lambda _: None
    passes(overwritten, wanted(), 9)
    assert held_of(overwritten) == set()


def test_while_it_is_unknown_how_a_host_stores_images_nothing_expires(overwritten: Worlds) -> None:
    """What it has can't be compared with what is held."""
    two = overwritten.hosts["two"]
    look = two.look

    async def strange() -> HostState:
        return replace(await look(), store=StoreKind.UNKNOWN)

    two.look = strange  # type: ignore[method-assign] # an engine of a store that nobody knows
    passes(overwritten, wanted(), 20)
    assert len(held_of(overwritten)) == 1


def test_what_a_range_has_that_is_evicted_from_stays_held(overwritten: Worlds) -> None:
    """The proof that lets it leave may rest on what is held, as any host's; what nothing ever leaves needs none."""
    overwritten.build("two", "elsewhere:1", "old")
    for absent, left in (["elsewhere:2"], 1), ([], 0):
        asked = wanted(hosts=[host("one", absent=[]), host("two", absent=absent, range="two")])
        passes(overwritten, asked, 9)
        assert len(held_of(overwritten)) == left


def test_what_a_host_has_stays_held(overwritten: Worlds) -> None:
    """A host's image is meant by it alone: it stays as long as the host has it, in whatever name."""
    overwritten.build("one", "elsewhere:1", "old")
    passes(overwritten, wanted(), 20)
    assert len(held_of(overwritten)) == 1
    overwritten.hosts["one"].images.clear()
    passes(overwritten, wanted(), 1)
    assert held_of(overwritten) == set()


def test_an_eviction_that_rests_on_it_begins_its_time_anew(overwritten: Worlds) -> None:
    """What left a host because only a held tag means it can be had for keepHeld from then on."""
    passes(overwritten, wanted(), 4)
    overwritten.build("one", "nginx:1", "old")
    evicting = wanted(hosts=[host("one", absent=["nginx:*"]), host("two", absent=[])])
    passes(overwritten, evicting, 1)
    assert not overwritten.hosts["one"].images
    passes(overwritten, evicting, 4)
    assert len(held_of(overwritten)) == 1
    passes(overwritten, evicting, 2)
    assert held_of(overwritten) == set()


def test_held_again_it_counts_from_then(overwritten: Worlds) -> None:
    """Restored, and overwritten once more soon after: the time of what is held is not the old one."""
    passes(overwritten, wanted(), 4)
    target, digest = Target("docker.io/library/nginx", "1"), overwritten.upstream.add("x", "x", layer_of("old")).digest
    overwritten.now += 0.1 * DAY
    asyncio.run(Restorer(overwritten.reconciler.world).restore(target, digest))
    overwritten.reconcile(wanted())
    assert tags(overwritten, target.repository)["1"] != digest
    passes(overwritten, wanted(), 4)
    assert held_tag(digest) in held_of(overwritten)
    passes(overwritten, wanted(), 2)
    assert held_tag(digest) not in held_of(overwritten)


def test_what_a_restore_replaces_counts_from_then(overwritten: Worlds) -> None:
    """Restored, and put back a moment later: what was there for that moment was held long ago, and is held anew."""
    passes(overwritten, wanted(), 4)
    target, old, new = Target("docker.io/library/nginx", "1"), *(overwritten.upstream.add("x", "x", layer_of(word)).digest for word in ("old", "new"))
    for digest in (old, new):
        asyncio.run(Restorer(overwritten.reconciler.world).restore(target, digest))
    passes(overwritten, wanted(), 4)
    assert held_tag(old) in held_of(overwritten)
    passes(overwritten, wanted(), 2)
    assert held_tag(old) not in held_of(overwritten)


def test_while_another_tag_means_the_same_no_time_passes(overwritten: Worlds) -> None:
    """Restored for a long time, and then overwritten by somebody else, who held nothing: it is there for keepHeld from then on."""
    target, digest = Target("docker.io/library/nginx", "1"), overwritten.upstream.add("x", "x", layer_of("old")).digest
    asyncio.run(Restorer(overwritten.reconciler.world).restore(target, digest))
    pinned = wanted(immutable=Patterns(["nginx:1"]))
    passes(overwritten, pinned, 20)
    overwritten.fill(NGINX, "theirs")
    passes(overwritten, pinned, 4)
    assert held_tag(digest) in held_of(overwritten)
    passes(overwritten, pinned, 2)
    assert held_tag(digest) not in held_of(overwritten)


def test_what_is_named_by_its_digest_is_no_leftover() -> None:
    """The held tag is the image's only place: it stays while a set lists it, and, as nothing is pruned, when none does any more."""
    world = Worlds()
    world.publish("nginx:1", "x")
    digest = world.upstream.repositories["library/nginx"].tags["1"]
    by_digest = replace(image(f"docker.io/library/nginx@{digest}"), target=Target("docker.io/library/nginx", held_tag(digest)))
    passes(world, wanted(by_digest), 20)
    assert tags(world, "docker.io/library/nginx") == {held_tag(digest): digest}
    other = image("docker.io/library/other:1")
    world.publish("other:1", "other")
    passes(world, wanted(other), 20)
    assert held_of(world) == {held_tag(digest)}
    for asked in (wanted(other, prune=True), wanted(replace(by_digest, ensure=ABSENT, source=None), other)):
        passes(world, asked, 1)
        done = world.reconcile(asked)
        assert done.after.converged, "in its restore window it counts as deleted"
        assert held_of(world) == {held_tag(digest)}
        passes(world, asked, 7)
        assert held_of(world) == set()
        world.reconcile(wanted(by_digest))
        assert held_of(world) == {held_tag(digest)}, "listed again, it is there again"
        passes(world, wanted(by_digest), 20)
        assert held_of(world) == {held_tag(digest)}


def test_what_is_named_by_its_digest_and_listed_again_in_time_is_there_again() -> None:
    """Upstream has lost it meanwhile; the restore window has not ended, so nothing has to be brought, and it stays for good."""
    world = Worlds()
    world.publish("nginx:1", "x")
    digest = world.upstream.repositories["library/nginx"].tags["1"]
    by_digest = replace(image(f"docker.io/library/nginx@{digest}"), target=Target("docker.io/library/nginx", held_tag(digest)))
    world.publish("other:1", "other")
    other = image("docker.io/library/other:1")
    world.reconcile(wanted(by_digest, other))
    passes(world, wanted(other, prune=True), 2)
    assert world.store.tombstones()
    world.upstream.repositories["library/nginx"].manifests.clear()
    assert world.reconcile(wanted(by_digest, other)).after.converged
    passes(world, wanted(by_digest, other), 1)
    assert not world.store.tombstones()
    passes(world, wanted(other, prune=True), 20)
    assert held_of(world) == {held_tag(digest)}


def test_a_clock_that_jumps_expires_nothing_at_once(overwritten: Worlds) -> None:
    """A year ahead and back: the first sweep after a long time deletes nothing; and what was noted in the future counts from now."""
    passes(overwritten, wanted(), 1)
    overwritten.now += 365 * DAY
    overwritten.reconcile(wanted())
    assert len(held_of(overwritten)) == 1
    overwritten.now -= 365 * DAY
    passes(overwritten, wanted(), 3)
    assert len(held_of(overwritten)) == 1
    assert LONGEST_GAP < 365 * DAY


def test_what_was_noted_in_the_future_counts_from_now(overwritten: Worlds) -> None:
    """A clock that was set back: not only when that time has come."""
    (tag,) = held_of(overwritten)
    overwritten.store.hold(Target("docker.io/library/nginx", tag), overwritten.now + 365 * DAY)
    passes(overwritten, wanted(), 5)
    assert held_of(overwritten) == {tag}
    passes(overwritten, wanted(), 2)
    assert held_of(overwritten) == set()


def test_the_first_sweep_deletes_nothing() -> None:
    """A state file of before has times in it, and nobody was there to restore."""
    world = Worlds()
    old = world.fill("docker.io/library/nginx:1", "old")
    world.registry.repositories["docker.io/library/nginx"].tags[held_tag(old.digest)] = old.digest
    world.fill("docker.io/library/nginx:1", "new")
    world.store.hold(Target("docker.io/library/nginx", held_tag(old.digest)), world.now - 100 * DAY)
    passes(world, wanted(), 1)
    assert held_of(world) == {held_tag(old.digest)}
    passes(world, wanted(), 1)
    assert held_of(world) == set()


def test_what_can_not_be_read_is_needed(overwritten: Worlds) -> None:
    """A host may have it; whether it has is not known (law 2)."""
    home = overwritten.registry.repositories["docker.io/library/nginx"]
    (tag,) = held_of(overwritten)
    whole = home.manifests[home.tags[tag]]
    home.manifests[home.tags[tag]] = replace(whole, raw=b"{}")
    overwritten.restart()
    passes(overwritten, wanted(), 20)
    assert held_of(overwritten) == {tag}
    home.manifests[home.tags[tag]] = whole
    passes(overwritten, wanted(), 1)
    assert held_of(overwritten) == set()


def test_what_a_held_index_references_stays(overwritten: Worlds) -> None:
    """It is held longer than what is below it: restored, it would be broken."""
    home = overwritten.registry.repositories["docker.io/library/nginx"]
    (tag,) = held_of(overwritten)
    passes(overwritten, wanted(), 3)
    index = overwritten.registry.add_index("docker.io/library/nginx", "all", [layer_of("old")])
    assert home.tags[tag] in {child.digest for child in index.children}
    home.tags[held_tag(index.digest)] = home.tags.pop("all")
    passes(overwritten, wanted(), 4)
    assert held_of(overwritten) == {tag, held_tag(index.digest)}
    passes(overwritten, wanted(), 20)
    assert held_of(overwritten) == set()


async def test_what_something_rests_on_by_now_does_not_expire(overwritten: Worlds) -> None:
    """Between the look and the deletion a proof may have found it: it counts anew."""
    holdings, place = Holdings(overwritten.world), Target("docker.io/library/nginx", *held_of(overwritten))
    since, deleted = overwritten.store.held_since()[place], list[Target]()

    async def delete() -> None:
        deleted.append(place)

    overwritten.now += 1
    await holdings.renew(place)
    assert not await holdings.expire(place, since, delete)
    assert not deleted
    assert await holdings.expire(place, overwritten.now, delete)
    assert deleted == [place]


def test_what_an_index_references_stays(overwritten: Worlds) -> None:
    """Deleting must not break what another tag means: it is refused, recorded, and tried again later."""
    home = overwritten.registry.repositories["docker.io/library/nginx"]
    (tag,) = held_of(overwritten)
    index = overwritten.registry.add_index("docker.io/library/nginx", "all", [layer_of("old")])
    assert home.tags[tag] in {child.digest for child in index.children}
    passes(overwritten, wanted(), 8)
    assert held_of(overwritten) == {tag}
    (entry,) = (each for each in overwritten.store.history() if each.action == "Expire")
    assert "the index docker.io/library/nginx:all references it" in entry.error


@pytest.mark.parametrize("silent", ["tags", "ping"])
def test_a_registry_that_does_not_answer_expires_nothing(overwritten: Worlds, silent: str) -> None:
    """Unknown is not absent (law 2): a listing that fails, or the registry as a whole; and no time that has passed is forgotten by it."""

    def fault(operation: str) -> None:
        if operation == silent:
            raise (RefusedError if silent == "tags" else UnreachableError)(operation, "injected")

    overwritten.fault = fault
    passes(overwritten, wanted(), 20)
    assert len(held_of(overwritten)) == 1
    overwritten.fault = lambda _: None
    passes(overwritten, wanted(), 2)
    assert held_of(overwritten) == set()


def test_what_is_pruned_can_be_restored_and_then_stays() -> None:
    """It is held before its tag goes, the host's copy stays; what a person restored is pruned no more."""
    world = Worlds()
    world.build("one", KALI, "kali")
    adopting = wanted(hosts=[host("one", adopt=["cyroid/**"], absent=[]), host("two", absent=[])], prune=True)
    world.publish("nginx:1", "nginx")
    world.reconcile(adopting)
    assert "1" in tags(world, "cyroid/kali")
    digest = tags(world, "cyroid/kali")["1"]
    done = world.reconcile(wanted(prune=True))
    assert [(outcome.action.kind, outcome.action.reason, outcome.error) for outcome in done.outcomes] == [("Delete", Reason.UNLISTED, "")]
    assert tags(world, "cyroid/kali") == {held_tag(digest): digest}
    assert world.hosts["one"].images
    again = world.reconcile(adopting)
    assert [row.reason for row in again.after.plan.held_back] == [Reason.DELETED]
    assert tags(world, "cyroid/kali") == {held_tag(digest): digest}
    asyncio.run(Restorer(world.reconciler.world).restore(Target("cyroid/kali", "1"), digest))
    assert world.reconcile(adopting).after.converged
    assert not world.reconcile(wanted(prune=True)).outcomes
    assert tags(world, "cyroid/kali")["1"] == digest


def test_a_tombstone_expires_too() -> None:
    """After keepHeld nobody remembers: what a host still has is adopted as any other image."""
    world = Worlds()
    world.fill(KALI, "kali")
    world.build("one", KALI, "kali")
    adopting = wanted(hosts=[host("one", adopt=["cyroid/**"], absent=[]), host("two", absent=[])])
    world.publish("nginx:1", "nginx")
    world.reconcile(replace(adopting, images=(image(KALI, ensure=ABSENT),)))
    assert [row.reason for row in world.reconcile(adopting).after.plan.held_back] == [Reason.DELETED]
    passes(world, adopting, 4)
    assert "1" not in tags(world, "cyroid/kali")
    passes(world, adopting, 2)
    assert "1" in tags(world, "cyroid/kali")
    passes(world, adopting, 9)
    assert not world.store.tombstones()


def test_what_somebody_else_overwrote_since_is_not_pruned() -> None:
    """The tag means another image than the one that we brought: it is not ours to delete."""
    world = Worlds()
    world.publish("nginx:1", "nginx")
    world.publish("other:1", "other")
    world.reconcile(wanted(image(NGINX), image("docker.io/library/other:1")))
    theirs: Manifest = world.fill("docker.io/library/other:1", "theirs")
    assert not world.reconcile(wanted(prune=True)).outcomes
    assert tags(world, "docker.io/library/other")["1"] == theirs.digest


# Whatever happens.

WORDS = [f"content {number}" for number in range(4)]
NAMES = [KALI, "cyroid/kali:2", NGINX]
KEEP = 5 * DAY

words = st.sampled_from(WORDS)


@st.composite
def files(draw: st.DrawFn) -> Desired:
    """Some of the names, Present or Absent, hosts with any patterns, and pruning."""
    images = [image(name, ensure=draw(st.sampled_from(Ensure))) for name in sorted(draw(st.sets(st.sampled_from(NAMES))))]
    patterns = st.sampled_from([["cyroid/**"], ["**"], ["nginx"], []])
    hosts = [
        host(name, absent=draw(st.none() | patterns), adopt=draw(patterns), on_conflict=draw(st.sampled_from(OnConflict))) for name in ("one", "two")
    ]
    return desired(images, hosts, keep_held=KEEP, deletes=1000, prune=draw(st.booleans()))


class Keeping(RuleBasedStateMachine):
    """People, time and faults against pruning, expiry and restoring: no content goes before it was held for keepHeld."""

    @initialize(asked=files())
    def begin(self, asked: Desired) -> None:
        self.world, self.asked = Worlds(), asked
        self.last: dict[str, float] = {}

    def _note(self) -> None:
        """What is on a host or under a tag that is not for holding now, can still be had now."""
        for word in WORDS:
            layer = layer_of(word)
            there = any(layer in each.layers for one in self.world.hosts.values() for each in one.images.values())
            if there or self.world.registry.holds(layer, held=False):
                self.last[word] = self.world.now

    @rule(name=st.sampled_from(["one", "two"]), tag=st.sampled_from([KALI, "cyroid/kali:2", "nginx:1"]), word=words)
    def build(self, name: str, tag: str, word: str) -> None:
        self._note()
        self.world.build(name, tag, word)
        self._note()

    @rule(word=words)
    def publish(self, word: str) -> None:
        self.world.publish("nginx:1", word)

    @rule(asked=files())
    def edit_the_file(self, asked: Desired) -> None:
        self.asked = asked

    @rule(hours=st.sampled_from([1, 12, 24, 72, 119, 121]))
    def wait(self, hours: int) -> None:
        self._note()
        self.world.now += hours * 3600
        self._note()

    @rule()
    def reconcile(self) -> None:
        self._note()
        self.world.reconcile(self.asked)
        self._note()

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, 3))
    def restore(self, name: str, number: int) -> None:
        self._note()
        target = Target(*name.rsplit(":", 1))
        found = asyncio.run(Restorer(self.world.reconciler.world).earlier(target))
        if found:
            asyncio.run(Restorer(self.world.reconciler.world).restore(target, found[number % len(found)].digest))
        self._note()

    @rule(at=st.integers(1, 60), kill=st.booleans())
    def reconcile_with_a_fault(self, at: int, kill: bool) -> None:  # noqa: FBT001 - Hypothesis gives it by name
        """The operation number `at` is refused, or the controller dies there."""
        self._note()
        left = at

        def fault(operation: str) -> None:
            nonlocal left
            left -= 1
            if left == 0 or (kill and left < 0):
                raise Killed if kill else RefusedError(operation, "injected")

        self.world.fault = fault
        with suppress_killed():
            seen = self.world.reconcile(self.asked).before
            facts = [*seen.seen.hosts.values(), *seen.seen.registry.values(), *seen.seen.offered.values()]
            if any(isinstance(fact, Unknown) for fact in facts):
                assert not any(action.reason is Reason.UNLISTED for action in seen.plan.actions)
        self.world.fault = lambda _: None
        if kill:
            self.world.restart()
        self._note()

    @invariant()
    def nothing_goes_before_its_time(self) -> None:
        if hasattr(self, "last"):
            for word, at in self.last.items():
                assert self.world.kept(word) or self.world.now - at >= KEEP, word


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(max_examples=80, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
