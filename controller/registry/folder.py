"""The files of Distribution's `filesystem` storage, where they are on this machine; only looked at."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path


class FolderStorage:
    """Fulfils `domain.ports.collecting.RegistryStorage`. `root` is the configuration's `rootdirectory`."""

    def __init__(self, root: Path) -> None:
        self._root = root / "docker/registry/v2"

    async def blobs(self) -> dict[str, int]:
        """The bytes of each blob: blobs/<algorithm>/<two digits>/<hex>/data."""
        return await asyncio.to_thread(lambda: dict(self._blobs()))

    async def links(self) -> frozenset[tuple[str, str]]:
        """By what repositories know them: repositories/<name>/_layers/<algorithm>/<hex>/link."""
        return await asyncio.to_thread(lambda: frozenset(self._links()))

    def _blobs(self) -> Iterator[tuple[str, int]]:
        for algorithm in _below(self._root / "blobs"):
            for first in _below(algorithm):
                for blob in _below(first):
                    try:
                        yield f"{algorithm.name}:{blob.name}", (blob / "data").stat().st_size
                    except OSError:
                        continue  # Collected since it was listed, or half a one.

    def _links(self) -> Iterator[tuple[str, str]]:
        home = self._root / "repositories"
        for place, folders, _ in os.walk(home):
            if "_layers" in folders:
                repository = Path(place).relative_to(home).as_posix()
                for algorithm in _below(Path(place) / "_layers"):
                    yield from ((repository, f"{algorithm.name}:{blob.name}") for blob in _below(algorithm))
            folders[:] = [name for name in folders if not name.startswith("_")]


def _below(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
