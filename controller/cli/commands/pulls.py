"""`wharf pulls`: what came through the gateway, and what ranges have. Reads the state file only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.text import Text

from controller.cli.errors import Exit, complaints
from controller.cli.options import FILES, OUTPUT, STATE
from controller.cli.printing import print_data, table_console
from controller.cli.tables import grid
from controller.cli.times import local_time, utc_time
from controller.cli.trail import short
from controller.domain.ports.stores import PAST_GATEWAY, PULL_THROUGH, RANGE_PULL, AuditEntry
from controller.domain.texts import size
from controller.settings import files_or_default
from controller.wiring.setup import read
from controller.wiring.state import stored


@click.command()
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="At most so many, the newest.")
@OUTPUT
@FILES
@STATE
def pulls(limit: int, output: str, files: tuple[Path, ...], state: str | None) -> int:
    """Show what was pulled through the gateway, and what ranges have: which image, by whom, from where, and whether it is kept."""
    setup = read(files_or_default(files))
    with stored(setup, state) as store:
        entries = store.history(limit=limit, actions={PULL_THROUGH, RANGE_PULL})
    if output != "table":
        print_data([pull_row(entry) for entry in entries], output)
    elif entries:
        table = grid("when", "image", "by", "from", "size", "kept")
        for entry in entries:
            kept = Text(f"no: {entry.error}", "red") if entry.error else Text(f"yes, {short(entry.after)}", "green")
            came, count = Text(_source_of(entry)), Text(size(entry.bytes), justify="right")
            table.add_row(Text(local_time(entry.at)), Text(entry.image), Text(entry.host), came, count, kept)
        table_console().print(table)
    else:
        complaints().print("nothing was pulled from the internet yet, through the gateway or past it")
    return Exit.OK


def pull_row(entry: AuditEntry) -> dict[str, Any]:
    """One pull as plain data."""
    return {
        "at": utc_time(entry.at),
        "image": entry.image,
        "digest": entry.after or None,
        "bytes": entry.bytes,
        "client": entry.host,
        "source": _source_of(entry),
        "throughGateway": entry.action == PULL_THROUGH and entry.reason != PAST_GATEWAY,
        "cachedToRegistry": not entry.error,
        "error": entry.error or None,
    }


def _source_of(entry: AuditEntry) -> str:
    """Where the image came from that a client or a range has: error, where it could not be kept."""
    return "error" if entry.error else "registry" if entry.action == RANGE_PULL else "internet"
