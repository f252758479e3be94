"""Work while the files ask for one and the same world: full looks, what hosts tell of, and each image that is due, by a few workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from controller.domain.actions import Evict, HeldBack, Plan, Reason
from controller.domain.desired import Desired
from controller.domain.observation import Fact, HostState, Present
from controller.domain.ranges import is_own, own_place
from controller.domain.reference import Reference, Target
from controller.engine.apply import Outcome, Progress
from controller.engine.hostwatch import HostWatch
from controller.engine.reconcile import Look, Reconciler, Worked
from controller.engine.sourcewatch import SourceWatch
from controller.engine.workqueue import ClosedError, WorkQueue

log = logging.getLogger(__name__)

WORKERS = 8
NOTICES = 1.0
"""Seconds from when an image came to a range until the registry is asked for it: what came through the gateway follows its client there."""

CHECKS = (0.5, 2.0, 10.0)
"""Seconds after containers started or ended, in which that is one change, and after which it is looked which ranges there are; more than once, as an
engine tells that one has died before it lists it as dead."""

BACK_AGAIN = 1.0
"""Seconds after which a name is looked at once more that was there again when it had been taken off."""

TAG_FOLLOWS = 2.0
"""Seconds after a registry's word, when it is looked once more: Distribution 2.8 tells of a manifest, and then lets the tag mean it."""

LONGEST_SILENCE = 30.0
"""Seconds after which a registry that did not answer is looked for again, at the latest; the first time after one second."""


@dataclass(frozen=True)
class Reports:
    """Where a shift tells what it found and did."""

    looked: Callable[[Look], None]
    worked: Callable[[Target, Worked], None]
    progress: Progress
    began: Callable[[Shift], None] = lambda _: None
    """A shift takes over: how things stand, and hints, are its business now."""
    took: Callable[[float], None] = lambda _: None
    """The seconds from when an image was due until it was done, where something was done."""
    stirred: Callable[[], None] = lambda: None
    """Other ranges may run than before: a full look is due, which finds them."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a shift stands: how many images are due, wait for their time or are worked on, and which hosts answer."""

    queue: Mapping[str, int]
    hosts: Mapping[str, bool]


class Shift:
    """Looks and works until it is told to end; `desired` may change, the world may not."""

    def __init__(self, reconciler: Reconciler, desired: Desired, reports: Reports, *, allow_deletes: int = 0) -> None:
        self._reconciler = reconciler
        self._desired = desired
        self._expanded = desired
        self._reports = reports
        self._allow_deletes = allow_deletes
        self._queue: WorkQueue[Target] = WorkQueue()
        self._strays: WorkQueue[Target] = WorkQueue()
        self._saving: set[str] = set()
        self._capped: frozenset[Target] = frozenset()
        self._known: set[Target] = set()
        self._pruned: frozenset[Target] = frozenset()
        self._silences = 0
        self._looked = asyncio.Event()
        self._watch = HostWatch(reconciler.engines, reconciler.host, self._changed_on, self._stirred_on)
        self._group: asyncio.TaskGroup | None = None
        self._stirred = asyncio.Event()
        self._sources = SourceWatch(reconciler.world.contexts, self._queue.add)
        reports.began(self)

    async def staff(self) -> None:
        """Watch the hosts and work on what is due, until close(); what is worked on then is finished."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._watch.follow(group)
            watching = [group.create_task(self._sources.run()), group.create_task(self._look_for_ranges())]
            async with asyncio.TaskGroup() as workers:
                for _ in range(WORKERS):
                    workers.create_task(self._work(self._queue))
                    workers.create_task(self._notice())
            self._group = None
            self._watch.leave()
            for each in watching:
                each.cancel()

    def close(self) -> None:
        """Take no further image."""
        self._queue.close()
        self._strays.close()
        self._looked.set()

    def ask(self, desired: Desired) -> None:
        """The files ask for something else now; the next look is for that."""
        self._desired = desired

    @property
    def standing(self) -> Standing:
        """How it stands now."""
        hosts = self._watch.facts((host.name for host in self._expanded.hosts), self._reconciler.clock())
        depths = Counter(self._queue.depths()) + Counter(self._strays.depths())
        return Standing({state: depths[state] for state in self._queue.depths()}, {name: isinstance(fact, Present) for name, fact in hosts.items()})

    def hint(self, repository: str, tag: str = "") -> None:
        """Somebody says that this tag of the registry changed, or without one any of the repository: what is our business is looked at (law 3)."""
        wanted = Target(repository, tag)
        for target in (wanted,) if tag else [each for each in self._known if each.repository == repository]:
            if target in self._known:
                self._hint(target)
                asyncio.get_running_loop().call_later(TAG_FOLLOWS, self._hint, target)

    def _hint(self, target: Target) -> None:
        self._reconciler.forget(target)
        self._queue.hint(target)

    def look_anew(self) -> None:
        """At the next look nothing counts that was remembered of the registry or of upstreams."""
        self._reconciler.forget_all()

    async def look(self) -> float | None:
        """A full look: every image that has to be worked on is due. Gives the seconds until the next look, where that is due before the interval."""
        # Each host's own facts are kept: that two of them are one engine must be seen at every look, not once.
        desired = await self._reconciler.discover(self._desired)
        if self._group is not None:
            self._watch.follow(self._group)
        hosts = await self._reconciler.hosts(desired)
        look = await self._reconciler.look(desired, allow_deletes=self._allow_deletes, retries=self._retries(), hosts=hosts)
        self._expanded = look.desired
        self._watch.seen(hosts)
        self._sources.watch(look.desired)
        self._known = set(look.seen.registry)
        held = look.plan.held_back
        self._capped = frozenset(row.target for row in held if row.reason is Reason.TOO_MANY_DELETES and row.target)
        self._pruned = frozenset(action.target for action in look.plan.actions if action.reason is Reason.UNLISTED)
        self._due({action.target for action in look.plan.actions} | self._reconciler.unfinished())
        self._come_back(held)
        self._looked.set()
        self._reports.looked(look)
        await self._reconciler.end(look)
        await self._reconciler.tidy()
        self._silences = self._silences + 1 if look.seen.registry_error else 0
        return min(LONGEST_SILENCE, 2.0 ** (self._silences - 1)) if self._silences else None

    def _retries(self) -> dict[Target, float]:
        now = self._reconciler.clock()
        return {target: now + left for queue in (self._queue, self._strays) for target, left in queue.waiting().items()}

    def _due(self, targets: Iterable[Target]) -> None:
        """Those that failed keep their pause."""
        for target in targets:
            queue = self._queue_of(target)
            if target not in queue.waiting():
                queue.add(target)

    def _queue_of(self, target: Target) -> WorkQueue[Target]:
        """What only ranges vouch for has a queue of its own: their engines may be as slow as they like, and hold up nobody else."""
        return self._strays if is_own(target.repository) else self._queue

    def _come_back(self, held: Iterable[HeldBack]) -> None:
        """When a reason to wait ends, the image is due."""
        now = self._reconciler.clock()
        for row in held:
            if row.until is not None and row.target is not None:
                self._queue_of(row.target).add(row.target, after=max(0.0, row.until - now))

    def _changed_on(self, host: str, names: frozenset[Reference], anew: bool) -> None:  # noqa: FBT001 - HostWatch's
        """An engine told that these names mean something else now, or answers anew: what they, or its `present`, map to is due at once."""
        where = next((each for each in self._expanded.hosts if each.name == host), None)
        if where is None:
            return  # A range that the next look will find, or found gone.
        targets = {self._expanded.place_of(where, name) for name in (*names, *(where.present if anew else ())) if name.tag}
        self._known |= targets
        for target in targets:
            self._queue.add(target)
        for name in names if where.range else ():
            self._strays.add(own_place(where.range, name, self._expanded.addresses), after=NOTICES)

    def _stirred_on(self, host: str) -> None:
        """Containers were started or ended on a host: where ranges are looked for, others may be there now."""
        if any(group.on == host for group in self._desired.groups):
            self._stirred.set()

    async def _look_for_ranges(self) -> None:
        """A full look is asked for only when what started or ended was a range."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            await asyncio.sleep(CHECKS[0])
            await self._tell_of_ranges()
            for pause in CHECKS[1:]:
                if await self._stirred_within(pause):
                    break
                await self._tell_of_ranges()

    async def _tell_of_ranges(self) -> None:
        if await self._reconciler.other_ranges(self._desired):
            self._reports.stirred()

    async def _stirred_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        return self._stirred.is_set()

    async def _work(self, queue: WorkQueue[Target]) -> None:
        await self._looked.wait()  # Before it nobody knows whether more would be deleted than may be.
        while True:
            try:
                target = await queue.next()
            except ClosedError:
                return
            await self._work_on(queue, target)

    async def _notice(self) -> None:
        """As _work(), for one range one image at a time."""
        await self._looked.wait()
        while True:
            try:
                target = await self._strays.next()
            except ClosedError:
                return
            range_id = target.repository.split("/")[1]
            if range_id in self._saving:
                self._strays.done(target, again=NOTICES)
                continue
            self._saving.add(range_id)
            try:
                await self._work_on(self._strays, target)
            finally:
                self._saving.discard(range_id)

    async def _work_on(self, queue: WorkQueue[Target], target: Target) -> None:
        hosts = self._watch.facts((host.name for host in self._expanded.hosts), self._reconciler.clock())
        delete, prune = target not in self._capped, target in self._pruned
        worked = await self._reconciler.work_on(self._expanded, target, hosts, self._reports.progress, delete=delete, prune=prune)
        for host in sorted({outcome.action.host for outcome in worked.outcomes} - {""}):
            await self._watch.look(host)  # What was changed there is known before the image can be due again; events may be late.
            if _undone(worked.outcomes, self._watch.facts([host], self._reconciler.clock())[host]):
                queue.add(target, after=BACK_AGAIN)
        self._end(queue, target, worked)

    def _end(self, queue: WorkQueue[Target], target: Target, worked: Worked) -> None:
        """When it is due again: after a failure or without an answer later and later, else when a reason to wait ends."""
        self._reports.worked(target, worked)
        if any(outcome.error for outcome in worked.outcomes) or _unknown(worked.plan):
            queue.failed(target, max((outcome.wait for outcome in worked.outcomes), default=0.0))
        else:
            took = queue.done(target)
            if worked.outcomes:
                self._reports.took(took)
            self._come_back(worked.plan.held_back)


def _undone(outcomes: Iterable[Outcome], fact: Fact[HostState]) -> bool:
    """Whether a name that was taken off is there again, pulled at that moment: it is what it was before, so nobody is told of a change."""
    images = fact.value.images if isinstance(fact, Present) else ()
    names = {(tag, image.id) for image in images for tag in image.tags}
    gone = (outcome.action for outcome in outcomes if isinstance(outcome.action, Evict) and not outcome.error)
    return any((action.tag, action.image_id) in names for action in gone)


def _unknown(plan: Plan) -> bool:
    return any(row.reason is Reason.UNKNOWN for row in plan.held_back)
