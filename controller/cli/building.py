"""`wharf build`: one Dockerfile folder to the registry, and what became of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console
from rich.text import Text

from controller.cli.errors import Exit
from controller.cli.progress import progress_on
from controller.domain.actions import Build
from controller.domain.desired import BuildSource
from controller.domain.errors import UnreachableError, UsageError, WharfError
from controller.engine.apply import Outcome
from controller.engine.build_once import Asked, OneBuild
from controller.settings import files_or_default
from controller.wiring import Setup, local_target, locked, named_in, open_build, read


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says."""

    folder: Path
    name: str | None
    host: str | None
    args: Sequence[str]
    target: str
    platform: str


def build(wanted: Wanted, files: tuple[Path, ...], state: str | None) -> int:
    """`wharf build`."""
    setup = read(files_or_default(files))
    source = BuildSource(
        str(wanted.folder.absolute()), _host(setup, wanted.host), args=_args(wanted.args), target=wanted.target, platform=wanted.platform
    )
    target = local_target(wanted.name) if wanted.name else named_in(wanted.folder)
    address, out = setup.wharf.registry.url.partition("//")[2], Console(soft_wrap=True, highlight=False)

    async def work() -> int:
        with locked(setup, state) as store:
            async with open_build(setup, store, source.on) as one:
                asked = await one.look(target, source)
                if asked.action is None:
                    out.print(Text(f"skipped: {target} in {address} was built from this folder as it is ({_short(asked)})"))
                    return Exit.OK
                return await _done(one, asked.action, out, address)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work())


async def _done(one: OneBuild, action: Build, out: Console, address: str) -> int:
    """Build with progress on standard error, and say what became of it; a failed step is shown with its output."""
    said, began, moved = Console(stderr=True, highlight=False), time.monotonic(), 0
    with progress_on(said, 1) as progress:
        progress.started(action)

        def advance(count: int) -> None:
            nonlocal moved
            moved += count
            progress.advanced(action, count)

        digest, failure = "", None
        try:
            digest = await one.build(action, advance)
        except WharfError as error:
            failure = error
        progress.finished(Outcome(action, str(failure or ""), digest, moved, time.monotonic() - began))
    if failure is not None:
        return Exit.UNREACHABLE if isinstance(failure, UnreachableError) else Exit.NOT_CONVERGED
    out.print(Text(f"{action.target} in {address} is {digest}"))
    return Exit.OK


def _short(asked: Asked) -> str:
    return asked.digest[:19]


def _host(setup: Setup, name: str | None) -> str:
    """The host that builds."""
    names = [host.name for host in setup.desired.hosts]
    if name is None and len(names) == 1:
        return names[0]
    if name is None:
        raise UsageError(f"say which host builds, --on HOST: the file has {', '.join(sorted(names)) or 'none'}")
    if name not in names:
        raise UsageError(f"--on {name}: no such host; the file has {', '.join(sorted(names)) or 'none'}")
    return name


def _args(said: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Build arguments, sorted as a file's are."""
    wrong = next((each for each in said if not each.partition("=")[1] or not each.partition("=")[0]), None)
    if wrong is not None:
        raise UsageError(f"--arg {wrong.partition('=')[0]}: expected NAME=VALUE")
    return tuple(sorted({name: value for name, _, value in (each.partition("=") for each in said)}.items()))
