"""Blobs on their way in and out: as long as was said, or an error that names who is to blame."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator

import httpx

from controller.domain.errors import CorruptError, WharfError
from controller.domain.oci import Descriptor
from controller.registry.answers import one_line, unreachable
from controller.registry.transport import FAILURES

_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)")


async def received(response: httpx.Response, tried: str) -> AsyncIterator[bytes]:
    """A body's chunks; UnreachableError when it breaks off or has another length than was said."""
    declared, read = response.headers.get("Content-Length", ""), 0
    try:
        async for chunk in response.aiter_raw():
            read += len(chunk)
            yield chunk
    except FAILURES as failure:
        raise unreachable(f"{tried} after {read} bytes", failure) from None
    if declared.isdecimal() and read != int(declared):
        raise unreachable(tried, EOFError(f"the body ended after {read} of {declared} bytes"))


def rest_of(response: httpx.Response, chunks: AsyncIterator[bytes], start: int, tried: str) -> AsyncIterator[bytes]:
    """The body from byte `start` of the blob on, whether the other side began there (206) or gave all of it again (200); else CorruptError."""
    if response.status_code == httpx.codes.OK:
        return _skipped(chunks, start, tried) if start else chunks
    ranged = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status_code != httpx.codes.PARTIAL_CONTENT or not start or ranged is None or int(ranged[1]) != start:
        answer = f"{response.status_code} {one_line(response.headers.get('Content-Range', 'without a range'))}"
        raise CorruptError(tried, answer, hint=f"asked for the blob from byte {start} on")
    return chunks


async def _skipped(chunks: AsyncIterator[bytes], start: int, tried: str) -> AsyncIterator[bytes]:
    left = start
    async for chunk in chunks:
        if left < len(chunk):
            yield chunk[left:] if left else chunk
        left -= min(left, len(chunk))
    if left:
        raise CorruptError(tried, f"a body of {start - left} bytes", hint=f"it was longer before: {start} bytes had come")


class Outgoing:
    """A blob on its way out. `failure` is why its source broke off: of that, what sends it only tells that the connection is gone."""

    def __init__(self, chunks: AsyncIterator[bytes], blob: Descriptor) -> None:
        self._chunks = chunks
        self._blob = blob
        self.failure: Exception | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks; CorruptError when they are not as many bytes as the descriptor says, at which the registry would wait for more."""
        try:
            async for chunk in self._measured():
                yield chunk
        except Exception as failure:
            self.failure = failure
            raise

    async def _measured(self) -> AsyncIterator[bytes]:
        read, size = 0, self._blob.size
        async for chunk in self._chunks:
            read += len(chunk)
            if read > size:
                break
            yield chunk
        if read != size:
            found = f"more than {size}" if read > size else read
            hint = "the manifest and the blob do not belong together"
            raise CorruptError(f"reading the blob {self._blob.digest}", f"{found} bytes, {size} by its manifest", hint=hint)


class Unmeasured:
    """A blob on its way out whose size and digest are known at its end only.

    `failure` is why its source broke off. Then the body ends there as if it were whole: Distribution 2.8 lets nobody cancel an upload whose body
    was cut, as its length is not what the Location said.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self.size = 0
        self.failure: WharfError | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks; each is hashed while it is sent."""
        try:
            async for chunk in self._chunks:
                self.size += len(chunk)
                hashing = asyncio.ensure_future(asyncio.to_thread(self._hash.update, chunk))
                try:
                    yield chunk
                finally:
                    await hashing
        except WharfError as failure:
            self.failure = failure

    @property
    def digest(self) -> str:
        """The digest of what passed."""
        return f"sha256:{self._hash.hexdigest()}"
