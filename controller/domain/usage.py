"""What a registry's repositories hold, in bytes: each blob once in a repository, and once in all. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.domain.oci import Manifest
from controller.domain.reference import Target


@dataclass(frozen=True, slots=True)
class RepositoryUse:
    """One repository. `shared` of its bytes other repositories name too."""

    repository: str
    tags: int
    bytes: int
    shared: int


@dataclass(frozen=True, slots=True)
class Usage:
    """All of them, the largest first. `bytes` counts what several share once."""

    repositories: tuple[RepositoryUse, ...]
    bytes: int


@dataclass
class Survey:
    """What was read of a registry: by tag the digest that it means, the sizes of all that a repository's tags name, and what could not be read."""

    tags: dict[Target, str] = field(default_factory=dict)
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)
    manifests: dict[str, dict[str, Manifest]] = field(default_factory=dict)
    unread: dict[Target, str] = field(default_factory=dict)

    @property
    def usage(self) -> Usage:
        """By repository, and in all."""
        holders = Counter(digest for sizes in self.sizes.values() for digest in sizes)
        tags = Counter(target.repository for target in self.tags)
        found = [_use(name, tags[name], sizes, holders) for name, sizes in self.sizes.items()]
        total = {digest: size for sizes in self.sizes.values() for digest, size in sizes.items()}
        return Usage(tuple(sorted(found, key=lambda each: (-each.bytes, each.repository))), sum(total.values()))


def _use(name: str, tags: int, sizes: Mapping[str, int], holders: Mapping[str, int]) -> RepositoryUse:
    return RepositoryUse(name, tags, sum(sizes.values()), sum(size for digest, size in sizes.items() if holders[digest] > 1))
