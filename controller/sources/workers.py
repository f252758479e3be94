"""The threads that read, hash and pack, of one open archive: bounded, and all at rest before its file is closed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_MOST_BLOBS, _MOST_BLOCKS = 4, 6


class Workers:
    """A pool whose steps are short: a block each. A step that has begun ends, also when nobody waits for it any more.

    `blobs` may be under way at a time, and of each of them so many `blocks`: enough for every core, and no more than memory is spent for
    (2 MiB a block, and what it was packed to).
    """

    def __init__(self) -> None:
        cores = len(os.sched_getaffinity(0))
        self.blobs = min(_MOST_BLOBS, max(2, cores))
        self.blocks = min(_MOST_BLOCKS, cores // self.blobs + 2)
        self._pool = ThreadPoolExecutor(cores + self.blobs, thread_name_prefix="archive")

    def start(self, step: Callable[[], T]) -> asyncio.Future[T]:
        """Begin a step; its result is awaited later, or never: then its failure is no news."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, step)
        future.add_done_callback(_seen)
        return future

    async def close(self) -> None:
        """Wait for the steps that have begun, also when the caller is cancelled; the others never begin."""
        await finished(lambda: self._pool.shutdown(cancel_futures=True))


async def ahead(workers: Workers, step: Callable[[], bytes]) -> AsyncGenerator[bytes, None]:
    """What the step gives, until it gives nothing; the next one is under way while this one is used."""
    coming = workers.start(step)
    try:
        while data := await coming:
            coming = workers.start(step)
            yield data
    finally:
        coming.cancel()


def _seen(future: asyncio.Future[T]) -> None:
    if not future.cancelled():
        future.exception()


async def finished(step: Callable[[], None], give_up: Callable[[], None] = lambda: None) -> None:
    """Do a step in a thread and wait for its end, however often its caller is cancelled: what it uses must not be closed before.

    `give_up` tells a step that may last that nobody wants it any more.
    """
    doing = asyncio.ensure_future(asyncio.to_thread(step))
    cancelled: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError as error:
            cancelled = error
            give_up()
    if cancelled is not None:
        raise cancelled
    doing.result()
