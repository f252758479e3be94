"""Noticing what ranges fetched past the registry: whether the registry has it, whether an upstream confirms it; and the record of both."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from controller.domain.desired import Desired
from controller.domain.errors import DeniedError, NotFoundError, RemoteError, UnreachableError
from controller.domain.observation import Confirmed, Fact, Held, HostState, Observation, Shown, Unconfirmed, Unknown, Whereabouts
from controller.domain.ports.registries import Registry
from controller.domain.ports.stores import PULL_THROUGH, RANGE_PULL, AuditEntry
from controller.domain.reference import Reference, Target
from controller.domain.strays import Stray, strays
from controller.engine.bounded import bounded
from controller.engine.manifests import Manifests, content_size, identities
from controller.engine.world import World

_AT_ONCE = 16
_REMEMBERED = 10_000

K = TypeVar("K")
V = TypeVar("V")


_Claim = tuple[Target, str, tuple[str, ...]]
"""A place, an image's Id, and the digests that its range tells with it. What one range makes up counts for no other that tells something else."""


@dataclass(frozen=True, slots=True)
class _Asking:
    """One round of questions; many ranges have the same image, which is asked for once. `silent`, by domain, is who did not answer."""

    desired: Desired
    now: float
    shared: dict[_Claim, Whereabouts] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)


class Noticer:
    """Asks the registry, then upstreams. With `remember` neither is asked again within `refresh` for what the one has or the others have not."""

    def __init__(self, world: World, manifests: Manifests, *, remember: bool = False) -> None:
        self._world = world
        self._manifests = manifests
        self._remember = remember
        self._shown: OrderedDict[_Claim, tuple[Shown, float]] = OrderedDict()
        self._denied: OrderedDict[Reference, float] = OrderedDict()

    def forget_all(self) -> None:
        """The next look asks for everything."""
        self._shown.clear()
        self._denied.clear()

    async def facts(
        self, desired: Desired, hosts: Mapping[str, Fact[HostState]], now: float, only: Target | None
    ) -> dict[tuple[str, str, str], Whereabouts]:
        """Where each image of the ranges is, or those that may have to do with one place."""
        asking = _Asking(desired, now)
        found: dict[tuple[str, str, str], Whereabouts] = {}

        async def ask(stray: Stray) -> None:
            try:
                found[stray.key] = await self._where(asking, stray)
            except RemoteError as error:
                found[stray.key] = Unknown(str(error), now)

        wanted = list(strays(desired, hosts, only=only))
        firsts = {_claim(stray, stray.target): stray for stray in reversed(wanted)}
        await bounded(ask, list(firsts.values()), _AT_ONCE)
        await bounded(ask, [stray for stray in wanted if stray.key not in found], _AT_ONCE)
        return found

    async def _where(self, asking: _Asking, stray: Stray) -> Whereabouts:
        known = self._remembered(asking, stray.own, stray)
        if known is not None:
            return known
        claim = _claim(stray, stray.target)
        shared = asking.shared.get(claim)
        if shared is None:
            shared = asking.shared[claim] = await self._anywhere(asking, stray)
        if not isinstance(shared, Unconfirmed):
            return shared
        return await self._kept(asking, stray, stray.own) or Unconfirmed(await self._there(stray.own))

    async def _anywhere(self, asking: _Asking, stray: Stray) -> Whereabouts:
        """Under a name that is everybody's, or at an upstream."""
        places = dict.fromkeys((stray.target, *stray.local, *(stray.target.held(digest) for digest in stray.pulled)))
        for place in places:
            shown = await self._kept(asking, stray, place)
            if shown is not None:
                return shown
        for source in stray.asked:
            confirmed = await self._confirmed(asking, stray, source)
            if confirmed is not None:
                return confirmed
        return Unconfirmed()

    async def _kept(self, asking: _Asking, stray: Stray, place: Target) -> Shown | None:
        """Whether that place of the registry means the range's image."""
        known = self._remembered(asking, place, stray)
        if known is not None:
            return known
        registry = self._world.registry
        try:
            found = await registry.resolve(place.repository, place.tag)
            held = Held(found.digest, found.media_type)
            if not held.means(stray.image, stray.store):
                held = replace(held, identities=identities(await self._manifests.whole(registry, place.repository, found.digest)))
        except NotFoundError:
            return None
        if not held.means(stray.image, stray.store):
            return None
        shown = Shown(place, found.digest)
        _keep(self._shown, _claim(stray, place), (shown, asking.now))
        return shown

    def _remembered(self, asking: _Asking, place: Target, stray: Stray) -> Shown | None:
        known = self._shown.get(_claim(stray, place))
        return known[0] if known is not None and self._still(asking, known[1]) else None

    def _still(self, asking: _Asking, at: float) -> bool:
        return self._remember and 0 <= asking.now - at < asking.desired.refresh

    async def _there(self, place: Target) -> str:
        try:
            return (await self._world.registry.resolve(place.repository, place.tag)).digest
        except NotFoundError:
            return ""

    async def _confirmed(self, asking: _Asking, stray: Stray, source: Reference) -> Confirmed | Unknown | None:
        """Whether an upstream has this digest; None when all of those that may be asked say that it has not, or not for us."""
        if source in self._denied and self._still(asking, self._denied[source]):
            return None
        if source.domain in asking.silent:
            return Unknown(asking.silent[source.domain], asking.now)
        failed: RemoteError | None = None
        for upstream in self._world.upstreams(source.domain):
            try:
                whole = await self._manifests.whole(upstream, source.repository, source.digest)
                await upstream.resolve(source.repository, source.digest)  # What the cache knows may be from somebody else.
                tagged = await _means(upstream, replace(source, tag=stray.tag.tag))
            except (NotFoundError, DeniedError):
                continue
            except RemoteError as error:
                failed = error
                if isinstance(error, UnreachableError):
                    asking.silent[source.domain] = str(error)
            else:
                return Confirmed(source, content_size(whole), tagged, await self._there(stray.target))
        if failed is not None:
            return Unknown(str(failed), asking.now)
        _keep(self._denied, source, asking.now)
        return None


def _claim(stray: Stray, place: Target) -> _Claim:
    return (place, stray.image.id, stray.pulled)


def _keep(known: OrderedDict[K, V], key: K, value: V) -> None:
    known[key] = value
    while len(known) > _REMEMBERED:
        known.popitem(last=False)


async def _means(upstream: Registry, name: Reference) -> bool:
    """Whether the tag means the digest there now."""
    if not name.tag:
        return False
    try:
        return (await upstream.resolve(name.repository, name.tag)).digest == name.digest
    except NotFoundError:
        return False


class RangeRecord:
    """The audit trail's entries of what ranges pulled and the registry had: one for each image of each range."""

    def __init__(self, world: World, actor: str) -> None:
        self._world = world
        self._actor = actor
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()

    def record(self, desired: Desired, seen: Observation) -> None:
        """Those that were not told before. What was brought from upstream has its entry by that."""
        for stray in strays(desired, seen.hosts, among=seen.strays.keys()) if seen.strays else ():
            where = seen.strays[stray.key]
            if not isinstance(where, Shown) or not stray.pulled or (stray.host.name, where.digest) in self._told:
                continue
            _keep(self._told, (stray.host.name, where.digest), None)
            image, host = str(where.place), stray.host.name
            trail = self._world.store.history(image, actions={PULL_THROUGH, RANGE_PULL})
            if not any((entry.host, entry.after, entry.error) == (host, where.digest, "") for entry in trail):
                self._world.store.record(
                    AuditEntry(self._world.clock(), self._actor, RANGE_PULL, image, host, "FromRegistry", "", where.digest, 0, 0.0, "")
                )
