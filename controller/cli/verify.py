"""`wharf verify`: says of each image whether it is whole in the registry, and brings again what is not."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

from controller.cli.errors import Exit, complaints
from controller.cli.loop import run_to_end
from controller.documents.dump import to_yaml
from controller.domain.desired import DesiredImage, Patterns
from controller.domain.errors import InvalidReferenceError, UsageError
from controller.domain.ports import Advance, Store
from controller.domain.reference import Target, parse
from controller.domain.spec import Mode
from controller.domain.texts import size
from controller.domain.verdict import Broken, Verdict
from controller.engine.repair import Repaired, Repairer
from controller.engine.scope import everything, listed
from controller.settings import files_or_default
from controller.wiring import Setup, locked, open_world, read, stored, verifier_of

Entries = Mapping[Target, tuple[DesiredImage, ...]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. `rate` is in bytes a second, 0 for no limit."""

    images: tuple[str, ...]
    everything: bool
    repair: bool
    rate: float
    output: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The whole run: each image as it is now, and of those that were tried to repair, what became of it."""

    images: tuple[Verdict, ...]
    repaired: Mapping[Target, Repaired]
    blobs: int
    bytes: int
    seconds: float

    @property
    def broken(self) -> int:
        """How many are not whole."""
        return sum(not verdict.whole for verdict in self.images)


def verify(files: tuple[Path, ...], state: str | None, wanted: Wanted) -> int:
    """`wharf verify`."""
    setup = read(files_or_default(files))
    if wanted.repair and setup.desired.mode is Mode.OBSERVE:
        raise UsageError("--repair writes to the registry, and spec.mode is Observe")
    console = Console(stderr=wanted.output != "table", soft_wrap=True, highlight=False)
    with (locked if wanted.repair else stored)(setup, state) as store:
        done = run_to_end(_work(setup, store, wanted, console))
    if not done.images:
        complaints().print("no set lists an image; --all reads what the registry lists" if not wanted.everything else "the registry is empty")
    if wanted.output == "table":
        console.print(_total(done))
    else:
        data = _rows(done)
        sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n" if wanted.output == "json" else to_yaml(data))
    return Exit.NOT_CONVERGED if done.broken else Exit.OK


async def _work(setup: Setup, store: Store, wanted: Wanted, console: Console) -> Verified:
    """Each image is told as soon as it is known: all of them may take hours."""
    began = time.monotonic()

    def tell(verdict: Verdict, repair: Repaired | None = None) -> None:
        if wanted.output == "table" and (verdict.whole or repair is not None or not wanted.repair):
            for line in lines_of(verdict, repair):
                console.print(line)

    async with open_world(setup, store, actor="verify") as reconciler:
        await reconciler.world.registry.ping()
        look, otherwise = (everything, "the registry has no such tag") if wanted.everything else (listed, "no set lists it; --all looks further")
        entries = _chosen(await look(reconciler.world, setup.desired), wanted.images, otherwise)
        with reading(console) as advance:
            verifier = verifier_of(reconciler.world.registry, wanted.rate, advance)
            images = {target: sorted({entry.image_set for entry in each}) for target, each in entries.items()}
            found = await verifier.verify(images, tell)
            repaired: dict[Target, Repaired] = {}
            if wanted.repair:
                repairer = Repairer(reconciler.world, setup.desired, verifier)
                for verdict in found:
                    if not verdict.whole:
                        repaired[verdict.target] = tried = await repairer.repair(verdict, entries[verdict.target])
                        tell(tried.now, tried)
        now = tuple(repaired[verdict.target].now if verdict.target in repaired else verdict for verdict in found)
        return Verified(now, repaired, verifier.blobs, verifier.bytes, time.monotonic() - began)


def _chosen(entries: Entries, names: tuple[str, ...], otherwise: str) -> Entries:
    """Those that were named, all without names; UsageError for a name that no image has."""
    chosen: dict[Target, tuple[DesiredImage, ...]] = {} if names else dict(entries)
    for name in names:
        found = {target: each for target, each in entries.items() if _named(target, each, name)}
        if not found:
            raise UsageError(f"{name}: {otherwise}")
        chosen |= found
    return chosen


def _named(target: Target, entries: tuple[DesiredImage, ...], name: str) -> bool:
    if name == str(target) or any(name == entry.name for entry in entries):
        return True
    try:
        return Patterns([name]).matches(*(entry.host_name for entry in entries), parse(str(target)))
    except InvalidReferenceError as error:
        raise UsageError(str(error)) from None


@contextmanager
def reading(console: Console) -> Iterator[Advance]:
    """A line that counts bytes on a terminal, nothing elsewhere."""
    columns = (TextColumn("reading"), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading", total=None)
        yield lambda count: progress.advance(task, count)


def _total(done: Verified) -> Text:
    broken = f"{done.broken} broken" if done.broken else "all whole"
    read_back = f"{size(done.bytes) or '0 B'} read in {done.seconds:.1f} s"
    return Text(f"{len(done.images)} image{'s' * (len(done.images) != 1)}, {broken}: {done.blobs} blobs, {read_back}.", "bold")


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


def _rows(done: Verified) -> dict[str, Any]:
    """`verify -o json`: each image, then the totals."""
    images = [_row(verdict, done.repaired.get(verdict.target)) for verdict in done.images]
    total = {"images": len(images), "broken": done.broken, "blobs": done.blobs, "bytes": done.bytes, "seconds": round(done.seconds, 3)}
    return {"images": images, "total": total}


def _row(verdict: Verdict, repaired: Repaired | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "image": str(verdict.target),
        "imageSets": list(verdict.sets),
        "digest": verdict.digest or None,
        "bytes": verdict.bytes,
        "whole": verdict.whole,
        "broken": [broken_row(broken) for broken in verdict.broken],
    }
    if repaired is not None:
        row["repair"] = {
            "was": [broken_row(broken) for broken in repaired.was.broken],
            "done": list(repaired.done),
            "failed": list(repaired.failed),
            "digestChanged": repaired.changed,
        }
    return row


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
