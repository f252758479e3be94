"""The imperative doors for scripts: `wharf push` and `wharf pull`. One image, the same plan, guards and laws as `wharf apply`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from rich.console import Console
from rich.text import Text

from controller.cli.errors import Exit
from controller.cli.loop import run_to_end
from controller.cli.progress import ending, progress_on
from controller.cli.tables import HELD_SIGN, HELD_STYLE
from controller.domain.actions import HeldBack, Kind, Plan, Reason
from controller.domain.desired import Desired
from controller.engine.apply import Outcome
from controller.engine.doors import bringing_back, part, pulling, pushing
from controller.engine.reconcile import Look
from controller.settings import files_or_default
from controller.wiring import locked, open_world, read


def push(files: tuple[Path, ...], state: str | None, image: str, host: str) -> int:
    """`wharf push`."""
    return through(files, state, "push", lambda desired: pushing(desired, image, host), {Kind.COPY, Kind.PUSH})


def pull(files: tuple[Path, ...], state: str | None, image: str, host: str | None, platforms: tuple[str, ...]) -> int:
    """`wharf pull`."""
    if host is not None:
        return through(files, state, "pull", lambda desired: bringing_back(desired, image, host), {Kind.PULL})
    return through(files, state, "pull", lambda desired: pulling(desired, image, platforms), {Kind.COPY})


def through(files: tuple[Path, ...], state: str | None, actor: str, ask: Callable[[Desired], Desired], kinds: Collection[Kind]) -> int:
    """Look for what one command asks, do these kinds of its plan, and say what became of it."""
    setup = read(files_or_default(files))
    desired = ask(setup.desired)
    console = Console(soft_wrap=True, highlight=False)

    async def work() -> tuple[Look, Plan, tuple[Outcome, ...]]:
        with locked(setup, state) as store:
            async with open_world(setup, store, actor=actor) as reconciler:
                await reconciler.recover()
                look = await reconciler.look(desired)
                todo = part(look.plan, kinds)
                with progress_on(console, len(todo.actions)) as progress:
                    return look, todo, await reconciler.apply(look, progress, only=todo)

    return _told(console, *run_to_end(work()))


def _told(console: Console, look: Look, todo: Plan, outcomes: tuple[Outcome, ...]) -> int:
    said = Console(stderr=True, soft_wrap=True, highlight=False)
    if look.seen.unreachable:
        said.print(f"error: {look.seen.unreachable}", style="red")
        return Exit.UNREACHABLE
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        said.print(ending(outcome))
    blocking = [held for held in todo.held_back if held.reason is not Reason.KEPT]
    for held in blocking:
        said.print(_held(held))
    if failed or blocking:
        return Exit.NOT_CONVERGED
    if not outcomes:
        for image in (image for each in look.sets for image in each.images):
            console.print(f"{image.name}: nothing to do, the registry has it as {image.digest}", style="green")
    return Exit.OK


def _held(held: HeldBack) -> Text:
    place = f" on {held.host}" if held.host else ""
    return Text.assemble((f"{HELD_SIGN} {held.action.lower()} {held.image}{place} {held.reason}", HELD_STYLE), f": {held.message}")
