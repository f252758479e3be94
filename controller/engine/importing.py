"""Import: archive to registry. Blobs first, then children, then the index, the tag last; one bad image never stops the others."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from controller.domain.actions import Import
from controller.domain.archived import LAYER_TYPES, OCI_CONFIG, ArchivedBlob, ArchivedContent, Packing, chosen
from controller.domain.errors import MovedError, NotFoundError, RefusedError, UsageError, WharfError
from controller.domain.oci import OCI_MANIFEST, Descriptor, Manifest, digest_of, once, parse_manifest
from controller.domain.ports.archives import Archives, OpenArchive
from controller.domain.ports.registries import Advance, Registry
from controller.domain.reference import Reference, Target
from controller.engine.arrivals import Arrivals, Arrived, same_layer, typed
from controller.engine.copy import replace_tag
from controller.engine.manifests import Manifests, identities

STAGING = "wharf-staging"
"""Where a stream's blobs wait until its last member tells whose they are. What nobody takes goes with the next garbage collection."""

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one image under one of its names. `title` is what the archive calls it, `target` None when it has no name.

    `held` says that the tag meant it before, so that nothing was moved; `replaces` is what it meant otherwise, "" for nothing.
    """

    title: str
    target: Target | None
    digest: str = ""
    bytes: int = 0
    seconds: float = 0.0
    held: bool = False
    replaces: str = ""
    note: str = ""
    error: WharfError | None = None


@dataclass(frozen=True, slots=True)
class _Wish:
    """One tag that shall mean an image; `expected` is what it means now."""

    target: Target
    expected: str


@dataclass(frozen=True, slots=True)
class _Job:
    content: ArchivedContent
    wishes: tuple[_Wish, ...]


class Importer:
    """Imports into one registry; remembers what a plain layer became, so that other archives need not pack it again."""

    def __init__(
        self,
        registry: Registry,
        archives: Archives,
        manifests: Manifests,
        *,
        packing: Packing = Packing.FAST,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._archives = archives
        self._manifests = manifests
        self._packing = packing
        self._monotonic = monotonic
        self._packed: OrderedDict[str, Arrived] = OrderedDict()

    async def import_image(self, action: Import, advance: Advance) -> str:
        """Do it, and give the digest that the target's tag means afterwards, as read back.

        Raises MovedError when archive or registry are not what the plan saw, RemoteError for what is wrong with the archive or the registry.
        """
        there = await self._there(action.target)
        if there is not None and await self._means(action.target, there, action.identity):
            return there.digest
        found = there.digest if there else ""
        if found != action.replaces:
            seen, now = action.replaces[:19] or "nothing", found[:19] or "nothing"
            raise MovedError(f"{action.target}: the plan saw {seen} in the registry, and it is {now} now: look again")
        async with self._archives.open(action.source.path, self._packing) as archive:
            if archive.contents is None:
                raise RefusedError(f"importing {action.source.path}", "it is no regular file and no folder", hint="`wharf import` reads a stream")
            content = chosen(archive.contents, action.source.name, action.source.path)
            if content.image.identity != action.identity:
                raise MovedError(
                    f"{action.source.path}: the plan saw {action.identity[:19]} in it, it has {content.image.identity[:19]} now: look again"
                )
            (done,) = await self._all(archive, [_Job(content, (_Wish(action.target, action.replaces),))], Arrivals(self._registry, advance))
        if done.error is not None:
            raise done.error
        return done.digest

    async def import_archive(
        self, path: str, *, name: Target | None, locate: Callable[[Reference], Target], advance: Advance
    ) -> AsyncIterator[Imported]:
        """All images of an archive under all of their names, or its only one as `name`: what became of each, as it ends.

        Raises UsageError, RemoteError when nothing of the archive can be used, or the registry does not answer.
        """
        async with self._archives.open(path, self._packing) as archive:
            async for done in self._images(archive, path, name, locate, advance):
                yield done

    async def import_stream(self, what: str, chunks: AsyncIterator[bytes], name: Target, identity: str, advance: Advance) -> Imported:
        """The only image of an archive that comes in chunks, and has to be `identity`, as `name`. Errors as of import_archive()."""
        async with self._archives.passing(what, chunks, self._packing) as archive:
            async for done in self._images(archive, what, name, lambda _: name, advance, identity):
                if done.error is not None:
                    raise done.error
                return done
        raise NotFoundError(f"importing {what}", "it has no image")

    async def _images(
        self,
        archive: OpenArchive,
        what: str,
        name: Target | None,
        locate: Callable[[Reference], Target],
        advance: Advance,
        identity: str = "",
    ) -> AsyncIterator[Imported]:
        began = self._monotonic()
        arrivals = Arrivals(self._registry, advance)
        if archive.contents is None:
            await arrivals.move(archive, None, name.repository if name else STAGING)
        contents = archive.contents or ()
        if name is not None and len(contents) > 1:
            names = ", ".join(sorted({each.familiar for content in contents for each in content.image.names}))
            raise UsageError(f"{what} has {len(contents)} images ({names}), so they can't all be {name}: leave the name out")
        other = next((each for each in contents if identity and each.error is None and identity not in {each.image.identity, *each.configs}), None)
        if other is not None:
            raise MovedError(f"{what}: {identity[:19]} was asked for, and it has {other.image.identity[:19]}")
        jobs: list[_Job] = []
        for done in await self._sorted(contents, name, locate, jobs, advance):
            yield replace(done, seconds=self._monotonic() - began)
        for done in await self._all(archive, jobs, arrivals):
            yield replace(done, seconds=self._monotonic() - began)

    async def _sorted(
        self, contents: Sequence[ArchivedContent], name: Target | None, locate: Callable[[Reference], Target], jobs: list[_Job], advance: Advance
    ) -> list[Imported]:
        """Which images have to be moved, into `jobs`; and what is to be said of the others already."""
        said: list[Imported] = []
        taken: set[Target] = set()
        for content in contents:
            targets = [name] if name else list(dict.fromkeys(locate(each) for each in content.image.names))
            if content.error is not None or not targets:
                error = content.error or UsageError(f"{content.title}: the archive gives it no name: give it one with --name")
                said += [Imported(content.title, target, error=error) for target in targets or (None,)]
                continue
            wishes = []
            for target in targets:
                there = await self._there(target)
                if target in taken:
                    error = RefusedError(f"importing {target}", "two images of the archive have this name", hint="import them one by one with --name")
                    said.append(Imported(content.title, target, error=error))
                elif there is not None and await self._means(target, there, content.image.identity):
                    said.append(Imported(content.title, target, there.digest, content.image.size, held=True, note=content.note))
                else:
                    wishes.append(_Wish(target, there.digest if there else ""))
                taken.add(target)
            if wishes:
                jobs.append(_Job(content, tuple(wishes)))
            else:
                advance(content.image.size)
        return said

    async def _there(self, target: Target) -> Descriptor | None:
        try:
            return await self._registry.resolve(target.repository, target.tag)
        except NotFoundError:
            return None

    async def _means(self, target: Target, there: Descriptor, identity: str) -> bool:
        """Whether what a tag means is this image: by its manifest, by a child, by the config of one of them."""
        if there.digest == identity:
            return True
        try:
            return identity in identities(await self._manifests.whole(self._registry, target.repository, there.digest))
        except NotFoundError:
            return False  # An index of which a part is gone is not this image, and not whole.

    async def _all(self, archive: OpenArchive, jobs: Sequence[_Job], arrivals: Arrivals) -> list[Imported]:
        """Move what is missing, and tag each image as soon as all of it is there."""
        homes: dict[str, str] = {}
        for job in jobs:
            repository = job.wishes[0].target.repository
            for blob in job.content.blobs:
                if blob.member in arrivals or blob.member in homes or await self._known(blob, arrivals, repository):
                    continue
                homes[blob.member] = repository
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._finished(job, arrivals)) for job in jobs]
            if homes:
                await arrivals.move(archive, homes)
        return [done for task in tasks for done in task.result()]

    async def _known(self, blob: ArchivedBlob, arrivals: Arrivals, repository: str) -> bool:
        """Whether it need not be read: the registry has it, or has what a layer of the same content was packed to before."""
        if await arrivals.there_already(blob, repository):
            return True
        packed = self._packed.get(blob.diff_id) if blob.blob is None else None
        if packed is None or not await self._registry.has_blob(packed.repository, packed.blob.digest):
            return False
        arrivals.put(blob.member, packed)
        return True

    async def _finished(self, job: _Job, arrivals: Arrivals) -> list[Imported]:
        content = job.content
        try:
            arrived = [await arrivals.of(blob.member) for blob in content.blobs]
            for blob, each in zip(content.blobs, arrived, strict=True):
                same_layer(blob, each)
                self._remember(blob, each)
            manifests = content.manifests or (_manifest(content.config, arrived),)
        except WharfError as error:
            return [Imported(content.title, wish.target, replaces=wish.expected, note=content.note, error=error) for wish in job.wishes]
        return [await self._tagged(content, wish, arrived, manifests, arrivals) for wish in job.wishes]

    def _remember(self, blob: ArchivedBlob, arrived: Arrived) -> None:
        if blob.blob is None and blob.diff_id and arrived.diff_id:
            self._packed[blob.diff_id] = arrived
            while len(self._packed) > _REMEMBERED:
                self._packed.popitem(last=False)

    async def _tagged(
        self, content: ArchivedContent, wish: _Wish, arrived: Iterable[Arrived], manifests: Sequence[Manifest], arrivals: Arrivals
    ) -> Imported:
        """One tag: everything is in its repository before the manifests are."""
        target, root = wish.target, manifests[-1]
        said = Imported(content.title, target, root.digest, content.image.size, replaces=wish.expected, note=content.note)
        try:
            for each in arrived:
                await arrivals.bring(each, target.repository)
            if content.config:
                await self._config(target.repository, content.config)
            for manifest in manifests[:-1]:
                await self._registry.put_manifest(target.repository, manifest.digest, manifest)
            await replace_tag(self._registry, target, root, expected=wish.expected)
        except WharfError as error:
            return replace(said, digest="", error=error)
        return said

    async def _config(self, repository: str, config: bytes) -> None:
        digest = digest_of(config)
        if not await self._registry.has_blob(repository, digest):
            await self._registry.write_blob(repository, Descriptor("", digest, len(config)), once(config))


def _manifest(config: bytes, layers: Sequence[Arrived]) -> Manifest:
    """The manifest of an image that has none. OCI's: every engine since 18 pulls it, and an OCI layout may hold it."""
    said = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _entry(Descriptor(OCI_CONFIG, digest_of(config), len(config))),
        "layers": [_entry(typed(each, LAYER_TYPES[each.form])) for each in layers],
    }
    return parse_manifest(json.dumps(said, indent=3).encode())


def _entry(blob: Descriptor) -> dict[str, object]:
    return {"mediaType": blob.media_type, "size": blob.size, "digest": blob.digest}
