"""Rules for many tags -> images: which tags a repository has is asked upstream, and remembered for `refresh`."""

from __future__ import annotations

from dataclasses import replace

from controller.domain.actions import Kind, Reason
from controller.domain.desired import Deferred, Desired, DesiredImage, TagRule
from controller.domain.errors import RemoteError
from controller.domain.reference import Reference
from controller.domain.tags import choose
from controller.engine.bounded import bounded
from controller.engine.world import World

_AT_ONCE = 8

Trouble = tuple[Reason, str]


class Expander:
    """Turns rules into images. A listing decides nothing about deletion: it only adds images that must be there."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._listings: dict[Reference, tuple[float, list[str]]] = {}

    def forget_all(self) -> None:
        """The next look lists every repository anew; one that can't be listed then keeps its last known tags."""
        self._listings = {repository: (float("-inf"), tags) for repository, (_, tags) in self._listings.items()}

    async def expand(self, desired: Desired) -> Desired:
        """The same with the images that its rules choose now. What could not be listed keeps its last known tags, and says so."""
        if not desired.rules:
            return desired
        failures: dict[Reference, Trouble] = {}

        async def ask(repository: Reference) -> None:
            failure = await self._list(desired, repository)
            if failure:
                failures[repository] = failure

        await bounded(ask, {rule.repository for rule in desired.rules}, _AT_ONCE)
        chosen = {rule: self._chosen(rule) for rule in desired.rules}
        deferred = list(desired.deferred)
        for rule, images in chosen.items():
            trouble = failures.get(rule.repository) or (None if images else _nothing(rule))
            if trouble:
                deferred.append(Deferred(rule.image_set, rule.name, Kind.COPY, *trouble))
        expanded = desired.expanded(image for images in chosen.values() for image in images)
        return replace(expanded, deferred=tuple(deferred))

    def _chosen(self, rule: TagRule) -> list[DesiredImage]:
        _, tags = self._listings.get(rule.repository, (0.0, []))
        return [rule.image(tag) for tag in choose(tags, rule.choice)]

    async def _list(self, desired: Desired, repository: Reference) -> Trouble | None:
        """List it where that is due; why not, when it can't be."""
        if not desired.may_ask(repository.domain):
            return Reason.DENIED, f"{desired.refusal(repository.domain)}, so its tags are not asked for"
        now = self._world.clock()
        known = self._listings.get(repository)
        if known is not None and now - known[0] < desired.refresh:
            return None
        failure = (Reason.UNKNOWN, f"{repository.domain} was not asked for its tags")
        for registry in self._world.upstreams(repository.domain):
            try:
                self._listings[repository] = (now, await registry.tags(repository.repository))
            except RemoteError as error:
                failure = (Reason.UNKNOWN, str(error))
            else:
                return None
        return failure


def _nothing(rule: TagRule) -> Trouble:
    return Reason.NOT_FOUND, f"no tag of {rule.repository.familiar_repository} is what `tags` asks for: mend the name or the choice"
