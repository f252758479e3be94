"""desired + observed -> plan. Pure: no clock, no I/O, no log. What may then pass is policy.py's.

For each place in the registry, the first row that fits (R: the registry's tag, S: what the source has, H: the copies on hosts). A source is an
upstream, an archive or a Dockerfile folder, so what brings it is Copy, Import or Build:

    wanted   R        source     S        H                    -> planned                     else
    -------  -------  ---------  -------  -------------------  -----------------------------  ---------------------
    both     any      any        any      any                  held back Conflict
    Absent   Present  -          -        any                  Delete Retired
    Absent   Absent   -          -        any                  nothing
    any      Unknown  any        any      any                  held back Unknown
    Present  Absent   one        Present  any                  Copy, Import, Build Missing    Build: held back Unknown while its host is
    Present  Absent   one        Absent   adopted              Push OnHostOnly
    Present  Absent   one        Absent   none                 held back NotFound
    Present  Absent   one        Unknown  any                  held back Unknown
    Present  Present  one        Present  any, same content    nothing
    Present  Present  one        Present  any, other content   Copy, Import, Build Outdated
    Present  Present  one        Absent   any                  nothing (the registry keeps it)
    Present  Present  one        Unknown  any                  held back Unknown
    Present  Absent   none       -        one content          Push OnHostOnly                Copy, while upstream has what the host pulled
    Present  Absent   none       -        several contents     held back Conflict
    Present  any      any        any      would be pushed, and the host has another image under the registry's own name: held back Conflict
    Present  Absent   none       -        none                 held back NotFound (Unknown while a host is)
    Present  Present  none       -        same content         nothing
    Present  Present  none       -        other, R last pushed Push Retagged
    Present  Present  none       -        other                by onConflict: Conflict, Push, Kept
    Present  Present  none       -        same on one, other   by onConflict: Conflict, Conflict, Kept
                                          on another
    unlisted Present  -        -        not adopted            Delete Unlisted                where `prune` is on, and it is ours
    unlisted any      -        -        deleted before         held back Deleted

(the last two rows are in pruning.py; the copies of ranges are none of H: what becomes of them is in noticing.py)
and then, for each copy that `absent` names: Evict, with what makes us believe that the registry holds it
(Basis); and for each name that `present` of a host has and the host has not: Pull Missing, or held back NotFound or Unknown as the registry is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from controller.domain.actions import BRINGS, Action, Basis, Copy, Delete, Evict, HeldBack, Import, Kind, Plan, Pull, Push, Reason
from controller.domain.case import Case, short
from controller.domain.desired import Desired, DesiredHost, HostCopy
from controller.domain.noticing import noticed
from controller.domain.observation import Absent, Held, HostState, Observation, Present, Unknown
from controller.domain.pruning import doubt, pruned, without_buried
from controller.domain.reference import Reference, Target
from controller.domain.spec import Ensure
from controller.domain.transfers import transfers

Found = Iterator[Action | HeldBack]
Copies = Mapping[Target, Sequence[HostCopy]]


def make_plan(desired: Desired, seen: Observation, copies: Copies | None = None, *, only: Target | None = None) -> Plan:
    """The difference between what is asked for and what was seen, before any guard.

    `copies` are those of copies_by_target, where they are known; with `only`, the part that is about one place in the registry.
    """
    copies = copies_by_target(desired, seen) if copies is None else copies
    found: list[Action | HeldBack] = []
    in_doubt = doubt(desired, seen) if seen.brought else ""
    for target in desired.by_target.keys() | copies.keys() | seen.brought.keys() if only is None else {only}:
        case = Case(desired, seen, target, desired.by_target.get(target, ()), tuple(copies.get(target, ())))
        found.extend(_plan_target(case, in_doubt))
    if only is None:
        found.extend(_unknown_hosts(desired, seen))
        found.extend(_deferred(desired))
    found.extend(noticed(desired, seen, only))
    brought = {action.target for action in found if isinstance(action, BRINGS)}
    found.extend(row for row in _missing_on_hosts(desired, seen, brought) if only in {None, row.target})
    return Plan.of((f for f in found if not isinstance(f, HeldBack)), (f for f in found if isinstance(f, HeldBack)))


def known_hosts(desired: Desired, seen: Observation) -> Iterator[tuple[DesiredHost, HostState]]:
    """The hosts whose state was seen."""
    for host in desired.hosts:
        fact = seen.hosts.get(host.name)
        if isinstance(fact, Present):
            yield host, fact.value


def copies_by_target(desired: Desired, seen: Observation) -> Copies:
    """All host copies that matter, by the place in the registry that they map to."""
    grouped: dict[Target, list[HostCopy]] = {}
    for copy in desired.copies(known_hosts(desired, seen)):
        grouped.setdefault(copy.target, []).append(copy)
    for copies in grouped.values():
        copies.sort(key=lambda copy: copy.sort_key)
    return grouped


def _plan_target(case: Case, in_doubt: str) -> Found:
    wanted = {entry.ensure for entry in case.entries}
    if len(wanted) > 1:
        yield from _contradiction(case)
    elif wanted == {Ensure.ABSENT}:
        yield from _retire(case)
    else:
        buried, case = without_buried(case)
        yield from buried
        rows = list(transfers(case))
        yield from rows
        yield from _evictions(case, rows)
        yield from pruned(case, in_doubt)


def _contradiction(case: Case) -> Found:
    """One set wants it Present, another Absent: neither is done, and no copy leaves a host."""
    present = sorted({e.image_set for e in case.entries if e.ensure is Ensure.PRESENT})
    absent = sorted({e.image_set for e in case.entries if e.ensure is Ensure.ABSENT})
    message = f"Present in {', '.join(present)} and Absent in {', '.join(absent)}: take it out of one of them"
    yield case.held(Kind.DELETE, Reason.CONFLICT, message)
    for copy in case.copies:
        if copy.lingers:
            yield case.held(Kind.EVICT, Reason.CONFLICT, message, copy)


def _retire(case: Case) -> Found:
    match case.registry:
        case Present(held):
            yield Delete(
                target=case.target, sets=case.sets, reason=Reason.RETIRED, message="the file says Absent", bytes=held.size, digest=held.digest
            )
        case Unknown(why):
            yield case.held(Kind.DELETE, Reason.UNKNOWN, why)
        case Absent():
            pass
    for copy in case.copies:
        if copy.kept:
            yield case.held(Kind.EVICT, Reason.KEPT, f"{copy.host.name} keeps it", copy)
        elif copy.lingers or copy.adopted:
            message = "the file says Absent, so it can't go to the registry; remove it from the host by hand, or from the file"
            yield case.held(Kind.EVICT if copy.lingers else Kind.PUSH, Reason.RETIRED_ON_HOST, message, copy)


def _evictions(case: Case, rows: list[Action | HeldBack]) -> Found:
    conflicts = {row.host for row in rows if isinstance(row, HeldBack) and row.reason is Reason.CONFLICT}
    for copy in case.copies:
        if not copy.lingers:
            continue
        basis = _basis(case, copy, rows)
        if basis is Basis.NOWHERE and not conflicts.isdisjoint({copy.host.name, ""}):
            continue  # The conflict's own row says it already.
        yield Evict(
            target=case.target, sets=case.sets, reason=Reason.LINGERS, message=_eviction_words(copy, basis), bytes=copy.image.size,
            host=copy.host.name, image_id=copy.image.id, tag=copy.tag, basis=basis, copy=copy,
        )  # fmt: skip


def _basis(case: Case, copy: HostCopy, rows: list[Action | HeldBack]) -> Basis:
    held = case.registry
    if isinstance(held, Unknown):
        return Basis.UNKNOWN
    if isinstance(held, Present) and held.value.means(copy.image, copy.store):
        return Basis.TAG
    for action in rows:
        if isinstance(action, Push) and action.image_id == copy.image.id:
            return Basis.AFTER_PUSH
        if isinstance(action, Copy) and Held(action.wanted).means(copy.image, copy.store):
            return Basis.AFTER_COPY
        if isinstance(action, Import) and Held(action.identity).means(copy.image, copy.store):
            return Basis.AFTER_IMPORT
    return Basis.ELSEWHERE if (copy.image.id, case.target.repository) in case.seen.elsewhere else Basis.NOWHERE


def _eviction_words(copy: HostCopy, basis: Basis) -> str:
    named = "`absent` names it" if copy.host.absent is not None else "a set lists it"
    tag = "" if str(copy.target) in (copy.tag.familiar, str(copy.tag)) else f"{copy.tag.familiar}: "
    return f"{tag}must not linger on {copy.host.name} ({named}); {basis.value}"


def _unknown_hosts(desired: Desired, seen: Observation) -> Found:
    for host in desired.hosts:
        fact = seen.hosts.get(host.name)
        if not isinstance(fact, Present):
            why = fact.why if isinstance(fact, Unknown) else "it was not looked at"
            yield HeldBack("*", Kind.EVICT, host.name, Reason.UNKNOWN, why, desired.sets)


def _missing_on_hosts(desired: Desired, seen: Observation, brought: Collection[Target]) -> Found:
    for host, state in known_hosts(desired, seen):
        if not host.present:
            continue
        there = {name for image in state.images for tag in image.tags for name in desired.names_of(tag)}
        for reference in sorted(host.present - there):
            target = desired.place_of(host, reference)
            rival = next((image for image in state.images if any(_own_name(desired, tag) == target for tag in image.tags)), None)
            held = seen.registry.get(target)
            if rival is None or (isinstance(held, Present) and held.value.means(rival, state.store)):
                yield _pull(desired, seen, host, reference, target, brought)
            else:
                message = f"under the registry's own name it is another image there, {short(rival.id)}; remove or rename that tag"
                yield HeldBack(str(target), Kind.PULL, host.name, Reason.CONFLICT, message, desired.sets_of(target), 0, target)


def _own_name(desired: Desired, tag: Reference) -> Target | None:
    """The place that a tag under the registry's own address names; None for another tag."""
    return Target(tag.repository, tag.tag) if tag.domain in desired.addresses else None


def _pull(
    desired: Desired, seen: Observation, host: DesiredHost, reference: Reference, target: Target, brought: Collection[Target]
) -> Action | HeldBack:
    sets, words = desired.sets_of(target), f"`present` of {host.name} names it"
    match seen.registry.get(target):
        case Present(held):
            return Pull(
                target=target, sets=sets, reason=Reason.MISSING, message=words, bytes=held.size, host=host.name, tag=reference, digest=held.digest
            )
        case Absent() if target in brought:
            message = f"{words}; this plan brings it to the registry"
            return Pull(target=target, sets=sets, reason=Reason.MISSING, message=message, host=host.name, tag=reference, digest="")
        case Absent():
            return HeldBack(str(target), Kind.PULL, host.name, Reason.NOT_FOUND, f"{words}, and the registry does not have it", sets, 0, target)
        case fact:
            why = fact.why if isinstance(fact, Unknown) else "the registry was not asked for it"
            return HeldBack(str(target), Kind.PULL, host.name, Reason.UNKNOWN, why, sets, 0, target)


def _deferred(desired: Desired) -> Found:
    for each in (*desired.deferred, *desired.others):
        sets = (each.image_set,) if each.image_set else desired.sets
        yield HeldBack(each.name, Kind(each.action), each.host, Reason(each.reason), each.message, sets)
