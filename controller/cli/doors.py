"""The imperative doors for scripts: `wharf push` and `wharf pull`. One image, the same plan, guards and laws as `wharf apply`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rich.console import Console
from rich.text import Text

from controller.cli.errors import Exit, complaints
from controller.cli.loop import run_to_end
from controller.cli.progress import progress_on
from controller.cli.tables import HELD_SIGN, HELD_STYLE
from controller.domain.actions import HeldBack, Kind, Plan, Reason, image_of
from controller.domain.desired import Desired
from controller.engine.apply import Outcome
from controller.engine.doors import bringing_back, part, pulling, pushing
from controller.engine.reconcile import Look
from controller.settings import files_or_default
from controller.wiring import Setup, locked, open_world, read


def push(files: tuple[Path, ...], state: str | None, image: str, host: str) -> int:
    """`wharf push`."""
    setup = read(files_or_default(files))
    return through(setup, state, "push", pushing(setup.desired, image, host), {Kind.COPY, Kind.PUSH})


def pull(files: tuple[Path, ...], state: str | None, image: str, host: str | None, platforms: tuple[str, ...]) -> int:
    """`wharf pull`."""
    setup = read(files_or_default(files))
    if host is not None:
        return through(setup, state, "pull", bringing_back(setup.desired, image, host), {Kind.PULL})
    return through(setup, state, "pull", pulling(setup.desired, image, platforms), {Kind.COPY})


def through(setup: Setup, state: str | None, actor: str, desired: Desired, kinds: Collection[Kind]) -> int:
    """Look for what one command asks, do these kinds of its plan, and say what became of it."""
    console = complaints()

    async def work() -> tuple[Look, Plan, tuple[Outcome, ...]]:
        with locked(setup, state) as store:
            async with open_world(setup, store, actor=actor, fresh=True) as reconciler:
                await reconciler.recover()
                look = await reconciler.look(desired, part=True)
                todo = part(look.plan, kinds)
                with progress_on(console, len(todo.actions)) as progress:
                    return look, todo, await reconciler.apply(look, progress, only=todo)

    return _told(console, *run_to_end(work()))


def _told(console: Console, look: Look, todo: Plan, outcomes: tuple[Outcome, ...]) -> int:
    """What was reached goes to standard output, a line each; progress, failures and reasons went to standard error."""
    if look.seen.unreachable:
        console.print(f"error: {look.seen.unreachable}", style="red")
        return Exit.UNREACHABLE
    blocking = [held for held in todo.held_back if held.reason is not Reason.KEPT]
    for held in blocking:
        console.print(_held(held))
    if blocking or any(outcome.error for outcome in outcomes):
        return Exit.NOT_CONVERGED
    out = Console(soft_wrap=True, highlight=False)
    for outcome in outcomes:
        out.print(f"{image_of(outcome.action)} {outcome.digest}")
    if not outcomes:
        console.print("nothing to do: it is there already")
        for image in (image for each in look.sets for image in each.images):
            out.print(f"{image.name} {image.digest}")
    return Exit.OK


def _held(held: HeldBack) -> Text:
    place = f" on {held.host}" if held.host else ""
    return Text.assemble((f"{HELD_SIGN} {held.action.lower()} {held.image}{place} {held.reason}", HELD_STYLE), f": {held.message}")
