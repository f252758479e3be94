"""A host's migration: which of its names a person means, where they belong, and what of a plan brings them there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.domain.actions import Action, Copy, Evict, HeldBack, Import, Kind, Plan, Push, Reason
from controller.domain.desired import Desired, DesiredHost, DesiredImage, HostCopy, Patterns
from controller.domain.observation import Held, HostState, Observation, Present
from controller.domain.plan import copies_by_target
from controller.domain.reference import DOCKER_IO, Reference, Target, split_domain

_SET = "migrate"
"""The name under which entries appear that no set has."""

_TRANSFERS = {Kind.COPY, Kind.PUSH, Kind.IMPORT}


@dataclass(frozen=True, slots=True)
class Order:
    """What a person asks for: the host's images of these names, less those of `keep`; without `evict` they stay on the host too."""

    host: str
    patterns: tuple[str, ...]
    keep: tuple[str, ...] = ()
    evict: bool = True


@dataclass(frozen=True, slots=True)
class Stay:
    """A name that is not where it was to go: it is on the host still, or not in the registry. `reason` is a Reason's word, or Failed."""

    copy: HostCopy
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found for a migration: the desired state that migrating() gave, the world, and the guarded plan."""

    desired: Desired
    world: Observation
    plan: Plan

    @property
    def copies(self) -> tuple[HostCopy, ...]:
        """The names that it is about, as they are on the host now."""
        copies = (copy for each in copies_by_target(self.desired, self.world).values() for copy in each if copy.lingers)
        return tuple(sorted(copies, key=lambda copy: (copy.target, copy.sort_key)))

    def has(self, copy: HostCopy) -> bool:
        """Whether the registry's tag means this copy."""
        fact = self.world.registry.get(copy.target)
        return isinstance(fact, Present) and fact.value.means(copy.image, copy.store)


def migrating(desired: Desired, host: DesiredHost, order: Order, state: HostState | None) -> Desired:
    """The names that match shall be in the registry and off the host; nothing else is asked for.

    The files' word comes first: where a name belongs, where its image comes from, `keep`, `present`, `onConflict`, mode and limits. What they don't
    name is local if its pattern has no domain, and keeps its domain if the pattern has one. There is no grace period: a person asks for it now.
    """
    keep = Patterns((*host.keep.texts, *order.keep))
    local = Patterns(text for text in order.patterns if not split_domain(text)[0])
    names = Names(desired, host, Patterns(order.patterns), local)
    images = state.images if state else ()
    found = {tag: names.place(tag) for image in images for tag in image.tags if names.match(tag)}
    kept = {tag for image in images if any(keep.matches(*desired.names_of(tag)) for tag in image.tags) for tag in image.tags}
    listed = tuple(entry for target in sorted(set(found.values())) for entry in desired.by_target.get(target, ()))
    said = [(tag, target) for tag, target in sorted(found.items()) if names.must_say(tag) and tag not in kept]
    own = tuple(DesiredImage(_SET, str(tag), target, tag, unlisted=True) for tag, target in said)
    narrow = replace(
        host,
        adopt=Patterns(str(tag) for tag in sorted(found) if names.trusted(tag, found[tag])),
        absent=Patterns(str(tag) for tag in sorted(found)),
        keep=keep,
        grace=0.0,
    )
    entries = (*listed, *own)
    return replace(
        desired, sets=tuple(sorted({entry.image_set for entry in entries})), images=entries, hosts=(narrow,), groups=(), rules=(), deferred=(),
        prune=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Names:
    """Which names of a host match, and where in the registry they belong. `local` are the patterns without a domain."""

    desired: Desired
    host: DesiredHost
    patterns: Patterns
    local: Patterns

    def match(self, tag: Reference) -> bool:
        """Whether a pattern names it, or what it stands for under the registry's own address."""
        return self.patterns.matches(*self.desired.names_of(tag))

    def place(self, tag: Reference) -> Target:
        """Where it belongs."""
        return self.desired.locate(tag, adopted=not self._keeps_domain(tag))

    def must_say(self, tag: Reference) -> bool:
        """Whether it needs an entry of its own: else what is adopted from docker.io is local."""
        return tag.domain == DOCKER_IO and self._keeps_domain(tag) and self.place(tag) not in self.desired.by_target

    def _keeps_domain(self, tag: Reference) -> bool:
        names = self.desired.names_of(tag)
        if self.host.adopt.matches(*names):
            return False
        ruled = any((rule.repository.domain, rule.repository.repository) == (tag.domain, tag.repository) for rule in self.desired.rules)
        return ruled or not self.local.matches(*names)

    def trusted(self, tag: Reference, target: Target) -> bool:
        """Whether this host may fill the name: not one that a set takes from elsewhere, unless the file's `adopt` says so (law 10)."""
        sourced = any(entry.source is not None for entry in self.desired.by_target.get(target, ()))
        return not sourced or self.host.adopt.matches(*self.desired.names_of(tag))


def part_of(seen: Seen, order: Order) -> Plan:
    """The part of a look's plan that brings what the host has, and takes it off: what else the files want of these images is not done here."""
    copies = _by_target(seen.copies)
    actions = tuple(_in_words(action) for action in seen.plan.actions if _is_asked(action, order, copies.get(action.target, ())))
    held = tuple(row for row in (_explained(seen, row) for row in seen.plan.held_back) if _concerns(seen, order, row, copies))
    return Plan(actions, held)


def _is_asked(action: Action, order: Order, copies: Iterable[HostCopy]) -> bool:
    match action:
        case Evict():
            return order.evict
        case Push():
            return True
        case Copy(wanted=wanted) | Import(identity=wanted):
            return any(Held(wanted).means(copy.image, copy.store) for copy in copies)
        case _:
            return False


def _in_words(action: Action) -> Action:
    """The same, without the words of a file that does not say so."""
    if not isinstance(action, Evict):
        return action
    tag = "" if str(action.target) == action.tag.familiar else f"{action.tag.familiar}: "
    return replace(action, message=f"{tag}asked for; {action.basis.value}")


def _concerns(seen: Seen, order: Order, row: HeldBack, copies: Mapping[Target, Sequence[HostCopy]]) -> bool:
    if row.target is None:
        return True
    if row.action is Kind.EVICT:
        return order.evict or row.reason in {Reason.UNPROVEN, Reason.UNKNOWN, Reason.RETIRED_ON_HOST}
    return row.action in _TRANSFERS and not all(seen.has(copy) for copy in copies.get(row.target, ()))


def _explained(seen: Seen, row: HeldBack) -> HeldBack:
    """Why it was not pushed, where a set takes the name from elsewhere."""
    entries = seen.desired.by_target.get(row.target, ()) if row.target else ()
    if row.reason is not Reason.UNPROVEN or not any(entry.source is not None for entry in entries):
        return row
    return replace(row, message=f"{row.message}; {entries[0].image_set} takes this name from elsewhere, so it is not pushed")


def left(seen: Seen, order: Order, errors: Mapping[tuple[Target, str], str]) -> tuple[Stay, ...]:
    """The names that are not where they were to go, each with why. `errors` are those of what was tried, by place and name_of()."""
    rows: dict[Target, list[HeldBack]] = {}
    for row in part_of(seen, order).held_back:
        if row.target is not None:
            rows.setdefault(row.target, []).append(row)
    stays: list[Stay] = []
    for copy in seen.copies:
        if not order.evict and seen.has(copy):
            continue
        error = errors.get((copy.target, copy.image.id)) or errors.get((copy.target, "")) or errors.get((copy.target, str(copy.tag)))
        held = next((row for row in rows.get(copy.target, ()) if row.host in {"", order.host}), None)
        if error:
            stays.append(Stay(copy, "Failed", error))
        elif held is not None:
            stays.append(Stay(copy, held.reason, held.message))
        else:
            stays.append(Stay(copy, Reason.LINGERS, "run it again"))
    return tuple(stays)


def _by_target(copies: Iterable[HostCopy]) -> dict[Target, list[HostCopy]]:
    found: dict[Target, list[HostCopy]] = {}
    for copy in copies:
        found.setdefault(copy.target, []).append(copy)
    return found


def name_of(action: Action) -> str:
    """What tells apart the names that map to one place: of an eviction the name, of a push the image; a copy is about all."""
    match action:
        case Evict():
            return str(action.tag)
        case Push():
            return action.image_id
        case _:
            return ""


def gone_by(actions: Iterable[Action], state: HostState | None) -> set[str]:
    """The images that lose their last name by these actions."""
    names = {(action.image_id, action.tag) for action in actions if isinstance(action, Evict)}
    images = state.images if state else ()
    return {image.id for image in images if image.tags and all((image.id, tag) in names for tag in image.tags)}
