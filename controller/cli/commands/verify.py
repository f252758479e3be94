"""`wharf verify`: says of each image whether it is whole in the registry, and brings again what is not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from controller.cli.errors import Exit, complaints
from controller.cli.loop import run_to_end
from controller.cli.options import FILES, OUTPUT, STATE
from controller.cli.printing import print_data
from controller.cli.verdicts import broken_row, lines_of, reading
from controller.domain.desired import DesiredImage, Patterns
from controller.domain.errors import InvalidReferenceError, UsageError
from controller.domain.ports.stores import Store
from controller.domain.reference import Target, parse
from controller.domain.spec import Mode
from controller.domain.texts import size
from controller.domain.verdict import Verdict
from controller.engine.repair import Repaired, Repairer
from controller.engine.scope import everything, listed
from controller.settings import files_or_default
from controller.wiring.registries import verifier_of
from controller.wiring.setup import Setup, read
from controller.wiring.state import locked, stored
from controller.wiring.world import open_world

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


@click.command()
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that the registry lists, held tags too, not only what the sets name.")
@click.option("--repair", is_flag=True, help="Bring what is broken again: from upstream, an archive or a host that still has it.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="MB", help="Read at most so many megabytes a second.")
@FILES
@STATE
@OUTPUT
def verify(
    images: tuple[str, ...], *, everything: bool, repair: bool, rate: float | None, files: tuple[Path, ...], state: str | None, output: str
) -> int:
    """Read all that the sets name in the registry, every byte, and hash it; IMAGE is a name of a set or a pattern. Deletes nothing, ever.

    Exit code 0: all is whole, or was made so; 2: something is broken; 1: a file or usage error; 3: the registry could not be reached.
    """
    wanted = Wanted(images, everything, repair, (rate or 0.0) * 1_000_000, output)
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
        print_data(_rows(done), wanted.output)
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


def _total(done: Verified) -> Text:
    broken = f"{done.broken} broken" if done.broken else "all whole"
    read_back = f"{size(done.bytes) or '0 B'} read in {done.seconds:.1f} s"
    return Text(f"{len(done.images)} image{'s' * (len(done.images) != 1)}, {broken}: {done.blobs} blobs, {read_back}.", "bold")


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
