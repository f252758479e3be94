"""Exit codes, and errors as an operator reads them: no traceback ever reaches a person."""

from __future__ import annotations

from enum import IntEnum

from rich.console import Console
from rich.text import Text

from controller.domain.errors import WharfError


class Exit(IntEnum):
    """The exit codes of `wharf`; scripts rely on them."""

    OK = 0
    USAGE = 1
    NOT_CONVERGED = 2
    UNREACHABLE = 3


def complaints() -> Console:
    """Standard error for words to people: each on one line, however long, and nothing in them coloured by guess."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def unreachable(why: str) -> Exit:
    """Say why nothing could be reached, and give the exit code for that."""
    complaints().print(f"error: {why}", style="red")
    return Exit.UNREACHABLE


def complain(name: str, error: WharfError) -> None:
    """What is wrong with one image or archive, by its name."""
    said = str(error)
    words = said if name in said else f"{name}: {said}"
    complaints().print(Text.assemble(("error: ", "red"), words))


def note(words: str) -> None:
    """What a person should know, and that is no failure."""
    complaints().print(Text.assemble(("note: ", "yellow"), words))
