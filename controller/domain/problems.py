"""Problems in desired-state files: each with its place, what was found and what was expected; all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controller.domain.errors import UsageError


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands. Lines and columns count from 1; `field` is its path in the file's words, such as spec.hosts[0].engine."""

    file: str
    line: int = 1
    column: int = 1
    field: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.file else "(no file)"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to mend. It reads like a compiler's line."""

    place: Place
    found: str
    expected: str

    def __str__(self) -> str:
        field = f" {self.place.field}:" if self.place.field else ""
        return f"{self.place}:{field} found {self.found}; expected {self.expected}"


class DocumentsError(UsageError):
    """Every problem of every file, in the files' order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        count = len(self.problems)
        heading = f"{count} problem{'s' * (count != 1)} in the desired state:"
        super().__init__("\n".join([heading, *(f"  {problem}" for problem in self.problems)]))
