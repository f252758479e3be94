"""Child processes of the store's tests: each runs a few lines of Python, says `ready`, and is ended by its own process id."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534


@contextlib.contextmanager
def child(code: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `code` with sys.argv[1:] = arguments; it is killed at the end if it still runs."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[str]) -> str:
    """What the child prints next; "" when it has ended."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextlib.contextmanager
def unprivileged_folder() -> Iterator[Path]:
    """A folder of the user nobody; when the tests run as root they are nobody inside, because root is refused nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = os.geteuid() == 0
        if root:
            os.chown(folder, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o700)
