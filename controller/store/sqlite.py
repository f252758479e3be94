"""The store as one SQLite file: quick, embedded, and durable before a tag is made."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controller.domain.errors import UsageError
from controller.domain.observation import Held, Lookup, Present, Tombstone
from controller.domain.ports.stores import AuditEntry, JournalEntry
from controller.domain.reference import Target
from controller.store.gate import RegistryGate
from controller.store.schema import CHANGES, open_to_read, open_to_write, transaction

_AUDIT = "at, actor, action, image, host, reason, before, after, bytes, seconds, error"


class SqliteStore:
    """Fulfils `domain.ports.stores.Store`. Safe to use from several threads; readers and one controller may have the file open at once.

    Every method raises UsageError when the file can't be used: corrupt, of a newer wharf, of another program, not writable, the disk full.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or make the file; nothing of it is ever thrown away.

        With `read_only` it is neither made nor changed: `first_seen` and `set_engine` answer and keep nothing, the other writes are refused.
        """
        self._path = path
        self._read_only = read_only
        self._guard = threading.RLock()
        with self._errors_told():
            self._db = open_to_read(path) if read_only else open_to_write(path)

    def close(self) -> None:
        """Close the file."""
        with self._guard:
            self._db.close()

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            words = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageError(
                f"the state file {self._path} can't be used: {words}. Mend it, or name another one with --state; wharf never deletes it"
            ) from None

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if self._read_only:
            raise UsageError(f"the state file {self._path} was opened for reading only")
        with self._guard, self._errors_told(), transaction(self._db):
            yield self._db

    def _write(self, statement: str, values: Sequence[object]) -> None:
        with self._writing() as db:
            db.execute(statement, values)

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._guard, self._errors_told():
            return self._db.execute(query, values).fetchall()

    # First seen.

    def first_seen(self, host: str, pairs: Iterable[tuple[str, str]], now: float) -> Mapping[tuple[str, str], float]:
        """When each (image Id, tag) of a host was seen first; what is no more there is forgotten, so that a return counts anew.

        Never later than now: when the clock was set back, the grace period begins again instead of lasting until the old time returns.
        """
        wanted = list(dict.fromkeys(pairs))
        if self._read_only:
            return _earliest(wanted, self._first_seen_of(host), now)
        with self._writing() as db:
            known = self._first_seen_of(host)
            seen = _earliest(wanted, known, now)
            gone = [(host, *pair) for pair in known if pair not in seen]
            changed = [(host, *pair, since) for pair, since in seen.items() if known.get(pair) != since]
            db.executemany("DELETE FROM first_seen WHERE host = ? AND image_id = ? AND tag = ?", gone)
            db.executemany("INSERT OR REPLACE INTO first_seen VALUES (?, ?, ?, ?)", changed)
        return seen

    def _first_seen_of(self, host: str) -> dict[tuple[str, str], float]:
        rows = self._rows("SELECT image_id, tag, at FROM first_seen WHERE host = ?", (host,))
        return {(str(image_id), str(tag)): float(str(at)) for image_id, tag, at in rows}

    # Push journal.

    def open_push(self, entry: JournalEntry) -> None:
        """Journal a tag before it is made. One that is open already keeps saying whether the tag was there before us."""
        row = (entry.engine_id, entry.reference, entry.image_id, entry.host, int(entry.existed))
        self._write("INSERT OR IGNORE INTO push_journal VALUES (?, ?, ?, ?, ?)", row)

    def close_push(self, entry: JournalEntry) -> None:
        """The tag is gone again, or was never ours."""
        key = (entry.engine_id, entry.reference, entry.image_id)
        self._write("DELETE FROM push_journal WHERE engine_id = ? AND reference = ? AND image_id = ?", key)

    def open_pushes(self, engine_id: str | None = None) -> Sequence[JournalEntry]:
        """What is journalled, of one engine or of all."""
        query = "SELECT host, engine_id, image_id, reference, existed FROM push_journal WHERE ? IS NULL OR engine_id = ?"
        rows = self._rows(query, (engine_id, engine_id))
        return [JournalEntry(str(h), str(e), str(i), str(r), bool(existed)) for h, e, i, r, existed in rows]

    # What was pushed, and engines.

    def set_last_pushed(self, engine_id: str, target: Target, digest: str) -> None:
        """This engine's image is what the registry's tag meant at that time."""
        if not self._read_only:
            self._write("INSERT OR REPLACE INTO last_pushed VALUES (?, ?, ?, ?)", (engine_id, target.repository, target.tag, digest))

    def last_pushed(self, engine_id: str) -> Mapping[Target, str]:
        """By target, the digest that this engine last pushed or pulled."""
        rows = self._rows("SELECT repository, tag, digest FROM last_pushed WHERE engine_id = ?", (engine_id,))
        return {Target(str(repository), str(tag)): str(digest) for repository, tag, digest in rows}

    def engine_of(self, host: str) -> str | None:
        """The engine ID that a host's name was first seen with; None: not seen yet, or forgotten."""
        rows = self._rows("SELECT engine_id FROM engines WHERE host = ?", (host,))
        return str(rows[0][0]) if rows else None

    def set_engine(self, host: str, engine_id: str) -> None:
        """From now on this name means this engine."""
        if not self._read_only:
            self._write("INSERT OR REPLACE INTO engines VALUES (?, ?)", (host, engine_id))

    def forget_engine(self, host: str) -> None:
        """The next look takes what is there."""
        self._write("DELETE FROM engines WHERE host = ?", (host,))

    # Errors and the audit trail.

    def set_error(self, target: Target, error: str, at: float) -> None:
        """The last error of an image; "" clears it."""
        if error:
            self._write("INSERT OR REPLACE INTO errors VALUES (?, ?, ?, ?)", (target.repository, target.tag, error, at))
        else:
            self._write("DELETE FROM errors WHERE repository = ? AND tag = ?", (target.repository, target.tag))

    def errors(self) -> Mapping[Target, str]:
        """The last error of each image that has one."""
        rows = self._rows("SELECT repository, tag, error FROM errors")
        return {Target(str(repository), str(tag)): str(error) for repository, tag, error in rows}

    def record(self, entry: AuditEntry) -> None:
        """Append to the audit trail."""
        row = (
            entry.at, entry.actor, entry.action, entry.image, entry.host, entry.reason, entry.before, entry.after,
            entry.bytes, entry.seconds, entry.error,
        )  # fmt: skip
        self._write(f"INSERT INTO audit ({_AUDIT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608 - a constant

    def history(self, image: str | None = None, limit: int = 100, *, actions: Collection[str] = ()) -> Sequence[AuditEntry]:
        """The newest entries first: of one image or of all, of these actions or of all."""
        asked = {"image": () if image is None else (image,), "action": tuple(actions)}
        which = " AND ".join(f"{column} IN ({', '.join('?' * len(values))})" for column, values in asked.items() if values) or "TRUE"
        query = f"SELECT {_AUDIT} FROM audit WHERE {which} ORDER BY id DESC LIMIT ?"  # noqa: S608 - constants
        values = [value for each in asked.values() for value in each]
        return [AuditEntry(*row) for row in self._rows(query, (*values, limit))]  # type: ignore[arg-type] # STRICT tables hold these types

    # What upstreams answered.

    def lookups(self) -> Mapping[Lookup, Present[Held]]:
        """What upstreams answered when they were last asked. Sizes are not kept."""
        rows = self._rows("SELECT source, platforms, digest, media_type, published, filtered, at FROM lookups")
        return {
            Lookup(str(source), tuple(str(platforms).split())): Present(
                Held(str(digest), str(media_type), published=str(published), filtered=bool(filtered)), float(str(at))
            )
            for source, platforms, digest, media_type, published, filtered, at in rows
        }

    def keep_lookups(self, found: Mapping[Lookup, Present[Held]], since: float) -> None:
        """Keep these answers, and none that is older than `since`; a store that is read only keeps nothing."""
        if self._read_only:
            return
        rows = [
            (key.source, " ".join(key.platforms), held.digest, held.media_type, held.published, int(held.filtered), fact.seen)
            for key, fact in found.items()
            for held in (fact.value,)
        ]
        with self._writing() as db:
            db.execute("DELETE FROM lookups WHERE at < ?", (since,))
            db.executemany("INSERT OR REPLACE INTO lookups VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def changes(self, repository: str | None = None) -> Sequence[AuditEntry]:
        """What put something under a tag or took it away, without failures, the newest first: of each image the newest one; of a repository all."""
        if repository is None:
            query = f"SELECT {_AUDIT} FROM audit WHERE id IN (SELECT max(id) FROM audit WHERE {CHANGES} GROUP BY image) ORDER BY id DESC"  # noqa: S608 - constants
            return [AuditEntry(*row) for row in self._rows(query)]  # type: ignore[arg-type] # as above
        query = f"SELECT {_AUDIT} FROM audit WHERE {CHANGES} AND image > ? AND image < ? ORDER BY id DESC"  # noqa: S608 - constants
        return [AuditEntry(*row) for row in self._rows(query, (f"{repository}:", f"{repository};"))]  # type: ignore[arg-type] # as above

    def gate(self, address: str) -> RegistryGate:
        """By files beside this one."""
        return RegistryGate(self._path.resolve().parent, address)

    # What is held, and what was deleted.

    def hold(self, place: Target, at: float) -> None:
        """A held tag counts from then; it is known before the tag is made."""
        self._write("INSERT OR REPLACE INTO held VALUES (?, ?, ?)", (place.repository, place.tag, at))

    def held_since(self) -> Mapping[Target, float]:
        """From when each held tag that is known counts."""
        rows = self._rows("SELECT repository, tag, since FROM held")
        return {Target(str(repository), str(tag)): float(str(since)) for repository, tag, since in rows}

    def let_go(self, place: Target) -> None:
        """The held tag is gone."""
        self._write("DELETE FROM held WHERE repository = ? AND tag = ?", (place.repository, place.tag))

    def bury(self, target: Target, stone: Tombstone) -> None:
        """This content is about to be deleted under that name, and shall not come back by itself."""
        row = (target.repository, target.tag, stone.digest, " ".join(sorted(stone.identities)), stone.at)
        self._write("INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?, ?, ?)", row)

    def exhume(self, target: Target, digest: str) -> None:
        """This content is there again, because somebody asked for it; nothing is written where it was not buried."""
        key = (target.repository, target.tag, digest)
        if self._rows("SELECT 1 FROM tombstones WHERE repository = ? AND tag = ? AND digest = ?", key):
            self._write("DELETE FROM tombstones WHERE repository = ? AND tag = ? AND digest = ?", key)

    def tombstones(self) -> Mapping[Target, Sequence[Tombstone]]:
        """What was deleted, by name."""
        found: dict[Target, list[Tombstone]] = {}
        for repository, tag, digest, identities, at in self._rows("SELECT repository, tag, digest, identities, at FROM tombstones"):
            stone = Tombstone(str(digest), frozenset(str(identities).split()), float(str(at)))
            found.setdefault(Target(str(repository), str(tag)), []).append(stone)
        return found

    def last_sweep(self) -> float | None:
        """When held tags were last looked over; None: never."""
        rows = self._rows("SELECT at FROM sweeps")
        return float(str(rows[0][0])) if rows else None

    def set_last_sweep(self, at: float) -> None:
        """They were looked over now."""
        self._write("INSERT OR REPLACE INTO sweeps VALUES (1, ?)", (at,))

    # Conditions.

    def transitions(
        self, seen: Mapping[tuple[str, str], Mapping[str, str]], now: float, *, keep: bool = True
    ) -> Mapping[tuple[str, str], Mapping[str, float]]:
        """By (set, image), since when each condition has the status that was seen now. One row an image, and only those that changed are written."""
        if self._read_only or not keep:
            known = self._conditions()
            return _since({key: conditions for key, conditions in seen.items() if key in known}, known, now)[0]
        with self._guard:
            known = self._conditions()
            since, rows = _since(seen, known, now)
            gone = known.keys() - seen.keys()
            if rows or gone:
                with self._writing() as db:
                    db.executemany("DELETE FROM conditions WHERE image_set = ? AND image = ?", gone)
                    db.executemany("INSERT OR REPLACE INTO conditions VALUES (?, ?, ?)", rows)
        return since

    def _conditions(self) -> dict[tuple[str, str], str]:
        return {(str(s), str(image)): str(said) for s, image, said in self._rows("SELECT image_set, image, said FROM conditions")}


def _since(
    seen: Mapping[tuple[str, str], Mapping[str, str]], known: Mapping[tuple[str, str], str], now: float
) -> tuple[dict[tuple[str, str], Mapping[str, float]], list[tuple[str, str, str]]]:
    """Since when, and the rows that have to be written; a time is never later than now, as in first_seen."""
    since: dict[tuple[str, str], Mapping[str, float]] = {}
    rows: list[tuple[str, str, str]] = []
    for key, conditions in seen.items():
        was: dict[str, list[Any]] = json.loads(known.get(key, "{}"))
        times = {kind: min(was[kind][1], now) if kind in was and was[kind][0] == status else now for kind, status in conditions.items()}
        since[key] = times
        said = {kind: [status, times[kind]] for kind, status in conditions.items()}
        if said != was:
            rows.append((*key, json.dumps(said)))
    return since, rows


def _earliest(pairs: Iterable[tuple[str, str]], known: Mapping[tuple[str, str], float], now: float) -> dict[tuple[str, str], float]:
    return {pair: min(known.get(pair, now), now) for pair in pairs}
