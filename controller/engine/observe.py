"""observe: what the registry, the upstreams and each host hold, as Present, Absent or Unknown facts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from controller.domain.desired import Desired, DesiredHost, DesiredImage, HostCopy
from controller.domain.errors import NotFoundError, RemoteError, UnreachableError
from controller.domain.observation import Absent, Fact, Held, HostImage, HostState, Observation, Present, Unknown
from controller.domain.ports import Host, Registry, Store
from controller.domain.reference import Reference, Target
from controller.domain.spec import Ensure
from controller.engine.manifests import Manifests, content_size, identities

log = logging.getLogger(__name__)

Clock = Callable[[], float]
Upstreams = Callable[[str], Sequence[Registry]]
"""The registries to ask for a domain, in order: mirrors first."""

K = TypeVar("K")

_LOOKS_AT_ONCE = 64
_INSPECTIONS_AT_ONCE = 4
_SEARCHES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class World:
    """The parts that are looked at and worked on."""

    registry: Registry
    upstreams: Upstreams
    hosts: Mapping[str, Host]
    store: Store
    clock: Clock


class Observer:
    """Looks at the world; remembers upstream's answers for `refresh`, and manifests by digest."""

    def __init__(self, world: World, manifests: Manifests) -> None:
        self._world = world
        self._manifests = manifests
        self._upstream_answers: dict[tuple[Target, Reference], Present[Held] | Absent] = {}

    async def observe(self, desired: Desired) -> Observation:
        """One full look. Never raises for what the other side does: that is an Unknown fact."""
        now = self._world.clock()
        async with asyncio.TaskGroup() as group:
            healthy = group.create_task(self._registry_error())
            looking = {host.name: group.create_task(self._look(host, now)) for host in desired.hosts}
        registry_error = healthy.result()
        hosts = _without_twins({name: task.result() for name, task in looking.items()}, now)
        known = [(host, fact.value) for host in desired.hosts if isinstance(fact := hosts[host.name], Present)]
        copies = list(desired.copies(known))
        held = await self._registry_facts(desired, copies, registry_error, now)
        upstream = await self._upstream_facts(desired, held, now)
        elsewhere = {} if registry_error else await self._elsewhere(copies, held)
        hosts = await self._with_tag_times(hosts, copies)
        return Observation(
            now=now,
            registry=held,
            upstream=upstream,
            hosts=hosts,
            elsewhere=elsewhere,
            first_seen=self._first_seen(known, now),
            last_pushed=self._last_pushed(known),
            registry_error=registry_error,
        )

    async def _registry_error(self) -> str:
        try:
            await self._world.registry.ping()
        except RemoteError as error:
            return str(error)
        return ""

    # Hosts.

    async def _look(self, host: DesiredHost, now: float) -> Fact[HostState]:
        try:
            state = await self._world.hosts[host.name].look()
        except RemoteError as error:
            return Unknown(str(error), now)
        expected = self._world.store.engine_of(host.name)
        if expected is None:
            self._world.store.set_engine(host.name, state.engine_id)
        elif expected != state.engine_id:
            return Unknown(f"its engine was {expected} and is {state.engine_id} now: if that is meant, --confirm-engine {host.name}", now)
        return Present(self._without_journalled(state), now)

    def _without_journalled(self, state: HostState) -> HostState:
        """The tags of unfinished pushes are ours, not the operator's: they are never adopted."""
        ours = {(entry.image_id, entry.reference) for entry in self._world.store.open_pushes(state.engine_id) if not entry.existed}
        if not ours:
            return state
        images = tuple(replace(i, tags=tuple(t for t in i.tags if (i.id, str(t)) not in ours)) for i in state.images)
        return replace(state, images=images)

    def _first_seen(self, known: Iterable[tuple[DesiredHost, HostState]], now: float) -> dict[tuple[str, str, str], float]:
        found: dict[tuple[str, str, str], float] = {}
        for host, state in known:
            pairs = [(image.id, str(tag)) for image in state.images for tag in image.tags]
            for (image_id, tag), since in self._world.store.first_seen(host.name, pairs, now).items():
                found[host.name, image_id, tag] = since
        return found

    def _last_pushed(self, known: Iterable[tuple[DesiredHost, HostState]]) -> dict[tuple[str, Target], str]:
        pushed = ((host.name, self._world.store.last_pushed(state.engine_id)) for host, state in known)
        return {(name, target): digest for name, by_target in pushed for target, digest in by_target.items()}

    async def _with_tag_times(self, hosts: dict[str, Fact[HostState]], copies: Iterable[HostCopy]) -> dict[str, Fact[HostState]]:
        """LastTagTime of what may be evicted: one inspect each, only where the grace period makes it matter."""
        wanted = {(c.host.name, c.image.id) for c in copies if c.lingers and c.host.grace > 0 and not (c.kept or c.needed or c.image.used_by)}
        times: dict[tuple[str, str], float | None] = {}

        async def ask(key: tuple[str, str]) -> None:
            try:
                times[key] = (await self._world.hosts[key[0]].inspect(key[1])).tagged_at
            except NotFoundError:
                return
            except RemoteError as error:
                log.debug("no tag time: %s", error)

        await _bounded(ask, wanted, _INSPECTIONS_AT_ONCE)
        return {name: _with_times(name, fact, times) for name, fact in hosts.items()} if times else hosts

    # The registry.

    async def _registry_facts(self, desired: Desired, copies: Sequence[HostCopy], down: str, now: float) -> dict[Target, Fact[Held]]:
        by_target: dict[Target, list[HostCopy]] = {}
        for copy in copies:
            by_target.setdefault(copy.target, []).append(copy)
        targets = desired.by_target.keys() | by_target.keys()
        if down:
            return {target: Unknown(down, now) for target in targets}
        facts: dict[Target, Fact[Held]] = {}

        async def ask(target: Target) -> None:
            facts[target] = await self._held(target, by_target.get(target, ()), now)

        await _bounded(ask, targets, _LOOKS_AT_ONCE)
        return facts

    async def _held(self, target: Target, copies: Sequence[HostCopy], now: float) -> Fact[Held]:
        registry = self._world.registry
        try:
            found = await registry.resolve(target.repository, target.tag)
            held = Held(found.digest, found.media_type)
            if all(held.means(copy.image, copy.store) for copy in copies):
                return Present(held, now)
            whole = await self._manifests.whole(registry, target.repository, found.digest)
            return Present(replace(held, identities=identities(whole), size=content_size(whole)), now)
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

        await _bounded(ask, wanted, _SEARCHES_AT_ONCE)
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

    # Upstreams.

    async def _upstream_facts(self, desired: Desired, held: Mapping[Target, Fact[Held]], now: float) -> dict[Target, Fact[Held]]:
        facts: dict[Target, Fact[Held]] = {}
        silent: dict[str, str] = {}

        async def ask(image: DesiredImage) -> None:
            if image.upstream is not None:
                facts[image.target] = await self._offered(desired, image.target, image.upstream, held.get(image.target), silent, now)

        await _bounded(ask, [image for image in _one_each(desired) if _must_ask(desired, image, held.get(image.target))], _LOOKS_AT_ONCE)
        return facts

    async def _offered(
        self, desired: Desired, target: Target, source: Reference, held: Fact[Held] | None, silent: dict[str, str], now: float
    ) -> Fact[Held]:
        remembered = self._upstream_answers.get((target, source))
        if remembered is not None and now - remembered.seen < desired.refresh:
            return remembered
        if source.domain in silent:
            return Unknown(silent[source.domain], now)
        fact = await self._ask_upstream(source, held, silent, now)
        if not isinstance(fact, Unknown):
            self._upstream_answers[target, source] = fact
        return fact

    async def _ask_upstream(self, source: Reference, held: Fact[Held] | None, silent: dict[str, str], now: float) -> Fact[Held]:
        """Ask mirrors, then the domain itself. One that does not answer at all is noted in `silent`, and not asked for every other image."""
        last: Fact[Held] = Unknown(f"{source.domain} is not under spec.upstreams", now)
        for registry in self._world.upstreams(source.domain):
            try:
                found = await registry.resolve(source.repository, source.identifier)
                if source.tag and source.digest:
                    await _check_agreement(registry, source)
                size = 0
                if not (isinstance(held, Present) and held.value.digest == found.digest):
                    size = content_size(await self._manifests.whole(registry, source.repository, found.digest))
                return Present(Held(found.digest, found.media_type, size), now)
            except NotFoundError:
                last = Absent(now)
            except RemoteError as error:
                last = Unknown(str(error), now)
                if isinstance(error, UnreachableError):
                    silent[source.domain] = str(error)
        return last


def _must_ask(desired: Desired, image: DesiredImage, held: Fact[Held] | None) -> bool:
    """Whether upstream has to be asked: never where the file forbids it, nor for what can't change and is held already."""
    if image.upstream is None or image.ensure is Ensure.ABSENT or not desired.may_ask(image.upstream.domain):
        return False
    if not isinstance(held, Present):
        return True
    if image.upstream.digest:
        return held.value.digest != image.upstream.digest
    return not desired.immutable.matches(image.host_name)


async def _check_agreement(registry: Registry, source: Reference) -> None:
    """With a tag and a digest the digest wins; but when they disagree, that is an error and nothing is copied."""
    try:
        meant = await registry.resolve(source.repository, source.tag)
    except NotFoundError:
        return
    if meant.digest != source.digest:
        raise RemoteError(
            f"resolving {source}", f"its tag and its digest disagree: the tag is {meant.digest} upstream", hint="take one of them out of the file"
        )


def _one_each(desired: Desired) -> list[DesiredImage]:
    return [images[0] for images in desired.by_target.values() if images[0].upstream is not None]


def _without_twins(hosts: dict[str, Fact[HostState]], now: float) -> dict[str, Fact[HostState]]:
    """Two names for one engine are an error: neither is touched."""
    names: dict[str, list[str]] = {}
    for name, fact in hosts.items():
        if isinstance(fact, Present):
            names.setdefault(fact.value.engine_id, []).append(name)
    twins = {name: same for same in names.values() if len(same) > 1 for name in same}
    return {
        name: Unknown(f"{' and '.join(sorted(twins[name]))} are one and the same engine: keep one of them in the file", now)
        if name in twins
        else fact
        for name, fact in hosts.items()
    }


def _with_times(host: str, fact: Fact[HostState], times: Mapping[tuple[str, str], float | None]) -> Fact[HostState]:
    if not isinstance(fact, Present):
        return fact

    def timed(image: HostImage) -> HostImage:
        return replace(image, tagged_at=times[host, image.id]) if (host, image.id) in times else image

    return replace(fact, value=replace(fact.value, images=tuple(timed(image) for image in fact.value.images)))


async def _exists(registry: Registry, repository: str, identifier: str) -> bool:
    try:
        await registry.resolve(repository, identifier)
    except NotFoundError:
        return False
    return True


async def _bounded(do: Callable[[K], Awaitable[None]], keys: Iterable[K], limit: int) -> None:
    """Do it for every key, `limit` at a time, without a task per key."""
    waiting = iter(list(keys))

    async def work() -> None:
        for key in waiting:
            await do(key)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(work())
