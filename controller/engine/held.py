"""What is held in the registry under tags of ours: the manifests that tags meant before, and those that only a digest meant (law 1)."""

from __future__ import annotations

from controller.domain.errors import NotFoundError
from controller.domain.ports.registries import Registry
from controller.domain.reference import HELD_PREFIX
from controller.engine.bounded import bounded

_AT_ONCE = 16


async def held_in(registry: Registry, repository: str) -> dict[str, str]:
    """Each held tag of a repository, sorted, and the digest that it means. Raises RemoteError when the registry does not answer."""
    found: dict[str, str] = {}

    async def ask(tag: str) -> None:
        try:
            found[tag] = (await registry.resolve(repository, tag)).digest
        except NotFoundError:
            return  # Deleted since it was listed.

    await bounded(ask, [tag for tag in await registry.tags(repository) if tag.startswith(HELD_PREFIX)], _AT_ONCE)
    return dict(sorted(found.items()))
