"""What is sent to an engine as it is made: an archive to load, a folder to build. Read by the event loop, while a thread sends it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from controller.domain.ports.registries import Advance
from controller.hosts.streams import Client, Stream


class Sending(Stream):
    """A request whose body are these chunks."""

    def __init__(self, tried: str, chunks: AsyncIterator[bytes], advance: Advance) -> None:
        super().__init__(tried, advance)
        self._chunks = chunks

    def sending(self) -> Iterator[bytes]:
        """The chunks, which the event loop makes while this thread waits."""
        while chunk := self.awaited(self._following()):
            yield chunk
            self.told(len(chunk))

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
