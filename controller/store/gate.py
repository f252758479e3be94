"""The gate of one registry: its writers share a lock, a collection of its garbage has it alone. The kernel frees both when their holder dies.

Beside the state files. `.door`: a writer looks in for a moment; a collection holds it from its beginning, so that nobody comes in any more
while it waits for those inside. Its note says who collects, and how far the registry can be believed since. `.writers`: held while somebody writes.
`.repositories`: a file for each who writes for longer, with the repository; an engine that pushes for him to the gateway comes in by that.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from controller.domain.errors import CollectingError, LockedError, UsageError
from controller.domain.ports.collecting import Doubt
from controller.store.location import make_folder

RETRY_AFTER = 5.0
"""Seconds after which a writer that was refused may ask again."""

_LOOK_IN = 2.0
"""Seconds after which who holds the door is no writer that looks in, but another collection."""

_POLL = 0.05
_LONGEST_NOTE = 128
_inside: ContextVar[frozenset[Path]] = ContextVar("_inside", default=frozenset())


class RegistryGate:
    """Fulfils `domain.ports.collecting.Gate`; two with the same folder and address are one."""

    def __init__(self, folder: Path, address: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        name = re.sub(r"[^A-Za-z0-9.-]", "_", address)
        self._address = address
        self._door = folder.resolve() / f"registry-{name}.door"
        self._writers = self._door.with_suffix(".writers")
        self._announcements = self._door.with_suffix(".repositories")
        self._sleep = sleep

    @property
    def closed(self) -> bool:
        """Whether a collection is under way; nothing is made for asking."""
        try:
            door = os.open(self._door, os.O_RDONLY)
        except OSError:
            return False
        try:
            return not _lock(door, fcntl.LOCK_SH)
        finally:
            os.close(door)

    @property
    def doubt(self) -> Doubt:
        """By the note at the door; who never collected has none."""
        with suppress(OSError, ValueError):
            return Doubt(int(self._door.read_text().partition(" ")[0]))
        return Doubt.NONE

    def enter(self, repository: str = "") -> Callable[[], None]:
        """Begin to write."""
        with self._opened(self._door) as door:
            writers = self._open(self._writers)
            # The writers' lock is had by a collection that waits for nobody any more; and by its program, if its own process died.
            if (_lock(door, fcntl.LOCK_SH) or self._is_written(repository)) and _lock(writers, fcntl.LOCK_SH):
                return lambda: os.close(writers)
            os.close(writers)
            raise self._refusal(door)

    @contextmanager
    def writing(self, repository: str = "") -> Iterator[None]:
        """The same for a task and what it starts; with a repository, others may come in that write to it."""
        if self._door in _inside.get():
            yield
            return
        leave = self.enter(repository)
        try:
            with self.passing(), self._announced(repository):
                yield
        finally:
            leave()

    @contextmanager
    def _announced(self, repository: str) -> Iterator[None]:
        """By a file of its own, which is locked for as long, and that means nothing any more when we die."""
        if not repository:
            yield
            return
        path = self._announcements / secrets.token_hex(8)
        opened = self._open(path)
        try:
            _lock(opened, fcntl.LOCK_EX)
            os.write(opened, repository.encode())
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(opened)

    def _is_written(self, repository: str) -> bool:
        """Whether somebody inside has announced that he writes to it."""
        if not repository or not self._announcements.is_dir():
            return False
        for path in self._announcements.iterdir():
            with suppress(FileNotFoundError):
                opened = os.open(path, os.O_RDONLY)
                try:
                    if os.pread(opened, len(repository) * 4 + 1, 0) == repository.encode() and not _lock(opened, fcntl.LOCK_SH):
                        return True
                finally:
                    os.close(opened)
        return False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """A part of something that has entered."""
        token = _inside.set(_inside.get() | {self._door})
        try:
            yield
        finally:
            _inside.reset(token)

    @asynccontextmanager
    async def collecting(self, patience: float) -> AsyncIterator[ShutGate]:
        """Shut it."""
        with self._opened(self._door) as door, self._opened(self._writers) as writers:
            if not await self._had(door, _LOOK_IN):
                raise LockedError(f"another collection of {self._address} is under way, {_holder(door)}: let it end")
            shut = ShutGate(door, writers, self.doubt)
            if not await self._had(writers, patience):
                raise LockedError(
                    f"somebody still writes to {self._address} after {patience:g} s, so nothing was collected. "
                    "Try again when that push, copy or build is done, or wait longer (--patience)"
                )
            for left in self._announcements.glob("*"):  # Of those who died: nobody is inside.
                left.unlink(missing_ok=True)
            with self.passing():
                yield shut

    async def _had(self, opened: int, patience: float) -> bool:
        """Have it alone, within so many seconds."""
        until = time.monotonic() + patience
        while not _lock(opened, fcntl.LOCK_EX):
            if time.monotonic() >= until:
                return False
            await self._sleep(_POLL)
        return True

    @contextmanager
    def _opened(self, path: Path) -> Iterator[int]:
        opened = self._open(path)
        try:
            yield opened
        finally:
            os.close(opened)

    def _open(self, path: Path) -> int:
        try:
            make_folder(path.parent)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise UsageError(f"the lock {path} can't be taken: {error.strerror}. Name another place with --state") from None

    def _refusal(self, door: int) -> CollectingError:
        return CollectingError(
            f"writing to {self._address}",
            f"its garbage is being collected, {_holder(door)}",
            hint="nothing is written meanwhile, reading goes on; it is tried again",
            retry_after=RETRY_AFTER,
        )


class ShutGate:
    """Fulfils `domain.ports.collecting.Shut`; its note is signed from the beginning."""

    def __init__(self, door: int, writers: int, doubt: Doubt) -> None:
        self._door = door
        self.files = (door, writers)
        self.believe(doubt)

    def believe(self, doubt: Doubt) -> None:
        """Write it down."""
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        note = f"{int(doubt)} {os.getpid()} {since}\n".encode()
        os.pwrite(self._door, note, 0)
        os.ftruncate(self._door, len(note))


def _lock(opened: int, how: int) -> bool:
    try:
        fcntl.flock(opened, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(door: int) -> str:
    _, pid, since = (*os.pread(door, _LONGEST_NOTE, 0).decode(errors="replace").split(maxsplit=2), "", "", "")[:3]
    return f"by process {pid} since {since.strip()}" if since else "by another process"
