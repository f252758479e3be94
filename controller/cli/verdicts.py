"""What was read in the registry, and whether it is whole: lines for people, plain data for programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

from controller.domain.ports.registries import Advance
from controller.domain.texts import size
from controller.domain.verdict import Broken, Verdict
from controller.engine.repair import Repaired


@contextmanager
def reading(console: Console) -> Iterator[Advance]:
    """A line that counts bytes on a terminal, nothing elsewhere."""
    columns = (TextColumn("reading"), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading", total=None)
        yield lambda count: progress.advance(task, count)


def lines_of(verdict: Verdict, repaired: Repaired | None = None) -> Iterator[Text]:
    """One image for people: whether it is whole, else what is not, and what became of it."""
    at_urls = f", {verdict.at_urls} layer(s) left at their urls not read" if verdict.at_urls else ""
    if verdict.whole:
        yield Text.assemble(
            ("✓ ", "green"), f"{verdict.target}  ", (f"whole{' again' * (repaired is not None)}", "green"), f"  {size(verdict.bytes)}{at_urls}"
        )
    else:
        yield Text.assemble(("✗ ", "red"), f"{verdict.target}  ", ("broken", "red"), f"  {len(verdict.broken)} part(s){at_urls}")
    for broken in (repaired.was if repaired else verdict).broken:
        yield Text.assemble("    ", (_words(broken), "yellow" if verdict.whole else "red"))
    if repaired is None:
        return
    for said in repaired.done:
        yield Text.assemble("    ", ("repaired: ", "green"), said)
    for said in repaired.failed:
        yield Text.assemble("    ", ("not repaired: " if not verdict.whole else "no help: ", "magenta"), said)
    if repaired.changed:
        yield Text.assemble("    ", ("DigestChanged", "magenta"), f": the tag meant {repaired.was.digest} and means {verdict.digest}")


def _words(broken: Broken) -> str:
    which = f"{broken.part} {broken.digest}" if broken.digest else broken.part
    known = f" ({size(broken.size)})" if broken.size else ""
    return f"{which}{known}: {broken.found}: {broken.message}"


def broken_row(broken: Broken) -> dict[str, Any]:
    """A part that is broken, as plain data."""
    return {
        "part": str(broken.part),
        "digest": broken.digest or None,
        "bytes": broken.size,
        "repository": broken.repository,
        "found": str(broken.found),
        "message": broken.message,
    }
