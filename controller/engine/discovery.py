"""Which ranges there are now: asked of the hosts on which they run, at each look. A range that went is no host any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from controller.domain.actions import Kind, Reason
from controller.domain.desired import Deferred, Desired, DesiredHost, RangeGroup
from controller.domain.errors import RemoteError
from controller.domain.ranges import Container, found_in
from controller.engine.world import World

log = logging.getLogger(__name__)


class Discovery:
    """Turns groups of ranges into hosts, and opens and closes them in the world. `complete`: at the last look every host that has some answered."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: dict[str, DesiredHost] = {}
        self.complete = False

    async def expand(self, desired: Desired) -> Desired:
        """The same with the ranges that there are now as hosts. Those of a host that does not answer are kept, and not known (law 2)."""
        if not desired.groups or desired.discovered:
            return desired
        async with asyncio.TaskGroup() as group:
            asking = [(each, group.create_task(self._containers(each))) for each in desired.groups]
        taken = {host.range for host in desired.hosts if host.range}
        hosts: list[DesiredHost] = []
        deferred, others = list(desired.deferred), list(desired.others)
        self._world.silent.clear()
        for each, task in asking:
            answer = task.result()
            if isinstance(answer, str):
                words = f"which ranges there are is not known: {answer}"
                deferred.append(Deferred("", "*", Kind.PULL, words, host=each.name, reason=Reason.UNKNOWN))
                known = [host for host in self._known.values() if host.name.startswith(f"{each.name}/")]
                self._world.silent.update({host.name: words for host in known})
                hosts += [replace(each.like, name=host.name, engine=host.engine, range=host.range) for host in known]
            else:
                found = found_in(each, answer, taken)
                hosts += found.hosts
                others += found.others
            taken |= {host.range for host in hosts}
        self.complete = len(deferred) == len(desired.deferred)
        await self._keep(hosts)
        return replace(desired, hosts=(*desired.hosts, *hosts), discovered=True, deferred=tuple(deferred), others=tuple(others))

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
