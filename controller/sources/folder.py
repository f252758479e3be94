"""The files of a Dockerfile folder that are sent to an engine, in one fixed order; links are never followed (law 10)."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from controller.sources.dockerignore import Ignore, Matched

MAX_DEPTH = 128
"""Folders in folders. Each level holds a descriptor open while it is walked."""

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class ChangedError(OSError):
    """Something was other than it had just been seen."""


@contextmanager
def named(path: str) -> Iterator[None]:
    """The system's errors, with the path from the top instead of a bare name."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, path) from None


@dataclass(frozen=True, slots=True)
class Item:
    """A file, folder or link; `name` is relative to the top, its bytes as the file system has them. `stamp` tells its content from a later one.

    `place` opens it: the descriptor of the folder that it is in, valid until the next item is asked for.
    """

    name: str
    kind: str
    mode: int
    size: int = 0
    link: str = ""
    stamp: tuple[int, ...] = ()
    place: int = field(default=-1, compare=False)

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of the file's content; ChangedError when it is not the file any more that was listed."""
        with named(self.name):
            descriptor = os.open(os.path.basename(self.name), _FLAGS, dir_fd=self.place)  # noqa: PTH119 - a name's bytes may be no text
        try:
            if stamp_of(os.fstat(descriptor)) != self.stamp:
                raise ChangedError(0, "it changed while it was read", self.name)
            yield descriptor
        finally:
            os.close(descriptor)


def stamp_of(found: os.stat_result) -> tuple[int, ...]:
    """What changes when a file's content does."""
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, stat.S_IFMT(found.st_mode))


def walk(top: str, ignore: Ignore, always: frozenset[str]) -> Generator[Item, None, None]:
    """Everything that is sent, sorted, folders before what is in them. Sockets, pipes and devices are left out.

    `always` are names that no pattern leaves out. A folder that is left out comes along when something in it does not. Raises OSError.
    """
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield from _Walk(ignore, always).below(descriptor, "", ignore.nothing, [])
    finally:
        os.close(descriptor)


class _Walk:
    def __init__(self, ignore: Ignore, always: frozenset[str]) -> None:
        self._ignore = ignore
        self._always = always

    def below(self, descriptor: int, prefix: str, above: Matched, owed: list[Item]) -> Generator[Item, None, None]:
        """What is in one folder. `owed` are folders that are sent only if something in them is."""
        if prefix.count("/") > MAX_DEPTH:
            raise OSError(0, f"more than {MAX_DEPTH} folders in folders", prefix)
        with named(prefix), os.scandir(descriptor) as entries:
            names = sorted(os.fsencode(entry.name) for entry in entries)
        for raw in names:
            name = os.fsdecode(raw)
            path = prefix + name
            ignored, matched = self._ignore.step(path, above)
            ignored = ignored and path not in self._always
            if ignored and not self._wanted_below(path):
                continue
            with named(path):
                item = _item(path, name, os.stat(name, dir_fd=descriptor, follow_symlinks=False), descriptor)
            if item is None or (ignored and item.kind != "folder"):
                continue
            if item.kind == "folder":
                yield from self._folder(item, ignored, matched, owed)
            else:
                yield from _paid(owed)
                yield item

    def _folder(self, item: Item, ignored: bool, matched: Matched, owed: list[Item]) -> Generator[Item, None, None]:  # noqa: FBT001 - as found
        owed.append(item)
        if not ignored:
            yield from _paid(owed)
        with named(item.name):
            descriptor = os.open(os.path.basename(item.name), _FLAGS | os.O_DIRECTORY, dir_fd=item.place)  # noqa: PTH119 - as above
        try:
            yield from self.below(descriptor, f"{item.name}/", matched, owed)
        finally:
            os.close(descriptor)
        if owed and owed[-1] is item:
            owed.pop()

    def _wanted_below(self, path: str) -> bool:
        return self._ignore.excepts_below(path) or any(name.startswith(f"{path}/") for name in self._always)


def _paid(owed: list[Item]) -> Generator[Item, None, None]:
    """The folders above something that is sent."""
    while owed:
        yield owed.pop(0)


def _item(path: str, name: str, found: os.stat_result, descriptor: int) -> Item | None:
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISDIR(found.st_mode):
        return Item(path, "folder", mode, place=descriptor)
    if stat.S_ISLNK(found.st_mode):
        return Item(path, "link", 0o777, link=os.readlink(name, dir_fd=descriptor))
    if stat.S_ISREG(found.st_mode):
        return Item(path, "file", mode, found.st_size, stamp=stamp_of(found), place=descriptor)
    return None
