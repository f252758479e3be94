"""What the imperative doors for scripts do: one image, the same plan, guards and laws as `wharf apply`."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Console
from rich.text import Text

from controller.cli.errors import Exit, complaints, unreachable
from controller.cli.loop import run_to_end
from controller.cli.progress import progress_on
from controller.cli.tables import HELD_SIGN, HELD_STYLE
from controller.domain.actions import HeldBack, Kind, Plan, Reason, image_of
from controller.domain.desired import Desired
from controller.engine.apply import Outcome
from controller.engine.doors import part
from controller.engine.reconcile import Look
from controller.wiring.setup import Setup
from controller.wiring.state import locked
from controller.wiring.world import open_world


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
        return unreachable(look.seen.unreachable)
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
