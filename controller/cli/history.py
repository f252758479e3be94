"""`wharf history`: what was done, by whom, why, and what failed. Reads the state file only, so it works while a controller runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from controller.cli.commands import print_data, table_console
from controller.cli.errors import Exit, complaints
from controller.cli.tables import SIGNS, STYLES, grid
from controller.cli.times import local_time, utc_time
from controller.domain.actions import Kind
from controller.domain.naming import target_named
from controller.domain.ports import PAST_GATEWAY, PULL_THROUGH, RANGE_PULL, AuditEntry
from controller.domain.texts import size
from controller.engine.collect import COLLECT
from controller.engine.sweep import EXPIRE
from controller.settings import files_or_default
from controller.wiring import read, stored

_SHOWN = 12
"""So many hexadecimal digits of a digest, as elsewhere in tables."""


def history(files: tuple[Path, ...], state: str | None, output: str, image: str | None, limit: int) -> int:
    """`wharf history`."""
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


def pulls(files: tuple[Path, ...], state: str | None, output: str, limit: int) -> int:
    """`wharf pulls`."""
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


def audit_row(entry: AuditEntry) -> dict[str, Any]:
    """One entry as plain data."""
    return {
        "at": utc_time(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "image": entry.image,
        "host": entry.host or None,
        "reason": entry.reason,
        "before": entry.before or None,
        "after": entry.after or None,
        "bytes": entry.bytes,
        "seconds": round(entry.seconds, 3),
        "error": entry.error or None,
    }


def audit_table(entries: Sequence[AuditEntry], *, images: bool) -> Table:
    """The entries for people, the newest first; `images` says whether each row names its image."""
    named = ("image",) if images else ()
    table = grid("when", "what", *named, "host", "size", "took", "by", "became")
    for entry in entries:
        name = (Text(entry.image),) if images else ()
        table.add_row(Text(local_time(entry.at)), _what(entry), *name, Text(entry.host), *_cost(entry), Text(entry.actor), _became(entry))
    return table


def _what(entry: AuditEntry) -> Text:
    signs, styles = {str(kind): sign for kind, sign in SIGNS.items()}, {str(kind): style for kind, style in STYLES.items()}
    for each in (EXPIRE, COLLECT):
        signs[each], styles[each] = SIGNS[Kind.DELETE], STYLES[Kind.DELETE]
    sign = "✗" if entry.error else signs.get(entry.action, "+")
    return Text(f"{sign} {entry.action.lower()}", "red" if entry.error else styles.get(entry.action, "green"))


def _cost(entry: AuditEntry) -> tuple[Text, Text]:
    return Text(size(entry.bytes), justify="right"), Text(f"{entry.seconds:.1f} s")


def _became(entry: AuditEntry) -> Text:
    """Why it was done, and what came of it: the error, or what the place means now and meant before."""
    if entry.error:
        return Text.assemble(f"{entry.reason}: ", (entry.error, "red"))
    if entry.action == "Evict":
        return Text(f"{entry.reason}: {short(entry.before)} left the host; the registry holds it as {short(entry.after)}")
    change = " -> ".join(
        short(each) for each in (entry.before, entry.after or ("nothing" if entry.action in {Kind.DELETE, EXPIRE, COLLECT} else "")) if each
    )
    return Text(f"{entry.reason}: {change}" if change else entry.reason)


def short(digest: str) -> str:
    """A digest as tables have it; what is none stays as it is."""
    return digest.removeprefix("sha256:")[:_SHOWN] if digest.startswith("sha256:") else digest
