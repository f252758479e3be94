"""Where a Wharf's state lies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs


def state_file(option: str | Path | None, environ: Mapping[str, str], wharf_name: str) -> Path:
    """The state file: --state, else WHARF_STATE, else the platform's state folder.

    A folder, or a text that ends with a slash, gets one file for each Wharf.
    """
    named = os.fspath(option or "") or environ.get("WHARF_STATE", "")
    if not named:
        return platformdirs.user_state_path("wharfinger") / f"{wharf_name}.sqlite"
    path = Path(named)
    return path / f"{wharf_name}.sqlite" if named.endswith("/") or path.is_dir() else path


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, all of them for this user alone; OSError when that fails."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
