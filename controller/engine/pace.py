"""So many bytes a second over all that reads: a token bucket that holds one second's worth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


class Pace:
    """Lets bytes through. `rate` is bytes a second, 0 for no limit; `monotonic` gives seconds."""

    def __init__(
        self, rate: float = 0.0, *, monotonic: Callable[[], float] = time.monotonic, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._sleep = sleep
        self._tokens = rate
        self._filled = monotonic()

    async def take(self, count: int) -> None:
        """Take so many bytes, and wait for as long as the bucket is in debt. Those that wait are served by how deep the debt was when they came."""
        if not self._rate:
            return
        now = self._monotonic()
        self._tokens = min(self._rate, self._tokens + (now - self._filled) * self._rate) - count
        self._filled = now
        if self._tokens < 0:
            await self._sleep(-self._tokens / self._rate)
