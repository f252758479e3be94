"""Archives of this machine."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from controller.domain.ports.archives import Archives, ArchiveWriter
from controller.sources.archives import ImageArchives
from controller.sources.writing import open_writer


def image_archives() -> Archives:
    """The archives of this machine."""
    return ImageArchives()


def archive_to(path: Path | None) -> AbstractAsyncContextManager[ArchiveWriter]:
    """An archive that is written to a file, or to standard output."""
    return open_writer(path)
