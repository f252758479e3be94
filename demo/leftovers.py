"""What a demo that was killed left behind: its servers, known by their recorded ids, their bridges and mounts, its folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.support import bridge


def remove_leftovers(home: Path) -> None:
    """End every server that runs with data below `home`, unmount what it mounted, remove the folder."""
    for pid in home.glob("*/pid"):
        _end(int(pid.read_text()), str(home))
    for name in home.glob("*/bridge"):
        bridge.remove(name.read_text())
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        place = line.split()[1]
        if place.startswith(f"{home}/"):
            subprocess.run(["umount", place], check=False)
    if home.exists():
        shutil.rmtree(home)


def _end(pid: int, home: str) -> None:
    """End a process, if that id still is the server of this folder and not somebody else by now."""
    deadline = time.monotonic() + 20
    number = signal.SIGTERM
    while _is_ours(pid, home):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        time.sleep(0.2)
        if time.monotonic() > deadline:
            number = signal.SIGKILL


def _is_ours(pid: int, home: str) -> bool:
    try:
        return home in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return False
