"""One controller for one Wharf, whatever happens to the last one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from controller.domain.errors import LockedError, UsageError
from controller.store.lock import ControllerLock
from tests.store.children import child, next_line, unprivileged_folder

HOLDER = """
import sys
from pathlib import Path
from controller.store.lock import ControllerLock
with ControllerLock(Path(sys.argv[1]), clock=lambda: 1_000_000_000.0):
    print("ready", flush=True)
    sys.stdin.read()
print("released", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_told_who_holds_it(tmp_path: Path) -> None:
    """LockedError says which process, since when, which file, and what to do."""
    path = tmp_path / "default.sqlite"
    with child(HOLDER, path) as holder:
        assert next_line(holder) == "ready"
        with pytest.raises(LockedError) as refused, ControllerLock(path):
            pass
        assert f"process {holder.pid} has held {path}.lock since 2001-09-09 01:46:40 UTC" in str(refused.value)
        assert f"kill {holder.pid}" in str(refused.value)


def test_a_killed_holder_frees_it(tmp_path: Path) -> None:
    """SIGKILL of the holder: the kernel frees the lock, and what it wrote into the file is overwritten."""
    path = tmp_path / "default.sqlite"
    with child(HOLDER, path) as holder:
        assert next_line(holder) == "ready"
        holder.kill()
        holder.wait()
        (tmp_path / "default.sqlite.lock").write_text("4194303 1970-01-01 00:00:00 UTC and more that an older version may have written\n")
        with ControllerLock(path, clock=lambda: 0.0):
            assert (tmp_path / "default.sqlite.lock").read_text() == f"{os.getpid()} 1970-01-01 00:00:00 UTC\n"


def test_leaving_frees_it(tmp_path: Path) -> None:
    """The next one may enter at once; the file stays, because removing it could let two processes in."""
    path = tmp_path / "default.sqlite"
    for _ in range(2):
        with ControllerLock(path):
            pass
    assert (tmp_path / "default.sqlite.lock").exists()


def test_it_holds_within_one_process_too(tmp_path: Path) -> None:
    """Two controllers in one process are two controllers; the refused one does not free the other's lock."""
    path = tmp_path / "default.sqlite"
    with ControllerLock(path):
        for _ in range(2):
            with pytest.raises(LockedError, match=f"process {os.getpid()} "), ControllerLock(path):
                pass


def test_two_names_of_one_state_file_are_one_lock(tmp_path: Path) -> None:
    """A symbolic link to the state file does not let a second controller in."""
    path = tmp_path / "default.sqlite"
    link = tmp_path / "link.sqlite"
    link.symlink_to(path)
    with ControllerLock(path), pytest.raises(LockedError), ControllerLock(link):
        pass


def test_missing_folders_are_made_for_this_user_alone(tmp_path: Path) -> None:
    """The lock is taken before the store is opened, so it makes the folders as the store does."""
    with ControllerLock(tmp_path / "a" / "b" / "default.sqlite"):
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "default.sqlite.lock")]
    assert modes == [0o700, 0o700, 0o600]


def test_a_folder_that_can_not_be_written_is_a_usage_error() -> None:
    """No permission: the error names the file and the option that mends it."""
    with unprivileged_folder() as folder:
        folder.chmod(0o500)
        with (
            pytest.raises(UsageError, match=r"default\.sqlite\.lock can't be taken: Permission denied.*--state"),
            ControllerLock(folder / "default.sqlite"),
        ):
            pass
