"""What a registry stores, as a table and as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from controller.cli.tables import grid
from controller.domain.ports.collecting import RegistryStorage
from controller.domain.texts import size
from controller.domain.usage import Survey, Usage


async def blobs_of(folder: RegistryStorage | None, seen: Survey) -> Mapping[str, int] | None:
    """The sizes of all blobs in a folder; None without one, or where it has nothing of what the registry's tags name: it is another's."""
    blobs = await folder.blobs() if folder else None
    named = {digest for sizes in seen.sizes.values() for digest in sizes}
    return None if blobs is None or (named and not named & blobs.keys()) else blobs


def size_of(blobs: Mapping[str, int] | None) -> int | None:
    """In all."""
    return None if blobs is None else sum(blobs.values())


def usage_table(found: Usage) -> Table:
    """A row for each repository, the largest first."""
    table = grid("repository", "tags", "size", "shared")
    for each in found.repositories:
        table.add_row(Text(each.repository), Text(str(each.tags), justify="right"), size(each.bytes) or "0 B", size(each.shared) or "-")
    return table


def total(found: Usage, disk: int | None) -> Text:
    """In all; what several repositories share counts once."""
    count = len(found.repositories)
    on_disk = "" if disk is None else f"; {size(disk) or '0 B'} on the disk, {size(max(0, disk - found.bytes)) or '0 B'} of it named by no tag"
    return Text(f"{count} {'repository' if count == 1 else 'repositories'}, {size(found.bytes) or '0 B'}{on_disk}.", "bold")


def usage_row(found: Usage, disk: int | None) -> dict[str, Any]:
    """The same as plain data."""
    rows = [{"repository": each.repository, "tags": each.tags, "bytes": each.bytes, "shared": each.shared} for each in found.repositories]
    return {"repositories": rows, "bytes": found.bytes, "onDisk": disk}


def tell_unread(console: Console, seen: Survey) -> None:
    """What could not be counted."""
    for target, why in sorted(seen.unread.items()):
        console.print(Text.assemble((f"{target} is not counted", "red"), f": {why}"))
