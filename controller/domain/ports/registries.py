"""A registry that is read, written, and passed requests on to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from controller.domain.oci import Descriptor, Manifest

Advance = Callable[[int], None]
"""Told of bytes that moved since the last call."""


class ReadableRegistry(Protocol):
    """One OCI registry that is only read: an upstream, say. `identifier` is a tag or a digest."""

    @property
    def address(self) -> str:
        """host[:port], for people and for telling registries apart."""
        ...

    async def resolve(self, repository: str, identifier: str) -> Descriptor:
        """What the identifier means, by one HEAD; NotFoundError only when the registry said so."""
        ...

    async def manifest(self, repository: str, identifier: str, known: Manifest | None = None) -> Manifest:
        """The manifest's bytes, hashed: by digest CorruptError when they are not what was asked for. At most MAX_MANIFEST bytes are read.

        `known` is what the identifier may still mean: then only that is asked.
        """
        ...

    def read_blob(self, repository: str, digest: str, start: int = 0) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The blob's bytes from `start` on, in chunks, not decoded, not hashed here."""
        ...

    async def blob_size(self, repository: str, digest: str) -> int:
        """The bytes of a blob, by one HEAD; NotFoundError when the registry says that it has none."""
        ...

    async def referrers(self, repository: str, digest: str) -> Manifest | None:
        """The index of what refers to a manifest, by the referrers API; None where the registry lacks it (distribution-spec, "Listing Referrers")."""
        ...

    async def tags(self, repository: str) -> list[str]:
        """All tags, every page; empty for a repository without any. Absence here is not absence: resolve() by name."""
        ...


class Registry(ReadableRegistry, Protocol):
    """One OCI registry."""

    async def ping(self) -> None:
        """Ask /v2/; raises when what answers is no registry or is not healthy."""
        ...

    async def put_manifest(self, repository: str, identifier: str, manifest: Manifest) -> None:
        """Write the bytes verbatim under a tag or a digest."""
        ...

    async def has_blob(self, repository: str, digest: str) -> bool:
        """Whether the registry says that it has the blob. No proof: only reading it is."""
        ...

    async def write_blob(self, repository: str, blob: Descriptor, chunks: AsyncIterator[bytes], upload: str = "") -> None:
        """Upload a blob of known size and digest; the registry checks the digest, CorruptError when it differs. `upload` is what offer() gave."""
        ...

    async def offer(self, repository: str, digest: str, source: str) -> str:
        """One request that either mounts a blob or begins its upload: "" when the repository has it now, else the upload, for write_blob().

        `source` is a repository that may have it, or the same one, to find out whether it is there already.
        """
        ...

    async def stream_blob(self, repository: str, chunks: AsyncIterator[bytes]) -> Descriptor:
        """Upload a blob whose size and digest are known only at its end: hashed as it goes. Its media type is left empty."""
        ...

    async def mount(self, repository: str, digest: str, source: str) -> bool:
        """Mount a blob from another repository of this registry; False means that it has to be uploaded."""
        ...

    async def catalog(self) -> list[str]:
        """All repositories, every page."""
        ...

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Remove this tag and nothing else: not its manifest, not another tag of the same digest."""
        ...

    def writing(self, repository: str = "") -> AbstractContextManager[None]:
        """For as long as an image is brought, changed or deleted, by this task and by what it starts: no garbage is collected meanwhile.

        CollectingError while that is under way. Whatever is written outside of it asks for itself.
        """
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...


@dataclass(frozen=True, slots=True)
class Rest:
    """A body of which the first bytes have come; `left` more can be read from a socket's descriptor, until the answer is closed."""

    first: bytes
    descriptor: int
    left: int


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A registry's answer to a request that was passed on; `chunks` are its body, to be read once.

    `take_over` gives the body as what is left of it in the connection, in place of `chunks`; None where that can't be.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: AsyncIterator[bytes]
    take_over: Callable[[], Rest | None]


class Forwarder(Protocol):
    """Passes requests of others on to the registry."""

    def forward(
        self, method: str, target: str, headers: Mapping[str, str], body: AsyncIterator[bytes] | None, scope: str
    ) -> AbstractAsyncContextManager[Forwarded]:
        """Send `target`, a path with its query, under our own credentials for `scope`. UnreachableError when there is no answer."""
        ...

    async def keep_manifest(self, repository: str, manifest: Manifest) -> None:
        """See to it that a manifest which the registry took can be read there; RefusedError when it can't."""
        ...

    async def holds(self, repository: str, digest: str) -> bool:
        """Whether a blob can be read, by its first byte: a cache may remember one that is gone."""
        ...
