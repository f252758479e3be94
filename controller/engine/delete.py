"""Delete: a tag out of the registry, that tag alone."""

from __future__ import annotations

from controller.domain.actions import Delete
from controller.domain.errors import MovedError, NotFoundError, RefusedError
from controller.domain.oci import INDEX_TYPES
from controller.domain.ports import Registry
from controller.engine.manifests import Manifests


class Deleter:
    """Deletes tags of one registry."""

    def __init__(self, registry: Registry, manifests: Manifests) -> None:
        self._registry = registry
        self._manifests = manifests

    async def delete(self, action: Delete) -> None:
        """Do it.

        Raises MovedError when the tag means something else now, RefusedError while an index of the repository references the manifest or when
        the registry does not delete.
        """
        target = action.target
        try:
            current = (await self._registry.resolve(target.repository, target.tag)).digest
        except NotFoundError:
            return
        if current != action.digest:
            raise MovedError(f"{target}: the plan saw {action.digest[:19]} in the registry, it is {current[:19]} now: look again")
        holder = await self._index_with(target.repository, target.tag, action.digest)
        if holder:
            raise RefusedError(f"deleting {target}", f"the index {target.repository}:{holder} references it", hint=f"delete {holder} first")
        await self._registry.delete_tag(target.repository, target.tag)

    async def _index_with(self, repository: str, own: str, digest: str) -> str:
        """The tag of an index that references the manifest, "" if there is none."""
        for tag in await self._registry.tags(repository):
            if tag == own:
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
