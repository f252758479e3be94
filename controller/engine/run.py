"""Keep it right: a pass at every interval and after every change of the files, until told to stop."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from controller.domain.desired import Desired
from controller.domain.errors import UsageError, WharfError
from controller.engine.apply import Progress
from controller.engine.reconcile import Pass, Reconciler
from controller.engine.triggers import Wakeups, watch_files

log = logging.getLogger(__name__)


class Asked(Protocol):
    """What the files say; comparable, so that a change of the bytes alone is none."""

    @property
    def desired(self) -> Desired:
        """The desired state."""
        ...


AskedT = TypeVar("AskedT", bound=Asked)


@dataclass(frozen=True)
class Surroundings(Generic[AskedT]):
    """What a running controller is given: how to read the files, how to open the world for what they say, and where to tell what happens."""

    load: Callable[[], AskedT]
    open_world: Callable[[AskedT], AbstractAsyncContextManager[Reconciler]]
    paths: Sequence[Path]
    progress: Progress
    report: Callable[[Pass], None]
    jitter: Callable[[], float] = random.random


async def run(around: Surroundings[AskedT], stop: asyncio.Event, *, allow_deletes: int = 0) -> None:
    """Reconcile until `stop` is set; a pass that is under way then is cancelled at its next step, and cleans up behind itself.

    A file that breaks later leaves the last good one in force, and is told. Raises UsageError only for the first reading.
    """
    asked = around.load()
    wakeups = Wakeups()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch_files(around.paths, wakeups))
        working = group.create_task(_work(around, asked, wakeups, allow_deletes))
        stopping = group.create_task(stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (watching, working, stopping):
            task.cancel()


async def _work(around: Surroundings[AskedT], asked: AskedT, wakeups: Wakeups, allow_deletes: int) -> None:
    while True:
        async with around.open_world(asked) as reconciler:
            asked = await _until_changed(around, asked, reconciler, wakeups, allow_deletes)


async def _until_changed(around: Surroundings[AskedT], asked: AskedT, reconciler: Reconciler, wakeups: Wakeups, allow_deletes: int) -> AskedT:
    """Passes for what is asked now; returns when the files ask for something else."""
    while True:
        around.report(await reconciler.reconcile(asked.desired, around.progress, allow_deletes=allow_deletes))
        reasons = {"files"}
        while reasons == {"files"}:
            reasons = await wakeups.wait(asked.desired.interval * (0.9 + 0.2 * around.jitter()))
            if "files" in reasons and (reread := _reread(around, asked)) != asked:
                return reread


def _reread(around: Surroundings[AskedT], last_good: AskedT) -> AskedT:
    try:
        reread = around.load()
    except (UsageError, OSError) as error:
        log.error("the files can't be used, so what they last said stays in force:\n%s", error)  # noqa: TRY400 - a traceback says nothing here
        return last_good
    except WharfError as error:
        log.error("the files can't be read now, so what they last said stays in force: %s", error)  # noqa: TRY400 - as above
        return last_good
    if reread != last_good:
        log.info("the files changed")
    return reread
