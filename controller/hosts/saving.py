"""An image out of an engine, as the archive that it saves: read in a thread, as fast as somebody takes it."""

from __future__ import annotations

import asyncio

import requests
import requests.exceptions

from controller.domain.errors import CorruptError, UnreachableError
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
                    self.awaited(self._chunks.put(chunk))
            except requests.exceptions.ChunkedEncodingError:
                raise UnreachableError(self.tried, "the engine broke the stream off") from None
        self.awaited(self._chunks.put(b""))
