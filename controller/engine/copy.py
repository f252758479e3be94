"""Copy: registry to registry, manifest bytes verbatim; blobs first, then children, then the index, then referrers, the tag last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from controller.domain.actions import Copy
from controller.domain.errors import MovedError, NotFoundError, RefusedError, RemoteError
from controller.domain.oci import Manifest
from controller.domain.platforms import ATTESTATION_OF
from controller.domain.ports.registries import Advance, ReadableRegistry, Registry
from controller.domain.reference import Target
from controller.engine.blobs import Blobs
from controller.engine.manifests import Manifests
from controller.engine.platforms import chosen
from controller.engine.prove import hold
from controller.engine.referrers import Referrers
from controller.engine.tree import Origin, Tree, put_below, tree_of


class Copier:
    """Copies into one registry; its book of blobs serves all copies, so that what images share is moved once.

    `hashed`: whatever the sources give of blobs was checked already.
    """

    def __init__(
        self,
        registry: Registry,
        manifests: Manifests,
        *,
        hashed: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._hashed = hashed
        self._manifests = manifests
        self._blobs = Blobs(registry, sleep)
        self._referrers = Referrers(registry, manifests, self._blobs, replace_tag, monotonic)

    async def copy(self, action: Copy, sources: Sequence[ReadableRegistry], advance: Advance) -> str:
        """Do it, and give the digest that the target's tag means afterwards, as read back. Mirrors come first in `sources`.

        Raises MovedError when the target's tag is not what the plan saw, RemoteError for what a registry answered; RefusedError too when the image
        has come, and something that refers to it (a signature, say) has not.
        """
        last: RemoteError = RemoteError(f"copying {action.source}", f"{action.source.domain} is not under spec.upstreams")
        for source in sources:
            origin = Origin(source, action.source.repository, str(action.source), self._hashed)
            try:
                tree = await self._tree(origin, action, alone=len(sources) == 1)
                trusted = self._blobs.knows(action.target.repository, tree.blobs)
                await self._blobs.bring(origin, tree.blobs, action.target.repository, advance)
                break
            except RemoteError as error:
                last = error
        else:
            raise last
        try:
            left_out = await self._finish(origin, tree, action, advance)
        except RefusedError:
            if not trusted:
                raise
            # The registry may have lost what the book says that it has (a garbage collection): once more, asking for everything.
            self._blobs.forget(action.target.repository, tree.blobs)
            await self._blobs.bring(origin, tree.blobs, action.target.repository, advance)
            left_out = await self._finish(origin, tree, action, advance)
        if left_out:
            answer = f"{len(left_out)} failed: {'; '.join(left_out[:3])}"
            raise RefusedError(f"copying what refers to {action.source}", answer, hint=f"the image itself is in the registry as {action.target}")
        return tree.root.digest

    async def _tree(self, origin: Origin, action: Copy, *, alone: bool) -> Tree:
        """What the target's tag shall mean, with all below it."""
        if not alone:  # What the cache knows may have come from another source.
            await origin.registry.resolve(origin.repository, action.digest)
        root = await chosen(self._manifests, origin.registry, origin.repository, action.digest, action.platforms)
        if root.digest != action.wanted:
            raise MovedError(f"{action.target}: the plan wants {action.wanted[:19]}, choosing platforms gives {root.digest[:19]}: look again")
        return await tree_of(self._manifests, origin, root)

    async def _finish(self, origin: Origin, tree: Tree, action: Copy, advance: Advance) -> tuple[str, ...]:
        """Everything but the blobs. What of the referrers could not be had, in words: an image is not kept out by a broken signature of it."""
        repository = action.target.repository
        await put_below(self._registry, tree, repository)
        left_out: tuple[str, ...] = ()
        if action.referrers:
            left_out = await self._referrers.bring(origin, _subjects(tree, action), repository, advance)
        await replace_tag(self._registry, action.target, tree.root, expected=action.replaces)
        return left_out


def _subjects(tree: Tree, action: Copy) -> list[str]:
    """What somebody may have signed: every manifest, but not an index that was made here, and no attestation."""
    made_here = tree.root.is_index and tree.root.digest != action.digest
    passed_over = {child.digest for manifest in tree.manifests for child in manifest.children if child.annotation(ATTESTATION_OF)}
    return [each.digest for each in tree.manifests[made_here:] if each.digest not in passed_over]


async def replace_tag(registry: Registry, target: Target, manifest: Manifest, *, expected: str) -> None:
    """Let the target's tag mean this manifest; what it meant before is held first, and the result is read back (laws 1 and 5).

    Raises MovedError when the tag means neither `expected` nor this manifest already.
    """
    if await held_before(registry, target, manifest.digest, expected=expected):
        return
    await registry.put_manifest(target.repository, target.tag, manifest)
    there = await registry.manifest(target.repository, target.tag)
    if there.digest != manifest.digest:
        raise MovedError(f"{target}: it was written as {manifest.digest[:19]} and means {there.digest[:19]} now: somebody else writes it too")


async def held_before(registry: Registry, target: Target, wanted: str, *, expected: str) -> bool:
    """Hold what the target's tag means now, as it is about to be overwritten; True when it means `wanted` already."""
    try:
        current = await registry.manifest(target.repository, target.tag)
    except NotFoundError:
        if expected:
            raise MovedError(f"{target}: the plan saw {expected[:19]} in the registry and it is gone: look again") from None
        return False
    if wanted and current.digest == wanted:
        return True
    if current.digest != expected:
        raise MovedError(f"{target}: the plan saw {expected[:19] or 'nothing'} in the registry, and it is {current.digest[:19]} now: look again")
    await hold(registry, target.repository, current)
    return False
