"""desired + observed -> plan. Pure: no clock, no I/O, no log. What may then pass is policy.py's.

For each place in the registry, the first row that fits (R: the registry's tag, U: upstream, H: the copies on hosts):

    wanted   R        source     U        H                    -> planned                     else
    -------  -------  ---------  -------  -------------------  -----------------------------  ---------------------
    both     any      any        any      any                  held back Conflict
    Absent   Present  -          -        any                  Delete Retired
    Absent   Absent   -          -        any                  nothing
    any      Unknown  any        any      any                  held back Unknown
    Present  Absent   upstream   Present  any                  Copy Missing
    Present  Absent   upstream   Absent   adopted              Push OnHostOnly
    Present  Absent   upstream   Absent   none                 held back NotFound
    Present  Absent   upstream   Unknown  any                  held back Unknown
    Present  Present  upstream   Present  any, same digest     nothing
    Present  Present  upstream   Present  any, other digest    Copy Outdated
    Present  Present  upstream   Absent   any                  nothing (the registry keeps it)
    Present  Present  upstream   Unknown  any                  held back Unknown
    Present  Absent   none       -        one content          Push OnHostOnly
    Present  Absent   none       -        several contents     held back Conflict
    Present  any      any        any      would be pushed, and the host has another image under the registry's own name: held back Conflict
    Present  Absent   none       -        none                 held back NotFound (Unknown while a host is)
    Present  Present  none       -        same content         nothing
    Present  Present  none       -        other, R last pushed Push Retagged
    Present  Present  none       -        other                by onConflict: Conflict, Push, Kept
    Present  Present  none       -        same on one, other   by onConflict: Conflict, Conflict, Kept
                                          on another

and then, for each copy that `absent` names: Evict, with what makes us believe that the registry holds it (Basis).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from controller.domain.actions import Action, Basis, Copy, Delete, Evict, HeldBack, Kind, Plan, Push, Reason
from controller.domain.desired import Desired, DesiredHost, DesiredImage, HostCopy
from controller.domain.observation import Absent, Fact, Held, HostState, Observation, Present, Unknown
from controller.domain.reference import Reference, Target
from controller.domain.spec import Ensure, OnConflict

Found = Iterator[Action | HeldBack]
Copies = Mapping[Target, Sequence[HostCopy]]


def make_plan(desired: Desired, seen: Observation, copies: Copies | None = None) -> Plan:
    """The difference between what is asked for and what was seen, before any guard. `copies` are those of copies_by_target, where they are known."""
    copies = copies_by_target(desired, seen) if copies is None else copies
    found: list[Action | HeldBack] = []
    for target in desired.by_target.keys() | copies.keys():
        case = _Case(desired, seen, target, desired.by_target.get(target, ()), tuple(copies.get(target, ())))
        found.extend(_plan_target(case))
    found.extend(_unknown_hosts(desired, seen))
    found.extend(_missing_on_hosts(desired, seen))
    found.extend(_deferred(desired))
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


@dataclass(frozen=True, slots=True)
class _Case:
    """All that is known of one place in the registry."""

    desired: Desired
    seen: Observation
    target: Target
    entries: tuple[DesiredImage, ...]
    copies: tuple[HostCopy, ...]

    @property
    def registry(self) -> Fact[Held]:
        return self.seen.registry.get(self.target) or Unknown("the registry was not asked for it", self.seen.now)

    @property
    def sets(self) -> tuple[str, ...]:
        return tuple(sorted({entry.image_set for entry in self.entries}))

    @property
    def unknown_hosts(self) -> list[str]:
        return [host.name for host in self.desired.hosts if not isinstance(self.seen.hosts.get(host.name), Present)]

    def held(self, action: Kind, reason: Reason, message: str, copy: HostCopy | None = None) -> HeldBack:
        host, size = (copy.host.name, copy.image.size) if copy else ("", 0)
        return HeldBack(str(self.target), action, host, reason, message, self.sets, size, self.target)


def _plan_target(case: _Case) -> Found:
    wanted = {entry.ensure for entry in case.entries}
    if len(wanted) > 1:
        yield from _contradiction(case)
    elif wanted == {Ensure.ABSENT}:
        yield from _retire(case)
    else:
        transfers = list(_transfer(case))
        yield from transfers
        yield from _evictions(case, transfers)


def _contradiction(case: _Case) -> Found:
    """One set wants it Present, another Absent: neither is done, and no copy leaves a host."""
    present = sorted({e.image_set for e in case.entries if e.ensure is Ensure.PRESENT})
    absent = sorted({e.image_set for e in case.entries if e.ensure is Ensure.ABSENT})
    message = f"Present in {', '.join(present)} and Absent in {', '.join(absent)}: take it out of one of them"
    yield case.held(Kind.DELETE, Reason.CONFLICT, message)
    for copy in case.copies:
        if copy.lingers:
            yield case.held(Kind.EVICT, Reason.CONFLICT, message, copy)


def _retire(case: _Case) -> Found:
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


def _transfer(case: _Case) -> Found:
    """How the wanted content gets into the registry."""
    entry = case.entries[0] if case.entries else None
    if entry is None and not any(copy.adopted and not copy.kept for copy in case.copies):
        return
    if isinstance(case.registry, Unknown):
        yield case.held(Kind.COPY if entry and entry.upstream else Kind.PUSH, Reason.UNKNOWN, case.registry.why)
    elif entry is not None and entry.upstream is not None:
        yield from _copy(case, entry.upstream)
    elif entry is not None and entry.source is not None:
        if isinstance(case.registry, Absent):
            yield from _push_adopted(case, case.held(Kind.IMPORT, Reason.NOT_SUPPORTED, "comes with a later version"))
    else:
        yield from _push(case, [copy for copy in case.copies if entry is not None or (copy.adopted and not copy.kept)])


def _copy(case: _Case, source: Reference) -> Found:
    upstream = case.seen.upstream.get(case.target)
    held = case.registry.value if isinstance(case.registry, Present) else None
    match upstream:
        case Present(offered) if held is None:
            message = f"not in the registry; {source} is {_short(offered.digest)}"
            yield _copy_of(case, source, offered, Reason.MISSING, message)
        case Present(offered) if held is not None and held.digest != offered.digest:
            message = f"{source} is {_short(offered.digest)} now, the registry has {_short(held.digest)}"
            yield _copy_of(case, source, offered, Reason.OUTDATED, message, held.digest)
        case Unknown(why):
            yield case.held(Kind.COPY, Reason.UNKNOWN, why)
        case Absent() if held is None:
            yield from _push_adopted(case, case.held(Kind.COPY, Reason.NOT_FOUND, f"{source} does not exist upstream: mend the name in the file"))
        case None if held is None:
            yield from _push_adopted(case, _not_asked(case, source))
        case _:
            pass


def _not_asked(case: _Case, source: Reference) -> HeldBack:
    if case.desired.may_ask(source.domain):
        return case.held(Kind.COPY, Reason.UNKNOWN, f"{source} was not asked for")
    rule = "spec.internet is Deny" if source.domain in case.desired.upstreams else f"{source.domain} is not under spec.upstreams"
    return case.held(Kind.COPY, Reason.DENIED, f"{rule}, so {source} is not asked for")


def _copy_of(case: _Case, source: Reference, offered: Held, reason: Reason, message: str, replaces: str = "") -> Copy:
    return Copy(
        target=case.target,
        sets=case.sets,
        reason=reason,
        message=message,
        bytes=offered.size,
        source=source,
        digest=offered.digest,
        wanted=offered.digest,
        replaces=replaces,
    )


def _push_adopted(case: _Case, otherwise: HeldBack) -> Found:
    """What has another source enters its name from a host only where the file trusts that host by `adopt` (law 10)."""
    trusted = [copy for copy in case.copies if copy.adopted and not copy.kept]
    if trusted:
        yield from _push(case, trusted)
    else:
        yield otherwise


def _push(case: _Case, copies: list[HostCopy]) -> Found:
    """What goes from a host to the registry; nothing whose way there is blocked by another image under the registry's own name."""
    for row in _pushes(case, copies):
        rival = next((copy for copy in case.copies if isinstance(row, Push) and _is_rival(case, row, copy)), None)
        if rival is None:
            yield row
        else:
            message = f"{rival.tag.familiar} on {rival.host.name} is another image, {_short(rival.image.id)}; remove or rename that tag"
            yield case.held(Kind.PUSH, Reason.CONFLICT, message, rival)


def _is_rival(case: _Case, push: Push, copy: HostCopy) -> bool:
    return copy.host.name == push.host and copy.tag.domain in case.desired.addresses and copy.image.id != push.image_id


def _pushes(case: _Case, copies: list[HostCopy]) -> Found:
    if isinstance(case.registry, Present):
        yield from _push_over(case, copies, case.registry.value)
    elif len({copy.image.id for copy in copies}) > 1:
        yield case.held(Kind.PUSH, Reason.CONFLICT, f"different images bear this name: {_several(copies)}; remove or rename all but one")
    elif copies:
        yield _push_of(case, copies[0], Reason.ON_HOST_ONLY, f"on {copies[0].host.name} and not in the registry")
    elif case.unknown_hosts:
        yield case.held(Kind.PUSH, Reason.UNKNOWN, f"not in the registry, and {', '.join(case.unknown_hosts)} could not be asked")
    else:
        yield case.held(Kind.PUSH, Reason.NOT_FOUND, "not in the registry, and no host has it: push it, or give it a source")


def _push_over(case: _Case, copies: Iterable[HostCopy], held: Held) -> Found:
    """The registry has the tag already: the rules for a conflict."""
    pushes: dict[str, Push] = {}
    copies = list(copies)
    others = [copy for copy in copies if not held.means(copy.image, copy.store)]
    for copy in others:
        words = f"the registry has {_short(held.digest)}, {copy.host.name} has {_short(copy.image.id)}"
        if case.seen.last_pushed.get((copy.host.name, case.target)) == held.digest:
            pushes.setdefault(copy.image.id, _push_of(case, copy, Reason.RETAGGED, f"changed on {copy.host.name} since its last push", held.digest))
        elif copy.host.on_conflict is OnConflict.PUSH and len(others) == len(copies):
            pushes.setdefault(copy.image.id, _push_of(case, copy, Reason.CONFLICT, f"{words}; onConflict is Push", held.digest))
        elif copy.host.on_conflict is OnConflict.PUSH:
            # Both would push over each other for ever.
            yield case.held(Kind.PUSH, Reason.CONFLICT, f"different images bear this name: {_several(copies)}; remove or rename all but one", copy)
        elif copy.host.on_conflict is OnConflict.KEEP:
            yield case.held(Kind.PUSH, Reason.KEPT, f"{words}; onConflict is Keep", copy)
        else:
            yield case.held(Kind.PUSH, Reason.CONFLICT, f"{words}; rename one, or set onConflict", copy)
    if len(pushes) == 1:
        yield from pushes.values()
    elif pushes:
        yield case.held(Kind.PUSH, Reason.CONFLICT, f"different images bear this name: {_several(others)}; remove or rename all but one")


def _push_of(case: _Case, copy: HostCopy, reason: Reason, message: str, replaces: str = "") -> Push:
    return Push(
        target=case.target, sets=case.sets, reason=reason, message=message, bytes=copy.image.size,
        host=copy.host.name, image_id=copy.image.id, tag=copy.tag, replaces=replaces,
    )  # fmt: skip


def _evictions(case: _Case, transfers: list[Action | HeldBack]) -> Found:
    conflicts = {row.host for row in transfers if isinstance(row, HeldBack) and row.reason is Reason.CONFLICT}
    for copy in case.copies:
        if not copy.lingers:
            continue
        basis = _basis(case, copy, transfers)
        if basis is Basis.NOWHERE and not conflicts.isdisjoint({copy.host.name, ""}):
            continue  # The conflict's own row says it already.
        yield Evict(
            target=case.target, sets=case.sets, reason=Reason.LINGERS, message=_eviction_words(copy, basis), bytes=copy.image.size,
            host=copy.host.name, image_id=copy.image.id, tag=copy.tag, basis=basis, copy=copy,
        )  # fmt: skip


def _basis(case: _Case, copy: HostCopy, transfers: list[Action | HeldBack]) -> Basis:
    held = case.registry
    if isinstance(held, Unknown):
        return Basis.UNKNOWN
    if isinstance(held, Present) and held.value.means(copy.image, copy.store):
        return Basis.TAG
    for action in transfers:
        if isinstance(action, Push) and action.image_id == copy.image.id:
            return Basis.AFTER_PUSH
        if isinstance(action, Copy) and Held(action.digest).means(copy.image, copy.store):
            return Basis.AFTER_COPY
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


def _missing_on_hosts(desired: Desired, seen: Observation) -> Found:
    for host, state in known_hosts(desired, seen):
        if not host.present:
            continue
        there = {name for image in state.images for tag in image.tags for name in desired.names_of(tag)}
        for reference in sorted(host.present - there):
            sets = desired.sets_of(desired.locate(reference, adopted=host.adopt.matches(reference)))
            yield HeldBack(reference.familiar, Kind.PULL, host.name, Reason.NOT_SUPPORTED, "pulling to a host comes with a later version", sets)


def _deferred(desired: Desired) -> Found:
    for each in desired.deferred:
        sets = (each.image_set,) if each.image_set else desired.sets
        yield HeldBack(each.name, Kind(each.action), each.host, Reason.NOT_SUPPORTED, each.message, sets)


def _several(copies: Iterable[HostCopy]) -> str:
    return ", ".join(sorted({f"{copy.tag.familiar} on {copy.host.name} is {_short(copy.image.id)}" for copy in copies}))


def _short(digest: str) -> str:
    return digest[:19]
