"""What is sent to an engine as it is made: an archive to load, a folder to build. Read by the event loop, while a thread sends it."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Iterator

from controller.domain.errors import RefusedError
from controller.domain.ports import Advance
from controller.hosts.streams import Client, Stream


class Sending(Stream):
    """A request whose body are these chunks."""

    def __init__(self, tried: str, chunks: AsyncIterator[bytes], advance: Advance) -> None:
        super().__init__(tried, advance)
        self._chunks = chunks
        self._next: concurrent.futures.Future[bytes] | None = None

    def cancel(self) -> None:
        """End the sending as well as the reading."""
        super().cancel()
        if self._next is not None:
            self._next.cancel()

    def sending(self) -> Iterator[bytes]:
        """The chunks, which the event loop makes while this thread waits."""
        while chunk := self._chunk():
            yield chunk
            self.told(len(chunk))

    def _chunk(self) -> bytes:
        self._next = asyncio.run_coroutine_threadsafe(self._following(), self.loop)
        if self.cancelled:
            self._next.cancel()
        try:
            return self._next.result()
        except concurrent.futures.CancelledError:
            raise RefusedError(self.tried, "cancelled") from None

    async def _following(self) -> bytes:
        return await anext(self._chunks, b"")


class Load(Sending):
    """An archive for an engine."""

    def run(self, client: Client) -> None:
        """Send it, in a thread. Raises what the stream says, and what making the archive raised."""
        url = client._url("/images/load")  # noqa: SLF001 - the SDK's load_image() can't be cancelled
        headers = {"Content-Type": "application/x-tar"}
        for _ in self.records(client, url, params={"quiet": "1"}, headers=headers, data=self.sending()):
            pass
