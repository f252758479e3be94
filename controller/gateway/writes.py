"""What clients write: held off while the registry's garbage is collected, and never answered 201 for what can't be read afterwards.

A push is several requests: blobs, then manifests, the tag last. From its first one on it holds the gate: a collection waits for its end, and never
comes between its blobs and its manifest. Who sends nothing for a while has ended; what is collected of his push, its manifest is refused for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from controller.domain.errors import CorruptError
from controller.domain.oci import MAX_MANIFEST, Manifest, parse_manifest
from controller.domain.ports.collecting import COLLECTING, Doubt, Gate
from controller.domain.ports.registries import Forwarder
from controller.domain.reference import is_digest

LINGER = 5.0
"""Seconds without a request after which a push has ended."""


@dataclass
class _Push:
    """One client's writes to one repository. `leave` gives the gate back."""

    leave: Callable[[], None]
    requests: int = 0
    end: asyncio.TimerHandle | None = None


class Writes:
    """The pushes that are under way."""

    def __init__(self, gate: Gate, forwarder: Forwarder) -> None:
        self._gate = gate
        self._forwarder = forwarder
        self._pushes: dict[tuple[str, str], _Push] = {}

    @property
    def doubted(self) -> bool:
        """Whether the registry may say that it has blobs which are gone."""
        return self._gate.doubt is Doubt.BLOBS

    @property
    def said(self) -> dict[str, str]:
        """What /v2/ tells who collects, whoever he is: that writes are held off here by the gate that he has shut."""
        return {COLLECTING: "yes"} if self._gate.closed else {}

    @asynccontextmanager
    async def writing(self, client: str, repository: str, *, last: bool) -> AsyncIterator[None]:
        """For one request; `last`: it ends its push. CollectingError when it would begin one while a collection is under way."""
        key = (client, repository)
        push = self._pushes.get(key)
        if push is None:
            push = self._pushes[key] = _Push(self._gate.enter(repository))
        elif push.end is not None:
            push.end.cancel()
            push.end = None
        push.requests += 1
        try:
            with self._gate.passing():
                yield
        finally:
            push.requests -= 1
            if not push.requests and last:
                self._ended(key)
            elif not push.requests:
                push.end = asyncio.get_running_loop().call_later(LINGER, self._ended, key)

    def close(self) -> None:
        """Give everything back."""
        for key in list(self._pushes):
            self._ended(key)

    async def lost(self, repository: str, manifest: Manifest) -> str:
        """A blob that the manifest names and that can't be read, though the registry says to have it; "" if there is none."""
        if self.doubted:
            for blob in manifest.blobs:
                if not await self._forwarder.holds(repository, blob.digest):
                    return blob.digest
        return ""

    async def holds(self, repository: str, digest: str) -> bool:
        """Whether the registry has a blob of which it says so."""
        return not self.doubted or await self._forwarder.holds(repository, digest)

    def _ended(self, key: tuple[str, str]) -> None:
        push = self._pushes.pop(key)
        if push.end is not None:
            push.end.cancel()
        push.leave()


async def read_manifest(request: web.Request) -> tuple[bytes | None, Manifest | None]:
    """A manifest that is PUT: its bytes, None of one too large; and what they say, None where we don't understand it, which the registry may."""
    raw = bytearray()
    async for chunk in request.content.iter_any():
        raw += chunk
        if len(raw) > MAX_MANIFEST:
            return None, None
    try:
        return bytes(raw), parse_manifest(bytes(raw), request.headers.get("Content-Type", ""))
    except CorruptError:
        return bytes(raw), None


def mounted_from(request: web.Request) -> tuple[str, str]:
    """The repository that a blob shall be mounted from, and the blob's digest; "" for a request that mounts none."""
    source, digest = request.query.get("from", ""), request.query.get("mount", "")
    return (source, digest) if request.method == "POST" and is_digest(digest) else ("", "")
