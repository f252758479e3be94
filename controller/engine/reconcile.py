"""The sentence of the program: observe -> plan -> guard -> apply -> assess."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from controller.domain.actions import DELETIONS, Copy, Kind, Plan
from controller.domain.desired import Desired
from controller.domain.errors import CollectingError, RemoteError
from controller.domain.explanation import Explanation, Found, explained
from controller.domain.observation import Fact, HostState, Observation, Present
from controller.domain.plan import copies_by_target, make_plan
from controller.domain.policy import guard
from controller.domain.ports.hosts import Host
from controller.domain.ports.stores import LOAD, AuditEntry
from controller.domain.ranges import is_found
from controller.domain.reference import Target
from controller.domain.status import SetStatus, assess, statuses, with_times
from controller.engine import patience
from controller.engine.apply import Applier, Outcome, Progress, errors_by_target
from controller.engine.discovery import Discovery
from controller.engine.expand import Expander
from controller.engine.held import held_in
from controller.engine.holdings import Holdings
from controller.engine.journal import target_of
from controller.engine.manifests import Manifests
from controller.engine.noticing import RangeRecord
from controller.engine.observe import HostFacts, Observer
from controller.engine.patience import Patience
from controller.engine.push import Pusher
from controller.engine.sweep import Sweeper
from controller.engine.workqueue import LONGEST_PAUSE
from controller.engine.world import Clock, World

log = logging.getLogger(__name__)

_PULLS = 2000
"""The newest entries of what hosts were given, by which a status tells how."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: the world, the guarded plan, and the status of every set. `desired` has the images that rules chose in it."""

    desired: Desired
    seen: Observation
    plan: Plan
    sets: tuple[SetStatus, ...]

    @property
    def converged(self) -> bool:
        """No actions, nothing Unknown, nothing held back except by keep."""
        return self.plan.converged


@dataclass(frozen=True, slots=True)
class Pass:
    """One whole pass: what was found, what was done, and what is so afterwards."""

    before: Look
    outcomes: tuple[Outcome, ...]
    after: Look


@dataclass(frozen=True, slots=True)
class Worked:
    """What was found and done for one image."""

    plan: Plan
    outcomes: tuple[Outcome, ...]


class Reconciler:
    """Brings the world to what is desired, one pass at a time; `remember` and `fresh` are as Observer says."""

    def __init__(self, world: World, *, actor: str, remember: bool = False, fresh: bool = False) -> None:
        self._world = world
        self._manifests = Manifests()
        self._discovery = Discovery(world)
        self._expander = Expander(world)
        self._observer = Observer(world, self._manifests, remember=remember, fresh=fresh)
        holdings = Holdings(world)
        self._pusher = Pusher(world.registry, world.store, self._manifests, holdings=holdings)
        self._applier = Applier(world, self._manifests, holdings, actor=actor)
        self._patience = Patience()
        self._record = RangeRecord(world, actor)
        self._sweeper = Sweeper(world, self._manifests, holdings, actor=actor)

    @property
    def world(self) -> World:
        """All that it works with, for what is no pass: verifying, say."""
        return self._world

    @property
    def engines(self) -> Mapping[str, Host]:
        """The hosts, to listen to."""
        return self._world.hosts

    @property
    def clock(self) -> Clock:
        """Seconds since the epoch."""
        return self._world.clock

    async def host(self, name: str) -> Fact[HostState]:
        """What one host holds."""
        return await self._observer.host(name)

    def forget(self, target: Target) -> None:
        """What is remembered of this place in the registry may be old."""
        self._observer.forget(target)

    def forget_all(self) -> None:
        """Nothing counts that is remembered of the registry or of upstreams: the next look asks everybody."""
        self._observer.forget_all()
        self._expander.forget_all()

    async def work_on(
        self, desired: Desired, target: Target, hosts: HostFacts, progress: Progress, *, delete: bool = True, prune: bool = False
    ) -> Worked:
        """One image, by what the hosts were last seen to hold: finish what a broken push left of it, observe, plan, guard, apply.

        `desired` has the images that rules chose in it. Without `delete` nothing is evicted or deleted; with `prune` a full look said that it may be.
        """
        desired = replace(desired, prune=desired.prune and prune)
        await self._finish(target)
        seen = await self._observer.observe(desired, hosts=hosts, only=target)
        plan = guard(make_plan(desired, seen, copies_by_target(desired, seen), only=target), desired, seen)
        todo = plan if delete else Plan(tuple(action for action in plan.actions if action.kind not in DELETIONS), plan.held_back)
        outcomes = await self._applier.apply(todo, desired, seen, progress)
        if outcomes:
            self._world.store.set_error(target, next((outcome.error for outcome in outcomes if outcome.error), ""), self._world.clock())
        self._record.record(desired, seen)
        return Worked(plan, outcomes)

    async def _finish(self, target: Target) -> None:
        for entry in self._world.store.open_pushes():
            if target_of(entry) != target:
                continue
            if entry.host in self._world.hosts:
                await self._recover(entry.host, target)
            elif is_found(entry.host) and self._discovery.complete:
                self._world.store.close_push(entry)  # It went with its range.

    def unfinished(self) -> frozenset[Target]:
        """The images of which pushes, builds or pulls left something on a host."""
        return frozenset(target_of(entry) for entry in self._world.store.open_pushes())

    async def discover(self, desired: Desired) -> Desired:
        """The same, with the ranges that there are now as hosts."""
        return await self._discovery.expand(desired)

    async def other_ranges(self, desired: Desired) -> bool:
        """Whether there are other ranges now than at the last look."""
        return await self._discovery.differs(desired)

    async def hosts(self, desired: Desired) -> HostFacts:
        """What every host holds."""
        return await self._observer.hosts(desired)

    async def look(
        self,
        desired: Desired,
        *,
        allow_deletes: int = 0,
        retries: Mapping[Target, float] | None = None,
        hosts: HostFacts | None = None,
        part: bool = False,
    ) -> Look:
        """observe, plan, guard, assess: what would be done, and how things stand. Changes nothing. `hosts` as Observer.observe takes them.

        With `part` it is not all that the files ask for, so the times of conditions are not remembered.
        """
        self._applier.begin()
        desired = await self._expander.expand(await self.discover(desired))
        seen = await self._observer.observe(desired, hosts=hosts)
        copies = copies_by_target(desired, seen)
        plan = guard(make_plan(desired, seen, copies), desired, seen, allow_deletes=allow_deletes)
        sets = assess(
            desired, seen, plan, self._world.store.errors(), retries, copies=copies, changes=self._world.store.changes(), pulls=self._given(desired)
        )
        return Look(desired, seen, plan, self._timed(sets, seen.now, keep=not part))

    def _given(self, desired: Desired) -> Sequence[AuditEntry]:
        """How ranges came to what `present` names."""
        wanted = any(host.range and host.present for host in desired.hosts)
        return self._world.store.history(limit=_PULLS, actions={Kind.PULL, LOAD}) if wanted else ()

    def _timed(self, sets: tuple[SetStatus, ...], now: float, *, keep: bool) -> tuple[SetStatus, ...]:
        return with_times(sets, self._world.store.transitions(statuses(sets), now, keep=keep))

    async def look_at(self, desired: Desired, target: Target) -> Look:
        """The part of a look that is about one place in the registry. The others are asked for only where the cap on deletions decides."""
        desired = await self.discover(desired)
        rules = tuple(rule for rule in desired.rules if rule.repository.registry_repository == target.repository)
        narrow = await self._expander.expand(replace(desired, rules=rules))
        seen = await self._observer.observe(narrow, only=target)
        copies = {place: found for place, found in copies_by_target(narrow, seen).items() if place == target}
        plan = guard(make_plan(narrow, seen, copies, only=target), narrow, seen)
        if plan.deletions:
            whole = (await self.look(desired, part=True)).plan
            plan = Plan(tuple(row for row in whole.actions if row.target == target), tuple(row for row in whole.held_back if row.target == target))
        alone = replace(narrow, images=narrow.by_target.get(target, ()))
        sets = assess(alone, seen, plan, self._world.store.errors(), copies=copies, changes=self._world.store.changes(), pulls=self._given(narrow))
        return Look(narrow, seen, plan, self._timed(sets, seen.now, keep=False))

    async def explain(self, desired: Desired, target: Target) -> Explanation:
        """Why one image is where it is. Changes nothing."""
        look = await self.look_at(desired, target)
        try:
            held = {} if look.seen.registry_error else await held_in(self._world.registry, target.repository)
        except RemoteError:
            held = {}
        status = next((image for each in look.sets for image in each.images), None)
        trail, error = self._world.store.history(str(target)), self._world.store.errors().get(target, "")
        return explained(look.desired, target, Found(look.seen, look.plan, status, held, trail, error), longest_pause=LONGEST_PAUSE)

    async def end(self, look: Look) -> None:
        """Record what ranges have; let held tags go whose time is over, where that is due. After a pass, as neither is part of a plan."""
        self._record.record(look.desired, look.seen)
        try:
            with self._world.registry.writing():
                await self._sweeper.sweep(look.desired, look.seen)
        except CollectingError as error:
            log.info("nothing is let go of now: %s", error)

    async def apply(self, look: Look, progress: Progress, *, only: Plan | None = None) -> tuple[Outcome, ...]:
        """apply: do the look's plan, or only this part of it, and remember each image's last error."""
        outcomes = await self._applier.apply(only or look.plan, look.desired, look.seen, progress)
        now = self._world.clock()
        for target, error in errors_by_target(outcomes).items():
            self._world.store.set_error(target, error, now)
        for outcome in outcomes:
            if isinstance(outcome.action, Copy) and not outcome.error:
                self._observer.read_back(outcome.action.target, outcome.digest)
        return outcomes

    async def reconcile(self, desired: Desired, progress: Progress, *, allow_deletes: int = 0) -> Pass:
        """One pass: take away what a broken push left, look, apply, and look again, because success is what was read back (law 5)."""
        await self.recover()
        before = await self.look(desired, allow_deletes=allow_deletes)
        outcomes = await self.apply(before, progress) if before.plan.actions else ()
        after = await self.look(desired, allow_deletes=allow_deletes) if outcomes else before
        await self.end(after)
        return Pass(before, outcomes, after)

    async def recover(self) -> None:
        """Finish what pushes left on the hosts, by a crash or because somebody could not be asked then."""
        async with asyncio.TaskGroup() as group:
            for name in list(self._world.hosts):
                if name not in self._world.ranges or isinstance(await self.host(name), Present):  # One may let us wait for ever.
                    group.create_task(self._recover(name))
        await self.tidy()

    async def tidy(self) -> None:
        """Remove what a kill left on the hosts that is nobody's image."""
        async with asyncio.TaskGroup() as group:
            for name in list(self._world.hosts):
                group.create_task(self._tidy(name))

    async def _tidy(self, name: str) -> None:
        try:
            tidy = self._world.host(name).tidy
            await (self._patience.answer(name, tidy, patience.LOOK) if name in self._world.ranges else tidy())
        except RemoteError as error:
            log.debug("%s is not tidied now: %s", name, error)

    async def _recover(self, name: str, only: Target | None = None) -> None:
        if not self._world.store.open_pushes():
            return
        try:
            host = self._world.host(name)
            state = await host.look()
        except RemoteError:
            return  # The entry stays open; the next pass tries again.
        await self._pusher.recover(host, state.engine_id, state.store, only)
