"""What was seen: every fact is Present, Absent or Unknown, with when it was seen (law 2: Unknown is not Absent)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from controller.domain.reference import Reference, Target

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Present(Generic[T]):
    """The other side showed it. `seen` is seconds since the epoch."""

    value: T
    seen: float


@dataclass(frozen=True, slots=True)
class Absent:
    """The other side was asked by name and said that it does not exist."""

    seen: float


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer, or none that can be trusted; `why` is fit for people."""

    why: str
    seen: float


Fact = Present[T] | Absent | Unknown


class StoreKind(StrEnum):
    """How an engine keeps images, which decides what its image Ids are digests of."""

    CLASSIC = "classic"
    """Graph drivers (overlay2, vfs, ...): the Id is the config's digest."""
    CONTAINERD = "containerd"
    """The containerd image store: the Id is the manifest's or the index's digest."""
    UNKNOWN = "unknown"
    """Neither could be told for certain: such an engine gets no deletions."""


@dataclass(frozen=True, slots=True)
class HostImage:
    """One image of an engine, by Id. `size` is in bytes; `tags` and `repo_digests` are canonical.

    `manifests` are the platform manifests whose content a containerd store holds; `used_by` names containers, stopped ones too;
    `tagged_at` is the engine's LastTagTime in seconds since the epoch, read only where a decision needs it.
    """

    id: str
    tags: tuple[Reference, ...]
    repo_digests: tuple[Reference, ...] = ()
    size: int = 0
    manifests: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()
    tagged_at: float | None = None


@dataclass(frozen=True, slots=True)
class HostState:
    """What one engine holds. `engine_id` is the ID in /info."""

    engine_id: str
    store: StoreKind
    images: tuple[HostImage, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """What one tag of a registry means, or what a source offers for it.

    `identities` are the digests by which an engine may know this content: of the manifest, of its children, of their configs. Only filled
    beyond the digest itself where a host copy or an archive has to be compared. `size` is bytes, 0 where it was not looked up. `context_hash` is
    what the folder was that it was built from, by its label; only looked up for what is built. Of what upstream offers, `digest` is what the tag
    shall mean, and `published` what upstream has, where choosing platforms makes them differ; `filtered`: it is an index that nobody published.
    """

    digest: str
    media_type: str = ""
    size: int = 0
    identities: frozenset[str] = frozenset()
    context_hash: str = ""
    published: str = ""
    filtered: bool = False

    def means(self, image: HostImage, store: StoreKind) -> bool:
        """Whether an engine's image is this content, as far as digests tell; the proof before an eviction reads everything."""
        known = self.identities | {self.digest}
        if image.id in known:
            return True
        if store is StoreKind.CLASSIC:
            return any(d.digest == self.digest for d in image.repo_digests)
        return store is StoreKind.CONTAINERD and bool(image.manifests) and known.issuperset(image.manifests)


@dataclass(frozen=True, slots=True, order=True)
class Lookup:
    """A question to an upstream: what it has under `source`, of these platforms; none means all."""

    source: str
    platforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where upstream has an image that a host pulled: `source` by the digest of the manifest, `size` in bytes."""

    source: Reference
    size: int


@dataclass(frozen=True, slots=True)
class Shown:
    """The registry has a range's image: `place` means it, by this digest."""

    place: Target
    digest: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """An upstream has a range's image by this digest; `tagged`: the name that it has in the range means it there now. `size` in bytes.

    `there` is what the registry has under that name now, "" for nothing.
    """

    source: Reference
    size: int
    tagged: bool
    there: str = ""


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """Nobody who may be asked knows a range's image. `there` is what the registry has now in its place under ranges/<id>/, "" for nothing."""

    there: str = ""


Whereabouts = Shown | Confirmed | Unconfirmed | Unknown
"""Where a range's image is, beside the range."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What was deleted under a name, and when, in seconds since the epoch. `identities` are as Held has them."""

    digest: str
    identities: frozenset[str]
    at: float

    def means(self, image: HostImage, store: StoreKind) -> bool:
        """Whether an engine's image is what was deleted."""
        return Held(self.digest, identities=self.identities).means(image, store)


@dataclass(frozen=True, slots=True)
class Brought:
    """What a tag meant when we brought it there because the files asked for it; `at` in seconds since the epoch, `words` how it came."""

    digest: str
    at: float
    words: str


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the world; the input of the plan beside the desired state.

    `registry` holds a fact for each target that was asked for, `offered` what its source has for it; `hosts` one for each host. Of an archive,
    `offered.digest` is the image's identity, of a Dockerfile folder its hash. `origins`, by image Id, is where upstream still has a host's image
    that was pulled from there. `elsewhere`, by (image Id, repository), is a tag of that repository that means a host's image whose own tag means
    something else. `first_seen` is keyed by (host, image Id, canonical tag); `last_pushed`, by (host, target), is the digest that this host last
    pushed or pulled. `brought` is what may be pruned, and only known where the file asks to prune; `tombstones` is what was deleted.
    `strays`, by (host, image Id, canonical name), is where images of ranges are. `registry_error` says why the registry as a whole did not answer.
    Times are seconds since the epoch; `now` is the look's.
    """

    now: float
    registry: Mapping[Target, Fact[Held]] = field(default_factory=dict)
    offered: Mapping[Target, Fact[Held]] = field(default_factory=dict)
    hosts: Mapping[str, Fact[HostState]] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    elsewhere: Mapping[tuple[str, str], str] = field(default_factory=dict)
    first_seen: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    last_pushed: Mapping[tuple[str, Target], str] = field(default_factory=dict)
    registry_error: str = ""
    brought: Mapping[Target, Brought] = field(default_factory=dict)
    tombstones: Mapping[Target, Sequence[Tombstone]] = field(default_factory=dict)
    strays: Mapping[tuple[str, str, str], Whereabouts] = field(default_factory=dict)

    @property
    def unreachable(self) -> str:
        """Why nothing can be said at all: the registry, or every host, did not answer. "" otherwise."""
        if self.registry_error:
            return self.registry_error
        facts = list(self.hosts.values())
        silent = [fact.why for fact in facts if isinstance(fact, Unknown)]
        return silent[0] if facts and len(silent) == len(facts) else ""
