"""Pull: registry to a host, by a journalled tag under the registry's address, and never over what the host calls by that name."""

from __future__ import annotations

from collections.abc import Callable

from controller.domain.actions import Pull
from controller.domain.errors import DeniedError, MovedError, NotFoundError, RefusedError, UnprovenError, UnreachableError
from controller.domain.observation import Held, HostImage, StoreKind
from controller.domain.ports.hosts import Host
from controller.domain.ports.registries import Advance, Registry
from controller.domain.ports.stores import JournalEntry, Store
from controller.domain.reference import Reference, parse
from controller.engine.journal import know_entry, open_entry, untag
from controller.engine.loading import Loader
from controller.engine.manifests import Manifests, identities


class Puller:
    """Lets engines pull from one registry, or gives them the image where they can't."""

    def __init__(self, registry: Registry, store: Store, manifests: Manifests, loader: Loader) -> None:
        self._registry = registry
        self._store = store
        self._manifests = manifests
        self._loader = loader

    async def pull(
        self,
        action: Pull,
        host: Host,
        engine_id: str,
        kind: StoreKind,
        address: str,
        advance: Advance,
        loaded: Callable[[str], None] | None = None,
    ) -> str:
        """Do it, and give the digest that the host's tag means afterwards, as read back. `address` is the registry as the engine reaches it.

        With `loaded`, an engine that can't reach the registry, or may not pull from it, has the image loaded, and `loaded` is told why.

        Raises MovedError when the registry's tag is not what the plan saw, RefusedError when the host calls another image by that name, RemoteError
        for what engine or registry answered.
        """
        held = await self._held(action)
        own = parse(f"{address}/{action.target}")
        entry = None
        if not await self._there(action, action.tag, host, held, kind):
            entry = await self._journalled(action, own, host, engine_id, held, kind)
            try:
                if await self._pulled(action, own, host, held, advance, loaded):
                    image_id = (await host.inspect(str(own))).id
                    entry = entry if entry.existed else know_entry(self._store, entry, image_id)
                    await self._name(action, image_id, host, held, kind)
            finally:
                if own != action.tag:
                    await untag(self._store, host, entry)
        if not await self._there(action, action.tag, host, held, kind):
            raise UnprovenError(f"{action.target}: pulled to {host.name}, but {action.tag.familiar} means nothing there")
        self._store.set_last_pushed(engine_id, action.target, held.digest)
        if entry is not None and own == action.tag:
            self._store.close_push(entry)
        return held.digest

    async def _pulled(self, action: Pull, own: Reference, host: Host, held: Held, advance: Advance, loaded: Callable[[str], None] | None) -> bool:
        """Whether the engine pulled it; False when it was loaded instead, under the name that is wanted."""
        try:
            await host.pull(str(own), advance)
        except (UnreachableError, DeniedError) as error:
            if loaded is None:
                raise
            await self._loader.load(action, held.digest, host, advance)
            loaded(str(error))
            return False
        return True

    async def _held(self, action: Pull) -> Held:
        target = action.target
        try:
            found = await self._registry.manifest(target.repository, target.tag)
        except NotFoundError:
            raise MovedError(f"{target}: the plan saw {action.digest[:19] or 'it'} in the registry and it is gone: look again") from None
        if action.digest and found.digest != action.digest:
            raise MovedError(f"{target}: the plan saw {action.digest[:19]} in the registry, and it is {found.digest[:19]} now: look again")
        whole = await self._manifests.whole(self._registry, target.repository, found.digest)
        return Held(found.digest, identities=identities(whole))

    async def _there(self, action: Pull, tag: Reference, host: Host, held: Held, kind: StoreKind) -> bool:
        """Whether a name of the host means the registry's image; False when it means nothing, RefusedError when it means another one."""
        image = _image_of(tag, (await host.look()).images)
        if image is not None and not held.means(image, kind):
            raise RefusedError(
                f"pulling {action.target} to {host.name}",
                f"{tag.familiar} means another image there, {image.id[:19]}",
                hint="push it, or remove or rename that tag: pulling would take it away",
            )
        return image is not None

    async def _journalled(self, action: Pull, own: Reference, host: Host, engine_id: str, held: Held, kind: StoreKind) -> JournalEntry:
        """The entry of the name that is pulled. One that an operator gave to this same image before is used, and stays."""
        image = _image_of(own, (await host.look()).images)
        open_names = {entry.reference for entry in self._store.open_pushes(engine_id) if not entry.existed}
        if image is not None and held.means(image, kind) and str(own) not in open_names:
            entry = JournalEntry(host.name, engine_id, image.id, str(own), existed=True)
            self._store.open_push(entry)
            return entry
        return open_entry(self._store, host, engine_id, str(own), there=image.id if image else "", tried=f"pulling {action.target} to {host.name}")

    async def _name(self, action: Pull, image_id: str, host: Host, held: Held, kind: StoreKind) -> None:
        """Give what was pulled the name that is wanted, if that is free still and it is what the registry held when this began."""
        image = next((image for image in (await host.look()).images if image.id == image_id), None)
        if image is None or not held.means(image, kind):
            raise MovedError(f"{action.target}: the registry's tag was moved while {host.name} pulled it: look again")
        if not await self._there(action, action.tag, host, held, kind):
            await host.tag(image_id, str(action.tag))


def _image_of(tag: Reference, images: tuple[HostImage, ...]) -> HostImage | None:
    return next((image for image in images if tag in image.tags), None)
