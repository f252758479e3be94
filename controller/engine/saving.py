"""Save: an image out of a range straight into the registry, as the archive that the range's engine saves; the host's own engine has no part in it."""

from __future__ import annotations

from controller.domain.actions import Save
from controller.domain.errors import MovedError, NotFoundError, UnprovenError
from controller.domain.ports.hosts import Host
from controller.domain.ports.registries import Advance, Registry
from controller.engine.importing import Importer
from controller.engine.manifests import Manifests, identities

_TIMES, _MORE = 8, 1 << 30
"""How much more than the size that a range told of an image its archive may have: the files' heads count too, but nothing without end."""


class Saver:
    """Saves into one registry."""

    def __init__(self, registry: Registry, importer: Importer, manifests: Manifests) -> None:
        self._registry = registry
        self._importer = importer
        self._manifests = manifests

    async def save(self, action: Save, host: Host, advance: Advance) -> str:
        """Do it, and give the digest that the tag means afterwards, as read back.

        Raises MovedError when the registry's tag is not what the plan saw, CorruptError for an archive that is none or beyond all measure,
        UnprovenError when the tag does not mean the range's image, RemoteError for what engine or registry answered.
        """
        target = action.target
        there = await self._there(action)
        if there not in {action.replaces, ""} and await self._means(action, there):
            return there
        if there != action.replaces:
            seen, now = action.replaces[:19] or "nothing", there[:19] or "nothing"
            raise MovedError(f"{target}: the plan saw {seen} in the registry, and it is {now} now: look again")
        what = f"the archive of {action.image_id[:19]} from {host.name}"
        async with host.save(action.image_id, action.bytes * _TIMES + _MORE) as chunks:
            await self._importer.import_stream(what, chunks, target, action.image_id, advance)
        there = await self._there(action)
        if not there or not await self._means(action, there):
            raise UnprovenError(f"{target}: saved out of {host.name}, but the registry's tag means another image")
        return there

    async def _there(self, action: Save) -> str:
        try:
            return (await self._registry.resolve(action.target.repository, action.target.tag)).digest
        except NotFoundError:
            return ""

    async def _means(self, action: Save, digest: str) -> bool:
        """By the Id alone: whatever else a range's engine says of its images, it may make up."""
        whole = await self._manifests.whole(self._registry, action.target.repository, digest)
        return action.image_id in identities(whole)
