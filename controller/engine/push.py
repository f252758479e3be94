"""Push: host to registry through the engine, by a journalled tag under the registry's address (design: "Pushing from a host")."""

from __future__ import annotations

import logging

from controller.domain.actions import Push
from controller.domain.errors import MovedError, NotFoundError, RefusedError, RemoteError, UnprovenError
from controller.domain.observation import Held, HostImage, StoreKind
from controller.domain.ports import Advance, Host, JournalEntry, Registry, Store
from controller.engine.copy import held_before
from controller.engine.manifests import Manifests, identities

log = logging.getLogger(__name__)


class Pusher:
    """Pushes from engines into one registry."""

    def __init__(self, registry: Registry, store: Store, manifests: Manifests) -> None:
        self._registry = registry
        self._store = store
        self._manifests = manifests

    async def push(self, action: Push, host: Host, engine_id: str, kind: StoreKind, address: str, advance: Advance) -> str:
        """Do it, and give the digest that the registry's tag means afterwards, as read back. `address` is the registry as the engine reaches it.

        Raises MovedError when host or registry are not what the plan saw, RemoteError for what engine or registry answered.
        """
        await self._still_means(host, str(action.tag), action.image_id)
        await held_before(self._registry, action.target, "", expected=action.replaces)
        entry = await self._journalled(action, host, engine_id, f"{address}/{action.target}")
        pushed = ""
        try:
            if not entry.existed:
                await host.tag(action.image_id, entry.reference)
            await host.push(entry.reference, advance)
            pushed = await self._read_back(action, kind)
            self._store.set_last_pushed(engine_id, action.target, pushed)
        finally:
            await untag(self._store, host, entry, pushed=bool(pushed))
        return pushed

    async def _still_means(self, host: Host, reference: str, image_id: str) -> None:
        found = await host.inspect(reference)
        if found.id != image_id:
            raise MovedError(f"{reference} on {host.name}: the plan saw {image_id[:19]}, it means {found.id[:19]} now: look again")

    async def _journalled(self, action: Push, host: Host, engine_id: str, reference: str) -> JournalEntry:
        existed = False
        try:
            there = await host.inspect(reference)
        except NotFoundError:
            pass
        else:
            if there.id != action.image_id:
                raise RefusedError(
                    f"pushing {action.tag.familiar} from {host.name}",
                    f"{reference} means another image there, {there.id[:19]}",
                    hint="remove or rename that tag: pushing would take it away",
                )
            existed = not self._is_ours(engine_id, reference)
        entry = JournalEntry(host.name, engine_id, action.image_id, reference, existed)
        self._store.open_push(entry)
        return entry

    def _is_ours(self, engine_id: str, reference: str) -> bool:
        """Whether an earlier push of ours made this tag, and could not take it off again."""
        return any(entry.reference == reference and not entry.existed for entry in self._store.open_pushes(engine_id))

    async def _read_back(self, action: Push, kind: StoreKind) -> str:
        """Success is what was read back (law 5): the tag must mean the image that was pushed."""
        target = action.target
        found = await self._registry.manifest(target.repository, target.tag)
        whole = await self._manifests.whole(self._registry, target.repository, found.digest)
        image = HostImage(action.image_id, (action.tag,))
        if not Held(found.digest, identities=identities(whole)).means(image, kind):
            raise UnprovenError(f"{target}: pushed from {action.host}, but the registry's {found.digest[:19]} is another image")
        return found.digest


async def untag(store: Store, host: Host, entry: JournalEntry, *, pushed: bool) -> None:
    """Take a push's tag off again if it still means that image, and close its journal entry.

    Never the image's last reference unless the push was read back: the engine would delete what may exist nowhere else. When the engine can't
    be asked, the entry stays open, and the next start tries again.
    """
    try:
        if not entry.existed:
            await _remove_tag(host, entry, pushed=pushed)
    except NotFoundError:
        pass
    except RemoteError as error:
        log.warning("the tag %s stays on %s for now: %s", entry.reference, host.name, error)
        return
    store.close_push(entry)


async def _remove_tag(host: Host, entry: JournalEntry, *, pushed: bool) -> None:
    there = await host.inspect(entry.reference)
    if there.id != entry.image_id:
        return
    if len(there.tags) < 2 and not pushed:  # noqa: PLR2004 - ours and at least one of the operator's
        log.warning("%s is the last name of %s on %s, and it was not pushed: it stays", entry.reference, entry.image_id[:19], host.name)
        return
    await host.remove(entry.reference)


async def recover(store: Store, host: Host, engine_id: str) -> None:
    """After a crash: take off every tag that a push of ours left on this engine."""
    for entry in store.open_pushes(engine_id):
        await untag(store, host, entry, pushed=False)
