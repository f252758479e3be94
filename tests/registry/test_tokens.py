"""Tokens that end, tokens that are none, and token servers that fail or talk too much.

The registry here is made up, with its token server in one: a real one neither forgets a token at once nor repeats what it was sent.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable

import pytest

from controller.domain.errors import CorruptError, DeniedError, NotFoundError, RefusedError, RemoteError, UnreachableError
from controller.registry import transport
from controller.registry.credentials import Login
from tests.registry.conftest import MakeClient, Waits
from tests.registry.tokens import Together, challenge, somebody
from tests.support.hostile import Asked, Then, hostile, page, reply, said


class Clock:
    """Stands for time.monotonic."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def token_holder() -> Login:
    """An identity token, as `docker login` leaves it."""
    return Login(identity_token="s3cret-identity")


@pytest.mark.parametrize(
    ("more", "life"),
    [
        ({"expires_in": 300}, 290),
        ({}, 50),
        ({"expires_in": 4}, 2),
        ({"expires_in": -1}, 50),
        ({"expires_in": 1e308}, 86390),
        ({"expires_in": "30"}, 20),
    ],
)
async def test_a_token_is_used_until_shortly_before_its_end(client: MakeClient, more: dict[str, object], life: float) -> None:
    """A token is kept as long as its server says (60 s if it does not say), less a margin; then the next request gets a new one, unasked."""
    script, clock = Together(more), Clock()
    async with hostile(script) as server:
        there = client(server.url)
        there._auth._monotonic = clock
        await there.ping()
        clock.now += life - 0.5
        await there.ping()
        assert (len(script.given), there.requests) == (1, 3)
        clock.now += 1
        await asyncio.gather(*(there.ping() for _ in range(20)))
        assert (len(script.given), there.requests) == (2, 23)


async def test_a_token_that_the_registry_forgot(client: MakeClient) -> None:
    """A 401 to a token means a new token, one for all that were refused at the same time."""
    script = Together()
    async with hostile(script) as server:
        there = client(server.url)
        await there.ping()
        script.good = "nothing"
        await asyncio.gather(*(there.ping() for _ in range(20)))
        assert len(script.given) == 2


async def test_a_refusal_that_comes_late(client: MakeClient) -> None:
    """A 401 to an old token, heard when somebody else has fetched a new one already, takes that and asks for none."""
    script = Together()
    async with hostile(script) as server:
        there = client(server.url)
        await there.ping()
        script.good = "nothing"
        await there.ping()
        assert await there._auth.challenged([f'Bearer realm="{server.url}/token",service="here"'], "", "Bearer t0") == "Bearer t1"
    assert script.given == ["t0", "t1"]


@pytest.mark.parametrize("token", ['{"token": "same"}', None], ids=["the same", "another each time"])
async def test_refused_for_ever(client: MakeClient, token: str | None) -> None:
    """A registry that takes no token is asked twice at most, and its answer is DeniedError, which is not worth a retry."""
    tokens = 0

    def script(asked: Asked) -> bytes:
        nonlocal tokens
        if asked.path == "/token":
            tokens += 1
            return reply(200, token or f'{{"access_token": "t{tokens}"}}')
        return challenge(asked, "/token")

    async with hostile(script) as server:
        there = client(server.url)
        for turn in (1, 2):
            with pytest.raises(DeniedError, match=rf"GET {server.url}/v2/: 401 UNAUTHORIZED") as caught:
                await there.ping()
            assert not caught.value.retryable
            assert tokens == turn
            assert there.requests <= 2 * turn


async def test_an_identity_token(client: MakeClient) -> None:
    """An identity token is sent in a form, not in a URL, and in no Authorization; the access_token that comes back is used."""

    def script(asked: Asked) -> bytes:
        if asked.path == "/token":
            return reply(200, '{"access_token": "short"}')
        return reply(200, "{}") if asked.authorization == "Bearer short" else challenge(asked, "/token")

    async with hostile(script) as server:
        await client(server.url, credentials=token_holder).ping()
        (asked,) = server.of("POST", "/token")
        assert (asked.target, asked.authorization) == ("/token", None)
        assert asked.body == b"service=here&grant_type=refresh_token&refresh_token=s3cret-identity&client_id=wharfinger"


@pytest.mark.parametrize("credentials", [somebody, token_holder])
@pytest.mark.parametrize("where", ["/token", "/v2/"])
async def test_servers_that_repeat_what_they_were_sent(client: MakeClient, credentials: Callable[[], object], where: str) -> None:
    """A server that answers with what it was sent, as debugging proxies do, gets no secret of ours into an error (law 7)."""
    sent: list[str] = []

    def script(asked: Asked) -> bytes:
        if asked.path == where and (asked.authorization or asked.body):
            sent.append(f"{asked.authorization} {base64.b64decode((asked.authorization or '').encode()[6:] + b'==')!r} {asked.body.decode()}")
            return said(403, "DENIED", sent[-1])
        return reply(200, '{"token": "s3cret+token"}') if asked.path == "/token" else challenge(asked, "/token")

    async with hostile(script) as server:
        with pytest.raises(DeniedError, match="403 DENIED") as caught:
            await client(server.url, credentials=credentials).ping()
        assert "s3cret" in sent[0]
        assert not [secret for secret in ("s3cret", "c29tZWJvZHk6") if secret in str(caught.value) + repr(caught.value)]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (said(401, "UNAUTHORIZED"), DeniedError, "401 UNAUTHORIZED"),
        (said(404, "NAME_UNKNOWN"), RefusedError, "404 NAME_UNKNOWN"),
        (page(), DeniedError, "an answer without a token"),
        (page(404), RefusedError, "404 <html>"),
        (reply(302, Location="/v2/"), RefusedError, "302 Found"),
        (reply(200, "{}"), DeniedError, "an answer without a token"),
        (reply(200, "[" * 50_000), DeniedError, "an answer without a token"),
        (reply(200, '{"token": "x", "expires_in": ' + "9" * 400 + "}"), DeniedError, "an answer without a token"),
        (reply(200, '{"token": {"x": 1}}'), DeniedError, "fits in no header"),
        (reply(200, '{"token": "x\\r\\nHost: evil"}'), DeniedError, "fits in no header"),
        (reply(200, '{"token": "\\u20ac"}'), DeniedError, "fits in no header"),
        (reply(200, "x" * 70_000), CorruptError, "more than 64 KiB"),
        (reply(200, "x", Content_Length="9"), UnreachableError, "after"),
    ],
    ids=["denied", "unknown", "page", "no page", "redirect", "empty", "deep", "huge life", "object", "newline", "euro", "long", "cut off"],
)
async def test_answers_that_are_no_token(client: MakeClient, answer: bytes, error: type[RemoteError], words: str) -> None:
    """Whatever a token server says, the error names it and the registry, and never says that an image is not there (law 2)."""

    def script(asked: Asked) -> list[bytes | Then]:
        return [answer, Then.CLOSE] if asked.path == "/token" else [challenge(asked, "/token")]

    async with hostile(script) as server:
        with pytest.raises(error, match=rf"asking {server.url}/token for a token for {server.address}.*{words}") as caught:
            await client(server.url).resolve("a", "1")
        assert not isinstance(caught.value, NotFoundError)


async def test_a_token_server_that_is_busy(client: MakeClient, waits: Waits) -> None:
    """A token server's 429 is waited for like the registry's own."""
    busy = [reply(429, Retry_After="7")]
    script = Together()

    def first_busy(asked: Asked) -> bytes:
        return busy.pop() if busy and asked.path == "/token" else script(asked)

    async with hostile(first_busy) as server:
        await client(server.url).ping()
    assert waits == [7.0]


@pytest.mark.usefixtures("impatient")
async def test_a_refusal_that_holds_the_last_connection(client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The 401's connection is given back before a token is asked for: with all of them waiting for one more, nothing would ever go on."""
    monkeypatch.setattr(transport, "CONNECTIONS", 1)
    script = Together()

    def slow(asked: Asked) -> list[bytes | Then]:
        answer = script(asked)
        return [answer[:-1], Then.STALL] if answer.startswith(b"HTTP/1.1 401") else [answer]

    async with hostile(slow) as server:
        await client(server.url).ping()
    assert script.given == ["t0"]
