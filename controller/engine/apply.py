"""apply: does a guarded plan, concurrently and bounded; a slow or failing image never holds up another."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol, assert_never
from weakref import WeakValueDictionary

from controller.domain.actions import AFTER, BRINGS, Action, Build, Copy, Delete, Evict, Import, Plan, Pull, Push, Reason, Save, image_of
from controller.domain.desired import Desired
from controller.domain.errors import CollectingError, UnprovenError, WharfError
from controller.domain.observation import HostState, Observation, Present, StoreKind
from controller.domain.ports.hosts import Host
from controller.domain.ports.registries import Advance
from controller.domain.ports.stores import LOAD, PAST_GATEWAY, PULL_THROUGH, AuditEntry
from controller.domain.reference import Target
from controller.engine.building import Builder
from controller.engine.copy import Copier
from controller.engine.delete import Deleter
from controller.engine.evict import Evictor
from controller.engine.holdings import Holdings
from controller.engine.importing import Importer
from controller.engine.loading import Loader
from controller.engine.manifests import Manifests
from controller.engine.patience import while_it_moves
from controller.engine.prove import Prover
from controller.engine.pulling import Puller
from controller.engine.push import Pusher
from controller.engine.saving import Saver
from controller.engine.world import World

log = logging.getLogger(__name__)

IMAGES_AT_ONCE = 8


class Progress(Protocol):
    """Where an apply tells what it does; the surfaces draw it."""

    def started(self, action: Action) -> None:
        """The action begins."""
        ...

    def advanced(self, action: Action, count: int) -> None:
        """So many more bytes moved or were read back."""
        ...

    def finished(self, outcome: Outcome) -> None:
        """The action ended, well or not."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one action. `error` is "" when it was done; `digest` is what the registry holds afterwards.

    `wait`: it was not begun, as the registry takes nothing now, and may be tried again after so many seconds.
    `instead` says why it was done in another way than the usual one, "" where it was not.
    """

    action: Action
    error: str
    digest: str
    bytes: int
    seconds: float
    wait: float = 0.0
    instead: str = ""


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one apply works with."""

    desired: Desired
    seen: Observation
    progress: Progress


class Applier:
    """Does plans. One image never runs twice at a time: its actions are done in their order, and one Id of a host by one action."""

    def __init__(
        self, world: World, manifests: Manifests, holdings: Holdings, *, actor: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._world = world
        self._holdings = holdings
        self._actor = actor
        self._monotonic = monotonic
        self._copier = Copier(world.registry, manifests)
        self._importer = Importer(world.registry, world.archives, manifests, monotonic=monotonic)
        self._pusher = Pusher(world.registry, world.store, manifests)
        self._builder = Builder(world.registry, world.store, manifests, world.contexts)
        self._puller = Puller(world.registry, world.store, manifests, Loader(world.registry, world.archives))
        self._saver = Saver(world.registry, self._importer, manifests)
        self._deleter = Deleter(world, manifests)
        self._evictor = Evictor()
        self._prover = Prover(world.registry, monotonic, holdings.renew)
        self._busy: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def begin(self) -> None:
        """A new pass: what was proven before it counts no more."""
        self._prover = Prover(self._world.registry, self._monotonic, self._holdings.renew)

    async def apply(self, plan: Plan, desired: Desired, seen: Observation, progress: Progress) -> tuple[Outcome, ...]:
        """Do every action of the plan; its outcomes in the plan's order. Failures are outcomes, not exceptions."""
        this = _Pass(desired, seen, progress)
        slots = asyncio.Semaphore(IMAGES_AT_ONCE)
        images = [list(group) for _, group in groupby(plan.actions, key=lambda action: action.target)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._image(this, actions, slots)) for actions in images]
        return tuple(outcome for task in tasks for outcome in task.result())

    def _turn(self, actions: Sequence[Action]) -> AbstractAsyncContextManager[object]:
        """Of one range one image is saved at a time; who waits for that takes no slot."""
        saved = next((action for action in actions if isinstance(action, Save)), None)
        return nullcontext() if saved is None else self._busy.setdefault(f"saving {saved.host}", asyncio.Lock())

    async def _image(self, this: _Pass, actions: Sequence[Action], slots: asyncio.Semaphore) -> list[Outcome]:
        outcomes: list[Outcome] = []
        async with self._turn(actions), slots:
            for action in actions:
                failed = next((o for o in outcomes if o.error and isinstance(o.action, BRINGS)), None)
                if failed is not None and _waits(action):
                    outcomes.append(self._skipped(this, action, failed))
                    continue
                async with self._busy.setdefault(getattr(action, "image_id", str(action.target)), asyncio.Lock()):
                    outcomes.append(await self._one(this, action))
        return outcomes

    def _skipped(self, this: _Pass, action: Action, failed: Outcome) -> Outcome:
        words = f"it can't come to {action.host}" if isinstance(action, Pull) else f"it stays on {action.host}"
        outcome = Outcome(action, f"{words}: the {failed.action.kind.lower()} before it failed", "", 0, 0.0)
        this.progress.finished(outcome)
        return outcome

    async def _one(self, this: _Pass, action: Action) -> Outcome:
        this.progress.started(action)
        began, moved, error, digest, wait = self._monotonic(), 0, "", "", 0.0
        instead: list[str] = []

        def advance(count: int) -> None:
            nonlocal moved
            moved += count
            this.progress.advanced(action, count)

        try:
            # As a whole: nothing is collected between an image's blobs and its manifest.
            with nullcontext() if isinstance(action, Pull) else self._world.registry.writing(action.target.repository):
                doing = self._do(this, action, advance, instead.append)
                digest = await (while_it_moves(action.host, doing, lambda: moved) if action.host in self._world.ranges else doing)
        except WharfError as failure:
            error = f"{image_of(action)}: {failure}" if image_of(action) not in str(failure) else str(failure)
            wait = (failure.retry_after or 0.0) if isinstance(failure, CollectingError) else 0.0
        outcome = Outcome(action, error, digest, moved, self._monotonic() - began, wait, "; ".join(instead))
        if not wait:
            self._record(outcome)
        this.progress.finished(outcome)
        return outcome

    async def _do(self, this: _Pass, action: Action, advance: Advance, instead: Callable[[str], None]) -> str:
        held = _before(action) if isinstance(action, (*BRINGS, Delete)) else ""
        if held:  # It is held before it is overwritten or deleted, and counts from now.
            await self._holdings.renew(action.target.held(held))
        digest = await self._done(this, action, advance, instead)
        if isinstance(action, BRINGS):
            self._world.store.exhume(action.target, digest)
        return digest

    async def _done(self, this: _Pass, action: Action, advance: Advance, instead: Callable[[str], None]) -> str:
        match action:
            case Copy():
                return await self._copier.copy(action, self._world.upstreams(action.source.domain), advance)
            case Push():
                return await self._pusher.push(action, *self._place(this, action.host), advance)
            case Evict():
                proof = await self._evictor.evict(action, self._world.host(action.host), this.desired, this.seen, self._prover, advance)
                return proof.digest
            case Delete():
                await self._deleter.delete(action)
                return ""
            case Import():
                return await self._importer.import_image(action, advance)
            case Build():
                return await self._builder.build(action, *self._place(this, action.host), advance, self._prover)
            case Pull():
                is_range = any(host.range for host in this.desired.hosts if host.name == action.host)
                return await self._puller.pull(action, *self._place(this, action.host), advance, instead if is_range else None)
            case Save():
                return await self._saver.save(action, self._world.host(action.host), advance)
            case _:
                assert_never(action)

    def _place(self, this: _Pass, name: str) -> tuple[Host, str, StoreKind, str]:
        """A host, its engine's ID and store, and the registry's address as that engine reaches it."""
        state = _state(this.seen, name)
        address = next(host.registry_address for host in this.desired.hosts if host.name == name)
        return self._world.host(name), state.engine_id, state.store, address

    def _record(self, outcome: Outcome) -> None:
        action = outcome.action
        fetched = action.reason is Reason.FETCHED
        entry = AuditEntry(
            at=self._world.clock(),
            actor=self._actor,
            action=PULL_THROUGH if fetched else action.kind,
            image=image_of(action),
            host=action.host,
            reason=PAST_GATEWAY if fetched else action.reason,
            before=_before(action),
            after=outcome.digest,
            bytes=outcome.bytes,
            seconds=outcome.seconds,
            error=outcome.error,
        )
        if outcome.instead:  # What was tried first has its own entry.
            self._world.store.record(replace(entry, after="", bytes=0, seconds=0.0, error=outcome.instead))
            entry = replace(entry, action=LOAD)
        self._world.store.record(entry)


def errors_by_target(outcomes: Iterable[Outcome]) -> dict[Target, str]:
    """The first error of each image that was worked on, which is the cause of those after it; "" where all went well."""
    errors: dict[Target, str] = {}
    for outcome in outcomes:
        errors[outcome.action.target] = errors.get(outcome.action.target) or outcome.error
    return errors


def _waits(action: Action) -> bool:
    """Whether it is in vain when what should bring the image to the registry failed."""
    return (isinstance(action, Evict) and action.basis in AFTER) or (isinstance(action, Pull) and not action.digest)


def _before(action: Action) -> str:
    """What the place that the action changes meant before it."""
    match action:
        case Copy() | Push() | Import() | Save() | Build():
            return action.replaces
        case Evict():
            return action.image_id
        case Delete():
            return action.digest
        case Pull():
            return ""
        case _:
            assert_never(action)


def _state(seen: Observation, host: str) -> HostState:
    fact = seen.hosts[host]
    if not isinstance(fact, Present):
        raise UnprovenError(f"{host} was not seen, so nothing is done with it")
    return fact.value
