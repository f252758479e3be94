"""Which images verifying is about: those that must be in the registry, or all that it lists."""

from __future__ import annotations

from controller.domain.desired import Desired, DesiredImage
from controller.domain.errors import RemoteError, UnreachableError
from controller.domain.reference import DEFAULT_TAG, Target
from controller.domain.spec import Ensure
from controller.domain.tags import choose
from controller.engine.bounded import bounded
from controller.engine.expand import Expander
from controller.engine.world import World

_LISTINGS_AT_ONCE = 8


async def listed(world: World, desired: Desired) -> dict[Target, tuple[DesiredImage, ...]]:
    """The images that must be in the registry, with those that rules choose. Where upstream can't be asked, rules choose of what the registry has."""
    expanded = await Expander(world).expand(desired)
    deferred = {(each.image_set, each.name) for each in expanded.deferred}
    held = [
        rule.image(tag)
        for rule in desired.rules
        if (rule.image_set, rule.name) in deferred
        for tag in choose(await world.registry.tags(rule.repository.registry_repository), rule.choice)
    ]
    images = expanded.expanded(held).by_target
    return {target: entries for target, entries in images.items() if all(entry.ensure is Ensure.PRESENT for entry in entries)}


async def everything(world: World, desired: Desired) -> dict[Target, tuple[DesiredImage, ...]]:
    """Every tag of every repository that the registry lists, held ones too, beside those that must be there."""
    found: dict[Target, tuple[DesiredImage, ...]] = {}

    async def one(repository: str) -> None:
        try:
            tags = await world.registry.tags(repository)
        except UnreachableError:
            raise
        except RemoteError:
            tags = [DEFAULT_TAG]  # Reading it says what is wrong there.
        found.update({Target(repository, tag): () for tag in tags})

    await bounded(one, await world.registry.catalog(), _LISTINGS_AT_ONCE)
    return found | await listed(world, desired)
