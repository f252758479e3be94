"""Plans and states for people: what would be done, what is held back and why, with sizes and totals."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from controller.cli.times import local_time
from controller.domain.actions import Action, Evict, HeldBack, Kind, Plan, Push, image_of
from controller.domain.desired import Desired
from controller.domain.observation import Observation, Present
from controller.domain.ports.stores import AuditEntry
from controller.domain.status import ImageStatus, SetStatus
from controller.domain.texts import duration, size

SIGNS = {Kind.COPY: "+", Kind.PUSH: "^", Kind.IMPORT: "+", Kind.BUILD: "+", Kind.PULL: "v", Kind.EVICT: "-", Kind.DELETE: "x"}
STYLES = {
    Kind.COPY: "green",
    Kind.PUSH: "green",
    Kind.IMPORT: "green",
    Kind.BUILD: "green",
    Kind.PULL: "green",
    Kind.EVICT: "yellow",
    Kind.DELETE: "red",
}
HELD_SIGN, HELD_STYLE = "!", "magenta"


def show_plan(console: Console, sets: Iterable[SetStatus]) -> None:
    """The plan of every set: + copy, ^ push, - evict, x delete, ! held back; then the totals."""
    sets = list(sets)
    for each in sets:
        _heading(console, each)
        if each.plan.actions or each.plan.held_back:
            console.print(plan_table(each.plan))
        console.print()
    console.print(totals(sets))


def _heading(console: Console, each: SetStatus) -> None:
    state = ("converged: nothing to do", "green") if each.converged else ("not converged", "yellow")
    console.print(Text.assemble((each.image_set, "bold"), "  ", state))


def plan_table(plan: Plan) -> Table:
    """A row for each action, and for all that is held back."""
    table = grid("", "image", "host", "size", "why")
    for action in plan.actions:
        table.add_row(*_cells(SIGNS[action.kind], STYLES[action.kind], action.kind, image_of(action), action.host, action.bytes, action))
    for held in plan.held_back:
        table.add_row(*_cells(HELD_SIGN, HELD_STYLE, held.action, held.image, held.host, held.bytes, held))
    return table


def _cells(sign: str, style: str, kind: Kind, image: str, host: str, count: int, row: Action | HeldBack) -> tuple[Text, Text, Text, Text, Text]:
    why = Text.assemble((row.reason, style), ": ", row.message)
    return (Text(f"{sign} {kind.lower()}", style), Text(image), Text(host), Text(size(count), justify="right"), why)


def totals(sets: Iterable[SetStatus]) -> Text:
    """One line: how many of each kind, how many bytes, how many held back; what several sets want is counted once."""
    sets = list(sets)
    actions = list({action: None for each in sets for action in each.plan.actions})
    held = {held for each in sets for held in each.plan.held_back}
    if not actions and not held:
        return Text("Nothing to do: the registry and the hosts are as the files say.", "green")
    parts = []
    for kind in Kind:
        mine = [action for action in actions if action.kind is kind]
        if mine:
            total = size(sum({_moved(action): action.bytes for action in mine}.values()))
            parts.append(f"{len(mine)} to {kind.lower()}" + (f" ({total})" if total else ""))
    if held:
        parts.append(f"{len(held)} held back")
    return Text(f"Plan: {', '.join(parts)}.", "bold")


def show_age(console: Console, seen: Observation) -> None:
    """Say how old the answers of upstreams are that were not asked anew."""
    earlier = [fact.seen for fact in seen.offered.values() if isinstance(fact, Present) and fact.seen < seen.now]
    if earlier:
        ago = duration(round(seen.now - min(earlier)))
        console.print(
            Text(f"Upstreams were not asked again for {len(earlier):,} of these, first looked up {ago} ago; --refresh asks them now.", "dim")
        )


def show_pulls(console: Console, desired: Desired, pulls: Iterable[AuditEntry]) -> None:
    """Say what came from the internet through the gateway that no set lists; `pulls` has the newest first."""
    listed = {str(target) for target in desired.by_target}
    unlisted = {entry.image: entry for entry in reversed(list(pulls)) if entry.image not in listed and not entry.error}
    if unlisted:
        last = list(unlisted.values())[-1]
        what = f"{len(unlisted):,} image{'s that no set lists were' if len(unlisted) > 1 else ' that no set lists was'} pulled from the internet"
        console.print(Text(f"{what}, last {last.image} by {last.host} at {local_time(last.at)}: see `wharf pulls`.", "yellow"))


def _moved(action: Action) -> tuple[str, str]:
    """What moves or comes free once, however many names it has."""
    return (action.host, action.image_id) if isinstance(action, Push | Evict) else ("", image_of(action))


def show_status(console: Console, sets: Iterable[SetStatus]) -> None:
    """Every image of every set: where it is, and what is wrong with it."""
    for each in sets:
        state = ("ready", "green") if each.ready else ("not ready", "yellow")
        console.print(Text.assemble((each.image_set, "bold"), "  ", state))
        if each.images:
            table = grid("", "image", "registry", "hosts", "digest", "by", "state")
            for image in each.images:
                table.add_row(*_status_cells(image))
            console.print(table)
        for held in (held for held in each.plan.held_back if held.target is None):
            console.print(Text.assemble("  ", (f"{HELD_SIGN} {held.host or held.image} {held.reason}", HELD_STYLE), f": {held.message}"))
        console.print()


def _status_cells(image: ImageStatus) -> tuple[Text, ...]:
    ready = next(condition for condition in image.conditions if condition.type == "Ready")
    style = {"True": "green", "False": "yellow"}.get(ready.status, "magenta")
    where = {True: "yes", False: "no", None: "unknown"}[image.in_registry]
    state = Text(ready.reason if ready.status == "True" else f"{ready.reason}: {ready.message}", style)
    if image.last_error and image.last_error not in ready.message:
        state.append(f"\nlast error: {image.last_error}", "red")
    for note in image.notes:
        state.append(f"\n{note}", "dim")
    return (
        Text("✓" if ready.status == "True" else "!", style),
        Text(image.name),
        Text(where),
        Text(", ".join(image.on_hosts) + (" (needs push)" if image.needs_push else "")),
        Text(image.digest.removeprefix("sha256:")[:12]),
        Text(str(image.came.by) if image.came else ""),
        state,
    )


def grid(*columns: str) -> Table:
    """A table without lines; long texts are folded."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=False)
    for column in columns:
        table.add_column(
            column,
            no_wrap=column in {"", "size", "digest", "registry", "when", "what", "took"},
            overflow="fold",
            justify="right" if column == "size" else "left",
        )
    return table
