"""Timing: the contenders take turns, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import gc
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Row:
    """One contender: the wall-clock seconds of each of its turns, and what was counted beside."""

    name: str
    seconds: list[float] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The median of its turns, in seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Result:
    """One benchmark. `aim` is what the project wants, in words; the ratios are against the first row, which is ours."""

    name: str
    what: str
    aim: str
    rows: tuple[Row, ...]

    def lines(self) -> list[str]:
        """As a table in Markdown."""
        ours = self.rows[0].median
        lines = [f"## {self.name}", "", f"{self.what} Aim: {self.aim}.", "", "| | median s | least s | times ours | |", "|---|--:|--:|--:|---|"]
        for row in self.rows:
            notes = ", ".join(f"{name} {value}" for name, value in row.notes.items())
            lines.append(f"| {row.name} | {row.median:.3f} | {min(row.seconds):.3f} | {row.median / ours:.2f} | {notes} |")
        return [*lines, ""]


def in_turns(contenders: Mapping[str, Callable[[], Mapping[str, str]]], turns: int) -> tuple[Row, ...]:
    """Run each contender once unmeasured, then in turns; what it gives is noted beside its time, from its last turn."""
    rows = {name: Row(name) for name in contenders}
    for turn in range(turns + 1):
        for name, contender in contenders.items():
            gc.collect()  # Nobody pays for what another one left.
            began = time.perf_counter()
            notes = contender()
            took = time.perf_counter() - began
            if turn:
                rows[name].seconds.append(took)
            rows[name].notes.update(notes)
    return tuple(rows.values())


def processor_seconds(pid: int) -> float:
    """What a process has used of the processors so far (proc(5), stat: utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def own_processor_seconds(*, children: bool = False) -> float:
    """The same of this process, or of all its children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(command: list[str]) -> None:
    """Run a command to its end; RuntimeError with its last words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}")
