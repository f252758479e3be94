"""Exit codes, and errors as an operator reads them: no traceback ever reaches a person."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of `wharf`; scripts rely on them."""

    OK = 0
    USAGE = 1
    NOT_CONVERGED = 2
    UNREACHABLE = 3
