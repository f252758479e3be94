"""Push: host to registry through the engine, by a journalled tag under the registry's address."""

from __future__ import annotations

import time
from collections.abc import Callable

from controller.domain.actions import Push
from controller.domain.errors import MovedError, NotFoundError, RefusedError, RemoteError, UnprovenError
from controller.domain.observation import StoreKind
from controller.domain.ports.hosts import Host
from controller.domain.ports.registries import Advance, Registry
from controller.domain.ports.stores import JournalEntry, Store
from controller.domain.reference import Target
from controller.engine.copy import held_before
from controller.engine.holdings import Holdings
from controller.engine.journal import know_entry, meaning_of, meant, named, settle, target_of, tell_stays, untag
from controller.engine.manifests import Manifests
from controller.engine.prove import Prover

_REMEMBERS = (
    "If its garbage was collected, its blob cache remembers that it had this manifest and keeps nothing of it: "
    "restart it, or let this host push through the gateway (registryAddress)"
)


class Pusher:
    """Pushes from engines into one registry."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        manifests: Manifests,
        *,
        holdings: Holdings | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._store = store
        self._manifests = manifests
        self._holdings = holdings
        self._monotonic = monotonic

    async def push(self, action: Push, host: Host, engine_id: str, kind: StoreKind, address: str, advance: Advance, *, held: bool = False) -> str:
        """Do it, and give the digest that the registry's tag means afterwards, as read back. `address` is the registry as the engine reaches it.

        `held`: the caller has held what the tag means, or knows that it means the same image.

        Raises MovedError when host or registry are not what the plan saw, RemoteError for what engine or registry answered.
        """
        await self._still_means(host, str(action.tag), action.image_id)
        if not held:
            await held_before(self._registry, action.target, "", expected=action.replaces)
        entry = await self._journalled(action, host, engine_id, f"{address}/{action.target}")
        try:
            if not entry.existed:
                await host.tag(action.image_id, entry.reference)
                know_entry(self._store, entry, action.image_id)
            await host.push(entry.reference, advance)
            try:
                pushed = await meant(self._registry, self._manifests, action.target, action.image_id, kind)
            except NotFoundError as error:
                raise UnprovenError(
                    f"{action.target}: pushed from {action.host}, and the registry does not have it ({error.answer}). {_REMEMBERS}"
                ) from None
            if not pushed:
                raise UnprovenError(f"{action.target}: pushed from {action.host}, but the registry's tag means another image")
            self._store.set_last_pushed(engine_id, action.target, pushed)
        finally:
            await untag(self._store, host, entry)
        return pushed

    async def recover(self, host: Host, engine_id: str, kind: StoreKind, only: Target | None = None) -> None:
        """After a crash, or when somebody could not be asked: finish what pushes, builds and pulls left on this engine, or left of one image.

        What had reached the registry is remembered as pushed, or the next build would be a conflict. Every tag of ours is taken off; one that is an
        image's last name only when the registry was shown to hold its content.
        """
        prover = Prover(self._registry, self._monotonic, self._holdings.renew) if self._holdings else Prover(self._registry, self._monotonic)
        for entry in self._store.open_pushes(engine_id):
            if only not in {None, target_of(entry)}:
                continue
            try:
                await self._finish(entry, host, kind, prover)
            except (RemoteError, UnprovenError) as error:
                tell_stays(entry, host, error)

    async def _finish(self, entry: JournalEntry, host: Host, kind: StoreKind, prover: Prover) -> None:
        known = entry if entry.image_id else await named(self._store, host, entry)
        if known is None:
            return
        target = target_of(known)
        try:
            pushed = await meant(self._registry, self._manifests, target, known.image_id, kind)
        except NotFoundError:
            pushed = ""
        if pushed:
            self._store.set_last_pushed(known.engine_id, target, pushed)
        await settle(self._store, host, known, kind, prover, lambda _: None)

    async def _still_means(self, host: Host, reference: str, image_id: str) -> None:
        found = await host.inspect(reference)
        if found.id != image_id:
            raise MovedError(f"{reference} on {host.name}: the plan saw {image_id[:19]}, it means {found.id[:19]} now: look again")

    async def _journalled(self, action: Push, host: Host, engine_id: str, reference: str) -> JournalEntry:
        there = await meaning_of(host, reference)
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
