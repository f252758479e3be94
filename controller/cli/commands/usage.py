"""`wharf usage`: what the registry stores, by repository and in all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from controller.cli.errors import Exit, complaints
from controller.cli.loop import run_to_end
from controller.cli.options import CONFIG, OUTPUT, PATHS
from controller.cli.printing import print_data, table_console
from controller.cli.sizes import blobs_of, size_of, tell_unread, total, usage_row, usage_table
from controller.domain.usage import Survey
from controller.engine.survey import survey
from controller.settings import files_or_default
from controller.wiring.collecting import folder_of, registry_config
from controller.wiring.registries import open_registry
from controller.wiring.setup import of_registry, read


@click.command("usage")
@PATHS
@CONFIG
@click.option("--registry", metavar="URL", help="Without any file: the registry.")
@OUTPUT
def usage(files: tuple[Path, ...], config: Path | None, registry: str | None, output: str) -> int:
    """Show what the registry stores: the bytes that each repository's tags name, what it shares with others, and all together.

    With --config also what is on the disk, and how much of it no tag names. Changes nothing.
    """
    setup = of_registry(registry, None) if registry else read(files_or_default(files))
    folder = folder_of(registry_config(config))

    async def work() -> tuple[Survey, Mapping[str, int] | None]:
        async with open_registry(setup, None) as found:
            seen = await survey(found)
            return seen, await blobs_of(folder, seen)

    seen, blobs = run_to_end(work())
    disk = size_of(blobs)
    if output == "table":
        table_console().print(usage_table(seen.usage))
        table_console().print(total(seen.usage, disk))
    else:
        print_data(usage_row(seen.usage, disk), output)
    tell_unread(complaints(), seen)
    return Exit.NOT_CONVERGED if seen.unread else Exit.OK
