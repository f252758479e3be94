"""The state file itself: its schema, version by version, and how it is opened without harm to what is in it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from controller.domain.errors import UsageError
from controller.store.location import make_folder

_APPLICATION_ID = 0x77686172
"""`whar` in ASCII; SQLite keeps it in the file's header, so that another program's file is told from ours."""

_BUSY_SECONDS = 30
_WAL_TRIES = 100
_WAL_PAUSE = 0.02

CHANGES = "error = '' AND action IN ('Copy', 'Push', 'Import', 'Build', 'Restore', 'PullThrough', 'Delete')"
"""The entries of the audit trail that tell what a tag means; an index of the schema serves this very condition."""

_MIGRATIONS = (
    (
        f"PRAGMA application_id = {_APPLICATION_ID}",
        """CREATE TABLE first_seen (
            host TEXT NOT NULL, image_id TEXT NOT NULL, tag TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (host, image_id, tag)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE push_journal (
            engine_id TEXT NOT NULL, reference TEXT NOT NULL, image_id TEXT NOT NULL, host TEXT NOT NULL, existed INTEGER NOT NULL,
            PRIMARY KEY (engine_id, reference, image_id)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE last_pushed (
            engine_id TEXT NOT NULL, repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (engine_id, repository, tag)
        ) STRICT, WITHOUT ROWID""",
        "CREATE TABLE engines (host TEXT PRIMARY KEY, engine_id TEXT NOT NULL) STRICT, WITHOUT ROWID",
        """CREATE TABLE errors (
            repository TEXT NOT NULL, tag TEXT NOT NULL, error TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (repository, tag)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE audit (
            id INTEGER PRIMARY KEY, at REAL NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, image TEXT NOT NULL, host TEXT NOT NULL,
            reason TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, bytes INTEGER NOT NULL, seconds REAL NOT NULL, error TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX audit_by_image ON audit (image, id)",
    ),
    (
        """CREATE TABLE lookups (
            source TEXT NOT NULL, platforms TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, published TEXT NOT NULL,
            filtered INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (source, platforms)
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        "CREATE TABLE held (repository TEXT NOT NULL, tag TEXT NOT NULL, since REAL NOT NULL, PRIMARY KEY (repository, tag)) STRICT, WITHOUT ROWID",
        """CREATE TABLE tombstones (
            repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, identities TEXT NOT NULL, at REAL NOT NULL,
            PRIMARY KEY (repository, tag, digest)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE conditions (
            image_set TEXT NOT NULL, image TEXT NOT NULL, said TEXT NOT NULL, PRIMARY KEY (image_set, image)
        ) STRICT, WITHOUT ROWID""",
        "CREATE TABLE sweeps (id INTEGER PRIMARY KEY CHECK (id = 1), at REAL NOT NULL) STRICT",
        f"CREATE INDEX audit_of_changes ON audit (image, id) WHERE {CHANGES}",
    ),
)
"""The statements that bring the schema one version further each; only ever appended to."""


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open or make the state file, for this user alone, and bring its schema up to date.

    Raises UsageError for a file of a newer wharf or of another program, OSError or sqlite3.Error for one that can't be used.
    """
    make_folder(path.parent)
    with suppress(FileExistsError):
        # Only a file that is new is opened and closed here: POSIX drops all locks of a process on a file when it closes any descriptor of it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with _closed_on_error(_connect(f"{path.absolute().as_uri()}?mode=rw")) as db:
        with transaction(db, "DEFERRED"):
            _checked_version(db, path)  # Before the next line changes anything in a file that is not ours.
        _use_wal(db)
        db.execute("PRAGMA synchronous = FULL")  # A journal entry must be on the disk before the tag that it tells of is on an engine.
        db.execute("PRAGMA foreign_keys = ON")
        with transaction(db):
            _migrate(db, _checked_version(db, path))
        return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open the state file without changing it; one that is missing or of an older schema is read as a migrated copy in memory.

    Raises as open_to_write does.
    """
    version = 0
    source: sqlite3.Connection | None = None
    if path.exists():
        source = _connect(f"{path.absolute().as_uri()}?mode=ro")
        with _closed_on_error(source), transaction(source, "DEFERRED"):
            version = _checked_version(source, path)
        if version == len(_MIGRATIONS):
            return source
    with _closed_on_error(_connect(":memory:")) as copy:
        if source is not None:
            with closing(source):
                source.backup(copy)
        with transaction(copy):
            _migrate(copy, version)
        return copy


@contextmanager
def transaction(db: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """One transaction; IMMEDIATE takes the write lock at its start, so that nothing that it reads can change under it."""
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _connect(database: str) -> sqlite3.Connection:
    # Autocommit, so that transactions are ours to begin; the store's own lock lets several threads use the connection.
    return sqlite3.connect(database, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True)


def _use_wal(db: sqlite3.Connection) -> None:
    """Write-ahead log: readers don't wait for the controller, nor it for them.

    Two that make the file at once may refuse each other here, and SQLite's own busy time-out does not hold for this change.
    """
    for left in reversed(range(_WAL_TRIES)):
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not left or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(_WAL_PAUSE)
        else:
            return


@contextmanager
def _closed_on_error(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield db
    except BaseException:
        db.close()
        raise


def _checked_version(db: sqlite3.Connection, path: Path) -> int:
    """The schema version, 0 for a new file; UsageError when the file is not one that this wharf can use."""
    version, application = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("user_version", "application_id"))
    empty = db.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    if application != _APPLICATION_ID and not (empty and version == 0):
        raise UsageError(f"the state file {path} is the database of another program: name another one with --state")
    if version > len(_MIGRATIONS):
        raise UsageError(
            f"the state file {path} was written by a newer wharf (schema {version}, this one knows {len(_MIGRATIONS)}): "
            "use that version, or name another file with --state"
        )
    return version


def _migrate(db: sqlite3.Connection, version: int) -> None:
    for number, statements in enumerate(_MIGRATIONS[version:], version + 1):
        for statement in statements:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
