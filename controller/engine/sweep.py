"""Sweep: held tags whose time is over go, once a day at most; what an image or a host may need stays. See docs/adr/0018."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from controller.domain.desired import Desired
from controller.domain.errors import NotFoundError, RemoteError, WharfError
from controller.domain.observation import Held, HostImage, Observation, Present, StoreKind
from controller.domain.ports.stores import AuditEntry
from controller.domain.provenance import RESTORE
from controller.domain.reference import HELD_PREFIX, Target
from controller.domain.spec import Ensure, Mode
from controller.engine.bounded import bounded
from controller.engine.delete import Deleter
from controller.engine.holdings import Holdings
from controller.engine.manifests import Manifests, identities
from controller.engine.world import World

log = logging.getLogger(__name__)

EXPIRE = "Expire"
"""The audit trail's word."""

EVERY = 86_400.0
"""Seconds between two sweeps; a tenth of keepHeld where that is less."""

LONGEST_GAP = 864_000.0
"""After so many seconds without a sweep, the clock may have jumped, or nobody was there to restore: the first sweep then deletes nothing."""

_REPOSITORIES_AT_ONCE = 8

_OnHosts = Sequence[tuple[HostImage, StoreKind]]


@dataclass(frozen=True, slots=True)
class _Old:
    """A held tag whose time is over, if nothing needs it."""

    place: Target
    digest: str
    since: float


class Sweeper:
    """Sweeps one registry."""

    def __init__(self, world: World, manifests: Manifests, holdings: Holdings, *, actor: str) -> None:
        self._world = world
        self._manifests = manifests
        self._holdings = holdings
        self._deleter = Deleter(world, manifests)
        self._actor = actor

    async def sweep(self, desired: Desired, seen: Observation) -> tuple[Target, ...]:
        """Do it where that is due, and give the held tags that went. What can't be looked at stays; nothing goes while a host is Unknown (law 2)."""
        now, last = self._world.clock(), self._world.store.last_sweep()
        if desired.mode is not Mode.FULL or seen.registry_error or not self._due(desired, last, now):
            return ()
        hosts = _images_of(desired, seen)
        if hosts is None:
            return ()
        old = await self._look(desired, now)
        self._world.store.set_last_sweep(now)
        if last is None or now - last > LONGEST_GAP:
            return ()
        unneeded = [each for each in sorted(old, key=lambda each: (each.since, each.place)) if not await self._needed(each, hosts)]
        gone = [each.place for each in unneeded[: desired.deletes] if await self._expired(each)]
        self._forget_stones(now - desired.keep_held)
        return tuple(gone)

    def _due(self, desired: Desired, last: float | None, now: float) -> bool:
        return last is None or last > now or now - last >= min(EVERY, desired.keep_held / 10)

    async def _look(self, desired: Desired, now: float) -> list[_Old]:
        """The old ones in every repository that is known; those that were not known before count from now."""
        since, changes, stones = self._world.store.held_since(), self._world.store.changes(), self._world.store.tombstones()
        listed = _places(desired)
        own = listed | ({_target(entry) for entry in changes if entry.action != "Delete"} - stones.keys())
        repositories = {target.repository for target in (*own, *since, *stones, *map(_target, changes))}
        repositories |= {rule.repository.registry_repository for rule in desired.rules}
        old: list[_Old] = []

        async def ask(repository: str) -> None:
            try:
                found = await self._held_alone(repository)
            except RemoteError as error:
                log.info("%s is not swept now: %s", repository, error)
                return
            for gone in (place for place in since if place.repository == repository and place not in found):
                self._world.store.let_go(gone)  # It was never made, or somebody else deleted it; if it is there after all, it counts anew.
            for place, (digest, alone) in found.items():
                if place in listed and place in stones:
                    self._revive(place, digest)
                known = min(since.get(place, now), now)
                if place in own or not alone or since.get(place) != known:
                    self._world.store.hold(place, now)
                elif now - known >= desired.keep_held:
                    old.append(_Old(place, digest, known))

        await bounded(ask, repositories, _REPOSITORIES_AT_ONCE)
        return old

    def _revive(self, place: Target, digest: str) -> None:
        """An image that is named by its digest was deleted, and listed again while its tag was there still: it was not deleted after all."""
        self._world.store.exhume(place, digest)
        self._world.store.record(AuditEntry(self._world.clock(), self._actor, RESTORE, str(place), "", "Listed", "", digest, 0, 0.0, ""))

    async def _held_alone(self, repository: str) -> dict[Target, tuple[str, bool]]:
        """Each held tag of a repository: what it means, and whether no other tag means the same."""
        tags = await self._world.registry.tags(repository)
        if not any(tag.startswith(HELD_PREFIX) for tag in tags):
            return {}
        means: dict[str, str] = {}
        for tag in tags:
            try:
                means[tag] = (await self._world.registry.resolve(repository, tag)).digest
            except NotFoundError:
                continue  # Deleted since it was listed.
        others = {digest for tag, digest in means.items() if not tag.startswith(HELD_PREFIX)}
        return {Target(repository, tag): (digest, digest not in others) for tag, digest in means.items() if tag.startswith(HELD_PREFIX)}

    async def _needed(self, each: _Old, hosts: _OnHosts) -> bool:
        """Whether a host has an image that this means: the proof that lets it leave may rest on it. What can't be read is needed."""
        try:
            whole = await self._manifests.whole(self._world.registry, each.place.repository, each.digest)
        except RemoteError as error:
            log.info("%s stays: %s", each.place, error)
            return True
        held = Held(each.digest, identities=identities(whole))
        return any(held.means(image, store) for image, store in hosts)

    async def _expired(self, each: _Old) -> bool:
        error, done = "", False
        try:
            done = await self._holdings.expire(each.place, each.since, lambda: self._deleter.expire(each.place, each.digest))
        except WharfError as failure:
            error = str(failure)
            log.info("%s stays: %s", each.place, error)
            self._world.store.hold(each.place, self._world.clock())  # So that what can't be deleted is not tried again before all others.
        if done:
            self._world.store.exhume(each.place, each.digest)
        if done or error:
            now = self._world.clock()
            self._world.store.record(AuditEntry(now, self._actor, EXPIRE, str(each.place), "", "Expired", each.digest, "", 0, 0.0, error))
        return done

    def _forget_stones(self, before: float) -> None:
        """Tombstones expire too; one of an image that is named by its digest goes with its held tag."""
        for target, stones in self._world.store.tombstones().items():
            for stone in stones:
                if stone.at <= before and not target.tag.startswith(HELD_PREFIX):
                    self._world.store.exhume(target, stone.digest)


def _target(entry: AuditEntry) -> Target:
    return Target(*entry.image.rsplit(":", 1))


def _places(desired: Desired) -> set[Target]:
    """Where the files say that an image is."""
    present = {desired.place_of(host, name) for host in desired.places_to_be for name in host.present}
    return present | {image.target for image in desired.images if image.ensure is Ensure.PRESENT}


def _images_of(desired: Desired, seen: Observation) -> _OnHosts | None:
    """Every image of every host that is ever evicted from; None while that is not known of one."""
    found: list[tuple[HostImage, StoreKind]] = []
    for host in desired.hosts:
        if host.range and not host.evicts:
            continue
        fact = seen.hosts.get(host.name)
        if not isinstance(fact, Present) or fact.value.store is StoreKind.UNKNOWN:
            return None
        store = fact.value.store
        found += [(image, store) for image in fact.value.images]
    return found
