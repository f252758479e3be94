"""What the sources of images offer: upstream registries, archives, Dockerfile folders; and where upstream still has what a host pulled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from controller.domain.desired import ArchiveSource, BuildSource, Desired, DesiredImage, HostCopy
from controller.domain.errors import NotFoundError, RemoteError, UnreachableError
from controller.domain.observation import Absent, Fact, Held, Lookup, Origin, Present, StoreKind, Unknown
from controller.domain.oci import INDEX_TYPES
from controller.domain.ports.registries import Registry
from controller.domain.reference import Reference, Target
from controller.domain.spec import Ensure
from controller.engine.bounded import bounded
from controller.engine.manifests import Manifests, content_size
from controller.engine.platforms import chosen, wanted
from controller.engine.world import World

_ORIGINS = 10_000
"""How many are remembered; all are forgotten when there are more."""

_LOOKS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class _Asking:
    """One round of questions. `silent`, by domain: who did not answer at all is not asked for every other image."""

    desired: Desired
    held: Mapping[Target, Fact[Held]]
    now: float
    silent: dict[str, str] = field(default_factory=dict)
    answers: dict[Lookup, Present[Held]] = field(default_factory=dict)


class Offers:
    """Asks the sources.

    What the registry has as its upstream last had it is not asked for again within `refresh`, over restarts too. With `fresh` it is, once.
    """

    def __init__(self, world: World, manifests: Manifests, *, fresh: bool = False) -> None:
        self._world = world
        self._manifests = manifests
        self._answers: dict[Lookup, Present[Held]] = {} if fresh else dict(world.store.lookups())
        self._origins: dict[Reference, Origin] = {}

    def forget_all(self) -> None:
        """The next look asks every upstream."""
        self._answers.clear()

    async def facts(self, desired: Desired, held: Mapping[Target, Fact[Held]], now: float) -> dict[Target, Fact[Held]]:
        """What is offered for each place that was looked at in the registry, and whose source has to be asked."""
        facts: dict[Target, Fact[Held]] = {}
        asking = _Asking(desired, held, now)

        async def ask(image: DesiredImage) -> None:
            facts[image.target] = await self._fact(asking, image)

        await bounded(ask, [image for image in _one_each(desired, held) if _must_ask(desired, image, held.get(image.target))], _LOOKS_AT_ONCE)
        await self._keep(asking)
        return facts

    async def _keep(self, asking: _Asking) -> None:
        if asking.answers:
            self._answers |= asking.answers
            await asyncio.to_thread(self._world.store.keep_lookups, asking.answers, asking.now - asking.desired.refresh)

    async def _fact(self, asking: _Asking, image: DesiredImage) -> Fact[Held]:
        source, now = image.source, asking.now
        try:
            match source:
                case Reference():
                    return await self._upstream(asking, image, source)
                case ArchiveSource():
                    found = await self._world.archives.look(source)
                    return Present(Held(found.identity, size=found.size), now)
                case BuildSource():
                    context = await self._world.contexts.look(source)
                    return Present(Held(context.hash, size=context.size), now)
                case None:
                    return Absent(now)
                case _:
                    assert_never(source)
        except NotFoundError:
            return Absent(now)
        except RemoteError as error:
            return Unknown(str(error), now)

    async def _upstream(self, asking: _Asking, image: DesiredImage, source: Reference) -> Fact[Held]:
        key = Lookup(str(source), image.platforms)
        remembered = self._answers.get(key)
        if remembered is not None and _still_good(remembered, asking, asking.held.get(image.target)):
            return remembered
        if source.domain in asking.silent:
            return Unknown(asking.silent[source.domain], asking.now)
        fact = await self._ask(asking, image, source)
        if isinstance(fact, Present):
            asking.answers[key] = fact
        return fact

    async def _ask(self, asking: _Asking, image: DesiredImage, source: Reference) -> Fact[Held]:
        """Ask mirrors, then the domain itself."""
        last: Fact[Held] = Unknown(f"{source.domain} is not under spec.upstreams", asking.now)
        for registry in self._world.upstreams(source.domain):
            try:
                return Present(await self._offered(registry, image, source, asking.held.get(image.target)), asking.now)
            except NotFoundError:
                last = Absent(asking.now)
            except RemoteError as error:
                last = Unknown(str(error), asking.now)
                if isinstance(error, UnreachableError):
                    asking.silent[source.domain] = str(error)
        return last

    async def _offered(self, registry: Registry, image: DesiredImage, source: Reference, held: Fact[Held] | None) -> Held:
        found = await registry.resolve(source.repository, source.identifier)
        if source.tag and source.digest:
            await _check_agreement(registry, source)
        if not image.platforms:
            return await self._sized(registry, source.repository, Held(found.digest, found.media_type), held)
        meant = await wanted(self._manifests, registry, source.repository, found.digest, image.platforms)
        published = found.digest if meant.digest != found.digest else ""
        offered = Held(meant.digest, meant.media_type, published=published, filtered=bool(published) and meant.media_type in INDEX_TYPES)
        return await self._sized(registry, source.repository, offered, held, image.platforms)

    async def _sized(self, registry: Registry, repository: str, offered: Held, held: Fact[Held] | None, platforms: tuple[str, ...] = ()) -> Held:
        """With its size, where it will have to be moved."""
        if isinstance(held, Present) and held.value.digest == offered.digest:
            return offered
        manifest = await chosen(self._manifests, registry, repository, offered.published or offered.digest, platforms)
        children = [await self._manifests.get(registry, repository, child.digest) for child in manifest.children]
        return replace(offered, size=content_size((manifest, *children)))

    async def origins(self, desired: Desired, copies: Iterable[HostCopy], held: Mapping[Target, Fact[Held]]) -> dict[str, Origin]:
        """By image Id, where upstream still has an image that would be pushed from a host and that was pulled from there."""
        asked: dict[str, list[Reference]] = {}
        for copy in copies:
            if _would_be_pushed(desired, copy, held.get(copy.target)):
                asked.setdefault(copy.image.id, _pulled_from(desired, copy))
        found: dict[str, Origin] = {}
        silent: set[str] = set()

        async def ask(image_id: str) -> None:
            for reference in asked[image_id]:
                origin = await self._origin(reference, silent)
                if origin is not None:
                    found[image_id] = origin
                    return

        await bounded(ask, asked, _LOOKS_AT_ONCE)
        return found

    async def _origin(self, reference: Reference, silent: set[str]) -> Origin | None:
        if reference in self._origins:
            return self._origins[reference]
        for registry in () if reference.domain in silent else self._world.upstreams(reference.domain):
            try:
                whole = await self._manifests.whole(registry, reference.repository, reference.digest)
            except UnreachableError:
                silent.add(reference.domain)
            except RemoteError:
                continue  # It is pushed from the host instead; a push takes nothing away.
            else:
                if len(self._origins) >= _ORIGINS:
                    self._origins.clear()
                self._origins[reference] = Origin(reference, content_size(whole))
                return self._origins[reference]
        return None


def _still_good(remembered: Present[Held], asking: _Asking, held: Fact[Held] | None) -> bool:
    """Not older than `refresh`, nor from the future by a clock that was set back; and nothing is to be moved on the strength of it."""
    recent = 0 <= asking.now - remembered.seen < asking.desired.refresh
    return recent and (isinstance(held, Unknown) or (isinstance(held, Present) and held.value.digest == remembered.value.digest))


def _must_ask(desired: Desired, image: DesiredImage, held: Fact[Held] | None) -> bool:
    """Whether the source has to be asked: never where the file forbids it, nor for what can't change and is held already."""
    if image.source is None or image.ensure is Ensure.ABSENT:
        return False
    if image.upstream is None:
        return True
    if not desired.may_ask(image.upstream.domain):
        return False
    if not isinstance(held, Present):
        return True
    if image.upstream.digest and not image.platforms:
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


def _one_each(desired: Desired, held: Mapping[Target, Fact[Held]]) -> list[DesiredImage]:
    return [desired.by_target[target][0] for target in held if target in desired.by_target]


def _would_be_pushed(desired: Desired, copy: HostCopy, fact: Fact[Held] | None) -> bool:
    entries = desired.by_target.get(copy.target, ())
    wanted = entries[0].source is None and entries[0].ensure is Ensure.PRESENT if entries else copy.adopted and not copy.kept
    there = isinstance(fact, Present) and fact.value.means(copy.image, copy.store)
    return wanted and not there and not isinstance(fact, Unknown)


def _pulled_from(desired: Desired, copy: HostCopy) -> list[Reference]:
    """The digests by which upstreams may know it, likely ones first.

    A containerd store invents such names for what was built here: there only a name that keeps its domain in the registry is asked for, so that
    local names are told to nobody.
    """
    invented = copy.store is not StoreKind.CLASSIC and copy.target.repository != copy.tag.registry_repository
    asked = [] if invented or not desired.may_come(copy.target) else [r for r in copy.image.repo_digests if r.digest and desired.may_ask(r.domain)]
    return sorted(asked, key=lambda reference: (reference.repository != copy.tag.repository, reference))
