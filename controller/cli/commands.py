"""What each command does: read the files, ask the engine, show the answer, give the exit code."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from controller import __version__
from controller.cli.errors import Exit, complaints
from controller.cli.gateway import beside
from controller.cli.loop import run_to_end, told_to_stop
from controller.cli.output import plan_rows, status_rows
from controller.cli.progress import ending, progress_on
from controller.cli.reports import pulls_to, reports_to
from controller.cli.saved import exactly, read_saved, save
from controller.cli.tables import show_age, show_plan, show_pulls, show_status
from controller.documents.draft import draft
from controller.documents.dump import to_yaml
from controller.documents.schema import json_schema
from controller.domain.errors import MovedError, UsageError
from controller.domain.ports import PULL_THROUGH
from controller.engine.apply import Outcome
from controller.engine.notices import Notices
from controller.engine.reconcile import Look, Reconciler
from controller.engine.run import Surroundings
from controller.engine.run import run as keep_right
from controller.engine.triggers import COMMAND, Wakeups
from controller.settings import files_or_default
from controller.web.operations import Operations
from controller.web.server import Server
from controller.wiring import Setup, confirm_engines, host_contents, locked, open_world, read, recipients_of, stored

log = logging.getLogger(__name__)

_PULLS = 1000
"""Of what came from the internet, status looks at so many of the newest."""


def validate(files: tuple[Path, ...], output: str) -> int:
    """`wharf validate`."""
    setup = read(files_or_default(files))
    desired = setup.desired
    row: dict[str, Any] = {
        "wharf": desired.wharf,
        "hosts": [host.name for host in desired.hosts],
        "imageSets": [{"name": name, "images": sum(image.image_set == name for image in desired.images)} for name in desired.sets],
        "files": [str(file) for file in setup.files],
    }
    if output != "table":
        print_data(row, output)
        return Exit.OK
    out = Console(soft_wrap=True, highlight=False)
    out.print(f"{len(setup.files)} file{'s' * (len(setup.files) != 1)} valid: Wharf {desired.wharf}, {len(desired.hosts)} engine(s)")
    for each in row["imageSets"]:
        out.print(f"  ImageSet {each['name']}: {each['images']} image(s)")
    return Exit.OK


def plan(files: tuple[Path, ...], state: str | None, output: str, allow_deletes: int, out: Path | None, *, refresh: bool) -> int:
    """`wharf plan`."""
    setup = read(files_or_default(files))
    look = run_to_end(_look(setup, state, allow_deletes, refresh=refresh))
    _show(look, output)
    if out is not None:
        save(out, setup.desired.wharf, setup.files, look.plan)
    return _exit_code(look)


def status(files: tuple[Path, ...], state: str | None, output: str, *, refresh: bool) -> int:
    """`wharf status`."""
    setup = read(files_or_default(files))
    look = run_to_end(_look(setup, state, 0, refresh=refresh))
    if output == "table":
        show_status(table_console(), look.sets)
        with stored(setup, state) as store:
            show_pulls(table_console(), setup.desired, store.history(actions={PULL_THROUGH}, limit=_PULLS))
        show_age(table_console(), look.seen)
    else:
        print_data(status_rows(look.sets), output)
    return _exit_code(look)


async def _look(setup: Setup, state: str | None, allow_deletes: int, *, refresh: bool) -> Look:
    with stored(setup, state) as store:
        async with open_world(setup, store, actor="plan", fresh=refresh) as reconciler:
            return await reconciler.look(setup.desired, allow_deletes=allow_deletes)


def apply(
    files: tuple[Path, ...],
    state: str | None,
    output: str,
    allow_deletes: int,
    confirmed: Sequence[str],
    saved_path: Path | None,
    *,
    refresh: bool,
) -> int:
    """`wharf apply`."""
    saved = read_saved(saved_path) if saved_path else None
    setup = read(files or saved.files if saved else files_or_default(files))
    if saved is not None and saved.wharf != setup.desired.wharf:
        raise UsageError(f"{saved_path} is a plan for the Wharf {saved.wharf!r}, the files hold {setup.desired.wharf!r}")
    console = Console(stderr=output != "table", highlight=False)

    async def work() -> tuple[Look, tuple[Outcome, ...]]:
        with locked(setup, state) as store:
            confirm_engines(setup, store, confirmed)
            async with open_world(setup, store, actor="apply", fresh=refresh) as reconciler:
                await reconciler.recover()
                look = await reconciler.look(setup.desired, allow_deletes=allow_deletes)
                todo = exactly(saved, look.plan) if saved else look.plan
                with progress_on(console, len(todo.actions)) as progress:
                    outcomes = await reconciler.apply(look, progress, only=todo)
                after = await reconciler.look(setup.desired, allow_deletes=allow_deletes) if outcomes else look
                if saved is None:
                    await reconciler.end(after)
                return after, outcomes

    try:
        after, outcomes = run_to_end(work())
    except MovedError as error:
        complaints().print(f"refused: {error}")
        return Exit.NOT_CONVERGED
    if output == "table":
        console.print()
        _show(after, output)
    else:
        print_data(plan_rows(after.sets), output)
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        said = complaints()
        said.print(f"\n{len(failed)} of {len(outcomes)} failed:")
        for outcome in failed:
            said.print(ending(outcome))
    code = _exit_code(after)
    return Exit.NOT_CONVERGED if failed and code == Exit.OK else code


def run(files: tuple[Path, ...], state: str | None, allow_deletes: int, confirmed: Sequence[str]) -> int:
    """`wharf run`."""
    paths = files_or_default(files)
    first = read(paths)

    async def work() -> None:
        stop = told_to_stop()
        wakeups = Wakeups()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, wakeups.add, COMMAND)
        operations, notices = Operations(), Notices(first.desired.wharf)
        with locked(first, state) as store:
            confirm_engines(first, store, confirmed)
            server = Server(operations)
            await server.serve(first.wharf.web, first.base)

            latest, started = first, False

            @asynccontextmanager
            async def world(setup: Setup) -> AsyncIterator[Reconciler]:
                nonlocal started
                must, started = not started, True
                await server.move(setup.wharf.web, setup.base)
                await notices.address(recipients_of(setup))
                async with (
                    open_world(setup, store, actor="run", remember=True) as reconciler,
                    beside(setup, store, lambda: latest.desired, pulls_to(operations, notices), must=must),
                ):
                    yield reconciler

            def load() -> Setup:
                nonlocal latest
                setup = read(paths)
                if setup.desired.wharf != first.desired.wharf:
                    raise UsageError(f"the files hold the Wharf {setup.desired.wharf!r} now, this controller works on {first.desired.wharf!r}")
                latest = setup
                return setup

            log.info("running: Wharf %s, every %g s and on changes of %s", first.desired.wharf, first.desired.interval, ", ".join(map(str, paths)))
            try:
                around = Surroundings(load, world, paths, reports_to(operations, notices), wakeups)
                await keep_right(around, stop, allow_deletes=allow_deletes)
            finally:
                await notices.close()
                await server.close()
        log.info("stopped")

    run_to_end(work())
    return Exit.OK


def init(engine: str | None, registry: str, out: Path | None) -> int:
    """`wharf init`."""
    if engine is None:
        raise UsageError("say --from-host, or --from-host=unix:///var/run/docker.sock")
    if out is not None and out.exists():
        raise UsageError(f"{out} exists already: name another file")
    contents = run_to_end(host_contents(engine))
    text = draft(contents.state, contents.frees, contents.engine, registry)
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text)
        Console(stderr=True).print(f"drafted {out}: look at it, then `wharf plan {out}`")
    return Exit.OK


def schema() -> int:
    """`wharf schema`."""
    print_data(json_schema(), "json")
    return Exit.OK


def version(output: str) -> int:
    """`wharf version`."""
    if output == "table":
        sys.stdout.write(f"wharf {__version__}\n")
    else:
        print_data({"version": __version__}, output)
    return Exit.OK


def _show(look: Look, output: str) -> None:
    if output == "table":
        show_plan(table_console(), look.sets)
        show_age(table_console(), look.seen)
    else:
        print_data(plan_rows(look.sets), output)


def table_console() -> Console:
    """As wide as the terminal; where there is none, wide enough that a pipe sees one line a row."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=int(os.environ.get("COLUMNS", "200")))


def print_data(data: object, output: str) -> None:
    """Plain data on standard output, as JSON or YAML."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n" if output == "json" else to_yaml(data))


def _exit_code(look: Look) -> int:
    if look.seen.unreachable:
        complaints().print(f"error: {look.seen.unreachable}", style="red")
        return Exit.UNREACHABLE
    return Exit.OK if look.converged else Exit.NOT_CONVERGED
