"""How many requests a registry gets at a time, when it gets none, and what it does not get. Scripts play the busy ones: no real one is on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from controller.domain.errors import RefusedError
from controller.domain.oci import OCI_INDEX
from controller.registry.manners import LIMITS, LONGEST_REFUSAL, LONGEST_WAIT, Lane, Limit, Manners
from controller.registry.transport import CONNECTIONS
from tests.registry.conftest import MakeClient, Waits
from tests.registry.images import blob, index, read
from tests.support.builders import sha
from tests.support.hostile import Asked, hostile, reply, said


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def answer(status: int = 200, **headers: str) -> httpx.Response:
    """What a registry said."""
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_lanes_leave_each_other_connections() -> None:
    """All lanes full are fewer than the connections, or what one waits for could be what another holds."""
    assert sum(LIMITS.values()) < CONNECTIONS


async def test_so_many_at_a_time() -> None:
    """The next comes in when one leaves, in the order in which they came."""
    limit, order = Limit(2), []

    async def work(number: int) -> None:
        await limit.enter()
        order.append(number)
        await asyncio.sleep(0)
        assert limit._running <= 2
        limit.leave()

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(work(number))
    assert order == list(range(10))
    assert limit._running == 0


async def test_who_is_cancelled_while_waiting_takes_no_place() -> None:
    """Neither before its turn nor at the very moment of it."""
    limit = Limit(1)
    await limit.enter()
    waiting = [asyncio.create_task(limit.enter()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    limit.leave()  # It goes to the second, which is cancelled before it has seen it.
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [each.cancelled() for each in waiting] == [True, True, False]
    assert limit._running == 1


async def test_too_many_requests_halve_the_number() -> None:
    """Once for those that were under way together; then it grows by one for as many answers as are let through at a time."""
    clock = Clock()
    manners = Manners(monotonic=clock)
    small = manners.limits[Lane.SMALL]
    for _ in range(5):
        manners.heed(answer(429), Lane.SMALL)
    assert small.allowed == LIMITS[Lane.SMALL] / 2
    assert manners.limits[Lane.READ].allowed == LIMITS[Lane.READ] / 2
    for _ in range(20):
        clock.now += 2
        manners.heed(answer(429), Lane.SMALL)
    assert small.allowed == 1
    for _ in range(3):
        manners.heed(answer(200), Lane.SMALL)
    assert 2 < small.allowed < 4
    for _ in range(10_000):
        manners.heed(answer(200), Lane.SMALL)
    assert small.allowed == LIMITS[Lane.SMALL]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_pause_is_everybodys(client: MakeClient, waits: Waits, status: int) -> None:
    """Who is asked for a pause tells the others: they wait until it is over before they send anything."""
    first = [said(status, "TOOMANYREQUESTS", Retry_After="7")]
    paused = asyncio.Event()

    def script(_: Asked) -> bytes:
        return first.pop() if first else reply(200, "{}")

    async with hostile(script) as server:
        there = client(server.url)
        real = there._manners._sleep
        resting = asyncio.Event()

        async def sleep(seconds: float) -> None:
            await real(seconds)
            paused.set()
            await resting.wait()

        there._sleep = there._manners._sleep = sleep
        one = asyncio.create_task(there.ping())
        await paused.wait()
        others = [asyncio.create_task(there.ping()) for _ in range(3)]
        while len(waits) < 4:  # noqa: ASYNC110 # the list is what the fixture keeps; each turn of the loop brings them on
            await asyncio.sleep(0)
        assert len(server.asked) == 1
        resting.set()
        await asyncio.gather(one, *others)
        assert waits[0] == 7
        assert all(6 < each <= 7 for each in waits[1:])


async def test_a_pause_that_is_too_long_is_everybodys_error(client: MakeClient) -> None:
    """More than LONGEST_WAIT: nothing is sent any more, and every error says for how long; for an hour at most it is believed."""
    async with hostile(lambda _: said(429, "TOOMANYREQUESTS", Retry_After=str(int(LONGEST_WAIT) + 1))) as server:
        there = client(server.url)
        for _ in range(3):
            with pytest.raises(RefusedError) as caught:
                await there.resolve("a", "1")
            assert caught.value.retryable
            assert caught.value.retry_after == pytest.approx(LONGEST_WAIT + 1, abs=5)
        with pytest.raises(RefusedError, match=r"HEAD .* not sent: .* asked for no requests for another \d+ s"):
            await there.resolve("a", "1")
        assert len(server.asked) == 1
    clock = Clock()
    manners = Manners(monotonic=clock)
    manners.heed(answer(429, Retry_After="9" * 400), Lane.SMALL)
    clock.now += LONGEST_REFUSAL + 1
    await manners.wait("GET x", counted=True)


async def test_where_no_manifest_is_left_none_is_asked_for(client: MakeClient) -> None:
    """Docker Hub counts GETs of manifests: at 0 they are refused here, with the time that it takes. HEADs and blobs go on."""
    left, made = ["1;w=21600", "0;w=21600"], index([])

    def script(asked: Asked) -> bytes:
        if "/blobs/" in asked.path:
            return reply(200, b"blob")
        remaining = left.pop(0) if asked.method == "GET" else None
        more = {"ratelimit_remaining": remaining} if remaining else {}
        return reply(200, made.raw, Content_Type=OCI_INDEX, Docker_Content_Digest=made.digest, **more)

    async with hostile(script) as server:
        there = client(server.url)
        for _ in range(2):
            await there.manifest("a", "1")
        with pytest.raises(RefusedError, match=rf"GET {server.url}/v2/a/manifests/1: not sent: .* rate limit.*log in for a higher one") as caught:
            await there.manifest("a", "1")
        assert caught.value.retry_after == pytest.approx(21600, abs=60)
        assert (await there.resolve("a", "1")).digest == made.digest
        assert await read(there, "a", sha("x")) == b"blob"
        assert len(server.of("GET", "/manifests/")) == 2


async def test_a_rate_limit_ends() -> None:
    """After its window, or when an answer says that there is something left again; each GET takes one; what can't be read says nothing."""
    clock = Clock()
    manners = Manners(monotonic=clock)
    manners.heed(answer(ratelimit_remaining="0;w=60"), Lane.SMALL)
    with pytest.raises(RefusedError):
        await manners.wait("GET x", counted=True)
    manners.heed(answer(ratelimit_remaining="2;w=60"), Lane.SMALL)
    for _ in range(2):
        await manners.wait("GET x", counted=True)
    with pytest.raises(RefusedError):
        await manners.wait("GET x", counted=True)
    clock.now += 61
    await manners.wait("GET x", counted=True)
    manners.heed(answer(ratelimit_remaining="many"), Lane.SMALL)
    await manners.wait("GET x", counted=True)


@pytest.mark.parametrize(("lane", "most"), [(Lane.READ, LIMITS[Lane.READ]), (Lane.SMALL, LIMITS[Lane.SMALL])])
async def test_a_registry_gets_no_more_at_a_time(client: MakeClient, lane: Lane, most: int) -> None:
    """Blobs and small requests have limits of their own, and a blob holds its place until it is read."""
    running, seen = 0, []
    gate = asyncio.Event()

    async with hostile(lambda _: reply(200, b"{}")) as server:
        there = client(server.url)

        async def work() -> None:
            nonlocal running
            async with there._manners.turn(lane):
                running += 1
                seen.append(running)
                await gate.wait()
                running -= 1

        async with asyncio.TaskGroup() as group:
            for _ in range(2 * most):
                group.create_task(work())
            await asyncio.sleep(0.01)
            if lane is Lane.READ:
                await there.ping()  # Small ones pass.
            gate.set()
        assert max(seen) == most


async def test_a_token_that_ended_while_something_was_streamed(client: MakeClient) -> None:
    """401 to a streamed upload: it is worth another try, and that one comes with a new token."""
    tokens = iter(["one", "two", "three"])
    seen: list[str | None] = []

    def script(asked: Asked) -> bytes:
        if asked.path == "/token":
            return reply(200, f'{{"token": "{next(tokens)}"}}')
        if asked.authorization is None or (asked.method == "PUT" and not seen):
            if asked.method == "PUT":
                seen.append(asked.authorization)
            return reply(401, WWW_Authenticate=f'Bearer realm="{server.url}/token",service="x"')
        if asked.method == "PUT":
            seen.append(asked.authorization)
        return reply(202, Location="/upload/1") if asked.method == "POST" else reply(201)

    async def stream() -> AsyncIterator[bytes]:
        yield b"streamed"

    async with hostile(script) as server:
        there = client(server.url)
        with pytest.raises(Exception, match="401") as caught:
            await there.write_blob("a", blob(b"streamed"), stream())
        assert getattr(caught.value, "retryable", False)
        await there.write_blob("a", blob(b"streamed"), stream())
        assert seen == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize(
    ("answered", "words"),
    [
        (reply(206, b"cdef", Content_Range="bytes 2-5/6"), ""),
        (reply(206, b"cdef", Content_Range="bytes 2-5/*"), ""),
        (reply(200, b"abcdef"), ""),
        (reply(206, b"cdef", Content_Range="bytes 1-4/6"), "206 bytes 1-4/6"),
        (reply(206, b"cdef"), "206 without a range"),
        (reply(204), "204 without a range"),
        (reply(200, b"a"), "a body of 1 bytes"),
        (said(416, "RANGE_INVALID"), "416 RANGE_INVALID"),
    ],
)
async def test_the_rest_of_a_blob(client: MakeClient, answered: bytes, words: str) -> None:
    """It is asked for by Range. 206 must begin there, of a 200 what came before is passed over, anything else is an error that says so."""
    async with hostile(lambda _: answered) as server:
        there = client(server.url)

        async def rest() -> bytes:
            async with there.read_blob("a", sha("x"), 2) as chunks:
                return b"".join([chunk async for chunk in chunks])

        if words:
            with pytest.raises(Exception, match=words):
                await rest()
        else:
            assert await rest() == b"cdef"
        assert server.asked[0].headers["range"] == "bytes=2-"


async def test_a_part_that_nobody_asked_for(client: MakeClient) -> None:
    """206 to a request for all of it is no blob."""
    async with hostile(lambda _: reply(206, b"cdef", Content_Range="bytes 2-5/6")) as server:
        with pytest.raises(Exception, match="206 bytes 2-5/6"):
            await read(client(server.url), "a", sha("x"))
