"""Who we are, to real registries that ask: Basic by htpasswd, Bearer by tokens that the registry verifies itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller.domain.errors import DeniedError, NotFoundError
from controller.registry.client import RegistryClient
from controller.registry.credentials import Credentials, Login
from tests.conftest import StartRegistry
from tests.registry.conftest import Certificate, MakeClient
from tests.registry.images import blob, chunks, pushed, read, whole
from tests.registry.tokens import TokenServer
from tests.support.builders import sha
from tests.support.hostile import Asked, Hostile, hostile, reply
from tests.support.servers import RegistryServer

PASSWORD = "correct horse: battery"
HASHED = "$2y$05$whArfinGertestSa1tvalumavaTwPtbZLYurtl9j303k5U9inTLce"
"""PASSWORD by bcrypt, for which there is nothing in the standard library. test_basic shows that the registry takes it for the same."""


def login(username: str = "wharf", password: str = PASSWORD) -> Credentials:
    """Credentials that are always these."""

    async def credentials() -> Login:
        return Login(username, password)

    return credentials


@pytest.fixture
def htpasswd(start_registry: StartRegistry, short_path: Path) -> RegistryServer:
    """A registry for one user, `wharf`."""
    (short_path / "htpasswd").write_text(f"wharf:{HASHED}\n")
    return start_registry(extra={"auth": {"htpasswd": {"realm": "wharf test", "path": str(short_path / "htpasswd")}}})


async def test_basic(htpasswd: RegistryServer, client: MakeClient) -> None:
    """With the right password everything works; only the very first request is sent twice."""
    there = client(htpasswd.url, credentials=login())
    await there.ping()
    assert there.requests == 2
    manifest = await pushed(there, "a", "1", "word")
    assert await whole(there, "a", "1") == manifest.digest
    assert await there.catalog() == ["a"]
    await there.delete_tag("a", "1")
    assert await there.tags("a") == []


@pytest.mark.parametrize("credentials", [None, login(password="wrong secret"), login(username="nobody")], ids=["nobody", "password", "user"])
async def test_basic_that_is_wrong(htpasswd: RegistryServer, client: MakeClient, credentials: Credentials | None) -> None:
    """Without the right credentials everything is DeniedError: never NotFoundError, never an empty list (law 2), and never with the password."""
    there = client(htpasswd.url, **({"credentials": credentials} if credentials else {}))
    digest = sha("x")
    acts = [
        there.ping(),
        there.resolve("a", "1"),
        there.manifest("a", digest),
        there.has_blob("a", digest),
        there.tags("a"),
        there.catalog(),
        there.mount("a", digest, "b"),
        there.write_blob("a", blob(b"x"), chunks(b"x")),
        there.delete_tag("a", "1"),
    ]
    for act in acts:
        with pytest.raises(DeniedError, match=rf"(GET|HEAD|POST) {htpasswd.url}/v2/.*: 401 .*docker login") as caught:
            await act
        assert "secret" not in str(caught.value) + repr(caught.value)
        assert PASSWORD not in str(caught.value) + repr(caught.value)
    assert there.requests <= 2 * len(acts)  # None is tried for ever.


async def test_basic_is_read_again_when_it_is_refused(htpasswd: RegistryServer, client: MakeClient) -> None:
    """A login is read once, not at each request (a helper is a process), and again when it is refused: passwords rotate."""
    logins = [Login("wharf", "old"), Login("wharf", PASSWORD)]
    reads = []

    async def rotating() -> Login:
        reads.append(logins[0])
        return logins[0]

    there = client(htpasswd.url, credentials=rotating)
    with pytest.raises(DeniedError):
        await there.ping()
    logins.pop(0)
    await there.ping()
    before = len(reads)
    await asyncio.gather(*(there.ping() for _ in range(20)))
    assert len(reads) == before


async def test_a_blob_at_another_host_is_fetched_without_our_login(start_registry: StartRegistry, short_path: Path, client: MakeClient) -> None:
    """A registry that sends its readers to a storage host: the blob comes from there, and our Authorization does not go there (law 7)."""

    def storage(asked: Asked) -> bytes:
        return reply(200, (data / asked.path.lstrip("/")).read_bytes(), Set_Cookie="track=me")

    async with hostile(storage) as server:
        (short_path / "htpasswd").write_text(f"wharf:{HASHED}\n")
        home = start_registry(
            extra={
                "auth": {"htpasswd": {"realm": "wharf test", "path": str(short_path / "htpasswd")}},
                "middleware": {"storage": [{"name": "redirect", "options": {"baseurl": f"{server.url}/"}}]},
            }
        )
        data = home.home / "data"
        there = client(home.url, credentials=login())
        digest = blob(b"stored elsewhere").digest
        await there.write_blob("a", blob(b"stored elsewhere"), chunks(b"stored elsewhere"))
        for _ in range(2):
            assert await read(there, "a", digest) == b"stored elsewhere"
        assert len(server.asked) == 2
        assert all(each.authorization is None and "cookie" not in each.headers for each in server.asked)


@dataclass
class Guarded:
    """A real registry that wants tokens, the server that gives them, and a client that is asked who it is."""

    registry: RegistryServer
    tokens: TokenServer
    server: Hostile
    client: RegistryClient


@pytest.fixture
async def guarded(start_registry: StartRegistry, certificate: Certificate, client: MakeClient) -> AsyncIterator[Guarded]:
    """A registry with Bearer tokens."""
    tokens = TokenServer(certificate)
    async with hostile(tokens) as server:
        home = start_registry(extra=tokens.auth(f"{server.url}/token"))
        yield Guarded(home, tokens, server, client(home.url, credentials=login()))


async def test_bearer(guarded: Guarded) -> None:
    """With tokens all that a registry can do is done, each with the scope that the registry wants for it, and no more."""
    there = guarded.client
    await there.ping()
    manifest = await pushed(there, "a/b", "1", "word")
    await pushed(there, "a/b", "2", "word")
    assert await whole(there, "a/b", "1") == manifest.digest
    assert await there.mount("c", manifest.layers[0].digest, "a/b")
    assert await there.catalog() == ["a/b", "c"]
    await there.delete_tag("a/b", "1")
    assert await there.tags("a/b") == ["2"]
    assert {tuple(scopes) for scopes in guarded.tokens.scopes} == {
        (),
        ("repository:a/b:pull",),
        ("repository:a/b:pull,push",),
        ("repository:a/b:pull,push,delete",),
        ("repository:c:pull,push", "repository:a/b:pull"),  # One parameter for each, as Docker's token specification says.
        ("registry:catalog:*",),
    }


async def test_bearer_is_asked_for_once(guarded: Guarded) -> None:
    """A token is asked for once for its scope, by however many at the same time, and kept."""
    manifest = await pushed(guarded.client, "a", "1", "word")
    guarded.tokens.asked.clear()
    for _ in range(2):
        await asyncio.gather(*(guarded.client.resolve("a", "1") for _ in range(100)))
    assert (await guarded.client.resolve("a", manifest.digest)).digest == manifest.digest
    assert guarded.tokens.scopes == [["repository:a:pull"]]


async def test_many_at_once_before_any_challenge(guarded: Guarded) -> None:
    """A hundred requests at once to a registry that nobody has asked yet share one token, and none waits for ever for a connection."""
    answers = await asyncio.gather(*(guarded.client.resolve("a", "1") for _ in range(100)), return_exceptions=True)
    assert [type(each) for each in answers] == [NotFoundError] * 100
    assert guarded.tokens.scopes == [["repository:a:pull"]]


async def test_who_asks_for_a_token(guarded: Guarded) -> None:
    """The token server gets our login by Basic and the registry's service; the registry never sees the login."""
    await guarded.client.ping()
    (asked,) = guarded.tokens.asked
    assert asked.authorization == "Basic d2hhcmY6Y29ycmVjdCBob3JzZTogYmF0dGVyeQ=="
    assert asked.query == {"service": ["wharf test registry"]}


async def test_a_token_that_the_registry_refuses(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token without the right that was asked for is tried twice and no more: DeniedError, with neither token nor login in it."""
    real = guarded.tokens.token
    given: list[str] = []

    def less(_: list[str]) -> str:
        given.append(real([]))
        return given[-1]

    monkeypatch.setattr(guarded.tokens, "token", less)
    with pytest.raises(DeniedError, match=r"HEAD http://.*/v2/a/manifests/1: 401") as caught:
        await guarded.client.resolve("a", "1")
    assert len(given) <= 2
    assert not [secret for secret in (*given, PASSWORD) if secret in str(caught.value) + repr(caught.value)]
