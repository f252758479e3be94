"""The actions that a plan is made of, what is held back, and why: frozen, ordered, fit for every surface.

A new kind of action is one more class in `Action`; the type checker then lists what else to touch (`assert_never`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, assert_never

from controller.domain.desired import ArchiveSource, BuildSource, HostCopy
from controller.domain.reference import Reference, Target


class Kind(StrEnum):
    """What is done."""

    COPY = "Copy"
    PUSH = "Push"
    IMPORT = "Import"
    BUILD = "Build"
    PULL = "Pull"
    EVICT = "Evict"
    DELETE = "Delete"


DELETIONS = frozenset({Kind.EVICT, Kind.DELETE})
"""The kinds that `limits.deletes` counts."""


class Reason(StrEnum):
    """Why something is done or held back: one CamelCase word, the same on every surface."""

    # Why an action is planned.
    MISSING = "Missing"
    OUTDATED = "Outdated"
    ON_HOST_ONLY = "OnHostOnly"
    RETAGGED = "Retagged"
    LINGERS = "Lingers"
    RETIRED = "Retired"
    UNLISTED = "Unlisted"
    FETCHED = "Fetched"
    # Why one is held back.
    KEPT = "Kept"
    IN_USE = "InUse"
    WAITING = "Waiting"
    CONFLICT = "Conflict"
    UNPROVEN = "Unproven"
    UNKNOWN = "Unknown"
    RETIRED_ON_HOST = "RetiredOnHost"
    DELETED = "Deleted"
    TOO_MANY_DELETES = "TooManyDeletes"
    NOT_FOUND = "NotFound"
    DENIED = "Denied"
    MODE = "Mode"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What every action has. `sets` are the sets that want it, none for what only a host's patterns name; `bytes` at most move or come free."""

    target: Target
    sets: tuple[str, ...]
    reason: Reason
    message: str
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(_Base):
    """Registry to registry: what `source` means, which was `digest` when it was planned. `replaces` is what the target's tag means now.

    `wanted` is what the tag will mean: `digest` itself, or what choosing `platforms` makes of it. `host` is the range that fetched it, if one did.
    """

    kind: ClassVar[Kind] = Kind.COPY
    host: str = ""
    source: Reference
    digest: str
    wanted: str
    replaces: str = ""
    platforms: tuple[str, ...] = ()
    referrers: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Push(_Base):
    """Host to registry: the image `image_id`, known there as `tag`. `replaces` is what the target's tag means now, "" for nothing."""

    kind: ClassVar[Kind] = Kind.PUSH
    host: str
    image_id: str
    tag: Reference
    replaces: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Import(_Base):
    """Archive to registry: the image of `source` that was `identity` (as ArchivedImage has it) when it was planned."""

    kind: ClassVar[Kind] = Kind.IMPORT
    host: ClassVar[str] = ""
    source: ArchiveSource
    identity: str
    replaces: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Save(_Base):
    """Range to registry, as an archive that the range's engine saves: the image `image_id`."""

    kind: ClassVar[Kind] = Kind.IMPORT
    host: str
    image_id: str
    replaces: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build(_Base):
    """Dockerfile folder to registry, by the engine of `host`: built, pushed, proven, removed. `context_hash` is what the folder was when planned."""

    kind: ClassVar[Kind] = Kind.BUILD
    host: str
    source: BuildSource
    context_hash: str
    replaces: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull(_Base):
    """Registry to a host, which shall have it as `tag`; the target's tag meant `digest` when it was planned."""

    kind: ClassVar[Kind] = Kind.PULL
    host: str
    tag: Reference
    digest: str


class Basis(StrEnum):
    """Why a copy on a host is believed to be in the registry; what is believed is proven before anything is removed."""

    TAG = "the registry's tag means it"
    ELSEWHERE = "another tag of the repository means it"
    AFTER_COPY = "this plan copies it there"
    AFTER_PUSH = "this plan pushes it there"
    AFTER_IMPORT = "this plan imports it there"
    NOWHERE = "the registry does not hold it"
    UNKNOWN = "the registry could not be asked"


AFTER = {Basis.AFTER_COPY: Kind.COPY, Basis.AFTER_PUSH: Kind.PUSH, Basis.AFTER_IMPORT: Kind.IMPORT}
"""What an eviction on this basis waits for in the same plan, and falls with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evict(_Base):
    """Off a host: the name `tag` of the image `image_id`, after its content was proven. `copy` is the evidence for the guard."""

    kind: ClassVar[Kind] = Kind.EVICT
    host: str
    image_id: str
    tag: Reference
    basis: Basis
    copy: HostCopy = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(_Base):
    """Out of the registry: the target's tag alone, which meant `digest` when it was planned."""

    kind: ClassVar[Kind] = Kind.DELETE
    host: ClassVar[str] = ""
    digest: str


Action = Copy | Push | Import | Save | Build | Pull | Evict | Delete

BRINGS = (Copy, Push, Import, Save, Build)
"""The classes that bring an image into the registry."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Something that would be done, or should be true, and is not done: with the reason (law: nothing is dropped silently).

    `until`, in seconds since the epoch, is when the reason ends by itself, where that is known.
    """

    image: str
    action: Kind
    host: str
    reason: Reason
    message: str
    sets: tuple[str, ...] = ()
    bytes: int = 0
    target: Target | None = field(default=None, compare=False)
    until: float | None = field(default=None, compare=False)


def hold(action: Action, reason: Reason, message: str, until: float | None = None) -> HeldBack:
    """The same action, held back."""
    return HeldBack(image_of(action), action.kind, action.host, reason, message, action.sets, action.bytes, action.target, until)


def image_of(action: Action) -> str:
    """What the action is about: the image's place in the registry, the same word for all its actions."""
    return str(action.target)


def identity(action: Action) -> tuple[str, ...]:
    """What makes two actions the same one: all that it would touch, none of the words. A saved plan is compared by it."""
    own: tuple[str, ...]
    match action:
        case Copy():
            own = (str(action.source), action.digest, action.wanted, action.replaces)
        case Import():
            own = (action.source.path, action.identity, action.replaces)
        case Save():
            own = (action.host, action.image_id, action.replaces)
        case Build():
            own = (action.host, action.source.context, action.context_hash, action.replaces)
        case Pull():
            own = (action.host, str(action.tag), action.digest)
        case Push():
            own = (action.host, action.image_id, str(action.tag), action.replaces)
        case Evict():
            own = (action.host, action.image_id, str(action.tag))
        case Delete():
            own = (action.digest,)
        case _:
            assert_never(action)
    return (action.kind, str(action.target), *own)


_ORDER = {kind: position for position, kind in enumerate(Kind)}


def sort_key(action: Action) -> tuple[str, str, int, str, str]:
    """By image; for one image what brings it to the registry first, what takes it away last."""
    target = action.target
    return (target.repository, target.tag, _ORDER[action.kind], action.host, str(action.tag) if isinstance(action, Evict) else "")


def _held_key(held: HeldBack) -> tuple[str, Kind, str, Reason, str]:
    return (held.image, held.action, held.host, held.reason, held.message)


@dataclass(frozen=True, slots=True)
class Plan:
    """The difference: what is to be done, and what is held back; both sorted."""

    actions: tuple[Action, ...] = ()
    held_back: tuple[HeldBack, ...] = ()

    @classmethod
    def of(cls, actions: Iterable[Action], held_back: Iterable[HeldBack]) -> Plan:
        """A plan in the one order that it is shown and done in."""
        return cls(tuple(sorted(actions, key=sort_key)), tuple(sorted(set(held_back), key=_held_key)))

    @property
    def converged(self) -> bool:
        """No actions, nothing Unknown, nothing held back except by keep."""
        return not self.actions and all(held.reason is Reason.KEPT for held in self.held_back)

    @property
    def deletions(self) -> int:
        """How many evictions and deletions it would do."""
        return sum(action.kind in DELETIONS for action in self.actions)

    def by_set(self) -> dict[str, Plan]:
        """The part that each set wants; "" is what no set lists. A set that wants nothing is not in it."""
        actions: dict[str, list[Action]] = {}
        held_back: dict[str, list[HeldBack]] = {}
        for action in self.actions:
            for name in action.sets or ("",):
                actions.setdefault(name, []).append(action)
        for held in self.held_back:
            for name in held.sets or ("",):
                held_back.setdefault(name, []).append(held)
        return {name: Plan(tuple(actions.get(name, ())), tuple(held_back.get(name, ()))) for name in actions.keys() | held_back.keys()}
