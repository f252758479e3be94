"""Garbage collection without an outage: writers wait, readers don't, and what the registry says afterwards is true. See docs/adr/0026.

While it runs, a registry with a blob cache goes on saying that it has what the collector took: HEAD 200 without content, PUT 201 that keeps nothing.
What it says of blobs is put right before anybody writes again, by deleting each link to what is gone; of manifests, by who writes them (Doubt).
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from controller.domain.errors import CollectingError, LockedError, NotFoundError, RefusedError, RemoteError, UsageError
from controller.domain.letting_go import let_go
from controller.domain.oci import Descriptor, digest_of, once
from controller.domain.ports.collecting import CollectedRegistry, CollectorProgram, Doubt, Gate, Marked, RegistryStorage, Shut
from controller.domain.ports.stores import AuditEntry
from controller.domain.usage import Survey
from controller.engine.bounded import bounded
from controller.engine.importing import STAGING
from controller.engine.survey import survey

COLLECT = "Collect"
"""The audit trail's word."""

_AT_ONCE = 32
_TRIES = 3
"""How often a link is deleted that a reader brought back into the cache at that moment."""

_NOBODYS = f"sha256:{'0' * 64}"
"""A digest that no blob has."""


class Cache(StrEnum):
    """What the running registry remembered of what was collected, and what became of that."""

    OFF = "Off"
    CLEARED = "Cleared"
    RESTARTED = "Restarted"
    REMEMBERS = "Remembers"
    """It still says that it has blobs which are gone: restart it."""


def expired_by(trail: Iterable[AuditEntry]) -> dict[str, set[str]]:
    """By repository what was held and let go of, as the audit trail has it."""
    found: dict[str, set[str]] = {}
    for entry in trail:
        if not entry.error and entry.before:
            found.setdefault(entry.image.rpartition(":")[0], set()).add(entry.before)
    return found


@dataclass(frozen=True, slots=True)
class Terms:
    """How it is done. `cached` is what the configuration says of it, None where it is not known; `held_off` tells why writes go on all the same."""

    patience: float
    cached: bool | None
    restarts: bool
    held_off: Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Collected:
    """What was done. `bytes` None: the files are not on this machine. `gone` are the manifests that were let go of, by repository."""

    blobs: int
    bytes: int | None
    gone: Mapping[str, tuple[str, ...]]
    cache: Cache
    links: int
    held_off: float


class GarbageCollection:
    """Of one registry. `expired` are the manifests by repository whose held tags went."""

    def __init__(
        self,
        registry: CollectedRegistry,
        gate: Gate,
        program: CollectorProgram,
        storage: RegistryStorage | None,
        expired: Mapping[str, Collection[str]],
    ) -> None:
        self._registry = registry
        self._gate = gate
        self._program = program
        self._storage = storage
        self._expired = expired

    async def would(self, seen: Survey) -> Marked:
        """What the collector says that it would take; nothing is changed. UsageError when it is another registry's."""
        marked = await self._program.look()
        unknown = [target for target, digest in seen.tags.items() if digest not in marked.manifests.get(target.repository, ())]
        if unknown:
            raise self._other_registry(
                f"it knows nothing of {unknown[0]}, and {len(unknown)} more" if len(unknown) > 1 else f"it does not know {unknown[0]}"
            )
        return marked

    async def collect(self, terms: Terms) -> Collected:
        """Do it. UsageError where it could not be done safely, LockedError while somebody writes; then nothing was changed."""
        try:
            digest, marked = await self._prepared(terms)
        except CollectingError as error:
            raise LockedError(f"another collection of {self._registry.address} is under way: {error.answer}. Let it end") from None
        storage = self._storage if self._storage and digest in await self._storage.blobs() else None
        async with self._gate.collecting(terms.patience) as shut:
            began = time.monotonic()
            why = await terms.held_off()
            if why:
                raise UsageError(why)
            return await self._shut_away(shut, storage, marked, digest, began)

    async def _shut_away(self, shut: Shut, storage: RegistryStorage | None, marked: Marked, canary: str, began: float) -> Collected:
        """All that happens while nobody writes."""
        gone = await self._let_go(marked)
        before = await storage.blobs() if storage else {}
        links = await storage.links() if storage else frozenset()
        shut.believe(Doubt.BLOBS)
        failure: RefusedError | None = None
        try:
            marked = await self._program.collect(shut.files)
        except RefusedError as error:  # Part of it may be done.
            failure = error
        after = await storage.blobs() if storage else {}
        if storage:
            links = frozenset((repository, digest) for repository, digest in links | marked.links if digest not in after)
        else:
            links = marked.links | {(name, digest) for name in await self._registry.catalog() for digest in marked.garbage}
        cache = await self._put_right(links, canary)
        shut.believe({Cache.CLEARED: Doubt.MANIFESTS, Cache.REMEMBERS: Doubt.BLOBS}.get(cache, Doubt.NONE))
        if failure is not None:
            raise failure
        taken = (before.keys() - after.keys() if storage else marked.garbage) - {canary}
        won = sum(before[digest] for digest in taken) if storage else None
        return Collected(len(taken), won, gone, cache, len(links) if cache is Cache.CLEARED else 0, time.monotonic() - began)

    def _other_registry(self, why: str) -> UsageError:
        return UsageError(f"the collector's configuration is not that of {self._registry.address}: {why}. Name the one that this registry runs with")

    # Before it.

    async def _prepared(self, terms: Terms) -> tuple[str, Marked]:
        """A blob that nothing needs, and what the collector would take: that one too, or it is another registry's."""
        await self._check_clearing(terms)
        canary = secrets.token_bytes(16)
        digest = digest_of(canary)
        await self._registry.write_blob(STAGING, Descriptor("", digest, len(canary)), once(canary))
        marked = await self._program.look()
        if digest not in marked.garbage:
            raise self._other_registry("it does not know what was written there a moment ago")
        return digest, marked

    async def _check_clearing(self, terms: Terms) -> None:
        """Whether a cache could be put right: by deleting, or by a restart."""
        if terms.cached is False or terms.restarts:
            return
        try:
            await self._registry.delete_blob(STAGING, _NOBODYS)
        except CollectingError:
            raise
        except RefusedError as error:
            raise UsageError(
                f"{self._registry.address} does not delete ({error.answer}), so what its blob cache remembers could not be cleared: "
                "set storage.delete.enabled, take storage.cache out of its configuration, or say --restart"
            ) from None

    async def _let_go(self, marked: Marked) -> dict[str, tuple[str, ...]]:
        """Delete what was held and expired; all is looked at anew, as nobody writes now."""
        repositories = {name for name, digests in self._expired.items() if marked.manifests.get(name, frozenset()) & set(digests)}
        if not repositories:
            return {}
        seen = await survey(self._registry)
        unread = {target.repository for target in seen.unread}
        gone: dict[str, tuple[str, ...]] = {}
        for name in sorted(repositories - unread):
            known = dict(seen.manifests.get(name, {}))
            named = frozenset(known)
            try:
                for digest in marked.manifests[name] - named:
                    known[digest] = await self._registry.manifest(name, digest)
            except RemoteError:
                continue  # What can't be read may name any of them.
            gone[name] = let_go(self._expired[name], known, named)
            for digest in gone[name]:
                with contextlib.suppress(NotFoundError):
                    await self._registry.delete_manifest(name, digest)
        return {name: digests for name, digests in gone.items() if digests}

    # After it.

    async def _put_right(self, links: Collection[tuple[str, str]], canary: str) -> Cache:
        if not await self._says_to_have(STAGING, canary):
            return Cache.OFF
        if await self._program.restart():
            await self._registry.ping()
            if not await self._says_to_have(STAGING, canary):
                return Cache.RESTARTED
        left = list({*links, (STAGING, canary)})
        for _ in range(_TRIES):
            left = await self._cleared(left)
            if not left:
                return Cache.CLEARED
        return Cache.REMEMBERS

    async def _cleared(self, links: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
        """Delete them, then ask for each: those that are there still."""
        left: list[tuple[str, str]] = []

        async def delete(link: tuple[str, str]) -> None:
            await self._registry.delete_blob(*link)

        async def ask(link: tuple[str, str]) -> None:
            if await self._says_to_have(*link):
                left.append(link)

        with contextlib.suppress(RefusedError, ExceptionGroup):  # It does not delete; what is left says so.
            await bounded(delete, links, _AT_ONCE)
        await bounded(ask, links, _AT_ONCE)
        return left

    async def _says_to_have(self, repository: str, digest: str) -> bool:
        """By HEAD alone: what it says is what is asked here."""
        try:
            await self._registry.blob_size(repository, digest)
        except NotFoundError:
            return False
        return True
