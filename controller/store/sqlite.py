"""The store as one SQLite file: quick, embedded, and durable before a tag is made."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from controller.domain.errors import UsageError
from controller.domain.ports import AuditEntry, JournalEntry
from controller.domain.reference import Target

_MIGRATIONS = (
    """
    CREATE TABLE first_seen (
        host TEXT NOT NULL, image_id TEXT NOT NULL, tag TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (host, image_id, tag)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE push_journal (
        engine_id TEXT NOT NULL, reference TEXT NOT NULL, image_id TEXT NOT NULL, host TEXT NOT NULL, existed INTEGER NOT NULL,
        PRIMARY KEY (engine_id, reference, image_id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE last_pushed (
        engine_id TEXT NOT NULL, repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (engine_id, repository, tag)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE engines (host TEXT PRIMARY KEY, engine_id TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE errors (
        repository TEXT NOT NULL, tag TEXT NOT NULL, error TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (repository, tag)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, image TEXT NOT NULL, host TEXT NOT NULL,
        reason TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, bytes INTEGER NOT NULL, seconds REAL NOT NULL, error TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_by_image ON audit (image, id);
    """,
)
"""Each entry brings the schema one version further; only ever appended to."""

_AUDIT = "at, actor, action, image, host, reason, before, after, bytes, seconds, error"


class SqliteStore:
    """Fulfils `domain.ports.Store`. Safe to use from several threads; readers and one controller may have the file open at once."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises UsageError when it can't be used; nothing of it is ever thrown away."""
        self._path = path
        self._guard = threading.RLock()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        # FULL: a journal entry must be on the disk before the tag that it tells of is on an engine.
        self._db.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if version > len(_MIGRATIONS):
                raise UsageError(f"{self._path}: written by a newer wharf (schema {version}, this one knows {len(_MIGRATIONS)}): use that one")
            for number, script in enumerate(_MIGRATIONS[version:], version + 1):
                for statement in filter(str.strip, script.split(";")):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {number}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction, which takes the write lock at its start: nothing that it read can change under it."""
        with self._guard:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise self._unusable(error) from None
                raise

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._guard:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> UsageError:
        words = getattr(error, "strerror", None) or str(error)
        return UsageError(f"the state file {self._path} can't be used: {words}. Mend it, or name another one with --state; it is never deleted by itself")

    def close(self) -> None:
        """Close the file."""
        with self._guard:
            self._db.close()

    # First seen.

    def first_seen(self, host: str, pairs: Iterable[tuple[str, str]], now: float) -> Mapping[tuple[str, str], float]:
        """When each (image Id, tag) of a host was seen first; what is no more there is forgotten, so that a return counts anew."""
        wanted = list(dict.fromkeys(pairs))
        known = self._first_seen_of(host)
        new = [pair for pair in wanted if pair not in known]
        gone = known.keys() - set(wanted)
        if new or gone:
            with self._transaction() as db:
                db.executemany("INSERT OR IGNORE INTO first_seen VALUES (?, ?, ?, ?)", [(host, *pair, now) for pair in new])
                db.executemany("DELETE FROM first_seen WHERE host = ? AND image_id = ? AND tag = ?", [(host, *pair) for pair in gone])
        # A clock that was set back must not make a grace period end sooner or never: nothing was first seen after now.
        return {pair: min(known.get(pair, now), now) for pair in wanted}

    def _first_seen_of(self, host: str) -> dict[tuple[str, str], float]:
        rows = self._rows("SELECT image_id, tag, at FROM first_seen WHERE host = ?", (host,))
        return {(str(image_id), str(tag)): float(str(at)) for image_id, tag, at in rows}

    # Push journal.

    def open_push(self, entry: JournalEntry) -> None:
        """Journal a tag before it is made. One that is open already keeps saying whether the tag was there before us."""
        row = (entry.engine_id, entry.reference, entry.image_id, entry.host, int(entry.existed))
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO push_journal VALUES (?, ?, ?, ?, ?)", row)

    def close_push(self, entry: JournalEntry) -> None:
        """The tag is gone again, or was never ours."""
        with self._transaction() as db:
            key = (entry.engine_id, entry.reference, entry.image_id)
            db.execute("DELETE FROM push_journal WHERE engine_id = ? AND reference = ? AND image_id = ?", key)

    def open_pushes(self, engine_id: str | None = None) -> Sequence[JournalEntry]:
        """What is journalled, of one engine or of all."""
        query = "SELECT host, engine_id, image_id, reference, existed FROM push_journal WHERE ? IS NULL OR engine_id = ?"
        rows = self._rows(query, (engine_id, engine_id))
        return [JournalEntry(str(h), str(e), str(i), str(r), bool(existed)) for h, e, i, r, existed in rows]

    # What was pushed, and engines.

    def set_last_pushed(self, engine_id: str, target: Target, digest: str) -> None:
        """This engine's image is what the registry's tag meant at that time."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO last_pushed VALUES (?, ?, ?, ?)", (engine_id, target.repository, target.tag, digest))

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
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO engines VALUES (?, ?)", (host, engine_id))

    def forget_engine(self, host: str) -> None:
        """The next look takes what is there."""
        with self._transaction() as db:
            db.execute("DELETE FROM engines WHERE host = ?", (host,))

    # Errors and the audit trail.

    def set_error(self, target: Target, error: str, at: float) -> None:
        """The last error of an image; "" clears it."""
        with self._transaction() as db:
            if error:
                db.execute("INSERT OR REPLACE INTO errors VALUES (?, ?, ?, ?)", (target.repository, target.tag, error, at))
            else:
                db.execute("DELETE FROM errors WHERE repository = ? AND tag = ?", (target.repository, target.tag))

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
        with self._transaction() as db:
            db.execute(f"INSERT INTO audit ({_AUDIT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608 - a constant

    def history(self, image: str | None = None, limit: int = 100) -> Sequence[AuditEntry]:
        """The newest entries first."""
        query = f"SELECT {_AUDIT} FROM audit WHERE ? IS NULL OR image = ? ORDER BY id DESC LIMIT ?"  # noqa: S608 - a constant
        return [AuditEntry(*row) for row in self._rows(query, (image, image, limit))]  # type: ignore[arg-type] # STRICT tables hold these types
