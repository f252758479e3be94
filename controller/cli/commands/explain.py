"""`wharf explain`: why one image is where it is, for people first."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from controller.cli.errors import Exit, unreachable
from controller.cli.loop import run_to_end
from controller.cli.options import FILES, OUTPUT, STATE
from controller.cli.output import action_row, came_row, held_row, image_row
from controller.cli.printing import print_data, table_console
from controller.cli.tables import HELD_SIGN, HELD_STYLE, SIGNS, STYLES
from controller.cli.times import local_time, utc_time
from controller.cli.trail import audit_row, audit_table, short
from controller.domain.desired import Desired
from controller.domain.explanation import Explanation, OnHost
from controller.domain.naming import target_named
from controller.domain.observation import Present, Unknown
from controller.domain.texts import size
from controller.settings import files_or_default
from controller.wiring.setup import read
from controller.wiring.state import stored
from controller.wiring.world import open_world


@click.command("explain")
@click.argument("image")
@OUTPUT
@FILES
@STATE
def explain(image: str, output: str, files: tuple[Path, ...], state: str | None) -> int:
    """Say why IMAGE is where it is: where it is, what asks for it, where it came from, and what comes next. Changes nothing.

    IMAGE is a name as a set writes it, or as the registry has it. Exit codes as `plan`, for this one image.
    """
    setup = read(files_or_default(files))
    target = target_named(setup.desired, image)

    async def work() -> Explanation:
        with stored(setup, state) as store:
            async with open_world(setup, store, actor="explain", fresh=True) as reconciler:
                return await reconciler.explain(setup.desired, target)

    told = run_to_end(work())
    if output == "table":
        _show(table_console(), told, setup.desired)
    else:
        print_data(explanation_row(told), output)
    if told.unreachable:
        return unreachable(told.unreachable)
    return Exit.OK if told.settled else Exit.NOT_CONVERGED


def explanation_row(told: Explanation) -> dict[str, Any]:
    """All of it as plain data."""
    held = told.registry.value if isinstance(told.registry, Present) else None
    return {
        "image": str(told.target),
        "registry": {
            "present": None if isinstance(told.registry, Unknown) else held is not None,
            "digest": told.digest or None,
            "mediaType": held.media_type if held else None,
            "heldAs": told.held_as or None,
            "earlier": [{"tag": tag, "digest": digest} for tag, digest in told.earlier.items()],
            "unknown": told.registry.why if isinstance(told.registry, Unknown) else None,
        },
        "hosts": [_host_row(each) for each in told.hosts],
        "askedFor": [{"by": each.by, "name": each.name, "message": each.words} for each in told.asking],
        "source": told.offer or None,
        "provenance": came_row(told.came),
        "actions": [action_row(action) for action in told.plan.actions],
        "heldBack": [{**held_row(row), "until": utc_time(row.until)} for row in told.plan.held_back],
        "status": image_row(told.status) if told.status else None,
        "lastError": told.last_error or None,
        "retriedBy": utc_time(told.retried_by),
        "history": [audit_row(entry) for entry in told.trail],
    }


def _host_row(each: OnHost) -> dict[str, Any]:
    return {
        "host": each.host,
        "present": None if each.unknown else bool(each.names),
        "names": list(each.names),
        "imageIds": list(each.image_ids),
        "usedBy": list(each.used_by),
        "unknown": each.unknown or None,
    }


def _show(console: Console, told: Explanation, desired: Desired) -> None:
    console.print(Text.assemble((str(told.target), "bold"), "  ", _verdict(told)))
    if told.nowhere:
        names = get_close_matches(str(told.target), {str(target) for target in desired.by_target}, 3)
        meant = f" Did you mean {', '.join(names)}?" if names else ""
        console.print(Text(f"  No set lists it, the registry does not have it, and no host has it.{meant}"))
    _part(console, "Where it is", _places(told))
    _part(
        console, "What asks for it", [Text(each.words) for each in told.asking] or [Text("nothing: no set lists it, no pattern of a host names it")]
    )
    _part(console, "Where it came from", [Text(told.came.words + (f", {local_time(told.came.at)}" if told.came.at else ""))] if told.came else [])
    _part(console, "What its source has", [Text(told.offer)] if told.offer else [])
    _part(console, "What comes next", _next(told))
    if told.last_error:
        again = f"`wharf run` tries it again by {local_time(told.retried_by)}; " if told.retried_by else ""
        _part(console, "What went wrong last", [Text(told.last_error, "red"), Text(f"{again}`wharf apply` tries it now")])
    if told.trail:
        console.print(Text("\nWhat was done last", "bold"))
        console.print(Padding(audit_table(told.trail, images=False), (0, 0, 0, 2), expand=False))


def _verdict(told: Explanation) -> Text:
    if isinstance(told.registry, Unknown):
        return Text("not known: the registry did not answer", "magenta")
    if told.nowhere:
        return Text("nowhere", "yellow")
    if told.settled:
        return Text("as the files say", "green")
    silent = [each.host for each in told.hosts if each.unknown]
    return Text(f"not known of {', '.join(silent)}", "magenta") if told.plan.converged else Text("not as the files say yet", "yellow")


def _part(console: Console, heading: str, lines: list[Text]) -> None:
    if lines:
        console.print(Text(f"\n{heading}", "bold"))
    for line in lines:
        console.print(Padding(line, (0, 0, 0, 2), expand=False))


def _places(told: Explanation) -> list[Text]:
    width = max(len(name) for name in ("registry", *(each.host for each in told.hosts))) + 2
    return [Text.assemble("registry".ljust(width), *_in_registry(told)), *(Text(each.host.ljust(width) + _host_words(each)) for each in told.hosts)]


def _in_registry(told: Explanation) -> Iterator[Text | str]:
    match told.registry:
        case Present(held):
            yield Text("yes", "green")
            yield f", {held.digest}" + (f", {size(held.size)}" if held.size else "") + (f"; held as {told.held_as} too" if told.held_as else "")
        case Unknown(why):
            yield Text(f"not known: {why}", "magenta")
        case _:
            yield "no"
    if told.earlier:
        yield f"; {len(told.earlier)} earlier of {told.target.repository} held (wharf restore {told.target})"


def _host_words(each: OnHost) -> str:
    if each.unknown:
        return f"not known: {each.unknown}"
    if not each.names:
        return "no"
    ids = ", ".join(short(image_id) for image_id in each.image_ids)
    used = f", used by {', '.join(each.used_by)}" if each.used_by else ""
    return f"as {', '.join(each.names)} ({ids}){used}"


def _next(told: Explanation) -> list[Text]:
    lines = [
        Text.assemble(
            (f"{SIGNS[row.kind]} {row.kind.lower()}{f' ({row.host})' if row.host else ''}", STYLES[row.kind]), f"  {row.reason}: {row.message}"
        )
        for row in told.plan.actions
    ]
    for held in told.plan.held_back:
        until = f", until {local_time(held.until)}" if held.until is not None else ""
        place = f" ({held.host})" if held.host else ""
        lines.append(
            Text.assemble((f"{HELD_SIGN} no {held.action.lower()}{place}", HELD_STYLE), f"  held back, {held.reason}: {held.message}{until}")
        )
    return lines or [Text("nothing", "green")]
