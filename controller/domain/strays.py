"""The names of images in ranges that are looked after, strays, and what each means in the registry. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from controller.domain.desired import Desired, DesiredHost
from controller.domain.dispatch import Dispatch
from controller.domain.observation import Fact, HostImage, HostState, Present, StoreKind
from controller.domain.ranges import is_own, own_place
from controller.domain.reference import DOCKER_IO, HELD_PREFIX, Reference, Target

Key = tuple[str, str, str]
"""How an observation knows a stray: its host, its image's Id, its name."""


@dataclass(frozen=True)
class Stray:
    """One name of an image in a range. `target` is the place in the registry that the name means, `own` its place under ranges/<id>/.

    `local` are the places that a registry mirror may have understood instead. `pulled` are the digests under which it says that it was pulled by that
    name; `asked` those of them that an upstream may be asked for. `saved`: it is kept even if nobody else vouches for it.
    """

    host: DesiredHost
    image: HostImage
    store: StoreKind
    tag: Reference
    target: Target
    local: tuple[Target, ...]
    own: Target
    pulled: tuple[str, ...]
    asked: tuple[Reference, ...]
    saved: bool

    @property
    def key(self) -> Key:
        """How an observation knows it."""
        return (self.host.name, self.image.id, str(self.tag))

    @property
    def places(self) -> frozenset[Target]:
        """Wherever it may be, or come to be, in the registry."""
        return frozenset((self.target, self.own, *(self.target.held(digest) for digest in self.pulled)))


def strays(
    desired: Desired, hosts: Mapping[str, Fact[HostState]], *, only: Target | None = None, among: Collection[Key] | None = None
) -> Iterator[Stray]:
    """Every name in the ranges that is looked after; those that have to do with one place, or those of these keys.

    What `present` or `keep` names is none: that we brought, or shall leave alone.
    """
    finder = _Finder(desired)
    concerned = None if among is None else {key[0] for key in among}
    for host in desired.hosts:
        fact = hosts.get(host.name)
        if not host.range or not isinstance(fact, Present) or (concerned is not None and host.name not in concerned):
            continue
        for image in fact.value.images:
            for tag in image.tags or image.repo_digests:
                if (only is None or _may_concern(only, host, tag)) and (among is None or (host.name, image.id, str(tag)) in among):
                    found = finder.stray(host, fact.value.store, image, tag)
                    if found is not None and (only is None or only in found.places):
                        yield found


def _may_concern(only: Target, host: DesiredHost, tag: Reference) -> bool:
    """Whether a name may have to do with a place, at a glance: ranges may have very many."""
    if is_own(only.repository) and only.repository.split("/")[1] != host.range:
        return False
    same_tag = tag.tag == only.tag or only.tag.startswith(HELD_PREFIX)
    return same_tag and only.repository.rpartition("/")[2] == tag.repository.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a name means, in whichever range it is: see Stray."""

    target: Target
    local: tuple[Target, ...]
    may_ask: bool


class _Finder:
    """Of one desired state. What a name means is the same in all ranges, and found out once."""

    def __init__(self, desired: Desired) -> None:
        self._desired = desired
        self._rules = Dispatch(desired)
        self._known: dict[Reference, _Meaning] = {}

    def stray(self, host: DesiredHost, store: StoreKind, image: HostImage, tag: Reference) -> Stray | None:
        """This name as a stray; None where it is none."""
        digests = [each for each in image.repo_digests if (each.domain, each.repository) == (tag.domain, tag.repository)]
        adopted = host.adopt.matches(*self._desired.names_of(tag))
        if tag.tag.startswith(HELD_PREFIX) or not (digests or adopted) or self._left_alone(host, image):
            return None
        means = self._known.get(tag)
        if means is None:
            means = self._known[tag] = self._meaning(host, tag)
        asked = tuple(digests) if means.may_ask else ()
        # A containerd store has such a digest for what was built there, too: it proves no pull.
        saved = adopted or store is StoreKind.CLASSIC
        if not asked and not saved:
            return None
        own = own_place(host.range, tag, self._desired.addresses)
        return Stray(host, image, store, tag, means.target, means.local, own, tuple(each.digest for each in digests), asked, saved)

    def _left_alone(self, host: DesiredHost, image: HostImage) -> bool:
        named = (self._desired.names_of(tag) for tag in image.tags)
        return any(host.keep.matches(*names) or not host.present.isdisjoint(names) for names in named)

    def _meaning(self, host: DesiredHost, tag: Reference) -> _Meaning:
        target = self._target(host, tag)
        local: tuple[Target, ...] = ()
        if tag.domain == DOCKER_IO and tag.tag:  # An engine asks its mirror for a local name in docker.io's words.
            local = tuple(Target(each.repository, tag.tag) for each in self._rules.places(tag.repository) if each.upstream is None)
        return _Meaning(target, local, self._may_ask(tag, target))

    def _target(self, host: DesiredHost, tag: Reference) -> Target:
        found = self._desired.place_of(host, tag)
        if tag.domain == DOCKER_IO and found not in self._desired.by_target and self._rules.reserved(tag.repository):
            found = Target(tag.familiar_repository, tag.tag)
        return found if found.tag else found.held(tag.digest)

    def _may_ask(self, tag: Reference, target: Target) -> bool:
        """Whether the name is an upstream's, and that one may be asked: local names are told to nobody, and what is private is not fetched for it."""
        if target.repository != tag.registry_repository or tag.domain in self._desired.private:
            return False
        return self._desired.may_come(target) and self._desired.may_ask(tag.domain)
