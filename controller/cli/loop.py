"""The event loop of a command."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def told_to_stop() -> asyncio.Event:
    """Set by SIGTERM and by Ctrl-C, for what runs until then."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end on the fast loop; the one error of a task group is raised as itself."""
    gc.freeze()  # What is loaded by now stays as long as the process: nobody need look there for garbage.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(work)
        except BaseExceptionGroup as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from None
