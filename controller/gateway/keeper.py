"""What clients pulled through is brought to the registry, whole, in the background; whoever leaves ends none of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from controller.domain.actions import Copy, Reason
from controller.domain.desired import Desired
from controller.domain.errors import CollectingError, WharfError
from controller.domain.oci import Manifest
from controller.domain.ports.registries import Advance, Registry
from controller.domain.reference import Reference, Target
from controller.engine.copy import Copier
from controller.engine.manifests import Manifests
from controller.engine.platforms import wanted
from controller.gateway.spool import Spool
from controller.gateway.upstream import SpooledUpstream

log = logging.getLogger(__name__)

IMAGES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Pulled:
    """An image that a client got from upstream: `source` has its tag there, if it was asked for by one; `replaces` is what the registry has.

    `client` is the address that asked.
    """

    target: Target
    source: Reference
    manifest: Manifest
    client: str
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of it: `error` says why it is not in the registry, "" when it is. `bytes` are the image's that came until then."""

    pulled: Pulled
    bytes: int
    seconds: float
    error: str = ""


class Keeper:
    """One image is brought once at a time; `done` is told of each."""

    def __init__(self, group: asyncio.TaskGroup, registry: Registry, manifests: Manifests, spool: Spool, done: Callable[[Kept], None]) -> None:
        self._group = group
        self._registry = registry
        self._copier = Copier(registry, manifests, hashed=True)
        self._manifests = manifests
        self._spool = spool
        self._done = done
        self._turn = asyncio.Semaphore(IMAGES_AT_ONCE)
        self._under_way: dict[tuple[Target, str], asyncio.Task[None]] = {}

    def is_under_way(self, repository: str) -> bool:
        """Whether an image of this repository is being brought."""
        return any(target.repository == repository for target, _ in self._under_way)

    def keep(self, pulled: Pulled, desired: Desired, sources: Sequence[SpooledUpstream]) -> None:
        """Bring it, unless that is under way."""
        key = (pulled.target, pulled.manifest.digest)
        if key in self._under_way:
            return
        task = self._under_way[key] = self._group.create_task(self._bring(pulled, desired, sources))
        task.add_done_callback(lambda _: self._under_way.pop(key))

    def close(self) -> None:
        """Cancel what is under way; nothing is tagged of what is not whole."""
        for task in self._under_way.values():
            task.cancel()

    async def _bring(self, pulled: Pulled, desired: Desired, sources: Sequence[SpooledUpstream]) -> None:
        with ExitStack() as stack:
            for source in sources:
                stack.enter_context(self._spool.keeping(source.origin(pulled.source.repository)))
            async with self._turn:
                began, counted, said = time.monotonic(), 0, ""

                def advance(count: int) -> None:
                    nonlocal counted
                    counted += count

                try:
                    await self._when_open(lambda: self._copy(pulled, desired, sources, advance))
                except WharfError as error:
                    said = str(error)
                self._tell(Kept(pulled, counted, time.monotonic() - began, said))

    async def _when_open(self, copy: Callable[[], Awaitable[None]]) -> None:
        """While the registry's garbage is collected, it waits in the spool; clients have it from there."""
        while True:
            try:
                with self._registry.writing():
                    return await copy()
            except CollectingError as error:
                log.info("%s", error)
                await asyncio.sleep(error.retry_after or 1.0)

    def _tell(self, kept: Kept) -> None:
        pulled = kept.pulled
        fields = {"image": str(pulled.target), "host": pulled.client, "bytes": kept.bytes, "seconds": kept.seconds, "error": kept.error}
        came = f"{pulled.client} pulled {pulled.target} from the internet, {pulled.source.domain}"
        log.warning("%s: %s", came, f"it is not in the registry: {kept.error}" if kept.error else "it is in the registry now", extra=fields)
        self._done(kept)

    async def _copy(self, pulled: Pulled, desired: Desired, sources: Sequence[SpooledUpstream], advance: Advance) -> None:
        listed = desired.by_target.get(pulled.target, ())
        platforms = listed[0].platforms if listed else ()
        digest, repository = pulled.manifest.digest, pulled.source.repository
        meant = await wanted(self._manifests, sources[0], repository, digest, platforms) if platforms else None
        action = Copy(
            target=pulled.target,
            sets=(),
            reason=Reason.OUTDATED if pulled.replaces else Reason.MISSING,
            message=f"pulled through from {pulled.source.domain}",
            source=pulled.source,
            digest=digest,
            wanted=meant.digest if meant else digest,
            replaces=pulled.replaces,
            platforms=platforms,
            referrers=listed[0].referrers if listed else True,
        )
        await self._copier.copy(action, sources, advance)
