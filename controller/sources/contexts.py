"""Dockerfile folders: what one is now, by a hash of all that a build depends on, and as a tar that is the same for the same content."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import posixpath
import tarfile
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from controller.domain.desired import BuildSource
from controller.domain.errors import CorruptError, MovedError, NotFoundError
from controller.domain.ports.hosts import BuildContext
from controller.sources.dockerignore import BadPatternError, Ignore, parse_ignore
from controller.sources.folder import ChangedError, Item, walk

T = TypeVar("T")

_IGNORE_FILE = ".dockerignore"
_MAX_IGNORE = 1 << 20
_CHUNK = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_FOLDERS_KEPT = 1024
_SETTLED = 2_000_000_000
"""Nanoseconds. A file that changed later than this ago may change again without another time stamp, so its hash is not remembered."""


class FolderContexts:
    """Fulfils `domain.ports.hosts.Contexts`. Remembers the hash of each file, so that a look at a folder in which nothing changed reads none."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        """`clock` gives nanoseconds since the epoch."""
        self._clock = clock
        self._known: OrderedDict[str, dict[tuple[int, ...], str]] = OrderedDict()
        self._looked: OrderedDict[BuildSource, str] = OrderedDict()

    async def look(self, source: BuildSource) -> BuildContext:
        """What the folder is now; NotFoundError when there is none, CorruptError when it can't be read."""
        stop = threading.Event()
        known = self._known.get(source.context, {})
        began = self._clock()
        try:
            found, files = await asyncio.to_thread(_looked, source, known, began - _SETTLED, stop)
        finally:
            stop.set()  # A thread can't be cancelled: it is told.
        _remember(self._known, source.context, files)
        _remember(self._looked, source, found.hash)
        return found

    async def concerned(self, source: BuildSource, names: Collection[str]) -> bool:
        """Whether one of these paths in the folder may be part of what Docker would send; in doubt it is."""
        return await asyncio.to_thread(_concerned, source, names)

    async def tar(self, source: BuildSource) -> AsyncIterator[bytes]:
        """The folder as a tar, in chunks: sorted, without times and owners.

        Raises as `look` does, and MovedError before the tar is complete when it is not what the last look at this source saw.
        """
        expected = self._looked.get(source, "")
        with closing(_tarred(source, expected)) as chunks:
            while chunk := await _in_thread(lambda: next(chunks, b"")):
                yield chunk


async def _in_thread(work: Callable[[], T]) -> T:
    """As asyncio.to_thread, but who cancels this waits for the end of the work: what it works on can be closed then."""
    job = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait([job])
        raise


def _remember(kept: OrderedDict[Any, Any], key: object, value: object) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _FOLDERS_KEPT:
        kept.popitem(last=False)


def _looked(
    source: BuildSource, known: dict[tuple[int, ...], str], settled: int, stop: threading.Event
) -> tuple[BuildContext, dict[tuple[int, ...], str]]:
    """What the folder is, and the hashes of those files that may be remembered."""
    whole, size, files = _Hash(source), len(_END), {}
    with _told(source), closing(_items(source)) as items:
        for item in items:
            if stop.is_set():
                break
            digest = ""
            if item.kind == "file":
                digest = known.get(item.stamp) or _digest_of(item, stop)
                if max(item.stamp[3:5]) < settled:
                    files[item.stamp] = digest
            whole.add(item, digest)
            size += len(_header(item)) + item.size + -item.size % _BLOCK
    return BuildContext(whole.digest, size), files


def _digest_of(item: Item, stop: threading.Event) -> str:
    hasher = hashlib.sha256()
    for chunk in _content(item):
        if stop.is_set():
            break
        hasher.update(chunk)
    return hasher.hexdigest()


def _content(item: Item) -> Iterator[bytes]:
    """As many bytes as the file had when it was listed; ChangedError when it has fewer."""
    left = item.size
    with item.opened() as descriptor:
        while left and (chunk := os.read(descriptor, min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk
    if left:
        raise ChangedError(0, "it changed while it was read", item.name)


def _tarred(source: BuildSource, expected: str) -> Generator[bytes, None, None]:
    """The tar in chunks of about a megabyte."""
    whole, out = _Hash(source), io.BytesIO()
    with _told(source), closing(_items(source)) as items:
        for item in items:
            hasher = hashlib.sha256()
            out.write(_header(item))
            if item.kind == "file":
                for chunk in _content(item):
                    hasher.update(chunk)
                    out.write(chunk)
                    yield from _full(out)
                out.write(bytes(-item.size % _BLOCK))
            whole.add(item, hasher.hexdigest() if item.kind == "file" else "")
            yield from _full(out)
    if expected and whole.digest != expected:
        raise MovedError(f"{source.context}: the folder changed while it was sent to {source.on}: look again")
    out.write(_END)
    yield out.getvalue()


def _full(out: io.BytesIO) -> Iterator[bytes]:
    if out.tell() >= _CHUNK:
        yield out.getvalue()
        out.seek(0)
        out.truncate()


_TYPES = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}


def _header(item: Item) -> bytes:
    info = tarfile.TarInfo(item.name)
    info.type, info.mode, info.size, info.linkname = _TYPES[item.kind], item.mode, item.size, item.link
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


class _Hash:
    """Of all that a build depends on: how it is asked for, and each item's name, kind, mode and content."""

    def __init__(self, source: BuildSource) -> None:
        self._hasher = hashlib.sha256(b"wharfinger build 1\n")
        self._add(_dockerfile(source), source.target, source.platform, str(len(source.args)))
        for name, value in source.args:
            self._add(name, value)

    def add(self, item: Item, digest: str) -> None:
        """One item; `digest` is of a file's content."""
        self._add(item.name, item.kind, f"{item.mode:o}", item.link, digest)

    @property
    def digest(self) -> str:
        """What it is so far."""
        return f"sha256:{self._hasher.hexdigest()}"

    def _add(self, *words: str) -> None:
        for word in words:
            raw = os.fsencode(word)
            self._hasher.update(b"%d:%s" % (len(raw), raw))


def _items(source: BuildSource) -> Generator[Item, None, None]:
    dockerfile = _dockerfile(source)
    ignore = _ignore(source, dockerfile)
    yield from walk(source.context, ignore, frozenset({dockerfile, _real_dockerfile(source, dockerfile), _IGNORE_FILE}))


def _dockerfile(source: BuildSource) -> str:
    """Its path from the top of the folder."""
    return posixpath.normpath(source.dockerfile)


def _real_dockerfile(source: BuildSource, dockerfile: str) -> str:
    """Where links inside of the folder lead; the engine never sees what is outside, so that is refused here."""
    tried = f"reading {dockerfile} of {source.context}"
    top = os.path.realpath(source.context, strict=True)
    real = os.path.realpath(os.path.join(top, dockerfile))  # noqa: PTH118 - a name's bytes may be no text
    if os.path.isabs(dockerfile) or os.path.commonpath([top, real]) != top:  # noqa: PTH117 - the same
        raise CorruptError(tried, "it is outside of the folder", hint="an engine gets the folder only: move the Dockerfile into it")
    if not os.path.isdir(top):  # noqa: PTH112 - the same
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), top)
    if not os.path.isfile(real):  # noqa: PTH113 - the same
        raise NotFoundError(tried, "there is no such file", hint="`dockerfile` is relative to the context")
    return os.path.relpath(real, top)


def _concerned(source: BuildSource, names: Collection[str]) -> bool:
    dockerfile = _dockerfile(source)
    try:
        ignore = _ignore(source, dockerfile)
    except (CorruptError, OSError):
        return True
    always = {".", dockerfile, f"{dockerfile}{_IGNORE_FILE}", _IGNORE_FILE}
    return any(name in always or not ignore.ignores(name) for name in names)


def _ignore(source: BuildSource, dockerfile: str) -> Ignore:
    """The Dockerfile's own ignore file, or the folder's."""
    for name in (f"{dockerfile}{_IGNORE_FILE}", _IGNORE_FILE):
        path = Path(source.context, name)
        if path.is_symlink():
            raise CorruptError(f"reading {path}", "it is a link", hint="put the file itself there")
        if not path.is_file():
            continue
        with path.open("rb") as opened:
            raw = opened.read(_MAX_IGNORE + 1)
        if len(raw) > _MAX_IGNORE:
            raise CorruptError(f"reading {path}", f"it is larger than {_MAX_IGNORE >> 20} MiB")
        try:
            return parse_ignore(os.fsdecode(raw))
        except BadPatternError as error:
            raise CorruptError(f"reading {path}", str(error), hint="mend the pattern, as Docker would refuse it too") from None
    return Ignore()


@contextmanager
def _told(source: BuildSource) -> Iterator[None]:
    """The system's errors in words."""
    tried = f"reading the Dockerfile folder {source.context}"
    try:
        yield
    except ChangedError as error:
        raise CorruptError(tried, f"{error.filename}: {error.strerror}", retryable=True) from None
    except OSError as error:
        if not os.path.isdir(source.context):  # noqa: PTH112 - Path.is_dir raises on a name that is too long
            raise NotFoundError(tried, "there is no such folder", hint="a relative path begins at the folder of the file that says it") from None
        where = os.fsencode(str(error.filename or "")).decode(errors="replace")
        raise CorruptError(tried, f"{where}: {error.strerror}", hint="mend it, or leave it out by .dockerignore") from None
