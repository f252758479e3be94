"""`wharf plan`: what would be done, and what is held back."""

from __future__ import annotations

from pathlib import Path

import click

from controller.cli.looks import exit_code, look_at, show_look
from controller.cli.loop import run_to_end
from controller.cli.options import ALLOW, OUTPUT, PATHS, REFRESH, STATE
from controller.cli.saved import save
from controller.settings import files_or_default
from controller.wiring.setup import read


@click.command()
@PATHS
@STATE
@OUTPUT
@ALLOW
@REFRESH
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Save the plan, for `wharf apply --plan`.")
def plan(files: tuple[Path, ...], state: str | None, output: str, allow_deletes: int, *, refresh: bool, out: Path | None) -> int:
    """Show what `apply` would do, and what is held back and why. Changes nothing.

    Exit code 0: converged; 2: not; 1: a file or usage error; 3: the registry, or every host, could not be reached.
    """
    setup = read(files_or_default(files))
    look = run_to_end(look_at(setup, state, allow_deletes, refresh=refresh))
    show_look(look, output)
    if out is not None:
        save(out, setup.desired.wharf, setup.files, look.plan)
    return exit_code(look)
