"""The audit trail, as a table and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from controller.cli.tables import SIGNS, STYLES, grid
from controller.cli.times import local_time, utc_time
from controller.domain.actions import Kind
from controller.domain.ports.stores import AuditEntry
from controller.domain.texts import size
from controller.engine.collect import COLLECT
from controller.engine.sweep import EXPIRE

_SHOWN = 12
"""So many hexadecimal digits of a digest, as elsewhere in tables."""


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
