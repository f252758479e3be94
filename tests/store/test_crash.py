"""A process that is killed in the middle of its writes loses nothing that it was told is kept."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from controller.store.sqlite import SqliteStore
from tests.store.children import child, next_line

JOURNALLING = """
import sys
from pathlib import Path
from controller.domain.ports.stores import JournalEntry
from controller.store.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
number = 0
while True:
    store.open_push(JournalEntry("local", "engine", "sha256:a", str(number), False))
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("written", [1, 2, 17, 64])
def test_a_journal_entry_survives_sigkill(tmp_path: Path, written: int) -> None:
    """Once open_push returned, the entry is there after SIGKILL, at whatever moment: the tag that it tells of may exist already."""
    path = tmp_path / "default.sqlite"
    with child(JOURNALLING, path) as process:
        for number in range(written):
            assert next_line(process) == str(number)
        process.kill()
        process.wait()
        assert process.stdout is not None
        told = [str(number) for number in range(written)] + process.stdout.read().split()
    left = path.read_bytes()
    with closing(SqliteStore(path, read_only=True)) as reader:
        assert {entry.reference for entry in reader.open_pushes()} >= set(told)
    assert path.read_bytes() == left, "reading only leaves even the clean-up to a controller"
    with closing(SqliteStore(path)) as store:
        kept = {entry.reference for entry in store.open_pushes()}
        assert kept >= set(told)
        assert len(kept) <= len(told) + 1, "at most the one that was being written"


HALFWAY = """
import sys
from pathlib import Path
from controller.store.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
store.first_seen("local", [("a", "x:1"), ("b", "x:2")], 1.0)
with store._writing() as db:
    db.execute("DELETE FROM first_seen")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_half_a_write_is_no_write(tmp_path: Path) -> None:
    """Killed between forgetting pairs and noting new ones, nothing is forgotten, and the next process does not wait for a dead one's lock."""
    path = tmp_path / "default.sqlite"
    with child(HALFWAY, path) as process:
        assert next_line(process) == "ready"
        process.kill()
        process.wait()
    with closing(SqliteStore(path)) as store:
        assert store.first_seen("local", [("a", "x:1"), ("b", "x:2")], 9.0) == {("a", "x:1"): 1.0, ("b", "x:2"): 1.0}
