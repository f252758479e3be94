"""Build: a Dockerfile folder to the registry by a host's engine: built, pushed, read back, proven, and off the host again."""

from __future__ import annotations

import logging

from controller.domain.actions import Build
from controller.domain.errors import MovedError, NotFoundError, RemoteError, UnprovenError, WharfError
from controller.domain.labels import CONTEXT_HASH
from controller.domain.observation import StoreKind
from controller.domain.ports.hosts import BuildRequest, Contexts, Host
from controller.domain.ports.registries import Advance, Registry
from controller.domain.ports.stores import JournalEntry, Store
from controller.engine.copy import held_before
from controller.engine.journal import know_entry, meaning_of, meant, open_entry, settle
from controller.engine.manifests import Manifests
from controller.engine.prove import Prover

log = logging.getLogger(__name__)


class Builder:
    """Builds for one registry."""

    def __init__(self, registry: Registry, store: Store, manifests: Manifests, contexts: Contexts) -> None:
        self._registry = registry
        self._store = store
        self._manifests = manifests
        self._contexts = contexts

    async def build(self, action: Build, host: Host, engine_id: str, kind: StoreKind, address: str, advance: Advance, prover: Prover) -> str:
        """Do it, and give the digest that the registry's tag means afterwards, as read back. `address` is the registry as the engine reaches it.

        What is built is the folder as it is now, and its hash becomes the image's label. When the push or the proof fails, the image stays on the
        host under a tag of ours that is journalled; a later build or `Pusher.recover` goes on from there. An image that is in the registry and can't
        be removed yet is no failure. Raises MovedError when registry or folder changed on the way, UnprovenError when the registry does not hold
        what was pushed, RemoteError for what folder, engine or registry answered.
        """
        tried = f"building {action.target} on {host.name}"
        folder = await self._contexts.look(action.source)
        await self._as_planned(action)
        entry = await self._journalled(host, engine_id, f"{address}/{action.target}", tried)
        request = BuildRequest(entry.reference, action.source, ((CONTEXT_HASH, folder.hash),))
        try:
            image_id = await host.build(request, self._contexts.tar(action.source), advance)
        except WharfError:
            await self._nothing_made(host, entry)
            raise
        entry = know_entry(self._store, entry, image_id)
        await held_before(self._registry, action.target, "", expected=action.replaces)
        await host.push(entry.reference, advance)
        pushed = await meant(self._registry, self._manifests, action.target, image_id, kind)
        if not pushed:
            raise UnprovenError(f"{action.target}: built and pushed by {host.name}, but the registry's tag means another image")
        self._store.set_last_pushed(engine_id, action.target, pushed)
        try:
            await settle(self._store, host, entry, kind, prover, advance, insist=True)
        except RemoteError as error:
            log.warning(
                "%s is in the registry, and stays on %s for now: %s",
                action.target,
                host.name,
                error,
                extra={"image": str(action.target), "host": host.name, "error": str(error)},
            )
        return pushed

    async def _as_planned(self, action: Build) -> None:
        """Nothing is built for a tag that has changed since it was planned; it is looked at again before it is overwritten."""
        target = action.target
        try:
            current = (await self._registry.resolve(target.repository, target.tag)).digest
        except NotFoundError:
            current = ""
        if current != action.replaces:
            raise MovedError(f"{target}: the plan saw {action.replaces[:19] or 'nothing'} in the registry, it is {current[:19] or 'gone'} now")

    async def _journalled(self, host: Host, engine_id: str, reference: str, tried: str) -> JournalEntry:
        return open_entry(self._store, host, engine_id, reference, there=await meaning_of(host, reference), tried=tried)

    async def _nothing_made(self, host: Host, entry: JournalEntry) -> None:
        """A build that failed: where its name means nothing, there is nothing to take off. What can't be told now stays journalled."""
        try:
            there = await meaning_of(host, entry.reference)
        except RemoteError as error:
            log.warning(
                "whether %s was built on %s is not known yet: %s",
                entry.reference,
                host.name,
                error,
                extra={"image": entry.reference, "host": host.name, "error": str(error)},
            )
            return
        known = {other.image_id for other in self._store.open_pushes(entry.engine_id) if other.reference == entry.reference}
        if not there or there in known:
            self._store.close_push(entry)
