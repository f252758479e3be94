"""Referrers: signatures, SBOMs and what else refers to an image comes along with it.

They are found by the referrers API (distribution-spec, "Listing Referrers") and by tags: `sha256-<hex>`, the index of a registry that lacks the API,
and cosign's `sha256-<hex>.sig`, `.att` and `.sbom`. A registry without the API gets them under `sha256-<hex>`, merged with what is there.

What fails is said and left out. It never keeps the image out: a signature that is broken upstream must not take the image away.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakValueDictionary

from controller.domain.errors import CorruptError, MovedError, NotFoundError, RemoteError, UnprovenError
from controller.domain.oci import OCI_INDEX, Manifest, parse_manifest
from controller.domain.ports.registries import Advance, Registry
from controller.domain.reference import Target
from controller.engine.blobs import Blobs
from controller.engine.manifests import Manifests
from controller.engine.tree import Origin, put_below, tree_of

COSIGN = (".sig", ".att", ".sbom")

_DEEPEST = 3
"""A signature of an SBOM of an image is the second; nobody needs a fourth."""

_MOST = 200
"""Referrers of one image, and manifests of one image that are asked about."""

_LISTED_FOR = 60.0
"""Seconds for which a repository's tags are not listed again: about a pass."""

_LISTINGS = 256
_TAG = re.compile(r"sha256-[0-9a-f]{64}(?:\.(?:sig|att|sbom))?")
_FAILURES = (RemoteError, MovedError, UnprovenError)


class ReplaceTag(Protocol):
    """engine.copy.replace_tag: what the tag meant is held first."""

    def __call__(self, registry: Registry, target: Target, manifest: Manifest, *, expected: str) -> Awaitable[None]:
        """Let the target's tag mean this manifest."""
        ...


@dataclass
class _Bringing:
    """One image's referrers, as they are found."""

    origin: Origin
    repository: str
    advance: Advance
    seen: set[str] = field(default_factory=set)
    brought: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    tried: int = 0

    def failed(self, what: str, error: Exception) -> None:
        self.left_out.append(f"{what}: {error}")


class Referrers:
    """Brings them into one registry."""

    def __init__(self, registry: Registry, manifests: Manifests, blobs: Blobs, replace: ReplaceTag, monotonic: Callable[[], float]) -> None:
        self._registry = registry
        self._manifests = manifests
        self._blobs = blobs
        self._replace = replace
        self._listings = _Listings(monotonic)
        self._merging: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def bring(self, origin: Origin, subjects: Sequence[str], repository: str, advance: Advance) -> tuple[str, ...]:
        """All that refers to these manifests, and to that again. What was left out, in words; never raises for what a registry answers."""
        this = _Bringing(origin, repository, advance, seen=set(subjects))
        level = list(subjects)
        if len(level) > _MOST:
            this.left_out.append(f"{len(level)} manifests: what refers to them was looked for at the first {_MOST}")
        for _ in range(_DEEPEST):
            known = len(this.brought)
            for subject in level[:_MOST]:
                await self._about(this, subject)
            level = this.brought[known:]
        return tuple(this.left_out)

    async def _about(self, this: _Bringing, subject: str) -> None:
        name = subject.replace(":", "-")
        try:
            listed = await this.origin.registry.referrers(this.origin.repository, subject)
            tags = await self._listings.of(this.origin, name)
        except RemoteError as error:
            this.failed(f"looking for what refers to {subject[:19]}", error)
            return
        tagged = await self._read(this, name) if name in tags else None
        children = [child.digest for index in (listed, tagged) if index is not None for child in index.children]
        found = [digest for digest in dict.fromkeys(children) if digest not in this.seen]
        if len(found) > _MOST - this.tried:
            this.left_out.append(f"{len(found)} manifests refer to {subject[:19]}: at most {_MOST} are taken")
            found = found[: _MOST - this.tried]
        this.tried += len(found)
        kept = [manifest for digest in found if (manifest := await self._one(this, subject, digest)) is not None]
        if kept:
            await self._make_known(this, subject, kept)
        for ending in COSIGN:
            if name + ending in tags:
                await self._tagged(this, name + ending)

    async def _read(self, this: _Bringing, tag: str) -> Manifest | None:
        """What a tag of the source means; None when it means nothing, or can't be had. By HEAD first: that is what rate limits don't count."""
        origin = this.origin
        try:
            found = await origin.registry.resolve(origin.repository, tag)
            return await self._manifests.get(origin.registry, origin.repository, found.digest)
        except NotFoundError:
            return None
        except RemoteError as error:
            this.failed(tag[:19], error)
            return None

    async def _one(self, this: _Bringing, subject: str, digest: str) -> Manifest | None:
        """One referrer, whole, by its digest."""
        this.seen.add(digest)
        try:
            manifest = await self._manifests.get(this.origin.registry, this.origin.repository, digest)
            if manifest.subject is None or manifest.subject.digest != subject:
                raise CorruptError(f"reading {digest[:19]}", f"it does not refer to {subject[:19]}", hint="it was listed as if it did")
            await self._moved(this, manifest)
            await self._registry.put_manifest(this.repository, manifest.digest, manifest)
        except _FAILURES as error:
            this.failed(digest[:19], error)
            return None
        this.brought.append(digest)
        return manifest

    async def _tagged(self, this: _Bringing, tag: str) -> None:
        """One that is known by its tag alone, as cosign does it."""
        manifest = await self._read(this, tag)
        if manifest is None:
            return
        try:
            await self._moved(this, manifest)
            await self._let_mean(this.repository, tag, manifest)
        except _FAILURES as error:
            this.failed(f"{tag[:19]}...{tag[71:]}", error)
            return
        if manifest.digest not in this.seen:
            this.seen.add(manifest.digest)
            this.brought.append(manifest.digest)

    async def _moved(self, this: _Bringing, manifest: Manifest) -> None:
        tree = await tree_of(self._manifests, this.origin, manifest)
        await self._blobs.bring(this.origin, tree.blobs, this.repository, this.advance)
        await put_below(self._registry, tree, this.repository)

    async def _make_known(self, this: _Bringing, subject: str, manifests: Sequence[Manifest]) -> None:
        """A registry with the API knows them by their `subject`; in one without, they are listed under a tag, beside those that are there."""
        tag = subject.replace(":", "-")
        lock = self._merging.setdefault(this.repository, asyncio.Lock())
        try:
            if await self._registry.referrers(this.repository, subject) is not None:
                return
            async with lock:
                try:
                    there = await self._registry.manifest(this.repository, tag)
                except NotFoundError:
                    there = None
                await self._let_mean(this.repository, tag, _merged(there, manifests))
        except _FAILURES as error:
            this.failed(f"{tag[:19]} in {self._registry.address}", error)

    async def _let_mean(self, repository: str, tag: str, manifest: Manifest) -> None:
        try:
            current = (await self._registry.resolve(repository, tag)).digest
        except NotFoundError:
            current = ""
        if current != manifest.digest:
            await self._replace(self._registry, Target(repository, tag), manifest, expected=current)


class _Listings:
    """The tags of source repositories that speak of referrers: one listing for all images of a repository and pass."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._known: OrderedDict[tuple[str, str], tuple[float, frozenset[str] | None]] = OrderedDict()
        self._asking: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def of(self, origin: Origin, name: str) -> frozenset[str]:
        """Those about one manifest. Where there is no listing, each of them is to be asked for by name, as if it were there."""
        key = (origin.registry.address, origin.repository)
        lock = self._asking.setdefault(key, asyncio.Lock())
        async with lock:
            known = self._known.get(key)
            if known is None or self._monotonic() - known[0] > _LISTED_FOR:
                self._known[key] = known = (self._monotonic(), await _listed(origin))
                self._known.move_to_end(key)
                if len(self._known) > _LISTINGS:
                    self._known.popitem(last=False)
        every = frozenset({name, *(name + ending for ending in COSIGN)})
        return every if known[1] is None else every & known[1]


async def _listed(origin: Origin) -> frozenset[str] | None:
    try:
        return frozenset(tag for tag in await origin.registry.tags(origin.repository) if _TAG.fullmatch(tag))
    except RemoteError:
        return None


def _merged(there: Manifest | None, manifests: Sequence[Manifest]) -> Manifest:
    """The index of a registry without the API: what it lists already, as it is, and these (distribution-spec, "Pushing Manifests with Subject")."""
    listed: list[Any] = json.loads(there.raw).get("manifests", []) if there is not None else []
    known = {entry.get("digest") for entry in listed}
    listed += [_entry(each) for each in manifests if each.digest not in known]
    return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}, separators=(",", ":")).encode())


def _entry(manifest: Manifest) -> dict[str, Any]:
    """As the specification wants it: its artifact type, or else its config's type, and its annotations."""
    kind = manifest.artifact_type or (manifest.config.media_type if manifest.config else "")
    said: dict[str, Any] = {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(manifest.raw)}
    more = {"artifactType": kind, "annotations": dict(manifest.annotations)}
    return said | {name: value for name, value in more.items() if value}
