"""Many small jobs, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

K = TypeVar("K")


async def bounded(do: Callable[[K], Awaitable[None]], keys: Iterable[K], limit: int) -> None:
    """Do it for every key, `limit` at a time, without a task per key."""
    waiting = iter(list(keys))

    async def work() -> None:
        for key in waiting:
            await do(key)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(work())
