"""A server whose connections end with it: what the proxies and the scripted servers of tests stand on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]
Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


@contextlib.asynccontextmanager
async def served(serve: Serve, start: Callable[[Connected], Awaitable[asyncio.Server]]) -> AsyncIterator[asyncio.Server]:
    """The server that `start` begins; each connection is a task, cancelled at the end."""
    tasks: set[asyncio.Task[None]] = set()
    server = await start(lambda reader, writer: tasks.add(asyncio.create_task(serve(reader, writer))))
    try:
        yield server
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
