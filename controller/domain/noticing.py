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

from collections.abc import Iterator
from typing import assert_never

from controller.domain.actions import Action, Copy, HeldBack, Kind, Reason, Save
from controller.domain.desired import Desired
from controller.domain.observation import Confirmed, Observation, Shown, Unconfirmed, Unknown, Whereabouts
from controller.domain.reference import Target
from controller.domain.spec import Ensure
from controller.domain.strays import Stray, strays
from controller.domain.texts import duration


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
    for stray in strays(desired, seen.hosts, only=only, among=seen.strays.keys()) if seen.strays else ():
        yield from _rows(desired, seen, stray, seen.strays[stray.key])


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
