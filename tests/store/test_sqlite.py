"""The state file: who may read it, what is refused, and readers beside a writer."""

from __future__ import annotations

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from controller.domain.errors import UsageError
from controller.domain.ports.stores import AuditEntry, JournalEntry
from controller.domain.reference import Target
from controller.store.sqlite import SqliteStore
from tests.store.children import child, next_line, unprivileged_folder

KALI = Target("cyroid/kali", "1")
PUSH = JournalEntry("local", "engine-a", "sha256:a", "127.0.0.1:5000/cyroid/kali:1", existed=False)
DONE = AuditEntry(1.0, "run", "Push", str(KALI), "local", "OnHostOnly", "", "", 0, 0.0, "")


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_for_its_user_alone(tmp_path: Path) -> None:
    """Missing folders are made, every one 0700, the file and what SQLite puts beside it 0600: names of images are nobody else's business."""
    path = tmp_path / "a" / "b" / "default.sqlite"
    with closing(SqliteStore(path)) as store:
        store.open_push(PUSH)
        assert [mode(tmp_path / "a"), mode(tmp_path / "a" / "b")] == [0o700, 0o700]
        assert {each.name: mode(each) for each in path.parent.iterdir()} == dict.fromkeys(
            ["default.sqlite", "default.sqlite-wal", "default.sqlite-shm"], 0o600
        )


def test_a_commit_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    """synchronous = FULL in WAL mode: a power cut does not lose a journal entry whose tag exists already (sqlite.org/pragma.html)."""
    with closing(SqliteStore(tmp_path / "s")) as store:
        assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("content", [b"this is no database, but somebody may want it", b"SQLite format 3\0" + b"\xff" * 4096], ids=["text", "torn"])
def test_a_corrupt_file_is_refused_and_kept(tmp_path: Path, content: bytes, *, read_only: bool) -> None:
    """The error names the file and what to do; not one byte of it is changed."""
    path = tmp_path / "default.sqlite"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"default\.sqlite can't be used: .*--state"):
        SqliteStore(path, read_only=read_only)
    assert path.read_bytes() == content


def test_a_file_that_breaks_while_open_is_a_usage_error(tmp_path: Path) -> None:
    """A table that is lost under the controller is an error of the file with its name, no traceback of SQLite."""
    path = tmp_path / "default.sqlite"
    with closing(SqliteStore(path)) as store:
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP TABLE push_journal")
        with pytest.raises(UsageError, match="no such table"):
            store.open_pushes()
        with pytest.raises(UsageError, match="no such table"):
            store.open_push(PUSH)
        store.set_engine("local", "engine-a")  # The failed transaction is over: the rest still works.


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_schema_is_refused_and_kept(tmp_path: Path, *, read_only: bool) -> None:
    """An older wharf does not touch what it does not know."""
    path = tmp_path / "default.sqlite"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"default\.sqlite was written by a newer wharf \(schema 99, .*--state"):
        SqliteStore(path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
def test_the_database_of_another_program_is_refused_and_kept(tmp_path: Path, *, read_only: bool) -> None:
    """A --state that points at a wrong file must not put tables into it, nor turn it to WAL."""
    path = tmp_path / "places.sqlite"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"places\.sqlite is the database of another program"):
        SqliteStore(path, read_only=read_only)
    assert path.read_bytes() == before


def test_a_folder_that_can_not_be_written_is_a_usage_error() -> None:
    """No permission: the error names the file and the option that mends it."""
    with unprivileged_folder() as folder:
        folder.chmod(0o500)
        with pytest.raises(UsageError, match=r"default\.sqlite can't be used: Permission denied.*--state"):
            SqliteStore(folder / "default.sqlite")
        with pytest.raises(UsageError, match="Permission denied"):
            SqliteStore(folder / "deeper" / "default.sqlite")


def test_a_folder_in_place_of_the_file_is_a_usage_error(tmp_path: Path) -> None:
    """A directory is no state file."""
    with pytest.raises(UsageError, match="unable to open"):
        SqliteStore(tmp_path)


def test_read_only_makes_nothing(tmp_path: Path) -> None:
    """Looking at a Wharf that never ran leaves no trace, and reads as empty."""
    path = tmp_path / "a" / "default.sqlite"
    with closing(SqliteStore(path, read_only=True)) as store:
        assert (store.open_pushes(), store.errors(), store.history(), store.engine_of("local")) == ([], {}, [], None)
        assert store.first_seen("local", [("a", "x:1")], 5.0) == {("a", "x:1"): 5.0}
    assert not list(tmp_path.iterdir())


def test_read_only_answers_and_keeps_nothing(tmp_path: Path) -> None:
    """What a look asks is answered from the file; what it would note is not kept, and what only a controller writes is refused."""
    path = tmp_path / "default.sqlite"
    with closing(SqliteStore(path)) as writer:
        writer.first_seen("local", [("a", "x:1")], 1.0)
        with closing(SqliteStore(path, read_only=True)) as reader:
            assert reader.first_seen("local", [("a", "x:1"), ("b", "x:2")], 5.0) == {("a", "x:1"): 1.0, ("b", "x:2"): 5.0}
            assert reader.first_seen("local", [("b", "x:2")], 9.0) == {("b", "x:2"): 9.0}
            assert reader.transitions({("ranges", "x:1"): {"Ready": "True"}}, 5.0) == {}
            reader.set_engine("local", "engine-a")
            with pytest.raises(UsageError, match="for reading only"):
                reader.open_push(PUSH)
            with pytest.raises(UsageError, match="for reading only"):
                reader.record(DONE)
        assert writer.engine_of("local") is None
        assert writer.transitions({("ranges", "x:1"): {"Ready": "True"}}, 6.0) == {("ranges", "x:1"): {"Ready": 6.0}}
        assert writer.first_seen("local", [("a", "x:1")], 9.0) == {("a", "x:1"): 1.0}


def test_read_only_reads_an_older_schema_without_changing_it(tmp_path: Path) -> None:
    """A file that another process has made and not filled yet reads as empty; migrating it is the controller's."""
    path = tmp_path / "default.sqlite"
    path.touch()
    with closing(SqliteStore(path, read_only=True)) as reader:
        assert not reader.open_pushes()
    assert path.stat().st_size == 0


@pytest.mark.parametrize("read_only", [False, True])
def test_a_reader_never_waits_for_a_writer(tmp_path: Path, *, read_only: bool) -> None:
    """While the controller is in the middle of a write, `wharf plan` and `wharf status` read what was so before it."""
    path = tmp_path / "default.sqlite"
    with closing(SqliteStore(path)) as controller, closing(SqliteStore(path, read_only=read_only)) as reader:
        controller.open_push(PUSH)
        with controller._writing() as db:
            db.execute("DELETE FROM push_journal")
            reader._db.execute("PRAGMA busy_timeout = 0")  # A wait would be an error at once.
            assert list(reader.open_pushes()) == [PUSH]
        assert not reader.open_pushes()


WRITER = """
import sys
from pathlib import Path
from controller.domain.reference import Target
from controller.store.lock import ControllerLock
from controller.store.sqlite import SqliteStore
path = Path(sys.argv[1])
with ControllerLock(path):
    store = SqliteStore(path)
    for number in range(50):
        store.first_seen("local", [(str(number), "x:1")], float(number))
        store.set_error(Target("x", "1"), str(number), 0.0)
        print(number, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("read_only", [False, True])
def test_reading_beside_another_process_that_holds_the_lock(tmp_path: Path, *, read_only: bool) -> None:
    """What the controller's process has written is seen by a reading command, while the lock is held and writes go on."""
    path = tmp_path / "default.sqlite"
    with child(WRITER, path) as controller:
        for number in range(50):
            assert next_line(controller) == str(number)
            with closing(SqliteStore(path, read_only=read_only)) as reader:
                assert int(reader.errors()[Target("x", "1")]) >= number


OPENER = """
import sys
from pathlib import Path
from controller.domain.ports.stores import JournalEntry
from controller.store.sqlite import SqliteStore
print("ready", flush=True)
sys.stdin.readline()
SqliteStore(Path(sys.argv[1])).open_push(JournalEntry("local", "engine", "sha256:a", sys.argv[2], False))
"""


def test_two_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    """`wharf plan` beside the first `wharf run`: both find a whole schema, and neither takes the other's file for a stranger's."""
    for attempt in range(4):
        path = tmp_path / f"{attempt}.sqlite"
        with child(OPENER, path, "a") as first, child(OPENER, path, "b") as second:
            both = (first, second)
            assert [next_line(process) for process in both] == ["ready", "ready"]
            for process in both:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            assert [process.wait(60) for process in both] == [0, 0]
        with closing(SqliteStore(path)) as store:
            assert {entry.reference for entry in store.open_pushes()} == {"a", "b"}


def test_several_threads_share_one_store(tmp_path: Path) -> None:
    """The event loop's thread and worker threads write at once: nothing is lost, and no transaction is torn by another's."""
    with closing(SqliteStore(tmp_path / "s")) as store, ThreadPoolExecutor(8) as threads:

        def work(number: int) -> None:
            store.first_seen(f"host-{number % 4}", [(str(number), "x:1")], 1.0)
            store.record(DONE)

        list(threads.map(work, range(200)))
        assert len(store.history(limit=1000)) == 200


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """Used after close(), it is an error that names the file."""
    store = SqliteStore(tmp_path / "default.sqlite")
    store.close()
    with pytest.raises(UsageError, match="closed"):
        store.open_pushes()


def test_history_is_found_by_an_index(tmp_path: Path) -> None:
    """One image's history does not read the whole trail, which only ever grows."""
    with closing(SqliteStore(tmp_path / "s")) as store:
        asked: list[str] = []
        store._db.set_trace_callback(asked.append)
        store.history(str(KALI))
        store._db.set_trace_callback(None)
        (plan,) = store._db.execute(f"EXPLAIN QUERY PLAN {asked[0]}").fetchall()
        assert "SEARCH audit USING INDEX audit_by_image" in plan[3]


def test_of_ten_thousand_images_only_those_that_changed_are_written(tmp_path: Path) -> None:
    """A look at which nothing has changed writes nothing; one condition that has is one row."""
    with closing(SqliteStore(tmp_path / "s")) as store:
        seen = {("ranges", f"cyroid/image-{number}:1"): {"Ready": "True", "InRegistry": "True"} for number in range(10_000)}
        store.transitions(seen, 1.0)
        written = store._db.total_changes
        assert store.transitions(seen, 2.0)["ranges", "cyroid/image-7:1"] == {"Ready": 1.0, "InRegistry": 1.0}
        assert store._db.total_changes == written
        store.transitions({**seen, ("ranges", "cyroid/image-7:1"): {"Ready": "False", "InRegistry": "True"}}, 3.0)
        assert store._db.total_changes == written + 1


def test_changes_are_found_by_an_index(tmp_path: Path) -> None:
    """What each tag means was last changed by which entry: the trail, which only ever grows, is not read for it."""
    with closing(SqliteStore(tmp_path / "s")) as store:
        asked: list[str] = []
        store._db.set_trace_callback(asked.append)
        store.changes()
        store.changes("cyroid/kali")
        store._db.set_trace_callback(None)
        plans = [" ".join(row[3] for row in store._db.execute(f"EXPLAIN QUERY PLAN {each}").fetchall()) for each in asked]
        assert "INDEX audit_of_changes" in plans[0]
        assert "SEARCH audit USING INDEX" in plans[1]
