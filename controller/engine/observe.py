"""observe: what the registry, the upstreams and each host hold, as Present, Absent or Unknown facts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from controller.domain.desired import ArchiveSource, BuildSource, Desired, DesiredHost, HostCopy, Source
from controller.domain.errors import NotFoundError, RemoteError
from controller.domain.labels import CONTEXT_HASH
from controller.domain.observation import Absent, Fact, Held, HostImage, HostState, Observation, Present, Tombstone, Unknown
from controller.domain.ports.registries import Registry
from controller.domain.ports.stores import JournalEntry
from controller.domain.pruning import brought
from controller.domain.ranges import is_found
from controller.domain.reference import HELD_PREFIX, Target
from controller.domain.spec import Ensure
from controller.engine import patience
from controller.engine.bounded import bounded
from controller.engine.manifests import Manifests, content_size, identities
from controller.engine.noticing import Noticer
from controller.engine.offers import Offers
from controller.engine.patience import Patience
from controller.engine.world import World

log = logging.getLogger(__name__)

HostFacts = Mapping[str, Fact[HostState]]
"""What is known of each host, by its name."""

_LOOKS_AT_ONCE = 64
_INSPECTIONS_AT_ONCE = 4
_JUMP = 60.0
"""Seconds that a clock may gain between two looks before it was set forward."""
_SEARCHES_AT_ONCE = 8


class Observer:
    """Looks at the world; remembers manifests by digest.

    With `remember`, what a full look found in the registry is not asked for again within `refresh`: a quiet controller asks for little. Nothing is
    removed or overwritten on the strength of it, as each action looks for itself; a look at one place always asks. With `fresh`
    upstreams are asked whatever they answered before this controller started.
    """

    def __init__(
        self,
        world: World,
        manifests: Manifests,
        *,
        remember: bool = False,
        fresh: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._world = world
        self._monotonic = monotonic
        self._last: tuple[float, float] | None = None
        self._remember = remember
        self._remembered: dict[Target, Present[Held]] = {}
        self._read_back: dict[Target, Present[Held]] = {}
        self._told = 0
        self._last_told: dict[Target, int] = {}
        self._all_told = 0
        self._manifests = manifests
        self._offers = Offers(world, manifests, fresh=fresh)
        self._patience = Patience()
        self._noticer = Noticer(world, manifests, remember=remember)

    async def observe(self, desired: Desired, *, hosts: HostFacts | None = None, only: Target | None = None) -> Observation:
        """One look. Never raises for what the other side does: that is an Unknown fact.

        `hosts` are their facts where they were looked at already; with `only`, one place in the registry is looked at.
        """
        now = self._now(desired)
        async with asyncio.TaskGroup() as group:
            healthy = group.create_task(self._registry_error())
            looking = group.create_task(self._given(hosts) if hosts is not None else self.hosts(desired))
        registry_error, hosts = healthy.result(), without_twins(looking.result(), now, {host.name for host in desired.hosts if host.range})
        known = [(host, fact.value) for host in desired.hosts if isinstance(fact := hosts[host.name], Present)]
        copies = [copy for copy in desired.copies(known) if only in {None, copy.target}]
        ours = {} if not desired.prune else {t: each for t, each in brought(self._world.store.changes()).items() if only in {None, t}}
        ours = {target: each for target, each in ours.items() if target not in desired.by_target}
        tombstones = self._world.store.tombstones()
        held = await self._registry_facts(desired, copies, registry_error, now, only, ours)
        held = _without_buried(desired, held, tombstones, now)
        last_pushed = self._last_pushed(known)
        self._note_agreement(copies, hosts, held, last_pushed)
        offered = await self._offers.facts(desired, held, now)
        origins = await self._offers.origins(desired, copies, held)
        elsewhere = {} if registry_error else await self._elsewhere(copies, held)
        hosts = await self._with_tag_times(hosts, copies)
        return Observation(
            now=now,
            registry=held,
            offered=offered,
            hosts=hosts,
            origins=origins,
            elsewhere=elsewhere,
            first_seen=self._first_seen(known, now),
            last_pushed=last_pushed,
            registry_error=registry_error,
            brought=ours,
            tombstones=tombstones,
            strays={} if registry_error else await self._noticer.facts(desired, hosts, now, only),
        )

    def read_back(self, target: Target, digest: str) -> None:
        """An action has just read what this tag means: the next full look need not ask again."""
        self._tell(target)
        self._read_back[target] = Present(Held(digest), self._world.clock())

    def forget(self, target: Target) -> None:
        """Somebody says that this place may have changed: the next look asks."""
        self._tell(target)
        self._remembered.pop(target, None)
        self._read_back.pop(target, None)

    def forget_all(self) -> None:
        """The next look asks for everything, of upstreams too."""
        self._told += 1
        self._all_told = self._told
        self._remembered.clear()
        self._read_back.clear()
        self._offers.forget_all()
        self._noticer.forget_all()

    def _tell(self, target: Target) -> None:
        """What was asked for before this counts for that look, and is not remembered."""
        self._told += 1
        self._last_told[target] = self._told

    def _now(self, desired: Desired) -> float:
        """Seconds since the epoch. When the clock was set forward, each grace period begins anew, so that none ends before its time."""
        now, passed = self._world.clock(), self._monotonic()
        if self._last is not None and now - self._last[0] > passed - self._last[1] + _JUMP:
            log.warning("the clock was set forward: each grace period begins anew")
            for host in desired.hosts:
                self._world.store.first_seen(host.name, (), now)
        self._last = now, passed
        return now

    async def _given(self, hosts: HostFacts) -> HostFacts:
        return hosts

    async def hosts(self, desired: Desired) -> HostFacts:
        """What every host holds."""
        async with asyncio.TaskGroup() as group:
            looking = {host.name: group.create_task(self.host(host.name)) for host in desired.hosts}
        return {name: task.result() for name, task in looking.items()}

    async def _registry_error(self) -> str:
        try:
            await self._world.registry.ping()
        except RemoteError as error:
            return str(error)
        return ""

    # Hosts.

    async def host(self, name: str) -> Fact[HostState]:
        """What one host holds."""
        now = self._world.clock()
        journalled = frozenset(self._world.store.open_pushes())
        try:
            if name in self._world.silent:
                return Unknown(self._world.silent[name], now)
            host = self._world.host(name)
            state = await (self._patience.answer(name, host.look, patience.LOOK) if name in self._world.ranges else host.look())
        except RemoteError as error:
            return Unknown(str(error), now)
        if is_found(name):  # Which container it is says who it is; its engine is another one with each.
            return Present(self._without_journalled(state, journalled), now)
        expected = self._world.store.engine_of(name)
        if expected is None:
            self._world.store.set_engine(name, state.engine_id)
        elif expected != state.engine_id:
            return Unknown(f"its engine was {expected} and is {state.engine_id} now: if that is meant, --confirm-engine {name}", now)
        return Present(self._without_journalled(state, journalled), now)

    def _without_journalled(self, state: HostState, before: Collection[JournalEntry]) -> HostState:
        """The tags of unfinished pushes are ours, not the operator's: they are never adopted.

        A push may end, and close its entry, while the engine makes its list: what was open `before` counts too.
        """
        entries = {entry for entry in before if entry.engine_id == state.engine_id}.union(self._world.store.open_pushes(state.engine_id))
        ours = {(entry.image_id, entry.reference) for entry in entries if not entry.existed}
        if not ours:
            return state
        images = tuple(replace(i, tags=tuple(t for t in i.tags if (i.id, str(t)) not in ours)) for i in state.images)
        return replace(state, images=images)

    def _first_seen(self, known: Iterable[tuple[DesiredHost, HostState]], now: float) -> dict[tuple[str, str, str], float]:
        found: dict[tuple[str, str, str], float] = {}
        for host, state in known:
            if host.range and not host.evicts:
                continue  # No grace period ends there, and ranges are many.
            pairs = [(image.id, str(tag)) for image in state.images for tag in image.tags]
            for (image_id, tag), since in self._world.store.first_seen(host.name, pairs, now).items():
                found[host.name, image_id, tag] = since
        return found

    def _last_pushed(self, known: Iterable[tuple[DesiredHost, HostState]]) -> dict[tuple[str, Target], str]:
        pushed = ((host.name, self._world.store.last_pushed(state.engine_id)) for host, state in known)
        return {(name, target): digest for name, by_target in pushed for target, digest in by_target.items()}

    def _note_agreement(
        self,
        copies: Iterable[HostCopy],
        hosts: Mapping[str, Fact[HostState]],
        held: Mapping[Target, Fact[Held]],
        known: Mapping[tuple[str, Target], str],
    ) -> None:
        """A host that has what the registry's tag means has pushed or pulled it, however: what it has there next is newer, and no conflict."""
        for copy in copies:
            fact, host = held.get(copy.target), hosts.get(copy.host.name)
            if isinstance(fact, Present) and isinstance(host, Present) and fact.value.means(copy.image, copy.store):
                digest = fact.value.digest
                if known.get((copy.host.name, copy.target)) != digest:
                    self._world.store.set_last_pushed(host.value.engine_id, copy.target, digest)

    async def _with_tag_times(self, hosts: HostFacts, copies: Iterable[HostCopy]) -> HostFacts:
        """LastTagTime of what may be evicted: one inspect each, only where the grace period makes it matter."""
        wanted = {(c.host.name, c.image.id) for c in copies if c.lingers and c.host.grace > 0 and not (c.kept or c.needed or c.image.used_by)}
        times: dict[tuple[str, str], float | None] = {}

        async def ask(key: tuple[str, str]) -> None:
            try:
                times[key] = (await self._world.host(key[0]).inspect(key[1])).tagged_at
            except NotFoundError:
                return
            except RemoteError as error:
                log.debug("no tag time: %s", error)
                times[key] = self._world.clock()  # It may be this moment: what is not known lets nothing leave (law 2).

        await bounded(ask, wanted, _INSPECTIONS_AT_ONCE)
        return {name: _with_times(name, fact, times) for name, fact in hosts.items()} if times else hosts

    # The registry.

    async def _registry_facts(
        self, desired: Desired, copies: Sequence[HostCopy], down: str, now: float, only: Target | None, ours: Iterable[Target]
    ) -> dict[Target, Fact[Held]]:
        by_target: dict[Target, list[HostCopy]] = {}
        for copy in copies:
            by_target.setdefault(copy.target, []).append(copy)
        present = {desired.place_of(host, name) for host in desired.places_to_be for name in host.present}
        targets = {*desired.by_target, *by_target, *present, *ours} if only is None else {only}
        if down:
            return {target: Unknown(down, now) for target in targets}
        facts: dict[Target, Fact[Held]] = {}
        began = self._told

        async def ask(target: Target) -> None:
            entries = desired.by_target.get(target, ())
            facts[target] = await self._held(target, entries[0].source if entries else None, by_target.get(target, ()), now)

        if only is None:
            facts.update(self._still_known(targets, by_target, now, desired.refresh))
        await bounded(ask, [target for target in targets if target not in facts], _LOOKS_AT_ONCE)
        news = {target for target, told in self._last_told.items() if told > began}
        if self._remember and self._all_told <= began:
            asked = {target: fact for target, fact in facts.items() if target not in news}
            known = asked if only is None else self._remembered | asked  # What a full look did not ask for is nobody's any more.
            self._remembered = {target: fact for target, fact in known.items() if isinstance(fact, Present)}
        if only is None:
            self._read_back = {target: fact for target, fact in self._read_back.items() if target in news}
            self._last_told = {target: told for target, told in self._last_told.items() if target in facts or target in news}
        return facts

    def _still_known(
        self, targets: Iterable[Target], copies: Mapping[Target, Sequence[HostCopy]], now: float, refresh: float
    ) -> dict[Target, Fact[Held]]:
        """What was seen not long ago, nor in a future that a clock was set back from, and is what the copies on hosts are: the rest is asked for."""
        known = ((target, self._read_back.get(target) or self._remembered.get(target)) for target in targets)
        return {
            target: fact
            for target, fact in known
            if fact is not None
            and 0 <= now - fact.seen < refresh
            and all(fact.value.means(copy.image, copy.store) for copy in copies.get(target, ()))
        }

    async def _held(self, target: Target, source: Source | None, copies: Sequence[HostCopy], now: float) -> Fact[Held]:
        registry = self._world.registry
        try:
            found = await registry.resolve(target.repository, target.tag)
            held = Held(found.digest, found.media_type)
            if all(held.means(copy.image, copy.store) for copy in copies) and not isinstance(source, ArchiveSource | BuildSource):
                return Present(held, now)
            whole = await self._manifests.whole(registry, target.repository, found.digest)
            built_of = await self._manifests.label(registry, target.repository, whole, CONTEXT_HASH) if isinstance(source, BuildSource) else ""
            return Present(replace(held, identities=identities(whole), size=content_size(whole), context_hash=built_of), now)
        except NotFoundError:
            return Absent(now)
        except RemoteError as error:
            return Unknown(str(error), now)

    async def _elsewhere(self, copies: Iterable[HostCopy], facts: Mapping[Target, Fact[Held]]) -> dict[tuple[str, str], str]:
        """For lingering copies whose own tag means something else: another tag, or the pulled digest, of the same repository."""
        wanted: dict[tuple[str, str], HostCopy] = {}
        for copy in copies:
            fact = facts.get(copy.target)
            if copy.lingers and not isinstance(fact, Unknown) and not (isinstance(fact, Present) and fact.value.means(copy.image, copy.store)):
                wanted.setdefault((copy.image.id, copy.target.repository), copy)
        found: dict[tuple[str, str], str] = {}

        async def ask(key: tuple[str, str]) -> None:
            tag = await self._other_tag(wanted[key])
            if tag:
                found[key] = tag

        await bounded(ask, wanted, _SEARCHES_AT_ONCE)
        return found

    async def _other_tag(self, copy: HostCopy) -> str:
        registry, repository = self._world.registry, copy.target.repository
        try:
            for digest in sorted({reference.digest for reference in copy.image.repo_digests}):
                if await _exists(registry, repository, digest):
                    return digest
            for tag in await registry.tags(repository):
                found = await registry.resolve(repository, tag)
                whole = await self._manifests.whole(registry, repository, found.digest)
                if Held(found.digest, identities=identities(whole)).means(copy.image, copy.store):
                    return tag
        except RemoteError as error:
            log.debug("looking for other tags of %s: %s", repository, error)
        return ""


def without_twins(hosts: HostFacts, now: float, ranges: Collection[str] = ()) -> HostFacts:
    """Two names for one engine are an error: neither is touched. A range that turns out to be a host is refused alone, as it may say so to harm."""
    names: dict[str, list[str]] = {}
    for name, fact in hosts.items():
        if isinstance(fact, Present):
            names.setdefault(fact.value.engine_id, []).append(name)
    twins = {name: sorted(same) for same in names.values() if len(same) > 1 for name in same}
    return {name: Unknown(why, now) if (why := _twin(name, twins.get(name, ()), ranges)) else fact for name, fact in hosts.items()}


def _twin(name: str, same: Sequence[str], ranges: Collection[str]) -> str:
    """Why nothing is done with this one of the names of one engine; "" when it is the only one that is no range."""
    own = [each for each in same if each not in ranges]
    if name in ranges and own:
        return f"refused as a range: its engine says that it is the one of {own[0]}"
    if own == [name] or not same:
        return ""
    return f"{' and '.join(own or same)} are one and the same engine: keep one of them in the file"


def _with_times(host: str, fact: Fact[HostState], times: Mapping[tuple[str, str], float | None]) -> Fact[HostState]:
    if not isinstance(fact, Present):
        return fact

    def timed(image: HostImage) -> HostImage:
        return replace(image, tagged_at=times[host, image.id]) if (host, image.id) in times else image

    return replace(fact, value=replace(fact.value, images=tuple(timed(image) for image in fact.value.images)))


def _without_buried(
    desired: Desired, facts: Mapping[Target, Fact[Held]], tombstones: Mapping[Target, Sequence[Tombstone]], now: float
) -> dict[Target, Fact[Held]]:
    """What is named by its digest has the tag that holds it for its own. Deleted, it is there until its restore window ends, and counts as absent.

    Where a set lists it again, it is there again; a sweep notes that.
    """
    found = dict(facts)
    for target, stones in tombstones.items():
        fact = facts.get(target)
        if not target.tag.startswith(HELD_PREFIX) or not isinstance(fact, Present) or fact.value.digest not in {each.digest for each in stones}:
            continue
        if all(entry.ensure is Ensure.ABSENT for entry in desired.by_target.get(target, ())):
            found[target] = Absent(now)
    return found


async def _exists(registry: Registry, repository: str, identifier: str) -> bool:
    try:
        await registry.resolve(repository, identifier)
    except NotFoundError:
        return False
    return True
