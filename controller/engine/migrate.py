"""Migrate: what a host has under some names goes to the registry, and then off the host, as a person asks now.

Like the commands for one image (doors.py) it makes a desired state of its own, of exactly the names that the host has at that moment, and goes the
normal way: observe, plan, guard, apply, and look again. It keeps nothing of its own between two runs: what was done is seen, what was broken off is
journalled, so that the next run goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from controller.domain.actions import AFTER, Action, Evict, Plan, Reason, identity
from controller.domain.desired import Desired, HostCopy
from controller.domain.errors import RemoteError
from controller.domain.migration import Order, Seen, Stay, gone_by, left, migrating, name_of, part_of
from controller.domain.observation import HostState, Present
from controller.domain.reference import Target
from controller.domain.space import Layers, freed
from controller.engine.apply import Outcome, Progress
from controller.engine.doors import trusted_host
from controller.engine.reconcile import Look, Reconciler


@dataclass(frozen=True, slots=True)
class Prepared:
    """What would be done, before anything is. `copies` are the names that match; `frees` is what the plan would free on the host, in bytes."""

    look: Look
    plan: Plan
    copies: tuple[HostCopy, ...]
    layers: Layers
    frees: int
    nameless: int

    @property
    def already(self) -> frozenset[Target]:
        """The places in the registry that have their images already."""
        return frozenset(copy.target for copy in self.copies if _seen(self.look).has(copy))


@dataclass(frozen=True, slots=True)
class Report:
    """What became of it. `freed` is in bytes.

    Who stays is not known when it was `stopped`, or when registry or host could not be looked at afterwards: `unreachable` says why.
    """

    prepared: Prepared
    outcomes: tuple[Outcome, ...] = ()
    stays: tuple[Stay, ...] = ()
    freed: int = 0
    seconds: float = 0.0
    stopped: bool = False
    unreachable: str = ""

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """What was tried in vain."""
        return tuple(outcome for outcome in self.outcomes if outcome.error)

    @property
    def complete(self) -> bool:
        """All that matched is where it was to go, but for what is kept."""
        return not self.stopped and not self.unreachable and not self.failed and all(stay.reason == Reason.KEPT for stay in self.stays)

    def done(self, kind: type[Action]) -> int:
        """How many actions of a kind were done."""
        return sum(isinstance(outcome.action, kind) and not outcome.error for outcome in self.outcomes)


class Migration:
    """One host's migration. `monotonic` gives seconds."""

    def __init__(self, reconciler: Reconciler, desired: Desired, order: Order, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._reconciler = reconciler
        self._desired = desired
        self._order = order
        self._monotonic = monotonic

    async def prepare(self, *, allow_deletes: int) -> Prepared:
        """Look at the host, and plan for the names that match. Changes nothing."""
        name = self._order.host
        fact = await self._reconciler.host(name)
        state = fact.value if isinstance(fact, Present) else None
        desired = migrating(self._desired, trusted_host(self._desired, name), self._order, state)
        look = await self._reconciler.look(desired, allow_deletes=allow_deletes, hosts={name: fact}, part=True)
        seen = _seen(look)
        plan, copies = part_of(seen, self._order), seen.copies
        layers = await self._layers() if plan.deletions else {}
        frees = freed(layers, gone_by(plan.actions, state))
        nameless = sum(not image.tags for image in state.images) if state else 0
        return Prepared(look, plan, copies, layers, frees, nameless)

    async def _layers(self) -> Layers:
        try:
            return await self._reconciler.engines[self._order.host].layers()
        except RemoteError:
            return {}  # How much comes free is not known then; nothing depends on it.

    async def carry_out(self, prepared: Prepared, progress: Progress, stop: asyncio.Event) -> Report:
        """Do it, and look again; on `stop` what is under way is broken off where that is safe, and nothing more begins."""
        began = self._monotonic()
        tally = _Tally(progress)
        doing = asyncio.create_task(self._do(prepared, tally))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            stopped = doing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await doing
        outcomes = tuple({identity(outcome.action): outcome for outcome in tally.outcomes}.values())
        done = [outcome.action for outcome in outcomes if not outcome.error]
        won = freed(prepared.layers, gone_by(done, _state(prepared.look, self._order.host)))
        if stopped:
            return Report(prepared, outcomes, (), won, self._monotonic() - began, stopped=True)
        look = await self._reconciler.look(prepared.look.desired, part=True)  # Success is what was read back (law 5).
        errors = {(outcome.action.target, name_of(outcome.action)): outcome.error for outcome in outcomes if outcome.error}
        stays = left(_seen(look), self._order, errors)
        return Report(prepared, outcomes, stays, won, self._monotonic() - began, unreachable=look.seen.unreachable)

    async def _do(self, prepared: Prepared, tally: _Tally) -> None:
        """Apply; and once more what the engine refused to let go, while there is progress: an image that others were built from goes after them."""
        look, todo = prepared.look, prepared.plan
        while todo.actions:
            before = len(tally.outcomes)
            await self._reconciler.apply(look, tally, only=todo)
            evictions = [outcome for outcome in tally.outcomes[before:] if isinstance(outcome.action, Evict)]
            refused = {identity(outcome.action) for outcome in evictions if outcome.error}
            if not refused or len(refused) == len(evictions):
                return
            look = await self._reconciler.look(prepared.look.desired, allow_deletes=prepared.plan.deletions, part=True)
            again = (action for action in part_of(_seen(look), self._order).actions if isinstance(action, Evict) and action.basis not in AFTER)
            todo = Plan(tuple(action for action in again if identity(action) in refused))


def would_stay(prepared: Prepared, order: Order) -> tuple[Stay, ...]:
    """The names that the plan leaves where they are."""
    return tuple(stay for stay in left(_seen(prepared.look), order, {}) if stay.reason != Reason.LINGERS)


class _Tally:
    """Remembers what ended, for a report of what was broken off, and passes on."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.outcomes: list[Outcome] = []

    def started(self, action: Action) -> None:
        """It begins."""
        self._progress.started(action)

    def advanced(self, action: Action, count: int) -> None:
        """Bytes moved."""
        self._progress.advanced(action, count)

    def finished(self, outcome: Outcome) -> None:
        """It ended."""
        self.outcomes.append(outcome)
        self._progress.finished(outcome)


def _seen(look: Look) -> Seen:
    return Seen(look.desired, look.seen, look.plan)


def _state(look: Look, host: str) -> HostState | None:
    fact = look.seen.hosts.get(host)
    return fact.value if isinstance(fact, Present) else None
