"""`wharf apply`: makes it right once."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from controller.cli.errors import Exit, complaints
from controller.cli.looks import exit_code, show_look
from controller.cli.loop import run_to_end
from controller.cli.options import ALLOW, CONFIRM, OUTPUT, PATHS, REFRESH, STATE
from controller.cli.output import plan_rows
from controller.cli.printing import print_data
from controller.cli.progress import ending, progress_on
from controller.cli.saved import exactly, read_saved
from controller.domain.errors import MovedError, UsageError
from controller.engine.apply import Outcome
from controller.engine.reconcile import Look
from controller.settings import files_or_default
from controller.wiring.setup import read
from controller.wiring.state import confirm_engines, locked
from controller.wiring.world import open_world


@click.command()
@PATHS
@STATE
@OUTPUT
@ALLOW
@CONFIRM
@REFRESH
@click.option(
    "--plan",
    "saved_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Do exactly this saved plan, or refuse because the world has moved.",
)
def apply(
    files: tuple[Path, ...],
    state: str | None,
    output: str,
    allow_deletes: int,
    confirm_engine: tuple[str, ...],
    saved_path: Path | None,
    *,
    refresh: bool,
) -> int:
    """Make it right once.

    Exit code 0: converged afterwards; 2: not (the table says which image and why); 1: a file or usage error; 3: nothing could be reached.
    """
    saved = read_saved(saved_path) if saved_path else None
    setup = read(files or saved.files if saved else files_or_default(files))
    if saved is not None and saved.wharf != setup.desired.wharf:
        raise UsageError(f"{saved_path} is a plan for the Wharf {saved.wharf!r}, the files hold {setup.desired.wharf!r}")
    console = Console(stderr=output != "table", highlight=False)

    async def work() -> tuple[Look, tuple[Outcome, ...]]:
        with locked(setup, state) as store:
            confirm_engines(setup, store, confirm_engine)
            async with open_world(setup, store, actor="apply", fresh=refresh) as reconciler:
                await reconciler.recover()
                look = await reconciler.look(setup.desired, allow_deletes=allow_deletes)
                todo = exactly(saved, look.plan) if saved else look.plan
                with progress_on(console, len(todo.actions)) as progress:
                    outcomes = await reconciler.apply(look, progress, only=todo)
                after = await reconciler.look(setup.desired, allow_deletes=allow_deletes) if outcomes else look
                if saved is None:
                    await reconciler.end(after)
                return after, outcomes

    try:
        after, outcomes = run_to_end(work())
    except MovedError as error:
        complaints().print(f"refused: {error}")
        return Exit.NOT_CONVERGED
    if output == "table":
        console.print()
        show_look(after, output)
    else:
        print_data(plan_rows(after.sets), output)
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        said = complaints()
        said.print(f"\n{len(failed)} of {len(outcomes)} failed:")
        for outcome in failed:
            said.print(ending(outcome))
    code = exit_code(after)
    return Exit.NOT_CONVERGED if failed and code == Exit.OK else code
