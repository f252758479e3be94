"""Keep it right: full looks at every interval and after every change of the files, and work in between on what hosts tell of; until told to stop."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from controller.domain.desired import Desired
from controller.domain.errors import UsageError, WharfError
from controller.engine.reconcile import Reconciler
from controller.engine.shift import Reports, Shift
from controller.engine.triggers import COMMAND, RANGES, FileWatch, Wakeups

log = logging.getLogger(__name__)


class Asked(Protocol):
    """What the files say; comparable, so that a change of the bytes alone is none."""

    @property
    def desired(self) -> Desired:
        """The desired state."""
        ...

    @property
    def catalogs(self) -> Iterable[Path]:
        """The catalog folders that the files name, absolute."""
        ...

    def same_world(self, other: Any) -> bool:  # noqa: ANN401 - another one of the same kind
        """Whether the same registry, upstreams and hosts serve both."""
        ...


AskedT = TypeVar("AskedT", bound=Asked)


@dataclass(frozen=True)
class Surroundings(Generic[AskedT]):
    """What a running controller is given: how to read the files, how to open the world for what they say, where to tell it, and who wakes it."""

    load: Callable[[], AskedT]
    open_world: Callable[[AskedT], AbstractAsyncContextManager[Reconciler]]
    paths: Sequence[Path]
    reports: Reports
    wakeups: Wakeups
    jitter: Callable[[], float] = random.random


async def run(around: Surroundings[AskedT], stop: asyncio.Event, *, allow_deletes: int = 0) -> None:
    """Work until `stop` is set; what is under way then is cancelled at its next step, and cleans up behind itself.

    A file that breaks later leaves the last good one in force, and is told. Raises UsageError only for the first reading.
    """
    asked = around.load()
    wakeups = around.wakeups
    files = FileWatch(around.paths, wakeups)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(files.run())
        working = group.create_task(_work(around, asked, files, wakeups, allow_deletes))
        stopping = group.create_task(stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (watching, working, stopping):
            task.cancel()


async def _work(around: Surroundings[AskedT], asked: AskedT, files: FileWatch, wakeups: Wakeups, allow_deletes: int) -> None:
    while True:
        async with around.open_world(asked) as reconciler:
            reports = replace(around.reports, stirred=lambda: wakeups.add(RANGES))
            shift = Shift(reconciler, asked.desired, reports, allow_deletes=allow_deletes)
            async with asyncio.TaskGroup() as group:
                group.create_task(shift.staff())
                asked = await _looks(around, asked, shift, files, wakeups)
                shift.close()


async def _looks(around: Surroundings[AskedT], asked: AskedT, shift: Shift, files: FileWatch, wakeups: Wakeups) -> AskedT:
    """Full looks for what is asked now; returns when the files ask for another world."""
    while True:
        files.watch(asked.catalogs)
        soon = await shift.look()
        interval = asked.desired.interval * (0.9 + 0.2 * around.jitter())
        reasons = {"files"}
        while reasons == {"files"}:
            reasons = await wakeups.wait(min(interval, soon or interval))
            if COMMAND in reasons:
                log.info("asked to look at everything now")
                shift.look_anew()
            if "files" in reasons and (reread := _reread(around, asked)) != asked:
                if not reread.same_world(asked):
                    return reread
                asked = reread
                shift.ask(asked.desired)
                break


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
