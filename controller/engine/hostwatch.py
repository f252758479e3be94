"""What the hosts were last seen to hold: listed again whenever their engines say that something changed, and told name by name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

from controller.domain.errors import RemoteError
from controller.domain.observation import Fact, HostState, Present, Unknown
from controller.domain.ports.hosts import STIRS, Host
from controller.domain.reference import Reference
from controller.engine.prove import first_of

log = logging.getLogger(__name__)

SETTLES = 0.02
"""Seconds in which what comes together is one change: a build and its tag, a load of many."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a host is connected to again: doubled each time, between these two."""

Listing = Callable[[str], Awaitable[Fact[HostState]]]
Told = Callable[[str, frozenset[Reference], bool], None]
Stirred = Callable[[str], None]


class HostWatch:
    """Keeps the facts of all hosts, which come and go.

    `listing` looks at one host; `told` hears a host's name, the names there that changed their meaning or use, and whether it did not answer before;
    `stirred` a host's name when other containers may run there than before.
    """

    def __init__(self, hosts: Mapping[str, Host], listing: Listing, told: Told, stirred: Stirred = lambda _: None) -> None:
        self._hosts = hosts
        self._listing = listing
        self._told = told
        self._stirred = stirred
        self._facts: dict[str, Fact[HostState]] = {}
        self._looking: dict[str, asyncio.Lock] = {}
        self._watching: dict[str, tuple[Host, asyncio.Task[None]]] = {}

    def follow(self, group: asyncio.TaskGroup) -> None:
        """Watch the hosts that there are now, by tasks of this group, and no others."""
        for name, (host, task) in list(self._watching.items()):
            if self._hosts.get(name) is not host:
                task.cancel()
                del self._watching[name]
        for name in self._facts.keys() - self._hosts.keys():
            del self._facts[name]
        for name, host in self._hosts.items():
            if name not in self._watching:
                self._watching[name] = host, group.create_task(self.watch(name))

    def leave(self) -> None:
        """Watch none any more."""
        for _, task in self._watching.values():
            task.cancel()
        self._watching.clear()

    def facts(self, names: Iterable[str], now: float) -> dict[str, Fact[HostState]]:
        """What is known of these hosts; Unknown of one that was never seen."""
        return {name: self._facts.get(name) or Unknown("it was not looked at yet", now) for name in names}

    def seen(self, facts: Mapping[str, Fact[HostState]]) -> None:
        """Take over what a full look found."""
        self._facts.update(facts)

    async def watch(self, name: str) -> None:
        """Follow one host until it is cancelled. One that is down is Unknown, and is connected to again and again."""
        pause, host = FIRST_PAUSE, self._hosts[name]
        while True:
            try:
                async with host.changes() as changes:
                    pause = FIRST_PAUSE
                    await self._follow(name, changes)
            except RemoteError as error:
                log.warning("%s tells of no changes for now: %s", name, error, extra={"host": name, "error": str(error)})
                await self.look(name)
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    async def look(self, name: str) -> None:
        """List a host again, and tell what is different; of a host that does not answer, nothing is."""
        async with self._looking.setdefault(name, asyncio.Lock()):
            before, after = self._facts.get(name), await self._listing(name)
            self._facts[name] = after
        changed, anew = _changed(before, after), isinstance(after, Present) and not isinstance(before, Present)
        if changed or anew:
            self._told(name, changed, anew)

    async def _follow(self, name: str, changes: AsyncIterator[str]) -> None:
        """List once connected, as what happened before was told to nobody; then after each change. Raises RemoteError when the stream ends."""
        due = asyncio.Event()
        due.set()
        self._stirred(name)

        async def listen() -> None:
            async for word in changes:
                log.debug("%s: %s", name, word)
                if word.startswith(STIRS):
                    self._stirred(name)
                else:
                    due.set()

        async def follow() -> None:
            while True:
                await due.wait()
                await asyncio.sleep(SETTLES)
                due.clear()
                await self.look(name)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(listen())
                group.create_task(follow())
        except* RemoteError as failures:
            raise first_of(failures) from None


def _changed(before: Fact[HostState] | None, after: Fact[HostState]) -> frozenset[Reference]:
    """The names that mean another image now, or whose image is used differently; none where nothing is known (law 2)."""
    if not isinstance(after, Present):
        return frozenset()
    old, new = _meanings(before), _meanings(after)
    return frozenset(tag for tag in old.keys() | new.keys() if old.get(tag) != new.get(tag))


def _meanings(fact: Fact[HostState] | None) -> dict[Reference, tuple[str, tuple[str, ...]]]:
    images = fact.value.images if isinstance(fact, Present) else ()
    return {tag: (image.id, image.used_by) for image in images for tag in image.tags or image.repo_digests}
