"""The work queue: what to look at next. A key is only a name; what is so with it, its worker finds out (law 3)."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
"""Seconds before a key that failed is tried again: doubled each time between these two, less up to a quarter by chance."""


class ClosedError(Exception):
    """The queue gives out no more keys."""


class WorkQueue(Generic[K]):
    """Keys, each in the queue once and worked on by one at a time.

    A key that is added while it is worked on comes back afterwards. One that fails comes back later and later. `monotonic` gives seconds; `chance`
    a number from 0 to 1.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random) -> None:
        self._monotonic = monotonic
        self._chance = chance
        self._due: dict[K, float] = {}
        self._order: list[tuple[float, int, K]] = []
        self._count = 0
        self._working: dict[K, float | None] = {}
        self._failures: dict[K, int] = {}
        self._hinted: set[K] = set()
        self._since: dict[K, float] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        """How many keys wait or are worked on."""
        return len(self._due) + len(self._working)

    def add(self, key: K, after: float = 0.0) -> None:
        """Ask for a key in so many seconds. Of several asks the soonest counts; one that is worked on comes back when it is done."""
        due = self._monotonic() + after
        if key in self._working:
            wanted = self._working[key]
            self._working[key] = due if wanted is None else min(wanted, due)
        elif key not in self._due or due < self._due[key]:
            self._push(key, due)

    def hint(self, key: K) -> None:
        """Ask for a key by a word that may be the echo of what was done with it: as add(), but it cuts no pause after a failure short."""
        if key in self._working:
            self._hinted.add(key)
        elif key not in self._failures:
            self.add(key)

    async def next(self) -> K:
        """The next key that is due; it is worked on until done() or failed(). Raises ClosedError after close()."""
        while not self._closed:
            self._drop_moved()
            wait = self._order[0][0] - self._monotonic() if self._order else None
            if wait is not None and wait <= 0:
                key = heapq.heappop(self._order)[2]
                del self._due[key]
                self._working[key] = None
                return key
            await self._wait(wait)
        raise ClosedError

    def done(self, key: K, again: float | None = None) -> float:
        """It went well; with `again` it comes back in so many seconds. The seconds since it was first due, with all that failed meanwhile."""
        self._failures.pop(key, None)
        took = self._monotonic() - self._since.pop(key)
        self._finish(key, 0.0 if key in self._hinted else again)
        return took

    def failed(self, key: K, at_least: float = 0.0) -> float:
        """It went wrong: it comes back after a pause that grows, of `at_least` so many seconds. The pause."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 30)) * (1 - self._chance() / 4)
        pause = max(pause, at_least)
        self._finish(key, pause)
        return pause

    def waiting(self) -> Mapping[K, float]:
        """The keys that failed and wait, with the seconds until they are tried again."""
        now = self._monotonic()
        return {key: max(0.0, self._due[key] - now) for key in self._failures if key in self._due}

    def depths(self) -> Mapping[str, int]:
        """How many keys are due, wait for their time, or are worked on."""
        now = self._monotonic()
        due = sum(when <= now for when in self._due.values())
        return {"due": due, "waiting": len(self._due) - due, "working": len(self._working)}

    def close(self) -> None:
        """Give out no more keys; what is worked on goes on."""
        self._closed = True
        self._changed.set()

    async def drained(self) -> None:
        """Wait until nothing is worked on any more."""
        while self._working:
            self._changed.clear()
            await self._changed.wait()

    def _finish(self, key: K, again: float | None) -> None:
        wanted = self._working.pop(key)
        self._hinted.discard(key)
        if again is not None:
            due = self._monotonic() + again
            # What was asked for meanwhile is news: it does not wait for a pause.
            wanted = due if wanted is None else min(wanted, due)
        if wanted is not None:
            self._push(key, wanted)
        self._changed.set()

    def _push(self, key: K, due: float) -> None:
        self._due[key] = due
        self._since[key] = min(due, self._since.get(key, due))
        self._count += 1
        heapq.heappush(self._order, (due, self._count, key))
        self._changed.set()

    def _drop_moved(self) -> None:
        """Entries of keys that became due sooner, or were given out: their place in the heap is an old one."""
        while self._order and self._due.get(self._order[0][2]) != self._order[0][0]:
            heapq.heappop(self._order)

    async def _wait(self, seconds: float | None) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
