"""Remove: a name off a host, and with the last one the image, of which every byte was proven to be in the registry (law 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from controller.domain.errors import UnprovenError
from controller.domain.observation import HostImage
from controller.domain.ports.hosts import Host, ImageDetail, Removal
from controller.domain.reference import Reference


async def remove(host: Host, image: HostImage, tag: Reference, detail: ImageDetail, tried: str) -> None:
    """Take `tag` off the image, as it was seen a moment ago; its last name goes by Id.

    Raises UnprovenError when the engine deleted more than that, MovedError when the tag means another image by now, RefusedError when the engine
    refuses (in use), RemoteError for other answers.
    """
    if len(image.tags) > 1:
        await host.untag(str(tag), image.id)
        return
    for reference in image.repo_digests:
        # An Id that several repositories know by digest answers 409: those names go first, the content stays with the tag.
        if (reference.domain, reference.repository) != (tag.domain, tag.repository):
            _check(tried, await host.remove(str(reference)), allowed=frozenset())
    _check(tried, await host.remove(image.id), allowed=frozenset({image.id, *image.manifests, *_chain(detail.diff_ids)}))


def _check(tried: str, removal: Removal, *, allowed: frozenset[str]) -> None:
    """Compare what the engine says that it deleted with what was proven."""
    more = sorted(set(removal.deleted) - allowed)
    if more:
        raise UnprovenError(f"{tried}: the engine deleted more than was proven, {', '.join(more)}: something moved this name at the same moment")


def _chain(diff_ids: Sequence[str]) -> list[str]:
    """The chain Ids by which a classic store names layers (image-spec, config.md, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(f"sha256:{hashlib.sha256(f'{chain[-1]} {diff_id}'.encode()).hexdigest()}" if chain else diff_id)
    return chain
