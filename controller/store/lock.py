"""One controller for one Wharf: an advisory lock that the kernel frees when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from controller.domain.errors import LockedError, UsageError
from controller.store.location import make_folder

_LONGEST_NOTE = 64


class ControllerLock:
    """Held while a controller may change anything: flock(2) on `<state file>.lock`, in which its holder says who it is and since when.

    Entering raises LockedError when another controller holds it, UsageError when the file can't be made. Advisory: readers don't ask for it.
    """

    def __init__(self, state: Path, *, clock: Callable[[], float] = time.time) -> None:
        real = state.resolve()  # Two names of one state file are one lock.
        self._path = real.with_name(f"{real.name}.lock")
        self._clock = clock
        self._file: int | None = None

    def __enter__(self) -> Self:
        try:
            make_folder(self._path.parent)
            opened = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sign(opened)
        except BlockingIOError:
            locked = self._locked(opened)
            os.close(opened)
            raise locked from None
        except OSError as error:
            os.close(opened)
            raise self._unusable(error) from None
        self._file = opened
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            os.close(self._file)  # The file stays: removing it would let two processes lock two files of one name.
            self._file = None

    def _sign(self, opened: int) -> None:
        since = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        os.ftruncate(opened, 0)
        os.pwrite(opened, f"{os.getpid()} {since}\n".encode(), 0)

    def _locked(self, opened: int) -> LockedError:
        pid, _, since = os.pread(opened, _LONGEST_NOTE, 0).decode(errors="replace").strip().partition(" ")
        holder = f"process {pid} has held {self._path} since {since}" if since else f"another process holds {self._path}"
        return LockedError(
            f"another controller works on this Wharf already: {holder}. "
            f"Let it do the work{f' (kill -HUP {pid} lets it look at everything now)' if since else ''}, "
            f"or stop it{f' (kill {pid})' if since else ''}; the lock is free as soon as it has ended"
        )

    def _unusable(self, error: OSError) -> UsageError:
        return UsageError(f"the lock {self._path} can't be taken: {error.strerror}. Name another place with --state")
