"""`wharf migrate`: shows the plan, asks, does it, and says what became of it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from controller.cli.errors import Exit, complaints, unreachable
from controller.cli.loop import run_to_end
from controller.cli.options import ALLOW, CONFIRM, FILES, OUTPUT, STATE
from controller.cli.output import action_row
from controller.cli.printing import print_data, table_console
from controller.cli.progress import progress_on
from controller.cli.tables import HELD_STYLE, grid, plan_table, totals
from controller.domain.actions import Copy, Evict, Import, Plan, Push, identity
from controller.domain.errors import UsageError
from controller.domain.migration import Order
from controller.domain.ports.stores import Store
from controller.domain.reference import pattern_expression
from controller.domain.status import SetStatus
from controller.domain.texts import size
from controller.engine.doors import host_named
from controller.engine.migrate import Migration, Prepared, Report, would_stay
from controller.settings import files_or_default
from controller.wiring.setup import Setup, read, without_file
from controller.wiring.state import confirm_engines, locked, stored
from controller.wiring.world import open_world

_ANY_NUMBER = sys.maxsize
"""Of evictions, where a person sees them before anything is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line says."""

    patterns: tuple[str, ...]
    host: str | None
    engine: str | None
    registry: str | None
    keep: tuple[str, ...]
    no_evict: bool
    dry_run: bool
    yes: bool
    allow_deletes: int
    confirm_engine: tuple[str, ...]
    output: str

    @property
    def asks(self) -> bool:
        """Whether a person is asked before anything is done."""
        return not (self.yes or self.dry_run)


@click.command()
@click.argument("patterns", metavar="PATTERN...", nargs=-1, required=True)
@click.option("--host", metavar="HOST", help="The host of the files; default: the only one.")
@click.option(
    "--from-host", "engine", is_flag=False, flag_value="env", metavar="[ENGINE]", help="Without any file: this engine; default: DOCKER_HOST or local."
)
@click.option("--registry", metavar="URL", help="With --from-host: the registry that shall hold the images.")
@click.option("--keep", multiple=True, metavar="PATTERN", help="Leave these alone, beside what `keep` of the host says.")
@click.option("--no-evict", is_flag=True, help="Bring the images to the registry, and leave them on the host too.")
@click.option("--dry-run", is_flag=True, help="Show the plan and the space to be won; change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask, within limits.deletes or --allow-deletes.")
@ALLOW
@CONFIRM
@FILES
@STATE
@OUTPUT
def migrate(*, files: tuple[Path, ...], state: str | None, **said: Any) -> int:  # noqa: ANN401 - the options, as Wanted names them
    """Bring a host's images whose names match PATTERN to the registry, prove each there, and take it off the host: all in one go.

    PATTERN is a glob, such as 'cyroid/**'. The plan is shown first, with the space to be won. It can be stopped, and goes on when run again.
    Exit code 0: all that matched is in the registry and off the host; 2: something stays (the report says why); 1: a file or usage error;
    3: the registry or the host could not be reached; 130, 143: stopped.
    """
    wanted = Wanted(**said)
    for pattern in (*wanted.patterns, *wanted.keep):
        pattern_expression(pattern)
    setup = _setup(files, wanted)
    order = Order(_host(setup, wanted.host), wanted.patterns, wanted.keep, evict=not wanted.no_evict)
    if wanted.asks and not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask whether the plan is right: --dry-run shows it, --yes does it")
    with (stored if wanted.dry_run else locked)(setup, state) as store:
        if not wanted.dry_run:
            confirm_engines(setup, store, wanted.confirm_engine)
        prepared = run_to_end(_prepare(setup, store, wanted, order))
        if prepared.look.seen.unreachable:
            return unreachable(prepared.look.seen.unreachable)
        if wanted.output == "table" or wanted.asks:
            _show_plan(table_console() if wanted.output == "table" else complaints(), setup, order, wanted, prepared)
        report, stopped_by = Report(prepared, stays=would_stay(prepared, order)), 0
        # Asked between two event loops: Ctrl-C at the question ends it at once.
        if prepared.plan.actions and not wanted.dry_run and (wanted.yes or _agreed(order, prepared)):
            report, stopped_by = run_to_end(_carry_out(setup, store, wanted, order, prepared))
    return _told(order, wanted, report, stopped_by)


def _told(order: Order, wanted: Wanted, report: Report, stopped_by: int) -> int:
    """The report, and its exit code."""
    if wanted.output != "table":
        print_data(_rows(order, wanted, report), wanted.output)
    elif report.outcomes or report.stopped:
        _show_report(table_console(), order, report)
    if stopped_by:
        return 128 + stopped_by
    if report.unreachable:
        return unreachable(report.unreachable)
    return Exit.OK if report.complete and (report.outcomes or not report.prepared.plan.actions) else Exit.NOT_CONVERGED


async def _prepare(setup: Setup, store: Store, wanted: Wanted, order: Order) -> Prepared:
    async with open_world(setup, store, actor="migrate") as reconciler:
        if not wanted.dry_run:
            await reconciler.recover()
        shown_first = wanted.dry_run or wanted.asks
        return await Migration(reconciler, setup.desired, order).prepare(allow_deletes=_ANY_NUMBER if shown_first else wanted.allow_deletes)


async def _carry_out(setup: Setup, store: Store, wanted: Wanted, order: Order, prepared: Prepared) -> tuple[Report, int]:
    """The report, and the signal that stopped it, 0 for none."""
    console = Console(stderr=wanted.output != "table", highlight=False)
    async with open_world(setup, store, actor="migrate") as reconciler:
        migration = Migration(reconciler, setup.desired, order)
        with _stop_on_signals() as stop, progress_on(console, len(prepared.plan.actions)) as progress:
            report = await migration.carry_out(prepared, progress, stop.event)
    return report, stop.number if report.stopped else 0


def _setup(files: tuple[Path, ...], wanted: Wanted) -> Setup:
    """The files' setup, or that of who has none."""
    if wanted.engine is None and wanted.registry is not None:
        raise UsageError("--registry goes with --from-host; the files name theirs")
    if wanted.engine is None:
        return read(files_or_default(files))
    if files or wanted.host is not None:
        raise UsageError("--from-host is for who has no file: give either it, or --host and the files")
    return without_file(wanted.engine, wanted.registry or "http://127.0.0.1:5000")


def _host(setup: Setup, named: str | None) -> str:
    names = [host.name for host in setup.desired.hosts]
    if named is None and len(names) != 1:
        raise UsageError(f"say which host, --host HOST: the file has {', '.join(sorted(names)) or 'none'}")
    return host_named(setup.desired, named or names[0]).name


@dataclass
class _Stop:
    """Set by the first signal; `number` is which."""

    event: asyncio.Event
    number: int = 0


@contextmanager
def _stop_on_signals() -> Iterator[_Stop]:
    """What the first SIGINT or SIGTERM sets; a second one ends the command as if there were none."""
    stop, loop = _Stop(asyncio.Event()), asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stopped(number: signal.Signals) -> None:
        stop.number = number
        stop.event.set()
        for each in numbers:
            loop.remove_signal_handler(each)
        complaints().print("stopping: what is under way is broken off and cleaned up", style="yellow")

    for number in numbers:
        loop.add_signal_handler(number, stopped, number)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _agreed(order: Order, prepared: Prepared) -> bool:
    evictions = prepared.plan.deletions
    question = f"Do it, and take {evictions} name{'s' * (evictions != 1)} off {order.host}?" if evictions else "Do it?"
    agreed = click.confirm(question, default=False, err=True)
    if not agreed:
        complaints().print("nothing was done")
    return agreed


def _show_plan(out: Console, setup: Setup, order: Order, wanted: Wanted, prepared: Prepared) -> None:
    plan, limit = prepared.plan, setup.desired.deletes
    if not prepared.copies:
        out.print(f"Nothing to do: no image on {order.host} matches {', '.join(order.patterns)}.", style="green")
        return
    if not plan.actions and not plan.held_back:
        out.print(f"Nothing to do: all {len(prepared.copies)} that match are in the registry.", style="green")
        return
    out.print(plan_table(plan))
    out.print()
    out.print(totals([SetStatus(order.host, plan)]))
    if plan.deletions:
        out.print(f"Space to be won on {order.host}: {size(prepared.frees) or '0 B'}, without what stays because other images share it.")
    if wanted.dry_run and plan.deletions > limit:
        out.print(f"{plan.deletions} evictions are more than limits.deletes, {limit}: --yes needs --allow-deletes {plan.deletions} beside it.")
    if prepared.nameless:
        images = f"{prepared.nameless} image{'s' * (prepared.nameless != 1)} without a name"
        out.print(f"{images} on {order.host}: never touched; `docker image prune` removes those that no container uses.")


def _show_report(out: Console, order: Order, report: Report) -> None:
    freed = f", {size(report.freed) or '0 B'} freed on {order.host}" if report.done(Evict) else ""
    words = f"{report.done(Push)} pushed, {report.done(Copy) + report.done(Import)} copied, {len(report.prepared.already)} already there"
    out.print()
    out.print(Text(f"{words}; {report.done(Evict)} evicted{freed}; {len(report.failed)} failed; {report.seconds:.1f} s.", "bold"))
    if report.stopped:
        left = len(report.prepared.plan.actions) - len(report.outcomes) + len(report.failed)
        out.print(Text(f"Stopped: {left} of {len(report.prepared.plan.actions)} not done. Nothing is lost: run it again, and it goes on.", "yellow"))
    elif report.stays and not report.unreachable:
        _show_stays(out, order, report)
    elif report.complete:
        where = f"and off {order.host}" if order.evict else f"and, as asked, on {order.host} too"
        out.print(Text(f"All that matched is in the registry {where}.", "green"))


def _show_stays(out: Console, order: Order, report: Report) -> None:
    """What stays: a row for each reason, with all names that it holds."""
    what = f"stay on {order.host}" if order.evict else "did not get to the registry"
    out.print(Text(f"{len(report.stays)} {what}:", HELD_STYLE))
    reasons: dict[tuple[str, str], list[str]] = {}
    for stay in report.stays:
        reasons.setdefault((stay.reason, stay.message), []).append(stay.copy.tag.familiar)
    table = grid("", "image", "why")
    for (reason, message), names in sorted(reasons.items()):
        table.add_row(Text(reason, HELD_STYLE), Text("\n".join(names)), Text(message))
    out.print(table)


def _rows(order: Order, wanted: Wanted, report: Report) -> dict[str, Any]:
    """`migrate -o json`: each action and what became of it, what stays, and totals."""
    plan: Plan = report.prepared.plan
    outcomes = {identity(outcome.action): outcome for outcome in report.outcomes}
    actions = []
    for action in plan.actions:
        outcome = outcomes.get(identity(action))
        done = outcome is not None and not outcome.error
        error, digest = (outcome.error or None, outcome.digest or None) if outcome else (None, None)
        actions.append({**action_row(action), "done": done, "error": error, "digest": digest})
    stays = [
        {"image": str(stay.copy.target), "name": stay.copy.tag.familiar, "reason": str(stay.reason), "message": stay.message} for stay in report.stays
    ]
    return {
        "host": order.host,
        "patterns": list(order.patterns),
        "dryRun": wanted.dry_run,
        "stopped": report.stopped,
        "actions": actions,
        "stays": stays,
        "total": {
            "names": len(report.prepared.copies),
            "images": len({copy.image.id for copy in report.prepared.copies}),
            "pushed": report.done(Push),
            "copied": report.done(Copy) + report.done(Import),
            "alreadyThere": len(report.prepared.already),
            "evicted": report.done(Evict),
            "failed": len(report.failed),
            "stay": len(report.stays),
            "frees": report.prepared.frees,
            "freed": report.freed,
            "seconds": round(report.seconds, 3),
        },
    }
