"""The work queue: each key once, one at a time, later and later after failures, sooner on news."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.engine.workqueue import FIRST_PAUSE, LONGEST_PAUSE, ClosedError, WorkQueue


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_queue(clock: Clock) -> WorkQueue[str]:
    """A queue without chance."""
    return WorkQueue(monotonic=clock, chance=lambda: 0.0)


async def due(queue: WorkQueue[str]) -> list[str]:
    """All keys that are due now, in their order."""
    found: list[str] = []
    while True:
        try:
            async with asyncio.timeout(0.005):
                found.append(await queue.next())
        except TimeoutError:
            return found


async def test_a_key_is_in_it_once() -> None:
    """Many asks before the next look are one."""
    queue = a_queue(Clock())
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert await due(queue) == ["a", "b"]


async def test_a_key_is_never_given_out_twice_at_once() -> None:
    """What is asked for while it is worked on comes back when that is done, and only once."""
    queue = a_queue(Clock())
    queue.add("a")
    assert await due(queue) == ["a"]
    queue.add("a")
    queue.add("a")
    assert await due(queue) == []
    queue.done("a")
    assert await due(queue) == ["a"]
    queue.done("a")
    assert await due(queue) == []


async def test_a_delay_is_kept_and_the_soonest_ask_counts() -> None:
    """A grace period ends later; news about the image comes at once."""
    clock = Clock()
    queue = a_queue(clock)
    queue.add("a", after=10)
    queue.add("b", after=5)
    queue.add("a", after=20)
    assert await due(queue) == []
    clock.now += 5
    assert await due(queue) == ["b"]
    queue.add("a")
    assert await due(queue) == ["a"]
    queue.done("a")
    clock.now += 100
    assert await due(queue) == []


async def test_a_failing_key_comes_back_later_and_later() -> None:
    """Twice the pause each time up to a limit; success begins anew; others are not held up."""
    clock = Clock()
    queue = a_queue(clock)
    queue.add("a")
    pauses = []
    for _ in range(12):
        assert await due(queue) == ["a"]
        pauses.append(queue.failed("a"))
        queue.add("b")
        assert await due(queue) == ["b"]
        queue.done("b")
        clock.now += pauses[-1]
    assert pauses[:4] == [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4, FIRST_PAUSE * 8]
    assert pauses[-1] == LONGEST_PAUSE
    assert await due(queue) == ["a"]
    queue.done("a")
    queue.add("a")
    assert await due(queue) == ["a"]
    assert queue.failed("a") == FIRST_PAUSE


async def test_news_does_not_wait_for_a_pause() -> None:
    """What was asked for while it failed is tried again at once: the world has changed."""
    queue = a_queue(Clock())
    queue.add("a")
    assert await due(queue) == ["a"]
    queue.add("a")
    queue.failed("a")
    assert await due(queue) == ["a"]


async def test_the_other_side_may_ask_for_a_longer_pause() -> None:
    """Retry-After, or the end of a grace period."""
    clock = Clock()
    queue = a_queue(clock)
    queue.add("a")
    queue.add("b")
    await due(queue)
    assert queue.failed("a", at_least=60) == 60
    queue.done("b", again=30)
    assert queue.waiting() == {"a": 60}
    clock.now += 30
    assert await due(queue) == ["b"]
    clock.now += 30
    assert await due(queue) == ["a"]


async def test_who_waits_is_woken() -> None:
    """A worker that waits for a far key gets a near one at once."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("far", after=3600)
    waiting = asyncio.create_task(queue.next())
    await asyncio.sleep(0)
    queue.add("near")
    assert await asyncio.wait_for(waiting, 5) == "near"


async def test_closing_lets_what_is_worked_on_end() -> None:
    """No key is given out any more; drained() waits for those that were."""
    queue = a_queue(Clock())
    queue.add("a")
    queue.add("b")
    assert await queue.next() == "a"
    waiting = asyncio.create_task(queue.drained())
    queue.close()
    with pytest.raises(ClosedError):
        await queue.next()
    assert not waiting.done()
    queue.done("a")
    await asyncio.wait_for(waiting, 5)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "late", "run"]), st.booleans()), max_size=40), st.integers(1, 4))
def test_whatever_happens_each_ask_is_followed_by_a_run(steps: list[tuple[str, str, bool]], workers: int) -> None:
    """With any number of workers: never two on one key, and after the last ask for a key it is run once more."""

    async def play() -> None:
        clock = Clock()
        queue = a_queue(clock)
        running: Counter[str] = Counter()
        asked: set[str] = set()
        failing = {key for key, _, fails in steps if fails}

        async def work() -> None:
            while True:
                try:
                    key = await queue.next()
                except ClosedError:
                    return
                running[key] += 1
                assert running[key] == 1
                asked.discard(key)
                await asyncio.sleep(0)
                running[key] -= 1
                if key in failing:
                    failing.discard(key)
                    queue.failed(key)
                    asked.add(key)
                else:
                    queue.done(key)

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
            for key, what, _ in steps:
                if what == "run":
                    clock.now += 1
                    await asyncio.sleep(0)
                else:
                    queue.add(key, after=2.0 if what == "late" else 0.0)
                    asked.add(key)
            for _ in range(50):
                clock.now += 10
                queue.add("wake")
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            assert not asked
            queue.close()

    asyncio.run(play())


async def test_a_hint_cuts_no_pause_short() -> None:
    """It may be the echo of what was done with the image: one that fails waits as long as without it, one that went well is looked at once more."""
    clock = Clock()
    queue = a_queue(clock)
    queue.hint("a")
    assert await due(queue) == ["a"]
    queue.hint("a")
    queue.failed("a")
    queue.hint("a")
    assert await due(queue) == []
    clock.now += FIRST_PAUSE
    assert await due(queue) == ["a"]
    queue.hint("a")
    queue.done("a")
    assert await due(queue) == ["a"]
    queue.done("a")
    assert await due(queue) == []
    assert len(queue) == 0


async def test_it_knows_how_long_a_key_took() -> None:
    """From when it was first due, with all failures; a time that it had to wait for is not counted."""
    clock = Clock()
    queue = a_queue(clock)
    queue.add("a", after=10)
    queue.add("b")
    assert queue.depths() == {"due": 1, "waiting": 1, "working": 0}
    clock.now += 12
    assert await due(queue) == ["b", "a"]
    assert queue.depths() == {"due": 0, "waiting": 0, "working": 2}
    assert queue.done("a") == 2
    queue.failed("b")
    clock.now += 8
    assert await due(queue) == ["b"]
    assert queue.done("b") == 20
    queue.add("b")
    assert await due(queue) == ["b"]
    assert queue.done("b") == 0
