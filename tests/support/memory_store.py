"""A store in memory, for property tests; it runs through tests/store/test_contract.py beside the real one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from controller.domain.gate import OPEN
from controller.domain.observation import Held, Lookup, Present, Tombstone
from controller.domain.ports.collecting import Gate
from controller.domain.ports.stores import AuditEntry, JournalEntry
from controller.domain.reference import Target
from controller.store.gate import RegistryGate

_CHANGES = {"Copy", "Push", "Import", "Build", "Restore", "Delete"}


class MemoryStore:
    """Keeps everything for as long as the object lives. `gates` is the folder of real gates; without one none is ever shut."""

    def __init__(self, gates: Path | None = None) -> None:
        self._gates = gates
        self._first_seen: dict[str, dict[tuple[str, str], float]] = {}
        self._pushes: dict[tuple[str, str, str], JournalEntry] = {}
        self._last_pushed: dict[str, dict[Target, str]] = {}
        self._engines: dict[str, str] = {}
        self._errors: dict[Target, str] = {}
        self._audit: list[AuditEntry] = []
        self._lookups: dict[Lookup, Present[Held]] = {}
        self._held: dict[Target, float] = {}
        self._tombstones: dict[Target, dict[str, Tombstone]] = {}
        self._conditions: dict[tuple[str, str], dict[str, tuple[str, float]]] = {}
        self._swept: float | None = None

    def first_seen(self, host: str, pairs: Iterable[tuple[str, str]], now: float) -> Mapping[tuple[str, str], float]:
        known = self._first_seen.get(host, {})
        self._first_seen[host] = {pair: min(known.get(pair, now), now) for pair in pairs}
        return self._first_seen[host]

    def open_push(self, entry: JournalEntry) -> None:
        self._pushes.setdefault((entry.engine_id, entry.image_id, entry.reference), entry)

    def close_push(self, entry: JournalEntry) -> None:
        self._pushes.pop((entry.engine_id, entry.image_id, entry.reference), None)

    def open_pushes(self, engine_id: str | None = None) -> Sequence[JournalEntry]:
        return [entry for entry in self._pushes.values() if engine_id in {None, entry.engine_id}]

    def set_last_pushed(self, engine_id: str, target: Target, digest: str) -> None:
        self._last_pushed.setdefault(engine_id, {})[target] = digest

    def last_pushed(self, engine_id: str) -> Mapping[Target, str]:
        return self._last_pushed.get(engine_id, {})

    def engine_of(self, host: str) -> str | None:
        return self._engines.get(host)

    def set_engine(self, host: str, engine_id: str) -> None:
        self._engines[host] = engine_id

    def forget_engine(self, host: str) -> None:
        self._engines.pop(host, None)

    def record(self, entry: AuditEntry) -> None:
        self._audit.append(entry)

    def history(self, image: str | None = None, limit: int = 100, *, actions: Collection[str] = ()) -> Sequence[AuditEntry]:
        return [entry for entry in reversed(self._audit) if image in {None, entry.image} and (not actions or entry.action in actions)][:limit]

    def set_error(self, target: Target, error: str, at: float) -> None:  # noqa: ARG002 - the time is kept for people
        self._errors[target] = error
        if not error:
            del self._errors[target]

    def errors(self) -> Mapping[Target, str]:
        return self._errors

    def lookups(self) -> Mapping[Lookup, Present[Held]]:
        return dict(self._lookups)

    def keep_lookups(self, found: Mapping[Lookup, Present[Held]], since: float) -> None:
        sizeless = {key: Present(replace(fact.value, size=0), fact.seen) for key, fact in found.items()}
        self._lookups = {key: fact for key, fact in (self._lookups | sizeless).items() if fact.seen >= since}

    def changes(self, repository: str | None = None) -> Sequence[AuditEntry]:
        told = [entry for entry in reversed(self._audit) if not entry.error and entry.action in _CHANGES]
        if repository is not None:
            return [entry for entry in told if entry.image.rpartition(":")[0] == repository]
        newest: dict[str, AuditEntry] = {}
        for entry in told:
            newest.setdefault(entry.image, entry)
        return list(newest.values())

    def hold(self, place: Target, at: float) -> None:
        self._held[place] = at

    def held_since(self) -> Mapping[Target, float]:
        return dict(self._held)

    def let_go(self, place: Target) -> None:
        self._held.pop(place, None)

    def bury(self, target: Target, stone: Tombstone) -> None:
        self._tombstones.setdefault(target, {})[stone.digest] = stone

    def exhume(self, target: Target, digest: str) -> None:
        self._tombstones.get(target, {}).pop(digest, None)
        if not self._tombstones.get(target, True):
            del self._tombstones[target]

    def tombstones(self) -> Mapping[Target, Sequence[Tombstone]]:
        return {target: [stones[digest] for digest in sorted(stones)] for target, stones in self._tombstones.items()}

    def gate(self, address: str) -> Gate:
        return RegistryGate(self._gates, address) if self._gates else OPEN

    def last_sweep(self) -> float | None:
        return self._swept

    def set_last_sweep(self, at: float) -> None:
        self._swept = at

    def transitions(
        self, seen: Mapping[tuple[str, str], Mapping[str, str]], now: float, *, keep: bool = True
    ) -> Mapping[tuple[str, str], Mapping[str, float]]:
        found: dict[tuple[str, str], dict[str, tuple[str, float]]] = {}
        for key, conditions in seen.items():
            was = self._conditions.get(key, {})
            found[key] = {
                kind: (status, min(was[kind][1], now) if kind in was and was[kind][0] == status else now) for kind, status in conditions.items()
            }
        if not keep:
            found = {key: said for key, said in found.items() if key in self._conditions}
        self._conditions = found if keep else self._conditions
        return {key: {kind: at for kind, (_, at) in said.items()} for key, said in found.items()}
