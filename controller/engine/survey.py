"""Survey: what every tag of a registry names, by its manifests; no blob is read."""

from __future__ import annotations

from controller.domain.errors import RemoteError, UnreachableError
from controller.domain.ports.registries import ReadableRegistry, Registry
from controller.domain.reference import DEFAULT_TAG, Target
from controller.domain.usage import Survey
from controller.engine.bounded import bounded
from controller.engine.tree import DEEPEST

_LISTINGS_AT_ONCE = 8
_TAGS_AT_ONCE = 16


async def survey(registry: Registry) -> Survey:
    """All repositories. What can't be read is said in `unread`; UnreachableError when the registry is gone."""
    await registry.ping()
    found, targets = Survey(), list[Target]()

    async def listed(repository: str) -> None:
        try:
            targets.extend(Target(repository, tag) for tag in await registry.tags(repository))
        except UnreachableError:
            raise
        except RemoteError as error:
            found.unread[Target(repository, DEFAULT_TAG)] = str(error)

    await bounded(listed, await registry.catalog(), _LISTINGS_AT_ONCE)
    await bounded(lambda target: _tag(registry, target, found), targets, _TAGS_AT_ONCE)
    return found


async def _tag(registry: ReadableRegistry, target: Target, found: Survey) -> None:
    try:
        root = await registry.manifest(target.repository, target.tag)
        found.tags[target] = root.digest
        known, sizes = found.manifests.setdefault(target.repository, {}), found.sizes.setdefault(target.repository, {})
        level = [root]
        for _ in range(DEEPEST + 1):
            for each in level:
                known[each.digest] = each
                sizes[each.digest] = len(each.raw)
                sizes.update((blob.digest, blob.size) for blob in each.blobs)
            further = {child.digest: None for each in level for child in each.children if child.digest not in known}
            level = [await registry.manifest(target.repository, digest) for digest in further]
    except UnreachableError:
        raise
    except RemoteError as error:
        found.unread[target] = str(error)
