"""`wharf run`: keeps it right."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from controller.cli.errors import Exit
from controller.cli.gateway import beside
from controller.cli.loop import run_to_end, told_to_stop
from controller.cli.options import ALLOW, CONFIRM, PATHS, STATE
from controller.cli.reports import pulls_to, reports_to
from controller.domain.errors import UsageError
from controller.engine.notices import Notices
from controller.engine.reconcile import Reconciler
from controller.engine.run import Surroundings
from controller.engine.run import run as keep_right
from controller.engine.triggers import COMMAND, Wakeups
from controller.settings import files_or_default
from controller.web.operations import Operations
from controller.web.server import Server
from controller.wiring.setup import Setup, read
from controller.wiring.state import confirm_engines, locked
from controller.wiring.world import open_world, recipients_of

log = logging.getLogger(__name__)


@click.command()
@PATHS
@STATE
@ALLOW
@CONFIRM
def run(files: tuple[Path, ...], state: str | None, allow_deletes: int, confirm_engine: tuple[str, ...]) -> int:
    """Keep it right: at once when something changes, and at every interval, until SIGTERM or Ctrl-C.

    SIGHUP asks for a full look now, at which every upstream is asked.
    """
    paths = files_or_default(files)
    first = read(paths)

    async def work() -> None:
        stop = told_to_stop()
        wakeups = Wakeups()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, wakeups.add, COMMAND)
        operations, notices = Operations(), Notices(first.desired.wharf)
        with locked(first, state) as store:
            confirm_engines(first, store, confirm_engine)
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
