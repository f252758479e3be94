"""An image out of an engine, as the archive that it saves: read in a thread, as fast as somebody takes it."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine
from typing import Any

import requests
import requests.exceptions

from controller.domain.errors import CorruptError, RefusedError, UnreachableError
from controller.hosts.streams import Client, Stream

_CHUNK = 1 << 20
_AHEAD = 2
"""Chunks that wait for their reader."""


class Save(Stream):
    """One image; no more than `limit` bytes of it."""

    def __init__(self, tried: str, limit: int) -> None:
        super().__init__(tried, lambda _: None)
        self._limit = limit
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue(_AHEAD)
        self._putting: concurrent.futures.Future[None] | None = None

    def cancel(self) -> None:
        """End the reading, and the waiting for who takes it."""
        super().cancel()
        if self._putting is not None:
            self._putting.cancel()

    async def chunk(self) -> bytes:
        """The next one; none at the end."""
        return await self._chunks.get()

    def run(self, client: Client, image_id: str) -> None:
        """Read to the end, in a thread."""
        url = client._url("/images/{0}/get", image_id)  # noqa: SLF001 - the SDK's get_image() can't be cancelled
        with self._sent(client, client.prepare_request(requests.Request("GET", url))) as response:
            self._response = response
            client._raise_for_status(response)  # noqa: SLF001 - the SDK's errors, which failures.py knows
            left = self._limit
            try:
                for chunk in response.iter_content(_CHUNK):
                    left -= len(chunk)
                    if left < 0:
                        raise CorruptError(self.tried, f"it sends more than {self._limit} bytes, far beyond the size that it told")
                    self._put(chunk)
            except requests.exceptions.ChunkedEncodingError:
                raise UnreachableError(self.tried, "the engine broke the stream off") from None
        self._put(b"")

    def _put(self, chunk: bytes) -> None:
        putting: Coroutine[Any, Any, None] = self._chunks.put(chunk)
        self._putting = asyncio.run_coroutine_threadsafe(putting, self.loop)
        if self.cancelled:
            self._putting.cancel()
        try:
            self._putting.result()
        except concurrent.futures.CancelledError:
            raise RefusedError(self.tried, "cancelled") from None
