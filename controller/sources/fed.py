"""Chunks of the event loop, as threads read a stream: what an engine sends."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator

from controller.domain.errors import CorruptError


class Fed:
    """Fulfils `streams.Readable`. Read by one thread at a time; made in the event loop whose chunks these are."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._next: concurrent.futures.Future[bytes] | None = None
        self._left = memoryview(b"")
        self._wanted = True

    def read(self, size: int) -> bytes:
        """The next bytes, as they come; what the chunks raise."""
        if not self._left:
            self._left = memoryview(self._chunk())
        given, self._left = self._left[:size], self._left[size:]
        return bytes(given)

    def _chunk(self) -> bytes:
        self._next = asyncio.run_coroutine_threadsafe(self._following(), self._loop)
        if not self._wanted:
            self._next.cancel()
        try:
            return self._next.result()
        except concurrent.futures.CancelledError:
            raise CorruptError("reading an archive", "it was not wanted any more") from None

    async def _following(self) -> bytes:
        return await anext(self._chunks, b"")

    def unwanted(self) -> None:
        """Who reads it need not go on."""
        self._wanted = False
        if self._next is not None:
            self._next.cancel()
