"""From when held tags count. One place for it, so that none expires while something is being made to rest on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from controller.domain.reference import Target
from controller.engine.world import World


class Holdings:
    """The held tags of one registry, as the store knows them."""

    def __init__(self, world: World) -> None:
        self._store = world.store
        self._clock = world.clock
        self._changing = asyncio.Lock()

    async def renew(self, place: Target) -> None:
        """Something is about to rest on this held tag: it counts from now. After this the caller looks whether it is there, and makes it if not."""
        async with self._changing:
            self._store.hold(place, self._clock())

    async def expire(self, place: Target, since: float, delete: Callable[[], Awaitable[None]]) -> bool:
        """Delete a held tag that has counted since then, unless something rests on it by now; whether that was done."""
        async with self._changing:
            if self._store.held_since().get(place, since) > since:
                return False
            await delete()
            self._store.let_go(place)
            return True
