"""Bytes in a row, plain or packed: gzip by isal, zstd by zstandard; all bounded, whatever the stream says of itself."""

from __future__ import annotations

from typing import Protocol

import zstandard
from isal import igzip_lib

from controller.domain.archived import Form
from controller.domain.errors import CorruptError

BLOCK = 1 << 20
"""Bytes that are read at a time."""

_MAGIC = {b"\x1f\x8b": Form.GZIP, b"\x28\xb5\x2f\xfd": Form.ZSTD}
_MAX_WINDOW = 1 << 27
_BOMB_FROM, _BOMB_RATIO = 1 << 30, 1000
_GZIP_HEAD = 2


class Readable(Protocol):
    """Something that is read from front to back."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end only."""
        ...


def filled(source: Readable, size: int) -> bytes:
    """So many bytes, fewer at the end only."""
    data = source.read(size)
    if len(data) in {0, size}:
        return data
    parts, have = [data], len(data)
    while have < size and (more := source.read(size - have)):
        parts.append(more)
        have += len(more)
    return b"".join(parts)


def form_of(head: bytes) -> Form:
    """How a stream that begins like this is stored."""
    return next((form for magic, form in _MAGIC.items() if head.startswith(magic)), Form.PLAIN)


class Prefixed:
    """A stream whose first bytes were read already, to see what it is."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int) -> bytes:
        """The head, then the rest."""
        if self._head:
            given, self._head = self._head[:size], self._head[size:]
            return given
        return self._rest.read(size)


def unpacked(raw: Readable, form: Form, what: str) -> Readable:
    """The plain bytes of a stream. Its read() raises CorruptError for damage, and for what grows beyond all measure."""
    if form is Form.PLAIN:
        return raw
    counted = _Counted(raw)
    return _Bounded(_Gzip(counted, what) if form is Form.GZIP else _Zstd(counted, what), counted, what)


class _Counted:
    def __init__(self, raw: Readable) -> None:
        self._raw = raw
        self.count = 0

    def read(self, size: int) -> bytes:
        data = self._raw.read(size)
        self.count += len(data)
        return data


class _Bounded:
    """Refuses what only grows: content of that kind is made to fill memory and disks."""

    def __init__(self, plain: Readable, packed: _Counted, what: str) -> None:
        self._plain = plain
        self._packed = packed
        self._what = what
        self._count = 0

    def read(self, size: int) -> bytes:
        data = self._plain.read(size)
        self._count += len(data)
        if self._count > _BOMB_FROM and self._count > _BOMB_RATIO * self._packed.count:
            raise CorruptError(f"unpacking {self._what}", f"{self._packed.count} bytes became {self._count}", hint="that is a bomb and no image")
        return data


class _Gzip:
    """One or more gzip members in a row (RFC 1952); zeros behind them are padding."""

    def __init__(self, raw: Readable, what: str) -> None:
        self._raw = raw
        self._what = what
        self._decoder: igzip_lib.IgzipDecompressor | None = None
        self._ahead = b""
        self._members = 0

    def read(self, size: int) -> bytes:
        while True:
            if self._decoder is None and not self._next_member():
                return b""
            assert self._decoder is not None  # noqa: S101 - the line above made it
            data = b"" if not self._decoder.needs_input else self._ahead or self._raw.read(BLOCK)
            if self._decoder.needs_input and not data:
                raise _truncated(self._what, "gzip")
            self._ahead = b""
            try:
                plain: bytes = self._decoder.decompress(data, size)
            except igzip_lib.error as error:  # type: ignore[misc] # its stubs call it a value
                raise _damaged(self._what, "gzip", error) from None
            if self._decoder.eof:
                self._ahead, self._decoder = self._decoder.unused_data, None
            if plain:
                return plain

    def _next_member(self) -> bool:
        """Whether there is a further member; padding is passed over."""
        while len(self._ahead) < _GZIP_HEAD or not self._ahead.strip(b"\0"):
            more = self._raw.read(BLOCK)
            if not more:
                if self._ahead.strip(b"\0") or not self._members:
                    raise _truncated(self._what, "gzip")
                return False
            self._ahead = self._ahead.lstrip(b"\0") + more
        if form_of(self._ahead) is not Form.GZIP:
            raise CorruptError(f"unpacking {self._what}", "something else follows the gzip stream", hint="make the archive anew")
        self._decoder = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP, hist_bits=15)
        self._members += 1
        return True


class _Zstd:
    """One or more zstd frames in a row (RFC 8878)."""

    def __init__(self, raw: Readable, what: str) -> None:
        self._what = what
        decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        self._stream = decoder.stream_reader(raw, read_size=BLOCK, read_across_frames=True)  # type: ignore[arg-type] # it only reads

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except zstandard.ZstdError as error:
            raise _damaged(self._what, "zstd", error) from None


def _truncated(what: str, kind: str) -> CorruptError:
    return CorruptError(f"unpacking {what}", f"the {kind} stream ends too early", hint="it was not copied whole: fetch it again")


def _damaged(what: str, kind: str, error: Exception) -> CorruptError:
    return CorruptError(f"unpacking {what}", f"the {kind} stream is damaged: {error}", hint="it was not copied right: fetch it again")
