"""What makes a running controller look again. Triggers only say that a look is due; the look itself finds out what is so (law 3)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from pathlib import Path

from controller.engine.pathwatch import PathWatch

_FILE_OF_AN_IMAGE = 2
"""How deep in a catalog its images' files are."""


COMMAND = "command"
"""Somebody asks for a full look now, at which nothing counts that was remembered."""


RANGES = "ranges"
"""Other ranges may run than before."""


class Wakeups:
    """Reasons to look again, merged until somebody waits for them."""

    def __init__(self) -> None:
        self._reasons: set[str] = set()
        self._due = asyncio.Event()

    def add(self, reason: str) -> None:
        """Ask for a look; many asks before the next one are one."""
        self._reasons.add(reason)
        self._due.set()

    async def wait(self, seconds: float) -> set[str]:
        """The reasons that came, or {"interval"} when none came in that time."""
        try:
            async with asyncio.timeout(seconds):
                await self._due.wait()
        except TimeoutError:
            return {"interval"}
        self._due.clear()
        reasons, self._reasons = self._reasons, set()
        return reasons


class FileWatch:
    """Wakes for "files" whenever the desired-state files or the catalogs change that they name."""

    def __init__(self, paths: Iterable[Path], wakeups: Wakeups) -> None:
        self._files = frozenset(path.absolute() for path in paths)
        self._catalogs: frozenset[Path] = frozenset()
        self._watch = PathWatch(lambda _: wakeups.add("files"), concerns=self._concerns)
        self.watch(())

    def watch(self, catalogs: Iterable[Path]) -> None:
        """From now on these catalogs, too."""
        self._catalogs = frozenset(catalogs)
        self._watch.watch(self._files | self._catalogs)

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._watch.run()

    async def _concerns(self, path: Path, changed: Collection[Path]) -> bool:
        """Of a folder of files, what may be one or hold some; of a catalog, which images it has and what they are called."""
        if path in self._files and any(each.suffix in {".yaml", ".yml"} or each.is_dir() or not each.exists() for each in changed):
            return True
        return path in self._catalogs and any(_says_what_is_there(each.relative_to(path)) for each in changed)


def _says_what_is_there(name: Path) -> bool:
    return len(name.parts) == 1 or (len(name.parts) == _FILE_OF_AN_IMAGE and name.name in {"Dockerfile", "image.yaml"})
