"""One controller for one Wharf: an advisory lock that the kernel frees when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from controller.domain.errors import LockedError, UsageError


class ControllerLock:
    """Held while a controller may change anything. Raises LockedError on entry when another process holds it."""

    def __init__(self, state: Path) -> None:
        self._path = state.with_name(state.name + ".lock")
        self._file: int | None = None

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            opened = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise UsageError(f"the lock {self._path} can't be made: {error.strerror}; name another place with --state") from None
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(opened, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(opened)
            raise LockedError(
                f"another controller works on this Wharf already: process {holder} holds {self._path}. Stop it first, or let it do the work"
            ) from None
        os.truncate(opened, 0)
        os.pwrite(opened, f"{os.getpid()}\n".encode(), 0)
        self._file = opened
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            os.close(self._file)  # The file stays: removing it would let two processes lock two files of one name.
            self._file = None
