"""Load: an image of the registry streamed into an engine that can't reach the registry; no file is between."""

from __future__ import annotations

from contextlib import aclosing

from controller.domain.actions import Pull
from controller.domain.ports.archives import Archives, ArchiveWriter
from controller.domain.ports.hosts import Host
from controller.domain.ports.registries import Advance, Registry
from controller.domain.reference import Reference
from controller.engine.exporting import Exporter


class Loader:
    """Loads out of one registry; every blob is verified on its way, so that an engine never gets the end of a damaged image."""

    def __init__(self, registry: Registry, archives: Archives) -> None:
        self._exporter = Exporter(registry)
        self._archives = archives

    async def load(self, action: Pull, digest: str, host: Host, advance: Advance) -> None:
        """Give the host the image of that digest under the name that is wanted. Raises as Exporter.export() does, and RemoteError of the engine."""
        name = Reference(action.tag.domain, action.tag.repository, action.tag.tag, digest)

        async def write(writer: ArchiveWriter) -> None:
            await self._exporter.export(action.target.repository, name, "", writer, lambda _: None)

        async with aclosing(self._archives.written(write)) as chunks:
            await host.load(chunks, advance)
