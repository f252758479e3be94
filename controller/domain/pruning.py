"""What no set lists any more, and what was deleted: what is pruned, and what may not come back by itself from a host. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from controller.domain.actions import Action, Delete, HeldBack, Kind, Reason
from controller.domain.case import Case
from controller.domain.desired import Desired, HostCopy, TagRule
from controller.domain.observation import Brought, Observation, Present, Tombstone, Unknown
from controller.domain.ports.stores import PULL_THROUGH, AuditEntry
from controller.domain.ranges import is_own
from controller.domain.reference import DOCKER_IO, Reference, Target
from controller.domain.tags import choose
from controller.domain.texts import duration

COMMANDS = frozenset({"push", "pull", "build", "import", "restore"})
"""The actors that a person sent: what they brought no file asked for, so no file that leaves it out means it."""

_GONE = frozenset({"Delete", "Restore"})

Found = Iterator[Action | HeldBack]


def brought(changes: Iterable[AuditEntry]) -> dict[Target, Brought]:
    """What the files once asked for and we brought, by the newest change of each image. For what came by a pull, or out of a range, they did not."""
    return {
        Target(*entry.image.rsplit(":", 1)): Brought(entry.after, entry.at, f"{entry.action.lower()} by `wharf {entry.actor}`")
        for entry in changes
        if entry.action not in {*_GONE, PULL_THROUGH} and entry.actor not in COMMANDS and not is_own(entry.image)
    }


def doubt(desired: Desired, seen: Observation) -> str:
    """Why nothing may be pruned now, in words; "" when all that was asked has answered, and every set lists something (law 2)."""
    if not desired.images:
        return "no set lists any image, and an empty file prunes nothing"
    listing = {image.image_set for image in desired.images}
    empty = next((name for name in desired.sets if name not in listing), None)
    if empty is not None:
        return f"the set {empty} lists no image, and an empty set prunes nothing: take it out of the file, if that is meant"
    if desired.deferred:
        first = desired.deferred[0]
        return f"not all is known: {first.host or first.name}: {first.message}"
    facts = [
        *((host.name, seen.hosts.get(host.name)) for host in desired.hosts if host.evicts or not host.range),
        *seen.registry.items(),
        *seen.offered.items(),
    ]
    return next((f"not all is known: {name}: {why_unknown(fact)}" for name, fact in facts if fact is None or isinstance(fact, Unknown)), "")


def why_unknown(fact: object) -> str:
    """The words of an Unknown; of what was not looked at, that."""
    return fact.why if isinstance(fact, Unknown) else "it was not looked at"


def pruned(case: Case, in_doubt: str) -> Found:
    """Delete what we brought, still is what we brought, and that nothing names any more; or why not now."""
    ours = case.seen.brought.get(case.target)
    if ours is None or not case.desired.prune or case.entries or _named(case):
        return
    if isinstance(case.registry, Unknown):
        yield case.held(Kind.DELETE, Reason.UNKNOWN, case.registry.why)
        return
    if not isinstance(case.registry, Present) or case.registry.value.digest != ours.digest:
        return
    lingering = next((copy for copy in case.copies if copy.lingers and not copy.kept and not copy.needed), None)
    if in_doubt:
        yield case.held(Kind.DELETE, Reason.UNKNOWN, in_doubt)
    elif lingering is not None:
        # What leaves a host is proven to be in the registry; that is not taken away at the same time.
        yield case.held(Kind.DELETE, Reason.WAITING, f"{lingering.host.name} has it still; it leaves the host first")
    else:
        message = f"no set lists it any more, and no `adopt` names it; it came by {ours.words}"
        size, digest = case.registry.value.size, case.registry.value.digest
        yield Delete(target=case.target, sets=(), reason=Reason.UNLISTED, message=message, bytes=size, digest=digest)


def _named(case: Case) -> bool:
    """Whether a rule for tags would choose it, or `adopt` or `present` of a host names it, by whatever name a host can have for it."""
    if any(_would_choose(case, rule) for rule in case.desired.rules if rule.repository.registry_repository == case.target.repository):
        return True
    names = tuple(_could_be_called(case.desired, case.target))
    return any((not host.range and host.adopt.matches(*names)) or not host.present.isdisjoint(names) for host in case.desired.places_to_be)


def _would_choose(case: Case, rule: TagRule) -> bool:
    """Were it listed upstream still. That it is listed no more is no word about it: the registry keeps what upstream takes away."""
    chosen = {target.tag for target in case.desired.by_target if target.repository == case.target.repository}
    return case.target.tag in choose({*chosen, case.target.tag}, rule.choice)


def _could_be_called(desired: Desired, target: Target) -> Iterator[Reference]:
    repository, tag = target.repository, target.tag
    yield Reference(DOCKER_IO, repository if "/" in repository else f"library/{repository}", tag)
    for address in desired.addresses:
        yield Reference(address, repository, tag)
    first, _, rest = repository.partition("/")
    if rest:
        yield Reference(first, rest, tag)
        name, _, port = first.rpartition("_")
        if name and port.isdigit():
            yield Reference(f"{name}:{port}", rest, tag)


def without_buried(case: Case) -> tuple[list[HeldBack], Case]:
    """The copies on hosts of what was deleted under this name, held back, and the case without them.

    They neither come back by themselves nor leave their host: the registry has them only until the restore window ends.
    """
    if case.entries or not case.seen.tombstones.get(case.target):
        return [], case
    buried = {copy: stone for copy in case.copies if not copy.kept and (stone := _stone_of(case, copy)) is not None}
    rows = [
        case.held(Kind.EVICT if copy.lingers else Kind.PUSH, Reason.DELETED, _words(case, stone), copy)
        for copy, stone in buried.items()
        if copy.lingers or copy.adopted
    ]
    return rows, replace(case, copies=tuple(copy for copy in case.copies if copy not in buried))


def _stone_of(case: Case, copy: HostCopy) -> Tombstone | None:
    if isinstance(case.registry, Present) and case.registry.value.means(copy.image, copy.store):
        return None
    young = (stone for stone in case.seen.tombstones[case.target] if case.seen.now - stone.at < case.desired.keep_held)
    return next((stone for stone in young if stone.means(copy.image, copy.store)), None)


def _words(case: Case, stone: Tombstone) -> str:
    ago = duration(max(0.0, case.seen.now - stone.at))
    return f"the same image was deleted {ago} ago: `wharf restore {case.target}`, list it in a set, or remove it from the host"
