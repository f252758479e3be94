"""Where a Wharf's state lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import platformdirs


def state_file(option: Path | None, environment: Mapping[str, str], wharf: str) -> Path:
    """The state file: --state, else WHARF_STATE, else the platform's state folder. A folder gets one file for each Wharf."""
    named = option or (Path(environment["WHARF_STATE"]) if environment.get("WHARF_STATE") else None)
    if named is None:
        return platformdirs.user_state_path("wharfinger") / f"{wharf}.sqlite"
    return named / f"{wharf}.sqlite" if named.is_dir() else named
