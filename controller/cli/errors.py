"""Exit codes, and errors as an operator reads them: no traceback ever reaches a person."""

from __future__ import annotations

from enum import IntEnum

from rich.console import Console


class Exit(IntEnum):
    """The exit codes of `wharf`; scripts rely on them."""

    OK = 0
    USAGE = 1
    NOT_CONVERGED = 2
    UNREACHABLE = 3


def complaints() -> Console:
    """Standard error for words to people: each on one line, however long, and nothing in them coloured by guess."""
    return Console(stderr=True, soft_wrap=True, highlight=False)
