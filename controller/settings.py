"""What the surroundings decide: which files are read by default, and where the state lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from controller.domain.errors import UsageError

DEFAULT_FILES = (Path("desired-state.yaml"), Path("config/desired-state.yaml"))


def files_or_default(given: Sequence[Path]) -> tuple[Path, ...]:
    """The files to read: those given, else the first default that exists; UsageError when there is none."""
    if given:
        return tuple(given)
    for path in DEFAULT_FILES:
        if path.exists():
            return (path,)
    raise UsageError(
        f"no file given, and neither {DEFAULT_FILES[0]} nor {DEFAULT_FILES[1]} exists here: name one, or draft one with `wharf init --from-host`"
    )
