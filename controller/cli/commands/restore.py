"""`wharf restore`: what a tag meant before, back again; and the list of what there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from controller.cli.errors import Exit, complaints
from controller.cli.loop import run_to_end
from controller.cli.options import FILES, OUTPUT, STATE
from controller.cli.printing import print_data, table_console
from controller.cli.tables import grid
from controller.cli.times import local_time, utc_time
from controller.cli.trail import short
from controller.domain.actions import BRINGS, Copy, Delete
from controller.domain.errors import MovedError, NotFoundError, RefusedError, UsageError
from controller.domain.naming import target_named
from controller.domain.reference import Target
from controller.domain.restoring import Earlier, check_restorable, meant
from controller.domain.spec import Mode
from controller.domain.texts import size
from controller.engine.reconcile import Look
from controller.engine.restore import Restored, Restorer
from controller.settings import files_or_default
from controller.wiring.setup import Setup, read
from controller.wiring.state import locked, stored
from controller.wiring.world import open_world


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person says beside the image: by digest, by held tag, or only to see the list."""

    to: str | None
    held: str | None
    listing: bool


@click.command()
@click.argument("image")
@click.option("--to", metavar="DIGEST", help="What it shall mean: a manifest that the repository still has.")
@click.option("--held", metavar="TAG", help="The same by the tag that holds it, wharf-held-...")
@click.option("--list", "listing", is_flag=True, help="Only show what there is to restore. Changes nothing.")
@OUTPUT
@FILES
@STATE
def restore(image: str, to: str | None, held: str | None, *, listing: bool, output: str, files: tuple[Path, ...], state: str | None) -> int:
    """Give IMAGE back what it meant before it was overwritten, or before it was deleted. What it means now is held first.

    IMAGE is a name as a set writes it, or as the registry has it. Exit code 0: restored; 2: nothing, or several to choose from; 1: a file or usage
    error; 3: the registry could not be reached.
    """
    wanted = Wanted(to, held, listing)
    setup = read(files_or_default(files))
    target = target_named(setup.desired, image)
    if wanted.listing:
        if wanted.to or wanted.held:
            raise UsageError("--list shows all there is: say it without --to and --held")
        return _list(output, target, run_to_end(_earlier(setup, state, target)))
    check_restorable(setup.desired, target)
    if setup.desired.mode is Mode.OBSERVE:
        complaints().print(f"{target}: spec.mode is Observe, so nothing is restored")
        return Exit.NOT_CONVERGED
    try:
        candidates, done, look = run_to_end(_restore(setup, state, target, wanted))
    except (NotFoundError, RefusedError, MovedError) as error:
        complaints().print(Text.assemble((f"{target} was not restored", "red"), f": {error}"))
        return Exit.NOT_CONVERGED
    if done is None or look is None:
        return _to_choose(output, target, candidates)
    Console(soft_wrap=True, highlight=False).print(f"{target} {done.digest}")
    for line in (*_meant_before(target, done), *_comes_next(target, look)):
        complaints().print(line)
    return Exit.OK


async def _earlier(setup: Setup, state: str | None, target: Target) -> tuple[Earlier, ...]:
    with stored(setup, state) as store:
        async with open_world(setup, store, actor="restore") as reconciler:
            return await Restorer(reconciler.world).earlier(target)


async def _restore(setup: Setup, state: str | None, target: Target, wanted: Wanted) -> tuple[tuple[Earlier, ...], Restored | None, Look | None]:
    """What there was to choose from, what was restored, and how things stand then."""
    with locked(setup, state) as store:
        async with open_world(setup, store, actor="restore", fresh=True) as reconciler:
            restorer = Restorer(reconciler.world)
            candidates = () if wanted.to else await restorer.earlier(target)
            digest = meant(target, candidates, held=wanted.held, to=wanted.to)
            if not digest:
                return candidates, None, None
            done = await restorer.restore(target, digest)
            return candidates, done, await reconciler.look_at(setup.desired, target)


def _list(output: str, target: Target, candidates: Sequence[Earlier]) -> int:
    if output != "table":
        print_data([_row(each) for each in candidates], output)
    elif candidates:
        table_console().print(_table(candidates))
    else:
        complaints().print(f"nothing else is held in {target.repository}")
    return Exit.OK


def _to_choose(output: str, target: Target, candidates: Sequence[Earlier]) -> int:
    _list(output, target, candidates)
    if candidates:
        complaints().print(f"{target} was not restored: choose one, with --held {candidates[0].tag}, say, or with --to and its digest")
    return Exit.NOT_CONVERGED


def _row(each: Earlier) -> dict[str, Any]:
    return {
        "held": each.tag,
        "digest": each.digest,
        "bytes": each.bytes or None,
        "heldSince": utc_time(each.at),
        "images": list(each.images),
        "actor": each.actor or None,
        "action": each.action or None,
        "reason": each.reason or None,
    }


def _table(candidates: Sequence[Earlier]) -> Table:
    table = grid("held", "what", "size", "since", "was", "ended by")
    for each in candidates:
        ended = f"{each.action} by {each.actor}: {each.reason}" if each.action else "not recorded"
        since = local_time(each.at) if each.at else "not known"
        table.add_row(each.tag, short(each.digest), size(each.bytes), since, ", ".join(each.images) or "not recorded", ended)
    return table


def _meant_before(target: Target, done: Restored) -> Iterator[str]:
    if done.before == done.digest:
        yield "it meant that already"
    elif done.before:
        yield f"it meant {done.before}, which is held as {target.held(done.before).tag}"
    else:
        yield "it meant nothing"


def _comes_next(target: Target, look: Look) -> Iterator[Text]:
    """What a controller would do with it, as the files are now."""
    for action in look.plan.actions:
        if isinstance(action, Delete):
            yield Text.assemble(("note: ", "yellow"), f"the next pass deletes it again ({action.message}): list it in a set to keep it")
        elif isinstance(action, BRINGS):
            pin = f", list it by digest or under spec.immutableTags ({target.repository}:{target.tag})" if isinstance(action, Copy) else ""
            words = f"the next pass brings something else over it again ({action.kind} {action.reason}: {action.message}); to keep it, change that"
            yield Text.assemble(("note: ", "yellow"), f"{words}{pin}")
    for held in look.plan.held_back:
        if held.target == target:
            yield Text.assemble(("note: ", "yellow"), f"held back now: {held.action.lower()}, {held.reason}: {held.message}")
