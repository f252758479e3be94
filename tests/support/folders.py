"""Dockerfile folders for tests: their files, and a shell for RUN that needs no base image."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from controller.domain.desired import BuildSource

PROGRAMS = ("sh", "cat", "echo", "seq", "sleep")


def folder(top: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files below a folder; it."""
    for name, content in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return top


def source_of(top: Path, files: Mapping[str, str | bytes], *, on: str = "local", **more: str) -> BuildSource:
    """A Dockerfile folder of these files."""
    return BuildSource(str(folder(top, files)), on, **more)  # type: ignore[arg-type] # its other fields are given as they are


def with_shell(top: Path) -> Path:
    """Put this machine's shell and its libraries into `shell/` of a folder, for `COPY shell /`."""
    for program in PROGRAMS:
        found = shutil.which(program)
        assert found is not None
        needed = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout.split()
        for path in (f"/bin/{program}", *(word for word in needed if word.startswith("/"))):
            copy = top / "shell" / path.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found if path == f"/bin/{program}" else Path(path).resolve(), copy)
    return top


def sleeping(word: str) -> bool:
    """Whether `sleep word` runs on this machine: a step of a build, seen from outside."""
    found = False
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found = found or path.read_bytes().split(b"\0")[:2] == [b"sleep", word.encode()]
        except OSError:
            continue  # It ended in this moment.
    return found
