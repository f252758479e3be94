"""How one registry is asked: at most so many requests at a time, fewer where it complains, none while it asks for a pause.

A 429 halves the number, answers that are none let it grow again by one for as many as are let through at a time. Retry-After on 429 and 503
(RFC 9110, 10.2.3) stops every request until then. `ratelimit-remaining` at 0 stops reading manifests, which is what Docker Hub counts; HEADs go on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto
from http import HTTPStatus

import httpx

from controller.domain.errors import RefusedError
from controller.registry.answers import retry_after

LONGEST_WAIT = 60.0
"""Seconds. A registry that asks for a longer pause gets it from the next pass, not from this one."""

LONGEST_REFUSAL = 3600.0
"""Seconds for which we believe a registry that asks for a longer pause; after that it is asked once more."""

_WINDOW = 3600.0
"""Seconds for which a limit lasts that does not say so."""

_HINT = "rate limit: log in for a higher one, or name a mirror"


class Lane(Enum):
    """What kind of request it is. Reading and writing blobs are apart: what is read from a registry may go back into it."""

    SMALL = auto()
    READ = auto()
    WRITE = auto()


LIMITS = {Lane.SMALL: 64, Lane.READ: 24, Lane.WRITE: 24}
"""At a time, for one registry. Together fewer than transport.CONNECTIONS, or one lane's requests would wait for another's connections."""


class Limit:
    """How many at a time: halved, and grown slowly again, between 1 and `most`. Those that wait are let through in their order."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.allowed = float(most)
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for a place."""
        if self._running < int(self.allowed) and not self._waiting:
            self._running += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()  # It was given away at the same moment.
            raise

    def leave(self) -> None:
        """Give the place to the next."""
        self._running -= 1
        while self._waiting and self._running < int(self.allowed):
            place = self._waiting.popleft()
            if not place.done():
                self._running += 1
                place.set_result(None)

    def halve(self) -> None:
        """The other side says that it is too much."""
        self.allowed = max(1.0, self.allowed / 2)

    def grow(self) -> None:
        """One answer that is no complaint."""
        if self.allowed < self.most:
            self.allowed = min(float(self.most), self.allowed + 1 / self.allowed)


class Manners:
    """The one place that knows how busy a registry may be kept; `tried` in its errors is the request that was not sent."""

    def __init__(
        self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, monotonic: Callable[[], float] = time.monotonic, address: str = ""
    ) -> None:
        self._sleep = sleep
        self._monotonic = monotonic
        self._address = address
        self.limits = {lane: Limit(most) for lane, most in LIMITS.items()}
        self._paused_until = 0.0
        self._refused_until = 0.0
        self._halved_at = float("-inf")
        self._remaining: int | None = None
        self._remaining_until = 0.0

    @asynccontextmanager
    async def turn(self, lane: Lane) -> AsyncIterator[None]:
        """A place among the requests of this kind, for as long as the answer is read."""
        limit = self.limits[lane]
        await limit.enter()
        try:
            yield
        finally:
            limit.leave()

    async def wait(self, tried: str, *, counted: bool, rested: bool = False) -> None:
        """Before a request is sent: sit out a pause that was asked for, unless `rested`. `counted`: it reads a manifest, which rate limits count.

        Raises RefusedError, with retry_after, when it can't be sent in this pass.
        """
        now = self._monotonic()
        if now < self._refused_until:
            left = self._refused_until - now
            raise _refused(tried, f"not sent: {self._address} asked for no requests for another {left:.0f} s", left)
        if counted and self._remaining is not None and now < self._remaining_until:
            if self._remaining <= 0:
                left = self._remaining_until - now
                raise _refused(tried, f"not sent: {self._address} gives no more manifests within its rate limit, for at most {left:.0f} s", left)
            self._remaining -= 1
        if now < self._paused_until and not rested:
            await self._sleep(self._paused_until - now)

    def heed(self, response: httpx.Response, lane: Lane) -> None:
        """What an answer says of how it wants to be asked. Only the registry's own answers: others speak for themselves."""
        now = self._monotonic()
        if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            self._halve(now)
        elif not response.is_server_error:
            self.limits[lane].grow()
        if response.status_code in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            self._pause(retry_after(response) or 0.0, now)
        self._count(response.headers.get("ratelimit-remaining", ""), now)

    def _halve(self, now: float) -> None:
        """Once a second: those that were under way together are one complaint."""
        if now - self._halved_at >= 1:
            self._halved_at = now
            for limit in self.limits.values():
                limit.halve()

    def _pause(self, seconds: float, now: float) -> None:
        if seconds > LONGEST_WAIT:
            self._refused_until = max(self._refused_until, now + min(seconds, LONGEST_REFUSAL))
        else:
            self._paused_until = max(self._paused_until, now + seconds)

    def _count(self, said: str, now: float) -> None:
        """`76;w=21600`: so many manifests more, within so many seconds."""
        number, _, rest = said.partition(";")
        if not number.strip().isdecimal():
            return
        window = rest.strip().removeprefix("w=")
        self._remaining = int(number)
        self._remaining_until = now + (min(float(window), 10 * LONGEST_REFUSAL) if window.isdecimal() else _WINDOW)


def _refused(tried: str, answer: str, seconds: float) -> RefusedError:
    return RefusedError(tried, answer, hint=_HINT, retryable=True, retry_after=seconds)
