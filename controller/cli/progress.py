"""Progress of an apply: bars on a terminal, one line an event elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.text import Text

from controller.cli.tables import SIGNS, STYLES
from controller.domain.actions import Action, HeldBack, image_of
from controller.domain.ports.registries import Advance
from controller.domain.texts import size
from controller.engine.apply import Outcome


def words(action: Action) -> str:
    """The action in one line: `^ push cyroid/kali:latest from local`."""
    place = {"Push": f" from {action.host}", "Evict": f" from {action.host}"}.get(action.kind, "")
    return f"{SIGNS[action.kind]} {action.kind.lower()} {image_of(action)}{place}"


def ending(outcome: Outcome) -> Text:
    """The line that says how an action ended."""
    if outcome.error:
        return Text.assemble(("✗ ", "red"), words(outcome.action), ": ", (outcome.error, "red"))
    moved = f"{size(outcome.bytes)} in " if outcome.bytes else ""
    instead = f" (by a stream, as it could not pull it: {outcome.instead})" if outcome.instead else ""
    return Text.assemble(("✓ ", "green"), (words(outcome.action), STYLES[outcome.action.kind]), f"  {moved}{outcome.seconds:.1f} s{instead}")


def held_words(held: HeldBack) -> str:
    """What is held back, in one line."""
    place = f" on {held.host}" if held.host else ""
    return f"held back: {held.action.lower()} {held.image}{place}: {held.reason}: {held.message}"


class LineProgress:
    """One line for each action that ended: for files, pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def started(self, action: Action) -> None:
        """Nothing: the end says it all, and big images say both."""

    def advanced(self, action: Action, count: int) -> None:
        """Nothing: bytes are for bars."""

    def finished(self, outcome: Outcome) -> None:
        """Print how it ended."""
        self._console.print(ending(outcome), soft_wrap=True, highlight=False)


class BarProgress:
    """A bar for each action under way, and a count of those that ended."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._bars = Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console, transient=True)
        self._total, self._done = total, 0
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def started(self, action: Action) -> None:
        """Open its bar."""
        self._tasks[id(action)] = self._bars.add_task(words(action), total=action.bytes or None)

    def advanced(self, action: Action, count: int) -> None:
        """Move its bar."""
        task = self._tasks.get(id(action))
        if task is not None:
            self._bars.advance(task, count)

    def finished(self, outcome: Outcome) -> None:
        """Close its bar, and print how it ended above the others."""
        task = self._tasks.pop(id(outcome.action), None)
        if task is not None:
            self._bars.remove_task(task)
        self._done += 1
        self._bars.console.print(Text.assemble((f"[{self._done}/{self._total}] ", "dim"), ending(outcome)), soft_wrap=True, highlight=False)


def progress_on(console: Console, total: int) -> LineProgress | BarProgress:
    """Bars where they can be drawn."""
    return BarProgress(console, total) if console.is_terminal else LineProgress(console)


@contextmanager
def byte_bar(path: str) -> Iterator[Advance]:
    """A bar on a terminal, nothing elsewhere: the lines say it all."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    total = Path(path).stat().st_size if path != "-" and Path(path).is_file() else None
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(path, total=total)
        yield lambda count: bars.advance(task, count)
