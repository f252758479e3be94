"""Verify: all that images are made of is read from the registry and hashed. Nothing is written, nothing is believed that a HEAD says.

Each blob is read once a run, however many images and repositories share it. A registry keeps the bytes of a digest once and lets repositories link
to them (Distribution does, and so does all that mounts), so for a further repository a HEAD is enough to learn whether the link is there: the bytes
behind it are those that were read. It is not enough where a registry's cache remembers a link that is gone; there a GET would answer from the same
cache, so reading it again would tell no more.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from controller.domain.errors import CorruptError, NotFoundError, RemoteError, UnreachableError
from controller.domain.oci import Descriptor, Manifest
from controller.domain.ports.registries import Advance, Registry
from controller.domain.reference import Target, is_digest
from controller.domain.verdict import Broken, Found, Part, Verdict
from controller.engine.bounded import bounded
from controller.engine.pace import Pace
from controller.engine.referrers import COSIGN
from controller.engine.tree import MOST

_IMAGES_AT_ONCE = 8
_READS_AT_ONCE = 4
_MANIFESTS_AT_ONCE = 8
_DEEPEST = 8
"""An index, its children, what refers to them by an index, and to that again."""


@dataclass(frozen=True, slots=True)
class _Bytes:
    """What reading one blob showed; `found` None: it is whole."""

    repository: str
    size: int
    found: Found | None = None
    message: str = ""


@dataclass
class _Walk:
    """One image, as it is read. `tags` are those of its repository, as far as they could be listed."""

    repository: str
    tags: frozenset[str]
    seen: set[str] = field(default_factory=set)
    blobs: dict[str, tuple[Part, Descriptor]] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)
    bytes: int = 0
    at_urls: int = 0

    def add(self, manifest: Manifest) -> None:
        """A manifest that was read: its blobs are to be read too."""
        self.bytes += len(manifest.raw)
        whole = (*manifest.layers, *([manifest.config] if manifest.config else []))
        self.at_urls += len(whole) - len(manifest.blobs)
        for blob in manifest.blobs:
            part = Part.CONFIG if manifest.config is not None and blob.digest == manifest.config.digest else Part.LAYER
            self.blobs.setdefault(blob.digest, (part, blob))


class Verifier:
    """Reads one registry, for one run. `bytes` and `blobs` are what it has read so far; `advance` is told of each chunk."""

    def __init__(self, registry: Registry, pace: Pace, advance: Advance = lambda _: None) -> None:
        self._registry = registry
        self._pace = pace
        self._advance = advance
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._known: dict[tuple[str, int], _Bytes] = {}
        self._linked: set[tuple[str, str]] = set()
        self._listings: dict[str, frozenset[str]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.bytes = 0
        self.blobs = 0

    async def verify(self, images: Mapping[Target, Iterable[str]], done: Callable[[Verdict], None] = lambda _: None) -> tuple[Verdict, ...]:
        """Every image, in the order of their names; `done` is told of each as it ends. Raises UnreachableError when the registry is gone."""
        await self._registry.ping()
        found: dict[Target, Verdict] = {}

        async def one(target: Target) -> None:
            found[target] = await self.image(target, tuple(images[target]))
            done(found[target])

        await bounded(one, sorted(images), _IMAGES_AT_ONCE)
        return tuple(found[target] for target in sorted(found))

    def forget(self, broken: Iterable[Broken]) -> None:
        """What was written again must be read again."""
        for each in broken:
            self._known.pop((each.digest, each.size), None)
            self._linked.discard((each.repository, each.digest))
            self._listings.pop(each.repository, None)

    async def image(self, target: Target, sets: tuple[str, ...] = ()) -> Verdict:
        """One image: what its tag means, all below it, and what refers to any of it."""
        this = _Walk(target.repository, frozenset())
        try:
            this.tags = await self._tags(target.repository)
        except RemoteError as error:
            found, message = await self._what(error)
            this.broken.append(Broken(Part.MANIFEST, "", 0, this.repository, found, f"its tags can't be listed: {message}"))
        root = await self._tagged(this, target.tag)
        if root:
            await self._below(this, root)
        await bounded(lambda digest: self._blob(this, *this.blobs[digest]), list(this.blobs), _READS_AT_ONCE)
        broken = tuple(sorted(this.broken, key=lambda each: (each.part, each.digest)))
        size = this.bytes + sum(blob.size for _, blob in this.blobs.values())
        return Verdict(target, sets, root, size, this.at_urls, broken)

    # Manifests.

    async def _tags(self, repository: str) -> frozenset[str]:
        async with self._locks.setdefault(repository, asyncio.Lock()):
            if repository not in self._listings:
                self._listings[repository] = frozenset(await self._registry.tags(repository))
            return self._listings[repository]

    async def _tagged(self, this: _Walk, tag: str) -> str:
        """The digest that a tag means; "" when it tells none."""
        try:
            return (await self._registry.resolve(this.repository, tag)).digest
        except RemoteError as error:
            found, message = await self._what(error)
            if found is Found.MISSING and tag not in this.tags:
                found, message = Found.ABSENT, f"the registry has no tag {tag}"
            this.broken.append(Broken(Part.MANIFEST, "", 0, this.repository, found, f"what {tag} means: {message}"))
            return ""

    async def _below(self, this: _Walk, root: str) -> None:
        level = {root: 0}
        for _ in range(_DEEPEST):
            this.seen |= level.keys()
            level = await self._level(this, level)
            if not level:
                return
            if len(this.seen) + len(level) > MOST:
                break
        message = f"more than {MOST} manifests, or nested more than {_DEEPEST} deep: the rest was not read"
        this.broken.append(Broken(Part.MANIFEST, root, 0, this.repository, Found.UNREADABLE, message))

    async def _level(self, this: _Walk, level: Mapping[str, int]) -> dict[str, int]:
        """Read these manifests of these sizes; what they name, and what refers to them, that was not seen yet."""
        further: dict[str, int] = {}

        async def one(digest: str) -> None:
            manifest = await self._manifest(this, digest, level[digest])
            if manifest is None:
                return
            this.add(manifest)
            further.update({child.digest: child.size for child in manifest.children})
            for referrer, size in (await self._referrers(this, digest)).items():
                further.setdefault(referrer, size)

        await bounded(one, level, _MANIFESTS_AT_ONCE)
        return {digest: size for digest, size in further.items() if digest not in this.seen}

    async def _manifest(self, this: _Walk, digest: str, size: int) -> Manifest | None:
        try:
            found = await self._registry.manifest(this.repository, digest)
        except RemoteError as error:
            this.broken.append(Broken(Part.MANIFEST, digest, size, this.repository, *await self._what(error)))
            return None
        await self._count(len(found.raw))
        if size and len(found.raw) != size:
            message = f"{len(found.raw)} bytes, {size} by its index"
            this.broken.append(Broken(Part.MANIFEST, digest, size, this.repository, Found.OTHER_BYTES, message))
        return found

    async def _referrers(self, this: _Walk, digest: str) -> dict[str, int]:
        """By the API where the registry has it, and by the tags that stand for it where it has not."""
        name = digest.replace(":", "-")
        found: dict[str, int] = {}
        try:
            listed = await self._registry.referrers(this.repository, digest)
        except RemoteError as error:
            this.broken.append(Broken(Part.MANIFEST, digest, 0, this.repository, Found.UNREADABLE, f"what refers to it: {error.answer}"))
            listed = None
        if listed is not None:
            found |= {child.digest: child.size for child in listed.children}
        for tag in (name, *(name + ending for ending in COSIGN)):
            if tag in this.tags and (meant := await self._tagged(this, tag)):
                found.setdefault(meant, 0)
        return found

    # Blobs.

    async def _blob(self, this: _Walk, part: Part, blob: Descriptor) -> None:
        async with self._locks.setdefault(blob.digest, asyncio.Lock()):
            known = await self._bytes(this.repository, blob)
        if known.found is None and known.size != blob.size:
            known = _Bytes(this.repository, known.size, Found.OTHER_BYTES, f"{known.size} bytes, {blob.size} by its manifest")
        if known.found is not None:
            this.broken.append(Broken(part, blob.digest, blob.size, this.repository, known.found, known.message))

    async def _bytes(self, repository: str, blob: Descriptor) -> _Bytes:
        """What is known of its bytes, from whatever repository they were read."""
        key = (blob.digest, blob.size)  # Who names it with another size shall not decide what the others are told of it.
        known = self._known.get(key)
        if known is None or (known.found in {Found.MISSING, Found.UNREADABLE} and known.repository != repository):
            async with self._reads:
                self._known[key] = known = await self._read(repository, blob)
            self._linked.add((repository, blob.digest))
        elif known.found is None and (repository, blob.digest) not in self._linked:
            try:
                linked = await self._registry.has_blob(repository, blob.digest)
            except RemoteError as error:
                return _Bytes(repository, 0, *await self._what(error))
            if not linked:
                return _Bytes(repository, 0, Found.MISSING, f"it is whole in {known.repository}, and not in this repository")
            self._linked.add((repository, blob.digest))
        return known

    async def _read(self, repository: str, blob: Descriptor) -> _Bytes:
        """Read it; an answer that broke off is asked for once more before it is called cut short."""
        if not is_digest(blob.digest):
            return _Bytes(repository, 0, Found.UNREADABLE, "a digest of an unknown kind")
        found = await self._once(repository, blob)
        if found.found is Found.CUT_SHORT:
            found = await self._once(repository, blob)
        self.blobs += 1
        return found

    async def _once(self, repository: str, blob: Descriptor) -> _Bytes:
        algorithm, _, expected = blob.digest.partition(":")
        hasher, read = hashlib.new(algorithm), 0
        try:
            async with self._registry.read_blob(repository, blob.digest) as chunks:
                async for chunk in chunks:
                    read += len(chunk)
                    await self._count(len(chunk))
                    await asyncio.to_thread(hasher.update, chunk)
                    if read > blob.size:
                        break
        except UnreachableError:
            await self._registry.ping()  # If it is gone altogether, nothing can be said.
            return _Bytes(repository, read, Found.CUT_SHORT, f"{read} of {blob.size} bytes came")
        except RemoteError as error:
            return _Bytes(repository, read, *await self._what(error))
        if hasher.hexdigest() == expected:
            return _Bytes(repository, read)
        if read < blob.size:
            return _Bytes(repository, read, Found.CUT_SHORT, f"{read} of {blob.size} bytes")
        more = f"more than {blob.size} bytes" if read > blob.size else f"{read} bytes with the digest {algorithm}:{hasher.hexdigest()}"
        return _Bytes(repository, read, Found.OTHER_BYTES, more)

    async def _count(self, count: int) -> None:
        self.bytes += count
        self._advance(count)
        await self._pace.take(count)

    async def _what(self, error: RemoteError) -> tuple[Found, str]:
        """What an answer means; UnreachableError when the registry as a whole is gone."""
        match error:
            case NotFoundError():
                return Found.MISSING, error.answer
            case CorruptError():
                return Found.OTHER_BYTES, error.answer
            case UnreachableError():
                await self._registry.ping()
                return Found.CUT_SHORT, error.answer
            case _:
                return Found.UNREADABLE, error.answer
