"""The token bucket that limits how fast the registry is read."""

from __future__ import annotations

from controller.engine.pace import Pace


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_a_second_is_free_and_the_rest_is_paid_for() -> None:
    """At 100 bytes a second, 1000 bytes take nine seconds after the first one's worth."""
    time = Time()
    pace = Pace(100, monotonic=time, sleep=time.sleep)
    for _ in range(10):
        await pace.take(100)
    assert time.now == 9


async def test_what_was_not_used_is_not_saved_up() -> None:
    """After a long rest one second's worth is free, no more."""
    time = Time()
    pace = Pace(100, monotonic=time, sleep=time.sleep)
    time.now = 1000
    await pace.take(300)
    assert time.now == 1002


async def test_no_limit_never_waits() -> None:
    """Without a rate nobody sleeps."""
    time = Time()
    await Pace(0, monotonic=time, sleep=time.sleep).take(1 << 40)
    assert time.now == 0
