"""An image with all that is below it, read and checked before anything of it moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass

from controller.domain.errors import CorruptError, RefusedError, RemoteError
from controller.domain.oci import Descriptor, Manifest
from controller.domain.ports.registries import ReadableRegistry, Registry
from controller.engine.manifests import Manifests
from controller.engine.prove import first_of

DEEPEST = 3
"""An index may hold indexes (image-spec); deeper than this is somebody's joke."""

MOST = 1000
"""Children of an index, layers of a manifest, and manifests of an image: more are somebody's attempt to keep us busy."""

_MOST_BLOBS = 10_000
_MOST_BYTES = 64 << 20
"""Of all manifests of one image together."""

_AT_ONCE = 8
_HINT = "the image is not usable, or not meant for use"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an image comes from. `name` is how people call it; `hashed`: its blobs are checked before they are read from it."""

    registry: ReadableRegistry
    repository: str
    name: str
    hashed: bool = False


@dataclass(frozen=True, slots=True)
class Tree:
    """`levels` are all manifests but the root: what the root names, what that names, and so on; each manifest once."""

    root: Manifest
    levels: tuple[tuple[Manifest, ...], ...]

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """The root, and all below."""
        return (self.root, *(manifest for level in self.levels for manifest in level))

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """All blobs, each once."""
        return tuple({blob.digest: blob for manifest in self.manifests for blob in manifest.blobs}.values())


async def tree_of(manifests: Manifests, origin: Origin, root: Manifest) -> Tree:
    """Everything below a manifest. CorruptError or RefusedError when that is nothing that anybody could use."""
    seen = {root.digest}
    levels: list[tuple[Manifest, ...]] = [(root,)]
    _check(origin, root)
    count, size = 1, len(root.raw)
    while children := {c.digest: c for m in levels[-1] for c in m.children if c.digest not in seen}:
        count, size = count + len(children), size + sum(child.size for child in children.values())
        if len(levels) == DEEPEST:
            raise _corrupt(origin, "indexes are nested too deep")
        if count > MOST or size > _MOST_BYTES:
            raise _corrupt(origin, f"{count} manifests of {size} bytes, at most {MOST} of {_MOST_BYTES} are taken")
        seen |= children.keys()
        levels.append(await _level(manifests, origin, list(children.values())))
    tree = Tree(root, tuple(levels[1:]))
    if len(tree.blobs) > _MOST_BLOBS:
        raise _corrupt(origin, f"{len(tree.blobs)} blobs, at most {_MOST_BLOBS} are taken")
    return tree


async def put_below(registry: Registry, tree: Tree, repository: str) -> None:
    """Write all manifests but the root: what is named before what names it."""
    for level in reversed(tree.levels):
        waiting = iter(level)

        async def work(waiting: Iterator[Manifest] = waiting) -> None:
            for manifest in waiting:
                await registry.put_manifest(repository, manifest.digest, manifest)

        await _at_once(work, len(level))


async def _level(manifests: Manifests, origin: Origin, children: list[Descriptor]) -> tuple[Manifest, ...]:
    found: dict[str, Manifest] = {}
    waiting = iter(children)

    async def work() -> None:
        for child in waiting:
            found[child.digest] = await _child(manifests, origin, child)

    await _at_once(work, len(children))
    return tuple(found[child.digest] for child in children)


async def _at_once(work: Callable[[], Coroutine[None, None, None]], count: int) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, count)):
                group.create_task(work())
    except* RemoteError as failures:
        raise first_of(failures) from None


async def _child(manifests: Manifests, origin: Origin, child: Descriptor) -> Manifest:
    if not child.digest.startswith("sha256:"):
        raise RefusedError(f"copying {origin.name}", f"a manifest with the digest {child.digest[:80]}", hint="manifests are known by sha256 only")
    found = await manifests.get(origin.registry, origin.repository, child.digest)
    if len(found.raw) != child.size:
        raise _corrupt(origin, f"manifest {child.digest} has {len(found.raw)} bytes, {child.size} by its index")
    _check(origin, found)
    return found


def _check(origin: Origin, manifest: Manifest) -> None:
    if len(manifest.children) > MOST:
        raise _corrupt(origin, f"{manifest.digest} names {len(manifest.children)} manifests, at most {MOST} are taken")
    if len(manifest.layers) > MOST:
        raise _corrupt(origin, f"{manifest.digest} has {len(manifest.layers)} layers, at most {MOST} are taken")
    if any(child.digest == manifest.digest for child in manifest.children):
        raise _corrupt(origin, f"{manifest.digest} names itself")


def _corrupt(origin: Origin, answer: str) -> CorruptError:
    return CorruptError(f"copying {origin.name} from {origin.registry.address}", answer, hint=_HINT)
