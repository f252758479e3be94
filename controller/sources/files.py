"""Where an archive's bytes come from: a file at any place of it, a stream from front to back, a folder."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.domain.errors import CorruptError, NotFoundError, RefusedError
from controller.sources.members import Members
from controller.sources.streams import BLOCK, Readable, filled
from controller.sources.tar import Entry, Kind

STDIN = "-"
_WAKE = 0.2
"""Seconds after which a reader of a silent stream looks whether it is still wanted."""


@contextmanager
def explained(path: str) -> Iterator[None]:
    """What the system says of a file, as our errors."""
    try:
        yield
    except FileNotFoundError:
        raise NotFoundError(f"opening {path}", "there is no such file or folder") from None
    except PermissionError:
        raise RefusedError(f"opening {path}", "it may not be read", hint="its owner and mode decide that") from None
    except OSError as error:
        raise CorruptError(f"reading {path}", error.strerror or str(error)) from None


class File:
    """An open file or stream. Closed only when no thread reads it any more."""

    def __init__(self, path: str) -> None:
        self.path = path
        with explained(path):
            self.fd = os.dup(sys.stdin.fileno()) if path == STDIN else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.status = os.fstat(self.fd)
        self.name = "standard input" if path == STDIN else path
        self._waits = not stat.S_ISREG(self.status.st_mode)
        self._wanted = True

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def can_seek(self) -> bool:
        """Whether any place of it can be read at any time."""
        return stat.S_ISREG(self.status.st_mode) and self.path != STDIN

    def read(self, size: int) -> bytes:
        """The next bytes, as they come."""
        with explained(self.name):
            while self._waits and self._wanted and not select.select([self.fd], [], [], _WAKE)[0]:
                pass
            return os.read(self.fd, size) if self._wanted else b""

    def read_at(self, offset: int, size: int) -> bytes:
        """Bytes from any place."""
        with explained(self.name):
            return os.pread(self.fd, size, offset)

    def unwanted(self) -> None:
        """Who reads it from front to back need not go on."""
        self._wanted = False

    def close(self) -> None:
        """Give it back."""
        os.close(self.fd)


class Part:
    """A stretch of a file, with a place of its own."""

    def __init__(self, file: File, offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self._end = offset + size

    def read(self, size: int) -> bytes:
        """The next bytes."""
        data = self._file.read_at(self._offset, min(size, self._end - self._offset))
        self._offset += len(data)
        return data


class SeekingSectors:
    """A tar's headers in a file: the data between them are jumped over."""

    def __init__(self, file: File) -> None:
        self._file = file
        self.position = 0

    def take(self, size: int) -> bytes:
        """See `tar.Sectors`."""
        data = self._file.read_at(self.position, size)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        """See `tar.Sectors`; the last member's padding may be missing."""
        self.position += size

    def holds(self, entry: Entry) -> bool:
        """Whether a member's data are all there."""
        return entry.offset + entry.size <= self._file.status.st_size


class PassingSectors:
    """A tar's headers in a stream."""

    def __init__(self, plain: Readable, what: str) -> None:
        self.plain = plain
        self._what = what
        self.position = 0

    def take(self, size: int) -> bytes:
        """See `tar.Sectors`."""
        data = filled(self.plain, size)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        """See `tar.Sectors`."""
        while size:
            data = self.plain.read(min(size, BLOCK))
            if not data:
                raise CorruptError(f"reading {self._what}", "it ends in the middle of a member", hint="it was not copied whole: fetch it again")
            size -= len(data)
            self.position += len(data)


class FolderMembers(Members):
    """The files of a folder, looked for when they are asked for. Links are read, never followed by the system."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._path = Path(path)

    def _get(self, name: str) -> Entry | None:
        if not name or "\0" in name:
            return None
        *folders, _ = parts = name.split("/")
        try:
            at = self._path
            for folder in folders:
                at /= folder
                if not stat.S_ISDIR(at.lstat().st_mode):
                    return None
            at = self._path.joinpath(*parts)
            status = at.lstat()
            target = str(at.readlink()) if stat.S_ISLNK(status.st_mode) else ""
        except OSError:
            return None
        return Entry(name, _kind(status.st_mode), status.st_size, target, 0)


def _kind(mode: int) -> Kind:
    for test, kind in ((stat.S_ISREG, Kind.FILE), (stat.S_ISLNK, Kind.SYMLINK), (stat.S_ISDIR, Kind.FOLDER)):
        if test(mode):
            return kind
    return Kind.OTHER


class FolderFile:
    """A file of a folder, open from the first read to the last."""

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._left = size
        self._fd = -1

    def read(self, size: int) -> bytes:
        """The next bytes."""
        if not self._left:
            return b""
        with explained(self._path):
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            data = os.read(self._fd, min(size, self._left))
        self._left -= len(data)
        if not data or not self._left:
            self.close()
        return data

    def close(self) -> None:
        """Give it back, if it is open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
