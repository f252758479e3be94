"""Packing: other programs read it, it keeps order, and it is the same on any number of cores."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
from collections.abc import AsyncGenerator, Iterable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.archived import Packing
from controller.sources.packing import PACKERS, Checksum, packed
from controller.sources.workers import Workers


async def _packed(blocks: Iterable[bytes], packing: Packing, at_once: int = 2) -> bytes:
    workers, checksum = Workers(), Checksum()
    workers.blocks = at_once

    async def given_() -> AsyncGenerator[bytes, None]:
        for block in blocks:
            checksum.update(block)
            yield block

    try:
        return b"".join([chunk async for chunk in packed(given_(), PACKERS[packing], checksum, workers)])
    finally:
        await workers.close()


@pytest.mark.parametrize("packing", [Packing.FAST, Packing.SMALL])
@settings(max_examples=50, deadline=None)
@given(blocks=st.lists(st.binary(min_size=1, max_size=2000), max_size=20))
def test_gzip_is_one_member(packing: Packing, blocks: list[bytes]) -> None:
    """Python's own reader gives the blocks in their order, and finds sum and size right."""
    assert gzip.decompress(asyncio.run(_packed(blocks, packing))) == b"".join(blocks)


@settings(max_examples=50, deadline=None)
@given(blocks=st.lists(st.binary(min_size=1, max_size=2000), max_size=20))
def test_zstd_is_frames_in_a_row(blocks: list[bytes]) -> None:
    """A reader that reads all frames gives the blocks; nothing at all is one empty frame."""
    data = asyncio.run(_packed(blocks, Packing.ZSTD))
    assert data
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
        assert stream.read() == b"".join(blocks)


@pytest.mark.parametrize("packing", [*Packing])
def test_the_same_bytes_on_any_machine(packing: Packing) -> None:
    """How many blocks are under way at a time changes nothing, so a layer has one digest everywhere."""
    blocks = [bytes([number]) * 5000 for number in range(30)]
    assert len({asyncio.run(_packed(blocks, packing, at_once)) for at_once in (1, 2, 7)}) == 1


def test_gunzip_reads_it() -> None:
    """The program that everybody has takes it without a word."""
    done = subprocess.run(["gzip", "-dc"], input=asyncio.run(_packed([b"a" * 9999, b"b"], Packing.FAST)), capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"a" * 9999 + b"b", b"")
