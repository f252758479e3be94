"""Packing plain layers: block by block on all cores, so that even one layer keeps them busy; the same bytes whatever their number.

gzip: each block is deflated on its own and ends on a byte (a full flush), so that the blocks in a row are one stream (RFC 1951, 3.2.4).
zstd: each block is a frame (RFC 8878, 3).
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass

import zstandard
from isal import isal_zlib

from controller.domain.archived import Form, Packing
from controller.sources.streams import BLOCK
from controller.sources.workers import Workers

_ZLIB_LEVEL = 6
"""Level 9 takes three times as long, for one part in a hundred."""

_ZSTD_LEVEL = 3
_GZIP_HEAD = bytes.fromhex("1f8b08000000000000ff")
_DEFLATE_END = b"\x03\x00"


@dataclass(frozen=True, slots=True)
class Packer:
    """One way to pack. `block` packs `size` bytes, `head` goes before them all; of gzip, the end tells the sum and the size."""

    form: Form
    size: int
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
    Packing.FAST: Packer(Form.GZIP, BLOCK, _GZIP_HEAD, _fast),
    Packing.SMALL: Packer(Form.GZIP, BLOCK, _GZIP_HEAD, _small),
    Packing.ZSTD: Packer(Form.ZSTD, 4 * BLOCK, b"", _zstd),
}


class Checksum:
    """The CRC and the size of what was packed."""

    def __init__(self) -> None:
        self.value = 0
        self.size = 0

    def update(self, data: bytes) -> None:
        """Some more."""
        self.value = isal_zlib.crc32(data, self.value)
        self.size += len(data)


async def packed(blocks: AsyncIterator[bytes], packer: Packer, checksum: Checksum, workers: Workers) -> AsyncGenerator[bytes, None]:
    """The blocks, packed in their order. `checksum` has seen them all when they end."""
    under_way: deque[asyncio.Future[bytes]] = deque()
    try:
        if packer.head:
            yield packer.head
        async for block in blocks:
            under_way.append(workers.start(lambda data=block: packer.block(data)))  # type: ignore[misc] # the block of this turn
            if len(under_way) > workers.blocks:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
        if end := packer.end(checksum.value, checksum.size):
            yield end
    finally:
        for each in under_way:
            each.cancel()
