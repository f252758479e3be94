"""Waiting for engines that nobody trusts to come to an end: a range may let any answer trickle for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from controller.domain.errors import UnreachableError

LOOK = 10.0
"""Seconds in which a range has to say what it holds."""

STILL = 1800.0
"""Seconds in which something has to move, where something is done with a range: an engine saves and unpacks without a word."""

_CUT_OFF = 5.0

T = TypeVar("T")


class Patience:
    """Asks hosts one thing at a time; who has not answered the last question is not asked another one."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Future[Any]] = {}

    async def answer(self, host: str, question: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T:
        """The answer; UnreachableError when it does not come in time. A thread that waits for it can't be cancelled, and is left alone."""
        waiting = self._open.get(host)
        if waiting is not None and not waiting.done():
            await asyncio.wait({waiting}, timeout=seconds)
            if not waiting.done():
                raise _silent(host, seconds)
        asked = asyncio.ensure_future(question())
        asked.add_done_callback(_seen)
        self._open[host] = asked
        done, _ = await asyncio.wait({asked}, timeout=seconds)
        if not done:
            raise _silent(host, seconds)
        if self._open.get(host) is asked:
            del self._open[host]
        return asked.result()


async def while_it_moves(host: str, work: Coroutine[Any, Any, T], moved: Callable[[], int]) -> T:
    """What comes of it; UnreachableError once nothing has moved for STILL. What can be cut off is cut off, the rest is left alone."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(_seen)
    before = -1
    try:
        while not (await asyncio.wait({task}, timeout=STILL))[0]:
            if moved() == before:
                task.cancel()
                await asyncio.wait({task}, timeout=_CUT_OFF)
                raise UnreachableError(f"working with {host}", f"nothing has moved for {STILL:.0f} s", hint="it is tried again later")
            before = moved()
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task}, timeout=_CUT_OFF)
        raise
    return task.result()


def _silent(host: str, seconds: float) -> UnreachableError:
    return UnreachableError(f"looking at {host}", f"no answer in {seconds:.0f} s", hint="is its engine running?")


def _seen(task: asyncio.Future[Any]) -> None:
    """A failure that nobody waits for any more is no news."""
    if not task.cancelled():
        task.exception()
