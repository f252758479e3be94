"""Push: host to registry through the engine, by a journalled tag under the registry's address."""

from __future__ import annotations

import logging

from controller.domain.actions import Push
from controller.domain.errors import MovedError, NotFoundError, RefusedError, RemoteError, UnprovenError
from controller.domain.observation import Held, HostImage, StoreKind
from controller.domain.ports import Advance, Host, JournalEntry, Registry, Store
from controller.domain.reference import Target
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
        try:
            if not entry.existed:
                await host.tag(action.image_id, entry.reference)
            await host.push(entry.reference, advance)
            pushed = await self._meant(action.target, action.image_id, kind)
            if not pushed:
                raise UnprovenError(f"{action.target}: pushed from {action.host}, but the registry's tag means another image")
            self._store.set_last_pushed(engine_id, action.target, pushed)
        finally:
            await untag(self._store, host, entry)
        return pushed

    async def recover(self, host: Host, engine_id: str, kind: StoreKind) -> None:
        """After a crash, or when an engine could not be asked: finish what pushes from this engine left.

        One that had reached the registry is remembered as pushed, or the next build would be a conflict; every tag of ours is taken off.
        """
        for entry in self._store.open_pushes(engine_id):
            repository, _, tag = entry.reference.partition("/")[2].rpartition(":")
            target = Target(repository, tag)
            try:
                pushed = await self._meant(target, entry.image_id, kind)
            except NotFoundError:
                pushed = ""
            except RemoteError as error:
                log.warning("what became of the push of %s is not known yet: %s", entry.reference, error)
                continue
            if pushed:
                self._store.set_last_pushed(engine_id, target, pushed)
            await untag(self._store, host, entry)

    async def _still_means(self, host: Host, reference: str, image_id: str) -> None:
        found = await host.inspect(reference)
        if found.id != image_id:
            raise MovedError(f"{reference} on {host.name}: the plan saw {image_id[:19]}, it means {found.id[:19]} now: look again")

    async def _journalled(self, action: Push, host: Host, engine_id: str, reference: str) -> JournalEntry:
        there = await self._meaning_of(host, reference)
        ours = any((entry.reference, entry.image_id, entry.existed) == (reference, there, False) for entry in self._store.open_pushes(engine_id))
        if there not in {"", action.image_id} and not ours:
            raise RefusedError(
                f"pushing {action.tag.familiar} from {host.name}",
                f"{reference} means another image there, {there[:19]}",
                hint="remove or rename that tag: pushing would take it away",
            )
        existed = there == action.image_id and not ours
        entry = JournalEntry(host.name, engine_id, action.image_id, reference, existed)
        self._store.open_push(entry)
        return entry

    async def _meaning_of(self, host: Host, reference: str) -> str:
        """The Id of what a name means; "" for nothing."""
        try:
            return (await host.inspect(reference)).id
        except NotFoundError:
            return ""

    async def _meant(self, target: Target, image_id: str, kind: StoreKind) -> str:
        """The digest that the registry's tag means, if that is this image; "" if it is another one. Success is what was read back (law 5)."""
        found = await self._registry.manifest(target.repository, target.tag)
        whole = await self._manifests.whole(self._registry, target.repository, found.digest)
        return found.digest if Held(found.digest, identities=identities(whole)).means(HostImage(image_id, ()), kind) else ""


async def untag(store: Store, host: Host, entry: JournalEntry) -> None:
    """Take a push's tag off again if it still means that image, and close its journal entry.

    Never the image's last name: the engine would delete what was not proven to be elsewhere. Then, and when the engine can't be asked, the entry
    stays open: the tag stays ours, the next pass tries again, and the next push under this name takes it over.
    """
    try:
        gone = entry.existed or await _remove_tag(host, entry)
    except NotFoundError:
        gone = True
    except RemoteError as error:
        log.warning("the tag %s stays on %s for now: %s", entry.reference, host.name, error)
        return
    if gone:
        store.close_push(entry)


async def _remove_tag(host: Host, entry: JournalEntry) -> bool:
    """Whether the tag is ours no more: taken off, or moved on by somebody."""
    there = await host.inspect(entry.reference)
    if there.id != entry.image_id:
        return True
    if len(there.tags) < 2:  # noqa: PLR2004 - ours and at least one of the operator's
        log.info("%s is the last name of %s on %s: it stays", entry.reference, entry.image_id[:19], host.name)
        return False
    await host.remove(entry.reference)
    return True
