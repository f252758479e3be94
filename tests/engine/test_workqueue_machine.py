"""The work queue against a model of it, by a state machine: whatever order things happen in, each key comes when it is due, and to one at a time."""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.engine.workqueue import FIRST_PAUSE, LONGEST_PAUSE, ClosedError, WorkQueue

keys = st.sampled_from("abcd")
seconds = st.sampled_from([0.0, 1.0, 7.0, 400.0])


class QueueMachine(RuleBasedStateMachine):
    """`due` says when each key that waits is due; `working` when each that is worked on was asked for again."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.queue: WorkQueue[str] = WorkQueue(monotonic=lambda: self.now, chance=lambda: 0.0)
        self.due: dict[str, float] = {}
        self.working: dict[str, float | None] = {}
        self.failures: dict[str, int] = {}
        self.closed = False
        self.runner = asyncio.Runner()

    @rule(key=keys, after=seconds)
    def add(self, key: str, after: float) -> None:
        self.queue.add(key, after)
        self._asked(key, self.now + after)

    @rule(count=seconds)
    def time_passes(self, count: float) -> None:
        self.now += count

    @rule()
    def take(self) -> None:
        """The key that is due longest, and none that is not due or worked on."""
        got = self.runner.run(self._next())
        ready = {} if self.closed else {key: at for key, at in self.due.items() if at <= self.now}
        assert (got is not None) == bool(ready)
        if got is not None:
            assert got not in self.working
            assert ready[got] == min(ready.values())
            del self.due[got]
            self.working[got] = None

    @precondition(lambda self: self.working)
    @rule(data=st.data(), again=st.none() | seconds)
    def done(self, data: st.DataObject, again: float | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.queue.done(key, again)
        self.failures.pop(key, None)
        self._finished(key, None if again is None else self.now + again)

    @precondition(lambda self: self.working)
    @rule(data=st.data(), at_least=seconds)
    def failed(self, data: st.DataObject, at_least: float) -> None:
        """Twice the pause each time up to the longest, or what the other side asked for."""
        key = data.draw(st.sampled_from(sorted(self.working)))
        count = self.failures[key] = self.failures.get(key, 0) + 1
        pause = self.queue.failed(key, at_least)
        assert pause == max(at_least, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (count - 1)))
        self._finished(key, self.now + pause)

    @rule()
    def close(self) -> None:
        self.queue.close()
        self.closed = True

    @invariant()
    def it_holds_what_was_asked_for(self) -> None:
        assert len(self.queue) == len(self.due) + len(self.working)
        assert self.queue.waiting() == {key: max(0.0, self.due[key] - self.now) for key in self.failures if key in self.due}

    def teardown(self) -> None:
        """Once closed it is drained when the last key is done, and not before."""
        self.queue.close()
        self.runner.run(self._drains())
        self.runner.close()

    async def _drains(self) -> None:
        waiting = asyncio.create_task(self.queue.drained())
        for key in sorted(self.working):
            await asyncio.sleep(0)
            assert not waiting.done()
            self.queue.done(key)
        await asyncio.wait_for(waiting, 20)

    async def _next(self) -> str | None:
        """What is given out without waiting."""
        asking = asyncio.create_task(self.queue.next())
        for _ in range(3):
            await asyncio.sleep(0)
        if not asking.done():
            asking.cancel()
        try:
            return await asking
        except (asyncio.CancelledError, ClosedError):
            return None

    def _asked(self, key: str, at: float) -> None:
        if key in self.working:
            wanted = self.working[key]
            self.working[key] = at if wanted is None else min(at, wanted)
        else:
            self.due[key] = min(at, self.due.get(key, at))

    def _finished(self, key: str, again: float | None) -> None:
        times = [at for at in (self.working.pop(key), again) if at is not None]
        if times:
            self.due[key] = min(times)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
