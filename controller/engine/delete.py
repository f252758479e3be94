"""Delete: a tag out of the registry, that tag alone; what it meant is held first, so that it can be restored (law 1)."""

from __future__ import annotations

from controller.domain.actions import Delete
from controller.domain.errors import MovedError, NotFoundError, RefusedError
from controller.domain.observation import Tombstone
from controller.domain.oci import INDEX_TYPES, Manifest
from controller.domain.reference import HELD_PREFIX, Target, held_tag
from controller.engine.manifests import Manifests, identities
from controller.engine.prove import hold
from controller.engine.world import World


class Deleter:
    """Deletes tags of one registry."""

    def __init__(self, world: World, manifests: Manifests) -> None:
        self._world = world
        self._registry = world.registry
        self._manifests = manifests

    async def delete(self, action: Delete) -> None:
        """Do it. A tombstone says which content may not come back by itself; the caller has told how long the held tag counts.

        Raises MovedError when the tag means something else now, RefusedError while an index of the repository references the manifest or when
        the registry does not delete, UnprovenError when what it means can't be held.
        """
        target = action.target
        if not await self._still_means(target, action.digest):
            return
        manifest = await self._registry.manifest(target.repository, action.digest)
        own = target.tag == held_tag(action.digest)
        if not own:
            await hold(self._registry, target.repository, manifest)
        self._world.store.bury(target, Tombstone(action.digest, await self._identities(target, manifest), self._world.clock()))
        if not own:  # What is named by its digest has the tag that holds it for its own: it goes when the restore window ends.
            await self._registry.delete_tag(target.repository, target.tag)

    async def expire(self, place: Target, digest: str) -> None:
        """A held tag whose time is over. Errors as of delete()."""
        if await self._still_means(place, digest, among_held=True):
            await self._registry.delete_tag(place.repository, place.tag)

    async def _still_means(self, target: Target, digest: str, *, among_held: bool = False) -> bool:
        """Whether it means that, and may be deleted; False when it is gone already.

        An index that is only held forbids nothing, unless `among_held`: what is deleted is held from now on, so longer than that index.
        """
        try:
            current = (await self._registry.resolve(target.repository, target.tag)).digest
        except NotFoundError:
            return False
        if current != digest:
            raise MovedError(f"{target}: the plan saw {digest[:19]} in the registry, it is {current[:19]} now: look again")
        holder = await self._index_with(target, digest, among_held=among_held)
        if holder:
            raise RefusedError(f"deleting {target}", f"the index {target.repository}:{holder} references it", hint=f"delete {holder} first")
        return True

    async def _identities(self, target: Target, manifest: Manifest) -> frozenset[str]:
        try:
            return identities(await self._manifests.whole(self._registry, target.repository, manifest.digest))
        except NotFoundError:
            return identities((manifest,))  # An index of which a child is lost.

    async def _index_with(self, target: Target, digest: str, *, among_held: bool) -> str:
        """The tag of an index that references the manifest, "" if there is none."""
        repository = target.repository
        for tag in await self._registry.tags(repository):
            if tag == target.tag or (tag.startswith(HELD_PREFIX) and not among_held):
                continue
            try:
                found = await self._registry.resolve(repository, tag)
            except NotFoundError:
                continue
            if found.media_type in INDEX_TYPES and digest in await self._children(repository, found.digest):
                return tag
        return ""

    async def _children(self, repository: str, digest: str) -> set[str]:
        whole = await self._manifests.whole(self._registry, repository, digest)
        return {child.digest for manifest in whole for child in manifest.children}
