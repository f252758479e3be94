"""What outlives a restart."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.domain.observation import Held, Lookup, Present, Tombstone
from controller.domain.ports.collecting import Gate
from controller.domain.reference import Target


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A tag that we are about to put on an engine for a push, a build or a pull. `existed`: it was there before, with the same Id, and stays.

    `image_id` is "" until what is built or pulled under the tag has an Id.
    """

    host: str
    engine_id: str
    image_id: str
    reference: str
    existed: bool


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was done or failed: append-only, so that it can be explained later (law 8). Times in seconds since the epoch."""

    at: float
    actor: str
    action: str
    image: str
    host: str
    reason: str
    before: str
    after: str
    bytes: int
    seconds: float
    error: str


PULL_THROUGH = "PullThrough"
"""The audit trail's word for what was pulled from the internet and is kept: by a client through the gateway, whose address `host` is then, or, with
PAST_GATEWAY as the reason, by a range past it."""


PAST_GATEWAY = "PastGateway"


RANGE_PULL = "RangePull"
"""The audit trail's word for what a range has and the registry had already."""


LOAD = "Load"
"""The audit trail's word for an image that a range was given as an archive, because it can't reach the registry: the entry of its pull says why."""


class Store(Protocol):
    """What must outlive a restart. Synchronous and quick; a few rows at a time."""

    def first_seen(self, host: str, pairs: Iterable[tuple[str, str]], now: float) -> Mapping[tuple[str, str], float]:
        """When each (image Id, canonical tag) of a host was seen first; `now` for new ones, which are kept. Others of the host are forgotten."""
        ...

    def open_push(self, entry: JournalEntry) -> None:
        """Journal a tag before it is made."""
        ...

    def close_push(self, entry: JournalEntry) -> None:
        """The tag is gone again, or was never ours."""
        ...

    def open_pushes(self, engine_id: str | None = None) -> Sequence[JournalEntry]:
        """What is journalled, of one engine or of all."""
        ...

    def set_last_pushed(self, engine_id: str, target: Target, digest: str) -> None:
        """This engine's image is what the registry's tag meant at that time."""
        ...

    def last_pushed(self, engine_id: str) -> Mapping[Target, str]:
        """By target, the digest that this engine last pushed or pulled."""
        ...

    def engine_of(self, host: str) -> str | None:
        """The engine ID that a host's name was first seen with; None: not seen yet, or forgotten."""
        ...

    def set_engine(self, host: str, engine_id: str) -> None:
        """From now on this name means this engine."""
        ...

    def forget_engine(self, host: str) -> None:
        """The operator says that this host's engine was replaced: the next look takes what is there."""
        ...

    def record(self, entry: AuditEntry) -> None:
        """Append to the audit trail."""
        ...

    def history(self, image: str | None = None, limit: int = 100, *, actions: Collection[str] = ()) -> Sequence[AuditEntry]:
        """The newest entries first: of one image or of all, of these actions or of all."""
        ...

    def set_error(self, target: Target, error: str, at: float) -> None:
        """The last error of an image; "" clears it."""
        ...

    def errors(self) -> Mapping[Target, str]:
        """The last error of each image that has one."""
        ...

    def lookups(self) -> Mapping[Lookup, Present[Held]]:
        """What upstreams answered when they were last asked. Sizes are not kept."""
        ...

    def keep_lookups(self, found: Mapping[Lookup, Present[Held]], since: float) -> None:
        """Keep these answers, and none that is older than `since`, in seconds since the epoch."""
        ...

    def changes(self, repository: str | None = None) -> Sequence[AuditEntry]:
        """What put something under a tag or took it away, without failures, the newest first: of each image the newest one; of a repository all."""
        ...

    def hold(self, place: Target, at: float) -> None:
        """A held tag counts from then; it is known before the tag is made."""
        ...

    def held_since(self) -> Mapping[Target, float]:
        """From when each held tag that is known counts."""
        ...

    def let_go(self, place: Target) -> None:
        """The held tag is gone."""
        ...

    def bury(self, target: Target, stone: Tombstone) -> None:
        """This content is about to be deleted under that name, and shall not come back by itself."""
        ...

    def exhume(self, target: Target, digest: str) -> None:
        """This content is there again, because somebody asked for it."""
        ...

    def tombstones(self) -> Mapping[Target, Sequence[Tombstone]]:
        """What was deleted, by name."""
        ...

    def gate(self, address: str) -> Gate:
        """The gate of a registry: all whose state is in one folder share it."""
        ...

    def last_sweep(self) -> float | None:
        """When held tags were last looked over; None: never."""
        ...

    def set_last_sweep(self, at: float) -> None:
        """They were looked over now."""
        ...

    def transitions(
        self, seen: Mapping[tuple[str, str], Mapping[str, str]], now: float, *, keep: bool = True
    ) -> Mapping[tuple[str, str], Mapping[str, float]]:
        """By (set, image), since when each condition has the status that was seen now; another status, or a new one, has it from now on.

        What is not seen is forgotten. Without `keep` nothing is written, and what was never kept has no time.
        """
        ...
