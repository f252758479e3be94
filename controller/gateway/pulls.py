"""Pulls: from the registry first, and through it from upstream what it has not, or not anew (issue 5, "Pull through", "Freshness")."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from controller.domain.desired import Desired
from controller.domain.dispatch import Dispatch, ForbiddenError, Place
from controller.domain.errors import NotFoundError, RemoteError
from controller.domain.observation import Held, Lookup, Present
from controller.domain.oci import Descriptor, Manifest
from controller.domain.ports.registries import Registry
from controller.domain.ports.stores import Store
from controller.domain.reference import Reference, Target, held_tag, is_digest
from controller.domain.spec import Ensure, Internet
from controller.domain.tags import choose
from controller.gateway.keeper import Keeper, Pulled
from controller.gateway.spool import Flow
from controller.gateway.upstream import SpooledUpstream

log = logging.getLogger(__name__)

_ASKED = 10_000
"""Digests of which the tag is remembered by which a client asked: it gets the manifest by digest next."""


_MANIFESTS, _SMALL = 1000, 16 << 10
"""So many manifests of at most so many bytes are remembered: of those the registry only has to say that they are still what is meant."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for, by tag or digest; `ns` is containerd's word for whose repository that is, `client` its address.

    `known`: it said who it is.
    """

    repository: str
    identifier: str
    ns: str = ""
    client: str = ""
    head: bool = False
    known: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A manifest for a client. `stale` says why it may be older than what upstream has; "" when it is not."""

    manifest: Manifest
    stale: str = ""


class Pulls:
    """Answers for one registry and its upstreams. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        registry: Registry,
        upstreams: Mapping[str, Sequence[SpooledUpstream]],
        keeper: Keeper,
        store: Store,
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._upstreams = upstreams
        self._keeper = keeper
        self._store = store
        self._clock = clock
        self._lookups = dict(store.lookups())
        self._asked: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._last: OrderedDict[tuple[str, str], Manifest] = OrderedDict()

    async def manifest(self, rules: Dispatch, asked: Asked) -> Answer | Descriptor:
        """What a client asks for; of a HEAD perhaps its descriptor alone. Raises RemoteError or ForbiddenError."""
        missing: NotFoundError | None = None
        for place in rules.places(asked.repository, asked.ns, known=asked.known):
            try:
                if place.upstream is None:
                    return Answer(await self._held(place.repository, asked.identifier))
                return await self._through(rules.desired, place, place.upstream, asked)
            except NotFoundError as error:
                missing = error
        raise missing or NotFoundError(f"looking for {asked.repository}", "no such repository")

    async def _through(self, desired: Desired, place: Place, upstream: Reference, asked: Asked) -> Answer | Descriptor:
        identifier = asked.identifier
        here = await self._here(place.repository, identifier)
        if here is not None and (is_digest(identifier) or self._is_fresh(desired, upstream, identifier, here)):
            return Answer(here)
        try:
            self._check(desired, upstream, identifier)
            found = await self._found(desired, upstream, identifier)
            if here is not None and found.digest == here.digest:
                return Answer(here)
            if asked.head:
                self._note_asked(place.repository, found.digest, identifier)
                return found
            return Answer(await self._fetched(desired, place, upstream, asked, found.digest, here))
        except (RemoteError, ForbiddenError) as error:
            if here is None:
                raise
            log.warning("%s:%s is served as it was kept: %s", place.repository, identifier, error)
            return Answer(here, str(error))

    async def _here(self, repository: str, identifier: str) -> Manifest | None:
        try:
            return await self._held(repository, identifier)
        except NotFoundError:
            return None

    async def _held(self, repository: str, identifier: str) -> Manifest:
        """What the registry has now; what a tag meant before, and means still, is not read again. Of a digest it does not look before it says so."""
        if is_digest(identifier):
            return await self._registry.manifest(repository, identifier)
        key = (repository, identifier)
        manifest = await self._registry.manifest(repository, identifier, self._last.get(key))
        if len(manifest.raw) <= _SMALL:
            self._last[key] = manifest
            self._last.move_to_end(key)
            if len(self._last) > _MANIFESTS:
                self._last.popitem(last=False)
        return manifest

    def _is_fresh(self, desired: Desired, upstream: Reference, tag: str, here: Manifest) -> bool:
        """Whether upstream need not be asked: never again for an immutable tag, for others once in `refresh`."""
        if desired.immutable.matches(replace(upstream, tag=tag)):
            return True
        known = self._lookups.get(Lookup(str(replace(upstream, tag=tag))))
        return known is not None and known.value.digest == here.digest and 0 <= self._clock() - known.seen < desired.refresh

    def _check(self, desired: Desired, upstream: Reference, identifier: str) -> None:
        """ForbiddenError, with the rule, where the file says that this may not come from the internet."""
        target = Target(upstream.registry_repository, identifier)
        if any(image.ensure is Ensure.ABSENT for image in desired.by_target.get(target, ())):
            raise ForbiddenError(f"{target} does not come back: the set {desired.sets_of(target)[0]} says Absent")
        if desired.internet is Internet.DENY:
            raise ForbiddenError(f"{upstream.domain} is not asked: spec.internet is Deny")
        if desired.internet is Internet.LISTED and not _is_listed(desired, upstream, identifier):
            raise ForbiddenError(f"{replace(upstream, tag='')} is not asked for: spec.internet is Listed, and no set lists {identifier}")

    async def _found(self, desired: Desired, upstream: Reference, identifier: str) -> Descriptor:
        """What upstream has now; who does not answer is followed by the next one."""
        last: RemoteError = RemoteError(f"looking up {upstream}", f"{upstream.domain} is not under spec.upstreams")
        for source in self._upstreams.get(upstream.domain, ()):
            try:
                found = await source.resolve(upstream.repository, identifier)
            except RemoteError as error:
                last = error
            else:
                if not is_digest(identifier):
                    await self._note_lookup(desired, replace(upstream, tag=identifier), found)
                return found
        raise last

    async def _fetched(self, desired: Desired, place: Place, upstream: Reference, asked: Asked, digest: str, here: Manifest | None) -> Manifest:
        """From upstream, for the client at once; the registry gets the whole image behind it."""
        identifier = asked.identifier
        sources = self._upstreams[upstream.domain]
        last: RemoteError | None = None
        for source in sources:
            try:
                manifest = await source.manifest(upstream.repository, digest)
            except RemoteError as error:
                last = error
                continue
            tag = self._tag_of(place.repository, identifier, manifest.digest)
            if tag:
                target = Target(place.repository, tag)
                replaces = here.digest if here is not None else await self._meant(target)
                named = replace(upstream, tag="" if tag != identifier else tag, digest=manifest.digest)
                pulled = Pulled(target, named, manifest, asked.client, replaces)
                self._keeper.keep(pulled, desired, sources)
            return manifest
        assert last is not None  # noqa: S101 - _found() has asked one of them
        raise last

    async def _meant(self, target: Target) -> str:
        here = await self._here(target.repository, target.tag)
        return here.digest if here else ""

    def _tag_of(self, repository: str, identifier: str, digest: str) -> str:
        """The tag to keep it under: by which it was asked for; of a part of an image that is being brought, none; else the one that holds it."""
        if not is_digest(identifier):
            return identifier
        asked = self._asked.get((repository, digest))
        return asked or ("" if self._keeper.is_under_way(repository) else held_tag(digest))

    def _note_asked(self, repository: str, digest: str, tag: str) -> None:
        if not is_digest(tag):
            self._asked[repository, digest] = tag
            while len(self._asked) > _ASKED:
                self._asked.popitem(last=False)

    async def _note_lookup(self, desired: Desired, source: Reference, found: Descriptor) -> None:
        now = self._clock()
        known = {Lookup(str(source)): Present(Held(found.digest, found.media_type), now)}
        self._lookups |= known
        await asyncio.to_thread(self._store.keep_lookups, known, now - desired.refresh)

    # Blobs.

    @asynccontextmanager
    async def blob_through(self, rules: Dispatch, asked: Asked) -> AsyncIterator[Flow]:
        """A blob that the registry has not, from upstream; NotFoundError for a local repository."""
        digest, repository = asked.identifier, asked.repository
        last: RemoteError = NotFoundError(f"looking for blob {digest} of {repository}", "the registry has no such blob, and it is a local name")
        for place in rules.places(repository, asked.ns, known=asked.known):
            if place.upstream is None:
                continue
            name, sources = place.upstream.repository, self._upstreams.get(place.upstream.domain, ())
            if place.guessed and not any(source.has_named(name, digest) for source in sources):
                continue  # A push asks for each blob whether it is here: what it is called is told to no upstream.
            self._check(rules.desired, place.upstream, digest)
            for source in sources:
                try:
                    flow, reading = await _begun(source, name, digest)
                except RemoteError as error:
                    last = error
                    continue
                async with reading:
                    yield flow
                    return
        raise last


async def _begun(source: SpooledUpstream, repository: str, digest: str) -> tuple[Flow, AsyncExitStack]:
    """A blob on its way, once its first bytes are there, and what ends reading it; RemoteError when none come."""
    async with AsyncExitStack() as stack:
        size = await source.blob_size(repository, digest)
        flow = await stack.enter_async_context(source.flow(repository, Descriptor("", digest, size)))
        await flow.begun()
        return flow, stack.pop_all()


def _is_listed(desired: Desired, upstream: Reference, identifier: str) -> bool:
    """By a set, under this tag or digest, or by the tags that it chooses; a digest of a repository that is listed is a part of an image that is."""
    place = (upstream.domain, upstream.repository)
    same = [name for name in (image.upstream for image in desired.images) if name and (name.domain, name.repository) == place]
    rules = [rule for rule in desired.rules if (rule.repository.domain, rule.repository.repository) == place]
    if is_digest(identifier):
        return bool(same or rules)
    return any(identifier == name.tag for name in same) or any(choose([identifier], rule.choice) for rule in rules)
