"""`wharf status`: where every image is."""

from __future__ import annotations

from pathlib import Path

import click

from controller.cli.looks import exit_code, look_at
from controller.cli.loop import run_to_end
from controller.cli.options import OUTPUT, PATHS, REFRESH, STATE
from controller.cli.output import status_rows
from controller.cli.printing import print_data, table_console
from controller.cli.tables import show_age, show_pulls, show_status
from controller.domain.ports.stores import PULL_THROUGH
from controller.settings import files_or_default
from controller.wiring.setup import read
from controller.wiring.state import stored

_PULLS = 1000
"""Of what came from the internet, status looks at so many of the newest."""


@click.command()
@PATHS
@STATE
@OUTPUT
@REFRESH
def status(files: tuple[Path, ...], state: str | None, output: str, *, refresh: bool) -> int:
    """Show where every image is and what is wrong with it. Changes nothing; exit codes as `plan`."""
    setup = read(files_or_default(files))
    look = run_to_end(look_at(setup, state, 0, refresh=refresh))
    if output == "table":
        show_status(table_console(), look.sets)
        with stored(setup, state) as store:
            show_pulls(table_console(), setup.desired, store.history(actions={PULL_THROUGH}, limit=_PULLS))
        show_age(table_console(), look.seen)
    else:
        print_data(status_rows(look.sets), output)
    return exit_code(look)
