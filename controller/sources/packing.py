"""Packing plain layers: block by block on all cores, so that even one layer keeps them busy; the same bytes whatever their number.

gzip: each block is deflated on its own and ends on a byte (a full flush), so that the blocks in a row are one stream (RFC 1951, 3.2.4).
zstd: each block is a frame (RFC 8878, 3).
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

import zstandard
from isal import isal_zlib

from controller.domain.archived import Form, Packing
from controller.sources.streams import BLOCK, Readable, filled
from controller.sources.workers import Workers

PACKED = 2 * BLOCK
"""Bytes of a block: of half as many, the cores spend a twentieth of their time on passing them around."""

_ZLIB_LEVEL = 6
"""Level 9 takes three times as long, for one part in a hundred."""

_ZSTD_LEVEL = 3
_GZIP_HEAD = bytes.fromhex("1f8b08000000000000ff")
_DEFLATE_END = b"\x03\x00"


@dataclass(frozen=True, slots=True)
class Packer:
    """One way to pack. `head` goes before all blocks; of gzip, the end tells the sum and the size."""

    form: Form
    head: bytes
    block: Callable[[bytes], bytes]

    def end(self, checksum: int, size: int) -> bytes:
        """What goes behind all blocks."""
        if self.form is Form.ZSTD:
            return b"" if size else zstandard.ZstdCompressor().compress(b"")
        return _DEFLATE_END + checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def _fast(data: bytes) -> bytes:
    packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15, 9)
    return packer.compress(data) + packer.flush(isal_zlib.Z_FULL_FLUSH)


def _small(data: bytes) -> bytes:
    packer = zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(data)


PACKERS = {
    Packing.FAST: Packer(Form.GZIP, _GZIP_HEAD, _fast),
    Packing.SMALL: Packer(Form.GZIP, _GZIP_HEAD, _small),
    Packing.ZSTD: Packer(Form.ZSTD, b"", _zstd),
}


class PlainLayer:
    """A plain layer: its blocks are read and hashed in their order, by one thread at a time, and packed by as many as there are.

    One step does it all for a block, as a block that is handed from thread to thread waits each time until a core is free for the next one.
    """

    def __init__(self, source: Readable, packer: Packer, size: int = PACKED) -> None:
        self._source = source
        self._packer = packer
        self._size = size
        self._reading = threading.Lock()
        self._over = False
        self._hash = hashlib.sha256()
        self._checksum = 0
        self._blocks = 0
        self._bytes = 0

    @property
    def diff_id(self) -> str:
        """The digest of the plain bytes, known when all have been read."""
        return f"sha256:{self._hash.hexdigest()}"

    async def chunks(self, workers: Workers) -> AsyncGenerator[bytes, None]:
        """The packed bytes."""
        steps = deque(workers.start(self._step) for _ in range(workers.blocks))
        waiting: dict[int, bytes] = {}
        given = 0
        try:
            if self._packer.head:
                yield self._packer.head
            while steps:
                done = await steps.popleft()
                if done is None:
                    continue
                steps.append(workers.start(self._step))
                waiting[done.number] = done.packed
                while given in waiting:
                    yield waiting.pop(given)
                    given += 1
            if end := self._packer.end(self._checksum, self._bytes):
                yield end
        finally:
            for each in steps:
                each.cancel()

    def _step(self) -> _Block | None:
        """The next block, packed; None when there is none."""
        with self._reading:
            number, block = self._blocks, self._read()
        return _Block(number, self._packer.block(block)) if block else None

    def _read(self) -> bytes:
        if self._over:
            return b""
        self._over = True  # And so it stays when reading fails.
        block = filled(self._source, self._size)
        self._hash.update(block)
        self._checksum = isal_zlib.crc32(block, self._checksum)
        self._bytes += len(block)
        self._blocks += 1
        self._over = not block
        return block


@dataclass(frozen=True, slots=True)
class _Block:
    number: int
    packed: bytes
