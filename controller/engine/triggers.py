"""What makes a running controller look again. Triggers only say that a look is due; the look itself finds out what is so (law 3)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import watchfiles


class Wakeups:
    """Reasons to look again, merged until somebody waits for them: the seam where host events and a work queue come in."""

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


async def watch_files(paths: Iterable[Path], wakeups: Wakeups) -> None:
    """Add "files" whenever something changes beside the given files or in the given folders; runs until it is cancelled.

    Files are watched by their folder: editors and Kubernetes replace a file rather than write into it.
    """
    folders = {path if path.is_dir() else path.parent for path in (path.absolute() for path in paths)}
    async for _ in watchfiles.awatch(*folders, recursive=True, step=50, debounce=400, ignore_permission_denied=True):
        wakeups.add("files")
