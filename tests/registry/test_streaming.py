"""Uploads of unknown length, on a real registry: what breaks off leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from controller.domain.errors import CorruptError, UnreachableError
from controller.domain.oci import digest_of
from controller.registry.client import RegistryClient
from tests.registry.conftest import MakeClient
from tests.registry.images import chunks
from tests.support.servers import RegistryServer

PART = b"part" * 100_000


def _uploads(registry: RegistryServer) -> list[str]:
    """The bytes of uploads that are not ended; the registry itself leaves a few empty folders."""
    return [path.parent.name for path in registry.home.rglob("_uploads/*/data")]


@pytest.fixture
def registry_client(client: MakeClient, registry: RegistryServer) -> RegistryClient:
    """A client of the real registry."""
    return client(registry.url)


async def test_a_source_that_breaks_off(registry_client: RegistryClient, registry: RegistryServer) -> None:
    """The source's own error is told, and the registry is told that nothing more comes."""

    async def broken() -> AsyncIterator[bytes]:
        yield PART
        raise CorruptError("reading the layer", "it is damaged")

    with pytest.raises(CorruptError, match="it is damaged"):
        await registry_client.stream_blob("cyroid/kali", broken())
    assert _uploads(registry) == []


async def test_an_upload_that_is_cancelled(registry_client: RegistryClient) -> None:
    """Nothing is kept of it that could be taken for a blob, and the client works on. The registry itself purges what was cut."""
    begun = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield PART
        begun.set()
        await asyncio.Event().wait()

    doing = asyncio.create_task(registry_client.stream_blob("cyroid/kali", slow()))
    await begun.wait()
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert not await registry_client.has_blob("cyroid/kali", digest_of(PART))
    assert (await registry_client.stream_blob("cyroid/kali", chunks(PART))).digest == digest_of(PART)


async def test_a_registry_that_dies(registry_client: RegistryClient, registry: RegistryServer) -> None:
    """No answer is UnreachableError, not the source's fault."""

    async def killing() -> AsyncIterator[bytes]:
        yield PART
        registry.stop(kill=True)
        for _ in range(100):
            yield PART

    with pytest.raises(UnreachableError):
        await registry_client.stream_blob("cyroid/kali", killing())


async def test_many_at_a_time(registry_client: RegistryClient) -> None:
    """Each is hashed by itself."""
    done = await asyncio.gather(*(registry_client.stream_blob("cyroid/kali", chunks(b"%d" % number, PART)) for number in range(8)))
    assert [each.digest for each in done] == [digest_of(b"%d" % number + PART) for number in range(8)]
