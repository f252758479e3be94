"""Packing: other programs read it, it keeps order, and it is the same on any number of cores."""

from __future__ import annotations

import asyncio
import gzip
import io
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.archived import Form, Packing
from controller.domain.errors import CorruptError
from controller.domain.oci import digest_of
from controller.sources.packing import PACKERS, Packer, PlainLayer
from controller.sources.workers import Workers

T = TypeVar("T")

_BLOCK = 1000
_DATA = st.lists(st.binary(min_size=1, max_size=2000), max_size=20).map(b"".join)


async def _packed(data: bytes, packing: Packing, at_once: int = 3) -> bytes:
    """What a layer becomes; it is read right, as its diff_id tells."""
    workers = Workers()
    workers.blocks = at_once
    layer = PlainLayer(io.BytesIO(data), PACKERS[packing], _BLOCK)
    try:
        chunks = [chunk async for chunk in layer.chunks(workers)]
    finally:
        await workers.close()
    assert layer.diff_id == digest_of(data)
    assert all(chunks), "an empty chunk ends a body of HTTP"
    return b"".join(chunks)


@pytest.mark.parametrize("packing", [Packing.FAST, Packing.SMALL])
@settings(max_examples=50, deadline=None)
@given(data=_DATA)
def test_gzip_is_one_member(packing: Packing, data: bytes) -> None:
    """Python's own reader gives the bytes, and finds sum and size right."""
    assert gzip.decompress(asyncio.run(_packed(data, packing))) == data


@settings(max_examples=50, deadline=None)
@given(data=_DATA)
def test_zstd_is_frames_in_a_row(data: bytes) -> None:
    """A reader that reads all frames gives the bytes; nothing at all is one empty frame."""
    packed = asyncio.run(_packed(data, Packing.ZSTD))
    assert packed
    with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as stream:
        assert stream.read() == data


@pytest.mark.parametrize("packing", [*Packing])
def test_the_same_bytes_on_any_machine(packing: Packing) -> None:
    """How many blocks are under way at a time changes nothing, so a layer has one digest everywhere."""
    data = b"".join(bytes([number]) * 5000 for number in range(30))
    assert len({asyncio.run(_packed(data, packing, at_once)) for at_once in (1, 2, 7)}) == 1


def test_blocks_keep_their_order() -> None:
    """A thread that comes late reads a later block, and its block stays behind the others."""

    class Late(Workers):
        late = True

        def start(self, step: Callable[[], T]) -> asyncio.Future[T]:
            if not self.late:
                return super().start(step)
            self.late = False

            def late() -> T:
                time.sleep(0.2)
                return step()

            return super().start(late)

    async def whole() -> bytes:
        workers = Late()
        workers.blocks = 3
        try:
            layer = PlainLayer(io.BytesIO(bytes(range(9))), Packer(Form.ZSTD, b"", lambda block: block), 1)
            return b"".join([chunk async for chunk in layer.chunks(workers)])
        finally:
            await workers.close()

    assert asyncio.run(whole()) == bytes(range(9))


def test_nothing_is_read_behind_a_failure() -> None:
    """Who waits for its turn while reading fails reads no further, and the failure is told."""

    class Failing(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            time.sleep(0.05)  # So that the others wait behind it.
            if self.reads == 2:
                raise CorruptError("reading a layer", "it ends in the middle")
            return super().read(size)

    source = Failing(bytes(10 * _BLOCK))

    async def whole() -> None:
        workers = Workers()
        workers.blocks = 4
        try:
            async for _ in PlainLayer(source, PACKERS[Packing.FAST], _BLOCK).chunks(workers):
                pass
        finally:
            await workers.close()

    with pytest.raises(CorruptError, match="it ends in the middle"):
        asyncio.run(whole())
    assert source.reads == 2


def test_gunzip_reads_it() -> None:
    """The program that everybody has takes it without a word."""
    done = subprocess.run(["gzip", "-dc"], input=asyncio.run(_packed(b"a" * 9999 + b"b", Packing.FAST)), capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"a" * 9999 + b"b", b"")
