"""What the client and a real registry (Distribution) say to each other when nothing goes wrong, or only what is missing."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from controller.domain.errors import CorruptError, NotFoundError, RefusedError, UnreachableError, UsageError
from controller.domain.oci import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, digest_of
from tests.conftest import StartRegistry
from tests.registry.conftest import Certificate, MakeClient
from tests.registry.images import blob, chunks, index, pushed, read, whole
from tests.support.builders import sha
from tests.support.servers import RegistryServer

NOBODY = sha("nobody has this")


async def test_ping_of_a_registry(registry: RegistryServer, client: MakeClient) -> None:
    """A registry that answers is one, by one request, and its address is what names it."""
    there = client(registry.url)
    await there.ping()
    assert (there.requests, there.address) == (1, registry.address)


async def test_a_slash_after_the_url_changes_nothing(registry: RegistryServer, client: MakeClient) -> None:
    """People write a URL with and without a slash at its end."""
    await client(f"{registry.url}/").ping()


async def test_a_blob_comes_back_as_it_went(registry: RegistryServer, client: MakeClient) -> None:
    """A blob of several chunks is read back byte for byte, and the registry says that it has it."""
    there, data = client(registry.url), secrets.token_bytes(3 << 20)
    assert not await there.has_blob("a/b", digest_of(data))
    await there.write_blob("a/b", blob(data), chunks(data[: 1 << 20], b"", data[1 << 20 :]))
    assert await there.has_blob("a/b", digest_of(data))
    assert await read(there, "a/b", digest_of(data)) == data


async def test_an_empty_blob_is_a_blob(registry: RegistryServer, client: MakeClient) -> None:
    """A blob of no bytes is written and read like any other."""
    there = client(registry.url)
    await there.write_blob("a", blob(b""), chunks())
    assert await read(there, "a", digest_of(b"")) == b""


async def test_a_blob_that_is_read_in_part_leaves_the_client_usable(registry: RegistryServer, client: MakeClient) -> None:
    """Who stops reading in the middle of a blob costs nobody else anything."""
    there, data = client(registry.url), bytes(8 << 20)
    await there.write_blob("a", blob(data), chunks(data))
    async with there.read_blob("a", digest_of(data)) as parts:
        assert await anext(parts)
    assert await read(there, "a", digest_of(data)) == data


async def test_bytes_that_are_not_the_digest_are_refused(registry: RegistryServer, client: MakeClient) -> None:
    """Other bytes than the digest's are a CorruptError, and nothing is there afterwards under either digest."""
    there, data = client(registry.url), b"what was promised"
    with pytest.raises(CorruptError, match=r"PUT http://127.*DIGEST_INVALID"):
        await there.write_blob("a", blob(data), chunks(b"what was smuggled"))
    assert not await there.has_blob("a", digest_of(data))
    assert not await there.has_blob("a", digest_of(b"what was smuggled"))


@pytest.mark.parametrize(("sent", "found"), [(b"short", "5 bytes, 10 by"), (b"longer than that", "more than 10 bytes, 10 by")])
async def test_a_blob_of_another_size_is_refused(registry: RegistryServer, client: MakeClient, sent: bytes, found: str) -> None:
    """A size that lies is a CorruptError that names the blob, at once: the registry would wait for the missing bytes."""
    there, lie = client(registry.url), Descriptor("application/octet-stream", digest_of(sent), 10)
    with pytest.raises(CorruptError, match=f"{digest_of(sent)}: {found}"):
        await there.write_blob("a", lie, chunks(sent))
    assert not await there.has_blob("a", digest_of(sent))
    await there.ping()


async def test_a_source_that_breaks_off_is_the_one_to_blame(registry: RegistryServer, client: MakeClient) -> None:
    """What the source of an upload raised is what comes out: the registry that it went to did nothing wrong."""
    there, told = client(registry.url), UnreachableError("GET http://upstream/v2/x", "cut off")

    async def broken() -> AsyncIterator[bytes]:
        yield b"first"
        raise told

    with pytest.raises(UnreachableError) as caught:
        await there.write_blob("a", Descriptor("", NOBODY, 100), broken())
    assert caught.value is told


async def test_mount_from_a_repository_that_has_it(registry: RegistryServer, client: MakeClient) -> None:
    """A blob of one repository is mounted in another without its bytes being sent."""
    there, data = client(registry.url), b"shared"
    await there.write_blob("one", blob(data), chunks(data))
    assert await there.mount("two", digest_of(data), "one")
    assert await read(there, "two", digest_of(data)) == data


async def test_mount_from_a_repository_that_lacks_it(registry: RegistryServer, client: MakeClient) -> None:
    """A mount that can't be is False, which means upload it."""
    there = client(registry.url)
    await there.write_blob("one", blob(b"other"), chunks(b"other"))
    assert not await there.mount("two", NOBODY, "one")
    assert not await there.mount("two", NOBODY, "never-was")


@pytest.mark.parametrize("media_type", [DOCKER_MANIFEST, OCI_MANIFEST])
async def test_manifest_bytes_are_kept(registry: RegistryServer, client: MakeClient, media_type: str) -> None:
    """A manifest comes back verbatim, and its tag and its digest mean the same by HEAD and by GET (law 4)."""
    there = client(registry.url)
    manifest = await pushed(there, "a/b", "1", "word", media_type)
    by_tag, by_digest = [await there.resolve("a/b", each) for each in ("1", manifest.digest)]
    assert by_tag == by_digest == Descriptor(media_type, manifest.digest, len(manifest.raw))
    assert (await there.manifest("a/b", "1")) == (await there.manifest("a/b", manifest.digest)) == manifest


@pytest.mark.parametrize(("list_type", "media_type"), [(DOCKER_LIST, DOCKER_MANIFEST), (OCI_INDEX, OCI_MANIFEST)])
async def test_index_bytes_are_kept(registry: RegistryServer, client: MakeClient, list_type: str, media_type: str) -> None:
    """An index comes back verbatim, not as one of its platforms, and each child is there by digest (law 4)."""
    there = client(registry.url)
    children = [await pushed(there, "a", "", word, media_type) for word in ("amd64", "arm64")]
    both = index(children, list_type)
    await there.put_manifest("a", "1", both)
    assert await there.manifest("a", "1") == both
    assert await there.resolve("a", "1") == Descriptor(list_type, both.digest, len(both.raw))
    assert await whole(there, "a", "1") == both.digest


async def test_index_without_its_children_is_refused(registry: RegistryServer, client: MakeClient) -> None:
    """A registry that wants the children first says so as a refusal, with its words."""
    there = client(registry.url)
    child = await pushed(there, "elsewhere", "", "child")
    with pytest.raises(RefusedError, match=r"PUT http://.*/v2/a/manifests/1: 400 MANIFEST_BLOB_UNKNOWN"):
        await there.put_manifest("a", "1", index([child], DOCKER_LIST))


async def test_what_is_not_there_is_not_found(registry: RegistryServer, client: MakeClient) -> None:
    """Only the registry's own "unknown" is NotFoundError: a tag, a digest, a blob, and all of a repository that never was."""
    there = client(registry.url)
    await pushed(there, "a", "1", "word")
    for repository, identifier in (("a", "2"), ("a", NOBODY), ("never-was", "1"), ("never-was", NOBODY)):
        for ask in (there.resolve, there.manifest):
            with pytest.raises(NotFoundError, match=f"/v2/{repository}/manifests/{identifier}: 404"):
                await ask(repository, identifier)
    for repository in ("a", "never-was"):
        assert not await there.has_blob(repository, NOBODY)
        with pytest.raises(NotFoundError, match=f"/v2/{repository}/blobs/{NOBODY}: 404"):
            await read(there, repository, NOBODY)


async def test_cancelling_many_leaves_the_client_usable(registry: RegistryServer, client: MakeClient) -> None:
    """Many requests that are cancelled on their way cost no connection: as many again all pass."""
    there, data = client(registry.url), bytes(1 << 20)
    await there.write_blob("a", blob(data), chunks(data))
    for turns in range(6):  # Each round is cancelled a little further on its way.
        tasks = [asyncio.create_task(read(there, "a", digest_of(data))) for _ in range(100)]
        for _ in range(turns * turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert await asyncio.gather(*(read(there, "a", digest_of(data)) for _ in range(100))) == [data] * 100


async def test_a_registry_behind_tls(start_registry: StartRegistry, client: MakeClient, certificate: Certificate) -> None:
    """With its authority as caFile a registry is trusted; without, nothing is said to it and the error says what to do."""
    tls = {"http": {"tls": {"certificate": str(certificate.certificate), "key": str(certificate.key)}}}
    url = start_registry(extra=tls).url.replace("http://", "https://")
    await client(url, ca_file=certificate.certificate).ping()
    with pytest.raises(UnreachableError, match=r"GET https://.*certificate verify failed.*caFile"):
        await client(url).ping()


def test_an_authority_that_is_none(client: MakeClient, certificate: Certificate) -> None:
    """A caFile that is missing or no certificate is a mistake in the file, named with its path."""
    for path in (certificate.key, certificate.key.with_name("missing.pem")):
        with pytest.raises(UsageError, match=rf"caFile {path}: .*PEM"):
            client("https://127.0.0.1:1", ca_file=path)
