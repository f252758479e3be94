"""One blob on its way out of an archive: read, hashed, unpacked for its diff_id, packed where it is plain; never held whole."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing

from controller.domain.archived import Form
from controller.domain.errors import CorruptError
from controller.domain.oci import Descriptor
from controller.sources.packing import Packer, PlainLayer
from controller.sources.streams import BLOCK, Readable, unpacked
from controller.sources.workers import Workers, ahead


class Member:
    """The bytes of one member, whoever reads them: one reader at a time, none after `end`. `read` tells how many were."""

    def __init__(self, raw: Readable, size: int, what: str) -> None:
        self._raw = raw
        self._left = size
        self._what = what
        self._lock = threading.Lock()
        self.count = 0

    def read(self, size: int) -> bytes:
        """Up to so many bytes; CorruptError when the archive ends before the member does."""
        with self._lock:
            wanted = min(size, self._left)
            data = self._raw.read(wanted) if wanted else b""
            if wanted and not data:
                raise CorruptError(f"reading {self._what}", "the archive ends in the middle of it", hint="it was not copied whole: fetch it again")
            self._left -= len(data)
            self.count += len(data)
            return data

    def end(self) -> int:
        """Let nobody read on; the bytes that are left."""
        with self._lock:
            left, self._left = self._left, 0
            return left


class Blob:
    """Fulfils `domain.ports.archives.PassingBlob`. With a `packer` it is a plain layer that is packed, else its bytes stay what they are."""

    def __init__(self, member: str, source: Member, form: Form, blob: Descriptor | None, packer: Packer | None, workers: Workers) -> None:
        self.member = member
        self.blob = blob
        self.form = packer.form if packer else form
        self.diff_id = ""
        self._source = source
        self._stored = form
        self._packer = packer
        self._workers = workers

    @property
    def read(self) -> int:
        """The bytes of the member that were read so far."""
        return self._source.count

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Its bytes as they go to the registry; at the end diff_id is known."""
        if self._packer is not None:
            plain = PlainLayer(self._source, self._packer)
            async with aclosing(plain.chunks(self._workers)) as found:
                async for chunk in found:
                    yield chunk
            self.diff_id = plain.diff_id
            return
        verbatim = _Verbatim(self._source, self._stored, self.member)
        async with aclosing(ahead(self._workers, verbatim.step)) as found:
            async for chunk in found:
                yield chunk
        self.diff_id = verbatim.diff_id
        if self.blob is not None and self.blob.digest.startswith("sha256:") and verbatim.digest != self.blob.digest:
            raise CorruptError(f"reading {self.member}", f"its bytes are {verbatim.digest[:19]}", hint="the archive is damaged: fetch it again")


class _Verbatim:
    """The stored bytes, hashed, and what they unpack to, hashed too."""

    def __init__(self, source: Readable, form: Form, what: str) -> None:
        self._source = source
        self._raw_hash, self._plain_hash = hashlib.sha256(), hashlib.sha256()
        self._taken: list[bytes] = []
        self._plain = unpacked(self, form, what) if form is not Form.PLAIN else None

    def read(self, size: int) -> bytes:
        """For the unpacking: the next stored bytes, which are kept for step()."""
        data = self._source.read(size)
        self._raw_hash.update(data)
        self._taken.append(data)
        return data

    def step(self) -> bytes:
        """Some more of the stored bytes; none at the end only."""
        if self._plain is None:
            return self.read(BLOCK)
        while not any(self._taken):
            plain = self._plain.read(BLOCK)
            self._plain_hash.update(plain)
            if not plain:
                self.read(BLOCK)
                break
        data = b"".join(self._taken)
        self._taken.clear()
        return data

    @property
    def digest(self) -> str:
        return f"sha256:{self._raw_hash.hexdigest()}"

    @property
    def diff_id(self) -> str:
        return f"sha256:{(self._raw_hash if self._plain is None else self._plain_hash).hexdigest()}"
