"""Which of some files and folders of this machine change, while they come and go. A lost change is found by a full look (law 3)."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import watchfiles

log = logging.getLogger(__name__)

_STEP, _DEBOUNCE = 50, 400
"""Milliseconds: changes that come closer together than the first are one batch, of at most the second."""

_AGAIN = 0.2
"""Seconds in which folders that came are surely watched, or that went while they began to be are watched again."""

Stamp = tuple[object, ...] | None
Concerns = Callable[[Path, Collection[Path]], Awaitable[bool]]
Told = Callable[[Path], None]


async def anything(_path: Path, _changed: Collection[Path]) -> bool:
    """Every change counts."""
    return True


class PathWatch:
    """Tells of each path that changed, once it was left alone for `settles` seconds; a folder's content is part of it.

    `concerns` says whether what changed in a folder counts. A path may be missing: that it comes is a change.
    """

    def __init__(self, told: Told, *, concerns: Concerns = anything, settles: float = _AGAIN) -> None:
        self._told = told
        self._concerns = concerns
        self._settles = settles
        self._paths: frozenset[Path] = frozenset()
        self._place = _Place({}, frozenset())
        self._moved = asyncio.Event()
        self._timers: dict[Path, asyncio.TimerHandle] = {}
        self._warned = False

    def watch(self, paths: Iterable[Path]) -> None:
        """From now on these, absolute ones; and look whether they are where they were."""
        self._paths = frozenset(paths)
        self._moved.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                self._moved.clear()
                await self._look()
                await self._follow(self._place)
        finally:
            for timer in self._timers.values():
                timer.cancel()

    async def _follow(self, place: _Place) -> None:
        """Follow these folders until others have to be."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inside(place.folders, stop))
            group.create_task(self._beside(place.near, stop))
            while True:
                await self._moved.wait()
                self._moved.clear()
                await self._look()
                if stop.is_set() or self._place.watched != place.watched:
                    break
            stop.set()
            self._moved.set()

    async def _inside(self, folders: frozenset[Path], stop: asyncio.Event) -> None:
        """What changes in the folders, at any depth."""
        async for batch in self._batches(folders, stop, recursive=True):
            for path, changed in _by_path(batch, folders).items():
                if await self._concerns(path, changed):
                    self._changed(path)

    async def _beside(self, near: frozenset[Path], stop: asyncio.Event) -> None:
        """Whether the paths themselves are what they were; told by what changes where they are."""
        async for _ in self._batches(near, stop, recursive=False):
            watched = self._place.watched
            await self._look()
            if self._place.watched != watched:
                self._moved.set()

    async def _look(self) -> None:
        """Where the paths are now; what was watched already and is another one has changed."""
        was, self._place = self._place, await asyncio.to_thread(_placed, self._paths)
        for path, stamp in self._place.stamps.items():
            if stamp != was.stamps.get(path, stamp):
                self._changed(path)

    async def _batches(self, folders: frozenset[Path], stop: asyncio.Event, *, recursive: bool) -> AsyncIterator[set[Path]]:
        if not folders:
            return
        try:
            async for batch in watchfiles.awatch(
                *folders, watch_filter=None, stop_event=stop, recursive=recursive, step=_STEP, debounce=_DEBOUNCE, ignore_permission_denied=True
            ):
                yield {Path(changed) for _, changed in batch}
                if any(change is watchfiles.Change.deleted and Path(changed) in folders for change, changed in batch):
                    self._begin_anew(stop)  # One of the same name may be there again, with the same inode: nothing would be told of it.
        except FileNotFoundError:
            await asyncio.sleep(_AGAIN)
            self._begin_anew(stop)
        except OSError as error:
            if not self._warned:
                log.warning("changes of files can't be watched, so they are noticed at full looks only: %s", error, extra={"error": str(error)})
            self._warned = True

    def _begin_anew(self, stop: asyncio.Event) -> None:
        """Follow what is there now."""
        stop.set()
        self._moved.set()

    def _changed(self, path: Path) -> None:
        """Tell it, as soon as it was left alone."""
        timer = self._timers.pop(path, None)
        if timer is not None:
            timer.cancel()
        self._timers[path] = asyncio.get_running_loop().call_later(self._settles, self._tell, path)

    def _tell(self, path: Path) -> None:
        del self._timers[path]
        if path in self._paths:
            log.debug("changed: %s", path)
            self._told(path)


@dataclass(frozen=True)
class _Place:
    """Where the paths are now. `near` are the folders to watch for what comes and goes, itself not in depth."""

    stamps: Mapping[Path, Stamp]
    near: frozenset[Path]

    @property
    def folders(self) -> frozenset[Path]:
        """Those of the paths that are folders."""
        return frozenset(path for path, stamp in self.stamps.items() if stamp is not None and stamp[0] == stat.S_IFDIR)

    @property
    def watched(self) -> tuple[frozenset[tuple[Path, Stamp]], frozenset[Path]]:
        """What is followed: another folder of the same name is another one."""
        return frozenset((path, self.stamps[path]) for path in self.folders), self.near


def _placed(paths: Iterable[Path]) -> _Place:
    stamps = {path: _stamp(path) for path in paths}
    near = {_existing(path.parent) for path in stamps} | {_existing(Path(os.path.realpath(path)).parent) for path in stamps}
    return _Place(stamps, frozenset(near))


def _stamp(path: Path) -> Stamp:
    """What tells it from what is there later; None while nothing is. A folder's content plays no part."""
    try:
        found = path.stat()
    except OSError:
        return None
    kind = stat.S_IFMT(found.st_mode)
    content = () if kind == stat.S_IFDIR else (found.st_size, found.st_mtime_ns)
    return (kind, os.path.realpath(path), found.st_dev, found.st_ino, *content)


def _existing(path: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(each for each in (path, *path.parents) if each.is_dir() or each == each.parent)


def _by_path(batch: Iterable[Path], folders: Collection[Path]) -> dict[Path, list[Path]]:
    """What changed, by the watched folders that it is in."""
    found: dict[Path, list[Path]] = {}
    for changed in batch:
        for each in (changed, *changed.parents):
            if each in folders:
                found.setdefault(each, []).append(changed)
    return found
