"""Images in ranges that the registry may lack, strays: what each is shown to be, and what brings it into the registry (law 10). Pure.

For each name of a range's image (T: the place that the name means, H: T's repository under the tag that holds the digest, R: under ranges/<id>/):

    the registry                     upstream                        -> planned
    -------------------------------  ------------------------------  ------------------------------------------------------
    has it as T, H or R              not asked                       nothing
    T is Absent, or it was deleted   not asked                       held back Kept: it does not come back
    lacks it                         has the digest, T means it now  Copy to T Fetched, if no set lists T and it may move
    lacks it                         has the digest                  Copy to H Fetched
    lacks it                         does not answer                 held back Unknown
    lacks it                         does not confirm it             Save to R: what was pulled, or what `adopt` of the range names
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import assert_never

from controller.domain.actions import Action, Copy, HeldBack, Kind, Reason, Save
from controller.domain.desired import Desired, DesiredHost
from controller.domain.dispatch import Dispatch
from controller.domain.observation import (
    Confirmed,
    Fact,
    HostImage,
    HostState,
    Observation,
    Present,
    Shown,
    StoreKind,
    Unconfirmed,
    Unknown,
    Whereabouts,
)
from controller.domain.ranges import own_place
from controller.domain.reference import DOCKER_IO, HELD_PREFIX, Reference, Target
from controller.domain.spec import Ensure, Internet
from controller.domain.texts import duration


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
    def key(self) -> tuple[str, str, str]:
        """How an observation knows it."""
        return (self.host.name, self.image.id, str(self.tag))

    @property
    def places(self) -> frozenset[Target]:
        """Wherever it may be, or come to be, in the registry."""
        return frozenset((self.target, self.own, *(self.target.held(digest) for digest in self.pulled)))


def strays(desired: Desired, hosts: Mapping[str, Fact[HostState]]) -> Iterator[Stray]:
    """Every name in the ranges that is looked after. What `present` or `keep` names is not: that we brought, or shall leave alone."""
    rules = Dispatch(desired)
    for host in desired.hosts:
        fact = hosts.get(host.name)
        if host.range and isinstance(fact, Present):
            for image in fact.value.images:
                yield from _strays_of(desired, rules, host, fact.value.store, image)


def _strays_of(desired: Desired, rules: Dispatch, host: DesiredHost, store: StoreKind, image: HostImage) -> Iterator[Stray]:
    named = [(tag, desired.names_of(tag)) for tag in image.tags]
    if any(host.keep.matches(*names) or not host.present.isdisjoint(names) for _, names in named):
        return
    for tag in image.tags or image.repo_digests:
        found = None if tag.tag.startswith(HELD_PREFIX) else _stray(desired, rules, host, store, image, tag)
        if found is not None:
            yield found


def _stray(desired: Desired, rules: Dispatch, host: DesiredHost, store: StoreKind, image: HostImage, tag: Reference) -> Stray | None:
    digests = [each for each in image.repo_digests if (each.domain, each.repository) == (tag.domain, tag.repository)]
    adopted = host.adopt.matches(*desired.names_of(tag))
    if not digests and not adopted:
        return None
    target = _target(desired, rules, host, tag)
    asked = tuple(digests) if _may_ask(desired, tag, target) else ()
    # A containerd store has such a digest for what was built there, too: it proves no pull.
    saved = adopted or store is StoreKind.CLASSIC
    if not asked and not saved:
        return None
    # An engine asks its mirror for a local name in docker.io's words.
    local = (
        tuple(Target(each.repository, tag.tag) for each in rules.places(tag.repository) if each.upstream is None)
        if tag.domain == DOCKER_IO and tag.tag
        else ()
    )
    own = own_place(host.range, tag, desired.addresses)
    return Stray(host, image, store, tag, target, local, own, tuple(each.digest for each in digests), asked, saved)


def _target(desired: Desired, rules: Dispatch, host: DesiredHost, tag: Reference) -> Target:
    found = desired.place_of(host, tag)
    if tag.domain == DOCKER_IO and found not in desired.by_target and rules.reserved(tag.repository):
        found = Target(tag.familiar_repository, tag.tag)
    return found if found.tag else found.held(tag.digest)


def _may_ask(desired: Desired, tag: Reference, target: Target) -> bool:
    """Whether the name is an upstream's, and that one may be asked: local names are told to nobody, and what is private comes on no range's word."""
    if target.repository != tag.registry_repository or tag.domain in desired.private:
        return False
    listed = desired.internet is not Internet.LISTED or target in desired.by_target
    return listed and desired.may_ask(tag.domain)


def _retired(desired: Desired, seen: Observation, stray: Stray) -> str:
    """Why it does not come back, in words; "" where nothing says so."""
    for target in (stray.target, stray.own):
        if any(entry.ensure is Ensure.ABSENT for entry in desired.by_target.get(target, ())):
            return f"{target} does not come back: the set {desired.sets_of(target)[0]} says Absent"
        if target in desired.by_target:
            continue
        for stone in seen.tombstones.get(target, ()):
            if seen.now - stone.at < desired.keep_held and stone.means(stray.image, stray.store):
                return f"{target} does not come back: it was deleted {duration(max(0.0, seen.now - stone.at))} ago"
    return ""


def noticed(desired: Desired, seen: Observation, only: Target | None = None) -> Iterator[Action | HeldBack]:
    """What brings the ranges' images into the registry, or why it does not come."""
    for stray in strays(desired, seen.hosts) if seen.strays else ():
        where = seen.strays.get(stray.key)
        if where is not None and (only is None or only in stray.places):
            yield from _rows(desired, seen, stray, where)


def _rows(desired: Desired, seen: Observation, stray: Stray, where: Whereabouts) -> Iterator[Action | HeldBack]:
    if isinstance(where, Shown):
        return
    if words := _retired(desired, seen, stray):
        yield _held(stray, Reason.KEPT, words)
        return
    match where:
        case Unknown(why):
            yield _held(stray, Reason.UNKNOWN, why)
        case Confirmed():
            yield _copy(desired, stray, where)
        case Unconfirmed() if stray.saved:
            yield _save(stray, where.there)
        case Unconfirmed():
            pass
        case _:
            assert_never(where)


def _copy(desired: Desired, stray: Stray, where: Confirmed) -> Copy:
    digest, name = where.source.digest, f"{stray.host.name} fetched it past the registry, and upstream has it"
    settled = stray.target in desired.by_target or (where.there and desired.immutable.matches(stray.tag))
    target = stray.target if where.tagged and not settled else stray.target.held(digest)
    moved = "" if target == stray.target else f"; {stray.target} is not moved by it"
    return Copy(
        target=target, sets=(), reason=Reason.FETCHED, message=name + moved, bytes=where.size, host=stray.host.name,
        source=where.source, digest=digest, wanted=digest, replaces=where.there if target == stray.target else "",
    )  # fmt: skip


def _save(stray: Stray, there: str) -> Save:
    name = stray.host.name
    words = f"{name} fetched it past the registry, and no upstream confirms it" if stray.pulled else f"`adopt` of {name} names it"
    return Save(
        target=stray.own, sets=(), reason=Reason.FETCHED if stray.pulled else Reason.ON_HOST_ONLY, message=words, bytes=stray.image.size,
        host=name, image_id=stray.image.id, replaces=there,
    )  # fmt: skip


def _held(stray: Stray, reason: Reason, message: str) -> HeldBack:
    return HeldBack(str(stray.target), Kind.COPY, stray.host.name, reason, message, (), stray.image.size, stray.own)
