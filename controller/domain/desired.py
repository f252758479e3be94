"""The desired state: what all documents say together, in the registry's and the hosts' own names.

Here stand the rules for names: which repository an image of a set means, and which one a tag on a host means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from controller.domain.observation import HostImage, HostState, StoreKind
from controller.domain.reference import DOCKER_IO, HELD_PREFIX, Reference, Target, name_of_place, pattern_expression
from controller.domain.spec import Ensure, Internet, Mode, OnConflict
from controller.domain.tags import TagChoice


class Patterns:
    """Several globs as one; an empty one matches nothing."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.texts = tuple(texts)
        self._expression = re.compile("|".join(pattern_expression(text) for text in self.texts)) if self.texts else None

    def matches(self, *names: Reference) -> bool:
        """Whether one of the names matches one of the globs."""
        if self._expression is None:
            return False
        return any(self._expression.fullmatch(f"{n.domain}/{n.repository}:{n.tag}") for n in names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Patterns) and other.texts == self.texts

    def __hash__(self) -> int:
        return hash(self.texts)

    def __repr__(self) -> str:
        return f"Patterns({list(self.texts)})"


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """An image in an archive of this machine. `path` is absolute; `name` says which image of the archive, None the only one."""

    path: str
    name: Reference | None = None


@dataclass(frozen=True, slots=True)
class BuildSource:
    """A Dockerfile folder of this machine, built on the host `on`. `context` is absolute, `dockerfile` relative to it; `args` are sorted."""

    context: str
    on: str
    dockerfile: str = "Dockerfile"
    args: tuple[tuple[str, str], ...] = ()
    target: str = ""
    platform: str = ""


Source = Reference | ArchiveSource | BuildSource
"""Where an image comes from. A new kind is one more variant here; the type checker lists what else to touch."""


@dataclass(frozen=True, slots=True)
class DesiredImage:
    """One image of a set. `name` is how the set writes it, `target` where it is in the registry, `host_name` what a host calls it.

    `source` is where it comes from; None: from whatever host has it. Of what comes from upstream, `platforms` are the chosen ones, none for all,
    and `referrers` says whether signatures and the like come along. `unlisted`: a command asks for it, and no set does.
    """

    image_set: str
    name: str
    target: Target
    host_name: Reference
    ensure: Ensure = Ensure.PRESENT
    source: Source | None = None
    platforms: tuple[str, ...] = ()
    referrers: bool = True
    unlisted: bool = False

    @property
    def upstream(self) -> Reference | None:
        """Where it is copied from; None when it comes from elsewhere."""
        return self.source if isinstance(self.source, Reference) else None


@dataclass(frozen=True, slots=True)
class TagRule:
    """Many tags of one upstream repository: which ones is known once it was asked. `name` is how the set writes it; `repository` has no tag."""

    image_set: str
    name: str
    repository: Reference
    choice: TagChoice
    platforms: tuple[str, ...] = ()
    referrers: bool = True

    def image(self, tag: str) -> DesiredImage:
        """The image of one tag that the rule chooses."""
        reference = replace(self.repository, tag=tag)
        target = Target(reference.registry_repository, tag)
        return DesiredImage(self.image_set, f"{self.name}:{tag}", target, reference, Ensure.PRESENT, reference, self.platforms, self.referrers)


@dataclass(frozen=True, slots=True)
class Deferred:
    """Something that a document asks for, is valid, and can't be done now. `host` is empty for an image; `reason` is a Reason's word."""

    image_set: str
    name: str
    action: str
    reason: str
    message: str
    host: str = ""


@dataclass(frozen=True)
class DesiredHost:
    """One engine. `absent` None means every image that a set lists, less `present`. `grace` is in seconds.

    `range` is its id where it is a range: nothing goes from there under a shared name because it is there (law 10).
    """

    name: str
    engine: str
    registry_address: str
    adopt: Patterns = field(default_factory=Patterns)
    absent: Patterns | None = None
    keep: Patterns = field(default_factory=Patterns)
    present: frozenset[Reference] = frozenset()
    grace: float = 600.0
    on_conflict: OnConflict = OnConflict.FAIL
    range: str = ""

    @property
    def evicts(self) -> bool:
        """Whether anything is ever evicted from it. Who is never evicted from can't be lost from either, so it holds nothing up."""
        return self.absent is None or bool(self.absent.texts)


@dataclass(frozen=True)
class RangeGroup:
    """Ranges that are found by a label on the host `on`: each becomes a host as `like` it is, under `<name>/<id>`.

    `label` is a key, or key=value. `port` is where their engines listen, `network` by whose address they are reached, "" for the first.
    """

    like: DesiredHost
    on: str
    label: str
    port: int
    network: str = ""

    @property
    def name(self) -> str:
        """What the file calls it."""
        return self.like.name


@dataclass(frozen=True, slots=True)
class HostCopy:
    """One tag of one image on one host, and the place in the registry that it maps to.

    `names` are what patterns are held against: the tag itself, and for a tag under the registry's own address what it stands for. `lingers`:
    `absent` names it, so it is evicted unless something with precedence holds it. `kept` and `needed`: `keep` or `present` names this tag or
    another tag of the same Id, which protects the whole image.
    """

    host: DesiredHost
    image: HostImage
    store: StoreKind
    tag: Reference
    names: tuple[Reference, ...]
    target: Target
    adopted: bool
    lingers: bool
    kept: bool = False
    needed: bool = False

    @property
    def sort_key(self) -> tuple[str, str, str]:
        """By host, then Id, then tag."""
        return (self.host.name, self.image.id, str(self.tag))


@dataclass(frozen=True)
class Desired:
    """All that the documents of one Wharf ask for.

    `addresses` are all the names of the registry; `sets` every set's name, empty ones too; `upstreams` the only domains that are ever contacted;
    what is under those of them that are `private` is not given to everyone who asks the gateway.
    `groups` are ranges that are looked for; once they are `discovered`, they are among the hosts, and `others` is what was found and is none, or
    can't be looked at, which holds nothing else up.
    """

    wharf: str
    addresses: frozenset[str]
    sets: tuple[str, ...] = ()
    images: tuple[DesiredImage, ...] = ()
    hosts: tuple[DesiredHost, ...] = ()
    groups: tuple[RangeGroup, ...] = ()
    rules: tuple[TagRule, ...] = ()
    deferred: tuple[Deferred, ...] = ()
    discovered: bool = False
    others: tuple[Deferred, ...] = ()
    upstreams: frozenset[str] = frozenset()
    private: frozenset[str] = frozenset()
    internet: Internet = Internet.ALLOW
    immutable: Patterns = field(default_factory=Patterns)
    refresh: float = 3600.0
    mode: Mode = Mode.FULL
    deletes: int = 10
    interval: float = 300.0
    prune: bool = False
    keep_held: float = 2_592_000.0

    @cached_property
    def by_target(self) -> dict[Target, tuple[DesiredImage, ...]]:
        """The entries of every set for each place in the registry."""
        grouped: dict[Target, list[DesiredImage]] = {}
        for image in self.images:
            grouped.setdefault(image.target, []).append(image)
        return {target: tuple(images) for target, images in grouped.items()}

    @property
    def places_to_be(self) -> tuple[DesiredHost, ...]:
        """The hosts, and how the ranges of each group are, of which there may be none at this moment."""
        return (*self.hosts, *(group.like for group in self.groups))

    @cached_property
    def _by_host_name(self) -> dict[Reference, Target]:
        return {image.host_name: image.target for image in self.images}

    def may_ask(self, domain: str) -> bool:
        """Whether an upstream may be contacted at all."""
        return domain in self.upstreams and self.internet is not Internet.DENY

    def may_come(self, target: Target) -> bool:
        """Whether this image may come from upstreams at all."""
        return self.internet is not Internet.LISTED or any(not entry.unlisted for entry in self.by_target.get(target, ()))

    def refusal(self, domain: str) -> str:
        """The rule by which an upstream may not be contacted, in words; for one that may_ask() says no to."""
        return "spec.internet is Deny" if domain in self.upstreams else f"{domain} is not under spec.upstreams"

    def expanded(self, images: Iterable[DesiredImage]) -> Desired:
        """With the images that its rules chose. What an entry of its own names is that entry's alone."""
        return replace(self, images=(*self.images, *(image for image in images if image.target not in self.by_target)))

    def sets_of(self, target: Target) -> tuple[str, ...]:
        """The names of the sets that list it, sorted."""
        return tuple(sorted({image.image_set for image in self.by_target.get(target, ())}))

    def locate(self, tag: Reference, *, adopted: bool) -> Target:
        """The place in the registry that a host's tag maps to."""
        if tag.domain in self.addresses:
            return Target(tag.repository, tag.tag)
        listed = self._by_host_name.get(tag)
        if listed is not None:
            return listed
        if adopted and tag.domain == DOCKER_IO:
            return Target(tag.familiar_repository, tag.tag)
        return Target(tag.registry_repository, tag.tag)

    def place_of(self, host: DesiredHost, name: Reference) -> Target:
        """The place in the registry that a name on this host maps to. In a range, what it adopts itself makes no name a local one."""
        names = self.names_of(name)
        trusted = [each for each in self.hosts if not each.range] if host.range else [host]
        return self.locate(name, adopted=any(each.adopt.matches(*names) for each in trusted))

    def names_of(self, tag: Reference) -> tuple[Reference, ...]:
        """What patterns are held against: the tag, and what it stands for when it is under the registry's own address."""
        if tag.domain not in self.addresses:
            return (tag,)
        name = name_of_place(tag.repository, tag.tag)
        return (tag,) if name is None else (tag, name)

    def copies(self, hosts: Iterable[tuple[DesiredHost, HostState]]) -> Iterator[HostCopy]:
        """Every tag on these hosts that a set lists, or that `adopt` or `absent` names. Dangling and digest-only images are none."""
        located: dict[tuple[Reference, bool], tuple[Target, bool]] = {}
        for host, state in hosts:
            for image in state.images:
                yield from self._copies_of(host, state.store, image, located)

    def _copies_of(
        self, host: DesiredHost, store: StoreKind, image: HostImage, located: dict[tuple[Reference, bool], tuple[Target, bool]]
    ) -> Iterator[HostCopy]:
        named = [(tag, self.names_of(tag)) for tag in image.tags]
        kept = any(host.keep.matches(*names) for _, names in named)
        needed = any(not host.present.isdisjoint(names) for _, names in named)
        for tag, names in named:
            adopted = not host.range and host.adopt.matches(*names) and not tag.tag.startswith(HELD_PREFIX)
            known = located.get((tag, adopted))
            if known is None:
                target = self.locate(tag, adopted=adopted)
                known = located[tag, adopted] = (target, target in self.by_target)
            target, listed = known
            lingers = listed if host.absent is None else host.absent.matches(*names)
            if listed or adopted or lingers:
                yield HostCopy(host, image, store, tag, names, target, adopted, lingers, kept, needed)
