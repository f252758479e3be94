"""Restore: a tag means again what it meant before it was overwritten or deleted; what it means now is held first (law 1)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from controller.domain.errors import NotFoundError, RemoteError, WharfError
from controller.domain.ports.stores import AuditEntry
from controller.domain.provenance import RESTORE, RESTORED_BY
from controller.domain.reference import Target
from controller.domain.restoring import Earlier, earlier
from controller.engine.bounded import bounded
from controller.engine.copy import replace_tag
from controller.engine.held import held_in
from controller.engine.manifests import Manifests, content_size
from controller.engine.world import World

ASKED = "Asked"
"""Why it was done: a person asked for it."""

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Restored:
    """What the tag meant before, "" for nothing, and what it means now."""

    before: str
    digest: str


class Restorer:
    """Restores in one registry."""

    def __init__(self, world: World, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._world = world
        self._manifests = Manifests()
        self._monotonic = monotonic

    async def earlier(self, target: Target) -> tuple[Earlier, ...]:
        """What there is to restore, with its size. Raises RemoteError when the registry does not answer."""
        store, registry = self._world.store, self._world.registry
        held, current = await held_in(registry, target.repository), await self._current(target)
        found = list(earlier(target, held, current, store.changes(target.repository), store.held_since()))

        async def weigh(number: int) -> None:
            try:
                whole = await self._manifests.whole(registry, target.repository, found[number].digest)
            except RemoteError:
                return  # Of one that is broken the size is not known.
            found[number] = replace(found[number], bytes=content_size(whole))

        await bounded(weigh, range(len(found)), _AT_ONCE)
        return tuple(found)

    async def restore(self, target: Target, digest: str) -> Restored:
        """Do it, as read back, and record it.

        Raises NotFoundError when the repository has no such manifest any more, MovedError when somebody else writes the tag, RemoteError for what
        the registry answered.
        """
        began, error, before = self._monotonic(), "", await self._current(target)
        try:
            manifest = await self._world.registry.manifest(target.repository, digest)
            if before and before != digest:
                self._world.store.hold(target.held(before), self._world.clock())
            with self._world.registry.writing():
                await replace_tag(self._world.registry, target, manifest, expected=before)
        except WharfError as failure:
            error = str(failure)
            raise
        finally:
            self._record(target, before, "" if error else digest, self._monotonic() - began, error)
        self._world.store.exhume(target, digest)
        return Restored(before, digest)

    async def _current(self, target: Target) -> str:
        try:
            return (await self._world.registry.resolve(target.repository, target.tag)).digest
        except NotFoundError:
            return ""

    def _record(self, target: Target, before: str, after: str, seconds: float, error: str) -> None:
        entry = AuditEntry(self._world.clock(), RESTORED_BY, RESTORE, str(target), "", ASKED, before, after, 0, round(seconds, 3), error)
        self._world.store.record(entry)
