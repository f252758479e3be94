"""Which ranges there are now: asked of the hosts on which they run, at each look. A range that went is no host any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.domain.actions import Kind, Reason
from controller.domain.desired import Deferred, Desired, DesiredHost, RangeGroup
from controller.domain.errors import RemoteError
from controller.domain.ranges import Container, found_in
from controller.engine.world import World

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Found:
    """What one round of questions found: hosts, of which of them nothing is known now and why, and what `deferred` and `others` of Desired are."""

    hosts: tuple[DesiredHost, ...]
    silent: Mapping[str, str]
    deferred: tuple[Deferred, ...]
    others: tuple[Deferred, ...]


class Discovery:
    """Turns groups of ranges into hosts, and opens and closes them in the world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._found = _Found((), {}, (), ())
        self._known: dict[str, DesiredHost] = {}
        self._asked = False

    @property
    def complete(self) -> bool:
        """Whether at the last look every host that has ranges answered."""
        return self._asked and not self._found.deferred

    async def expand(self, desired: Desired) -> Desired:
        """The same with the ranges that there are now as hosts. Those of a host that does not answer are kept, and not known (law 2)."""
        if not desired.groups or desired.discovered:
            return desired
        found = self._found = await self._look(desired)
        self._asked = True
        self._world.silent.clear()
        self._world.silent.update(found.silent)
        await self._keep(found.hosts)
        return replace(
            desired,
            hosts=(*desired.hosts, *found.hosts),
            discovered=True,
            deferred=(*desired.deferred, *found.deferred),
            others=(*desired.others, *found.others),
        )

    async def differs(self, desired: Desired) -> bool:
        """Whether there are other ranges now than at the last look. Changes nothing."""
        return bool(desired.groups) and await self._look(desired) != self._found

    async def _look(self, desired: Desired) -> _Found:
        async with asyncio.TaskGroup() as group:
            asking = [(each, group.create_task(self._containers(each))) for each in desired.groups]
        taken = {host.range for host in desired.hosts if host.range}
        hosts: list[DesiredHost] = []
        silent: dict[str, str] = {}
        deferred: list[Deferred] = []
        others: list[Deferred] = []
        for each, task in asking:
            answer = task.result()
            if isinstance(answer, str):
                words = f"which ranges there are is not known: {answer}"
                deferred.append(Deferred("", "*", Kind.PULL, Reason.UNKNOWN, words, each.name))
                known = [host for host in self._known.values() if host.name.startswith(f"{each.name}/")]
                silent |= {host.name: words for host in known}
                hosts += [replace(each.like, name=host.name, engine=host.engine, range=host.range) for host in known]
            else:
                found = found_in(each, answer, taken)
                hosts += found.hosts
                others += found.others
            taken |= {host.range for host in hosts}
        return _Found(tuple(hosts), silent, tuple(deferred), tuple(others))

    async def _containers(self, group: RangeGroup) -> Sequence[Container] | str:
        try:
            return await self._world.host(group.on).containers(group.label)
        except RemoteError as error:
            return str(error)

    async def _keep(self, hosts: Iterable[DesiredHost]) -> None:
        """Open those that are new or are reached otherwise, close those that went."""
        wanted = {host.name: host for host in hosts}
        for name, host in self._known.items():
            if name not in wanted or wanted[name].engine != host.engine:
                log.info("%s is no host any more", name, extra={"host": name})
                await self._world.hosts.pop(name).close()
                self._world.ranges.discard(name)
        for name, host in wanted.items():
            if name not in self._world.hosts:
                log.info("%s is a host now, at %s", name, host.engine, extra={"host": name})
                self._world.hosts[name] = self._world.open_range(host)
                self._world.ranges.add(name)
        self._known = wanted
