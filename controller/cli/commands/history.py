"""`wharf history`: what was done, by whom, why, and what failed. Reads the state file only, so it works while a controller runs."""

from __future__ import annotations

from pathlib import Path

import click

from controller.cli.errors import Exit, complaints
from controller.cli.options import FILES, OUTPUT, STATE
from controller.cli.printing import print_data, table_console
from controller.cli.trail import audit_row, audit_table
from controller.domain.naming import target_named
from controller.settings import files_or_default
from controller.wiring.setup import read
from controller.wiring.state import stored


@click.command("history")
@click.argument("image", required=False)
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="At most so many, the newest.")
@OUTPUT
@FILES
@STATE
def history(image: str | None, limit: int, output: str, files: tuple[Path, ...], state: str | None) -> int:
    """Show what was done and what failed, the newest first: of IMAGE, or of all.

    IMAGE is a name as a set writes it, or as the registry has it. Reads the state file only, so it works while `wharf run` does.
    """
    setup = read(files_or_default(files))
    which = None if image is None else str(target_named(setup.desired, image))
    with stored(setup, state) as store:
        entries = store.history(which, limit)
    if output != "table":
        print_data([audit_row(entry) for entry in entries], output)
    elif entries:
        table_console().print(audit_table(entries, images=which is None))
    else:
        complaints().print(f"nothing was done yet{f' with {which}' if which else ''}, as far as is recorded")
    return Exit.OK
