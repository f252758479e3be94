"""What every Registry keeps (domain.ports.registries.Registry): the client on a real registry, and the twin in memory that property tests use."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from controller.domain.errors import CorruptError, NotFoundError, RefusedError
from controller.domain.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, digest_of, once, parse_manifest
from controller.domain.ports.registries import Registry
from controller.registry.client import RegistryClient
from tests.support.memory import MemoryRegistry, config_of, image_manifest

LAYER = b"layer" * 1000
MISSING = "sha256:" + "0" * 64


@pytest.fixture(params=["memory", "real"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Registry]:
    """Both in turn."""
    if request.param == "memory":
        yield MemoryRegistry()
        return
    client = RegistryClient(request.getfixturevalue("registry").url)
    yield client
    await client.close()


async def _read(registry: Registry, repository: str, digest: str) -> bytes:
    async with registry.read_blob(repository, digest) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def _push(registry: Registry, repository: str, tag: str, layer: bytes = LAYER) -> Manifest:
    config = config_of([layer])
    for data in (layer, config):
        await registry.write_blob(repository, Descriptor("", digest_of(data), len(data)), once(data))
    manifest = image_manifest(config, [layer], OCI_MANIFEST)
    await registry.put_manifest(repository, tag, manifest)
    return manifest


async def test_what_is_put_comes_back_verbatim(subject: Registry) -> None:
    """By tag and by digest: the same bytes, the same digest, the same type; and the tag is listed."""
    put = await _push(subject, "cyroid/kali", "1")
    for identifier in ("1", put.digest):
        assert await subject.manifest("cyroid/kali", identifier) == put
        found = await subject.resolve("cyroid/kali", identifier)
        assert (found.digest, found.media_type, found.size) == (put.digest, put.media_type, len(put.raw))
    assert await subject.tags("cyroid/kali") == ["1"]
    assert await subject.catalog() == ["cyroid/kali"]
    assert await _read(subject, "cyroid/kali", digest_of(LAYER)) == LAYER
    await subject.ping()


@pytest.mark.parametrize("identifier", ["none", MISSING])
async def test_absent_is_said_as_absent(subject: Registry, identifier: str) -> None:
    """In a repository that exists and in one that does not."""
    await _push(subject, "cyroid/kali", "1")
    for repository in ("cyroid/kali", "cyroid/none"):
        with pytest.raises(NotFoundError):
            await subject.resolve(repository, identifier)
        with pytest.raises(NotFoundError):
            await subject.manifest(repository, identifier)
        assert not await subject.has_blob(repository, MISSING)
        with pytest.raises(NotFoundError):
            await _read(subject, repository, MISSING)
    assert await subject.tags("cyroid/none") == []


@pytest.mark.parametrize("start", [1, 4096, len(LAYER) - 1])
async def test_a_blob_is_read_from_a_byte_on(subject: Registry, start: int) -> None:
    """The rest of it, and nothing before."""
    await _push(subject, "cyroid/kali", "1")
    async with subject.read_blob("cyroid/kali", digest_of(LAYER), start) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == LAYER[start:]


async def test_a_blob_is_offered(subject: Registry) -> None:
    """Where the repository has it, that is all; where it has not, an upload is open, which takes it. Another repository may be named as its home."""
    await _push(subject, "cyroid/kali", "1")
    assert not await subject.offer("cyroid/kali", digest_of(LAYER), "cyroid/kali")
    assert not await subject.offer("tools/base", digest_of(LAYER), "cyroid/kali")
    assert await _read(subject, "tools/base", digest_of(LAYER)) == LAYER
    upload = await subject.offer("tools/base", digest_of(b"new"), "tools/base")
    assert upload
    await subject.write_blob("tools/base", Descriptor("", digest_of(b"new"), 3), once(b"new"), upload)
    assert await _read(subject, "tools/base", digest_of(b"new")) == b"new"


async def test_referrers_where_the_registry_lacks_the_api(subject: Registry) -> None:
    """None, which is not the same as an empty list."""
    put = await _push(subject, "cyroid/kali", "1")
    assert await subject.referrers("cyroid/kali", put.digest) is None


async def test_a_blob_with_other_bytes_is_refused(subject: Registry) -> None:
    """The digest is checked on arrival, and nothing is kept."""
    claimed = digest_of(b"other")
    with pytest.raises(CorruptError):
        await subject.write_blob("cyroid/kali", Descriptor("", claimed, len(LAYER)), once(LAYER))
    assert not await subject.has_blob("cyroid/kali", claimed)


async def test_a_blob_whose_digest_is_known_at_its_end_only(subject: Registry) -> None:
    """It is stored under the digest of what was sent, which is told; an empty one too."""

    async def parts(*given: bytes) -> AsyncIterator[bytes]:
        for each in given:
            yield each

    stored = await subject.stream_blob("cyroid/kali", parts(LAYER, b"", LAYER, b"end"))
    whole = LAYER + LAYER + b"end"
    assert (stored.digest, stored.size) == (digest_of(whole), len(whole))
    assert await _read(subject, "cyroid/kali", stored.digest) == whole
    assert (await subject.stream_blob("cyroid/kali", parts())).digest == digest_of(b"")


async def test_a_stream_that_breaks_off_leaves_no_blob(subject: Registry) -> None:
    """Its own error is the one that is told, and nothing of it is kept."""

    async def broken() -> AsyncIterator[bytes]:
        yield LAYER
        raise CorruptError("reading", "it broke off")

    with pytest.raises(CorruptError, match="it broke off"):
        await subject.stream_blob("cyroid/kali", broken())
    assert not await subject.has_blob("cyroid/kali", digest_of(LAYER))


async def test_a_blob_is_mounted_from_where_it_is(subject: Registry) -> None:
    """True where the other repository has it, False where it has to be uploaded."""
    await _push(subject, "cyroid/kali", "1")
    assert await subject.mount("tools/base", digest_of(LAYER), "cyroid/kali")
    assert await _read(subject, "tools/base", digest_of(LAYER)) == LAYER
    assert not await subject.mount("tools/base", MISSING, "cyroid/kali")


async def test_a_manifest_that_is_known(subject: Registry) -> None:
    """Is given as it is while the tag means it; then what the tag means now, and none when the tag is gone."""
    known = await _push(subject, "cyroid/kali", "1")
    assert await subject.manifest("cyroid/kali", "1", known) is known
    config = config_of([LAYER, LAYER])
    other = image_manifest(config, [LAYER, LAYER], OCI_MANIFEST)
    await subject.write_blob("cyroid/kali", Descriptor("", digest_of(config), len(config)), once(config))
    await subject.put_manifest("cyroid/kali", "1", other)
    assert await subject.manifest("cyroid/kali", "1", known) == other
    await subject.delete_tag("cyroid/kali", "1")
    with pytest.raises(NotFoundError):
        await subject.manifest("cyroid/kali", "1", other)


async def test_a_manifest_without_its_blobs_is_refused(subject: Registry) -> None:
    """Blobs first, then the manifest; and no tag is left of a refused one."""
    manifest = image_manifest(config_of([LAYER]), [LAYER], OCI_MANIFEST)
    with pytest.raises(RefusedError):
        await subject.put_manifest("cyroid/kali", "1", manifest)
    with pytest.raises(NotFoundError):
        await subject.resolve("cyroid/kali", "1")


async def test_an_index_without_its_children_is_refused(subject: Registry) -> None:
    """Children first, then the index."""
    child = await _push(subject, "cyroid/kali", "1")
    entry = {"mediaType": child.media_type, "digest": child.digest, "size": len(child.raw)}

    def index(*entries: dict[str, object]) -> Manifest:
        return parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode())

    with pytest.raises(RefusedError):
        await subject.put_manifest("cyroid/kali", "all", index({**entry, "digest": MISSING}))
    whole = index(entry)
    await subject.put_manifest("cyroid/kali", "all", whole)
    assert (await subject.manifest("cyroid/kali", "all")).raw == whole.raw


async def test_a_tag_moves(subject: Registry) -> None:
    """Overwriting a tag leaves the old manifest by digest."""
    old, new = await _push(subject, "cyroid/kali", "1"), await _push(subject, "cyroid/kali", "1", b"new")
    assert (await subject.resolve("cyroid/kali", "1")).digest == new.digest
    assert (await subject.resolve("cyroid/kali", old.digest)).digest == old.digest


async def test_a_tag_is_deleted_alone(subject: Registry) -> None:
    """Another tag of the same digest stays, and so does the manifest."""
    manifest = await _push(subject, "cyroid/kali", "1")
    await subject.put_manifest("cyroid/kali", "2", manifest)
    await subject.delete_tag("cyroid/kali", "1")
    assert await subject.tags("cyroid/kali") == ["2"]
    assert (await subject.manifest("cyroid/kali", manifest.digest)) == manifest
    with pytest.raises(NotFoundError):
        await subject.delete_tag("cyroid/kali", "1")
