"""Copies over a bad line, of shared blobs, and of what nobody could use: real registries, with a proxy that breaks things between them."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from controller.domain.errors import CorruptError, DeniedError, MovedError, NotFoundError, RefusedError, RemoteError
from controller.domain.oci import OCI_MANIFEST, digest_of, parse_manifest
from controller.engine import blobs
from controller.engine.tree import MOST
from tests.conftest import StartRegistry
from tests.engine.copies import GZIP, ZSTD, child, copies, entry, image, index, index_of, upload
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.hostile import hostile, reply, said
from tests.support.servers import RegistryServer

MIB = 1 << 20


async def test_a_download_that_breaks_goes_on_from_where_it_was(registry: RegistryServer, internet: RegistryServer) -> None:
    """Three breaks in one blob: the rest is asked for by Range, into one upload, and the bytes fetched are the blob's size, not twice that."""
    async with fault_proxy(internet.url) as source, fault_proxy(registry.url) as target, copies(target.url, source.url) as these:
        layer = os.urandom(8 * MIB)
        made = await image(these.source, "org/app", "1", [layer])
        source.passed.clear()
        blob = digest_of(layer)
        source.spoil("GET", blob, Fault(cut=2 * MIB), Fault(cut=2 * MIB), Fault(cut=100))
        await these.copy("org/app:1", made.digest)
        ranges = [each.headers.get("range", "") for each in source.of("GET", blob)]
        assert len(ranges) == 4
        assert [each.status for each in source.of("GET", blob)] == [200, 206, 206, 206]
        assert 8 * MIB <= source.down(blob) < 9 * MIB
        assert [each.up for each in target.of("PUT", blob)] == [8 * MIB]
        assert sum(these.told) == 8 * MIB + sum(blob.size for blob in made.blobs if blob.size < MIB)
        assert (await these.registry.resolve("org/app", "1")).digest == made.digest


async def test_a_registry_without_ranges(registry: RegistryServer, internet: RegistryServer) -> None:
    """It gives all of it again: what is there already is passed over, and the image is whole."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        layer = os.urandom(3 * MIB)
        made = await image(these.source, "org/app", "1", [layer])
        source.spoil("GET", digest_of(layer), Fault(cut=MIB), Fault(drop_header="range"))
        await these.copy("org/app:1", made.digest)
        assert [each.status for each in source.of("GET", digest_of(layer))] == [200, 200]


async def test_there_is_an_end_to_reconnecting(registry: RegistryServer, internet: RegistryServer) -> None:
    """A line that brings no byte any more is given up after a few tries, and nothing is tagged."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        layer = os.urandom(MIB)
        made = await image(these.source, "org/app", "1", [layer])
        source.always = [("GET", digest_of(layer), Fault(cut=0))]
        with pytest.raises(RemoteError, match=rf"copying docker.io/org/app:1, blob {digest_of(layer)[:19]}, from {source.address}") as caught:
            await these.copy("org/app:1", made.digest)
        assert caught.value.retryable
        assert len(source.of("GET", digest_of(layer))) == blobs._IN_VAIN
        with pytest.raises(NotFoundError):
            await these.registry.resolve("org/app", "1")
        assert these.idle


async def test_an_upload_that_breaks_is_begun_anew(registry: RegistryServer, internet: RegistryServer) -> None:
    """What a registry took in part is worth nothing: another upload, from the first byte."""
    async with fault_proxy(registry.url) as target, copies(target.url, internet.url) as these:
        layer = os.urandom(4 * MIB)
        made = await image(these.source, "org/app", "1", [layer])
        target.spoil("PUT", digest_of(layer), Fault(cut_upload=MIB), Fault(answer=said(500, "UNKNOWN")))
        await these.copy("org/app:1", made.digest)
        assert [each.up for each in target.of("PUT", digest_of(layer))][-1] == 4 * MIB
        assert len({each.path.partition("?")[0] for each in target.of("PUT", digest_of(layer))}) == 3
        assert these.idle
        assert sum(these.told) == made.size


async def test_a_copy_that_is_cancelled_gives_everything_back(registry: RegistryServer, internet: RegistryServer) -> None:
    """In the middle of a blob: no request of it goes on, no place is kept, and the next copy of the same image comes."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        layer = os.urandom(4 * MIB)
        made = await image(these.source, "org/app", "1", [layer])
        source.spoil("GET", digest_of(layer), Fault(hold=asyncio.Event()))
        copying = asyncio.create_task(these.copy("org/app:1", made.digest))
        await source.until("GET", digest_of(layer))
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
        assert these.idle
        assert await these.copy("org/app:1", made.digest) == made.digest


@pytest.mark.parametrize("kind", [GZIP, ZSTD])
async def test_layers_are_bytes(registry: RegistryServer, internet: RegistryServer, kind: str) -> None:
    """gzip or zstd, or what says that it is: nobody unpacks it, its manifest comes verbatim."""
    async with copies(registry.url, internet.url) as these:
        made = await image(these.source, "org/app", "1", [os.urandom(1000)], kind=kind)
        assert await these.copy("org/app:1", made.digest) == made.digest
        assert (await these.registry.manifest("org/app", "1")).raw == made.raw


async def test_a_layer_that_is_not_distributable_stays_at_its_url(start_registry: StartRegistry) -> None:
    """Its url goes along in the manifest, its bytes are not asked for."""
    allowed = {"validation": {"manifests": {"urls": {"allow": ["^https://example.com/"]}}}}
    here, there = start_registry(allowed), start_registry(allowed)
    foreign = entry("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", b"elsewhere", urls=["https://example.com/layer"])
    async with fault_proxy(there.url) as source, copies(here.url, source.url) as these:
        await upload(these.source, "org/app", b"{}", b"layer")
        said = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry("application/vnd.oci.image.config.v1+json", b"{}")}
        made = parse_manifest(json.dumps(said | {"layers": [foreign, entry(GZIP, b"layer")]}).encode())
        await these.source.put_manifest("org/app", "1", made)
        await these.copy("org/app:1", made.digest)
        assert (await these.registry.manifest("org/app", "1")).raw == made.raw
        assert not source.of("GET", digest_of(b"elsewhere"))


# What images share.


async def test_what_images_share_is_fetched_once_while_in_flight(registry: RegistryServer, internet: RegistryServer) -> None:
    """Six images in six repositories are copied at the same time: their base is moved by one of them, the others wait and mount it."""
    async with fault_proxy(internet.url) as source, fault_proxy(registry.url) as target, copies(target.url, source.url) as these:
        base = os.urandom(2 * MIB)
        made = {f"org/app{n}:1": await image(these.source, f"org/app{n}", "1", [base, os.urandom(1000)]) for n in range(6)}
        source.passed.clear()
        gate = asyncio.Event()
        source.spoil("GET", digest_of(base), Fault(hold=gate))
        async with asyncio.TaskGroup() as group:
            for name, manifest in made.items():
                group.create_task(these.copy(name, manifest.digest))
            for n in range(6):  # Their own layers pass the one that waits.
                await source.until("GET", made[f"org/app{n}:1"].layers[1].digest)
            gate.set()
        assert source.down(digest_of(base)) == 2 * MIB
        assert len(source.of("GET", digest_of(base))) == 1
        assert len(target.of("PUT", digest_of(base))) == 1
        assert [each.status for each in target.of("POST", digest_of(base)) if "from=" in each.path].count(201) == 5
        assert not target.of("HEAD", "/blobs/")
        for name, manifest in made.items():
            assert (await these.registry.resolve(*name.split(":"))).digest == manifest.digest


async def test_who_waits_stands_in_nobodys_way(registry: RegistryServer, internet: RegistryServer) -> None:
    """Two images share more blobs than one may move at a time, in opposite orders, and each waits for the other: both come, each blob once."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        shared = [os.urandom(1000) for _ in range(3 * blobs.BLOBS_AT_ONCE)]
        one = await image(these.source, "org/one", "1", shared)
        two = await image(these.source, "org/two", "1", shared[::-1])
        async with asyncio.TaskGroup() as group:
            group.create_task(these.copy("org/one:1", one.digest))
            group.create_task(these.copy("org/two:1", two.digest))
        assert all(len(source.of("GET", digest_of(each))) == 1 for each in shared)
        assert (await these.registry.resolve("org/two", "1")).digest == two.digest


async def test_when_who_moves_a_shared_blob_fails_another_takes_over(registry: RegistryServer, internet: RegistryServer) -> None:
    """The first image's source breaks down for good in the middle of the base: only that image fails."""
    async with fault_proxy(internet.url) as bad, copies(registry.url, bad.url) as these, copies(registry.url, internet.url) as others:
        others.copier = these.copier
        base = os.urandom(2 * MIB)
        first, second = [await image(others.source, f"org/app{n}", "1", [base, os.urandom(100)]) for n in range(2)]
        bad.always = [("GET", digest_of(base), Fault(cut=100))]
        gate = asyncio.Event()
        bad.spoil("GET", digest_of(base), Fault(cut=100, hold=gate))
        copying = asyncio.create_task(these.copy("org/app0:1", first.digest))
        await bad.until("GET", digest_of(base))
        waiting = asyncio.create_task(others.copy("org/app1:1", second.digest))
        bad.always = [("GET", digest_of(base), Fault(answer=said(404, "BLOB_UNKNOWN")))]
        gate.set()
        with pytest.raises(NotFoundError, match="org/app0:1"):
            await copying
        assert await waiting == second.digest


async def test_who_waits_for_a_stalled_blob_goes_by_himself(
    registry: RegistryServer, internet: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that stalls holds up its own image, and no other one that needs the same blob."""
    monkeypatch.setattr(blobs, "_STALLED", 0.05)
    async with fault_proxy(internet.url) as bad, copies(registry.url, bad.url) as these, copies(registry.url, internet.url) as others:
        others.copier = these.copier
        base = os.urandom(MIB)
        first, second = [await image(others.source, f"org/app{n}", "1", [base, os.urandom(100)]) for n in range(2)]
        gate = asyncio.Event()
        bad.spoil("GET", digest_of(base), Fault(hold=gate))
        copying = asyncio.create_task(these.copy("org/app0:1", first.digest))
        await bad.until("GET", digest_of(base))
        assert await others.copy("org/app1:1", second.digest) == second.digest
        assert not copying.done()
        gate.set()
        assert await copying == first.digest


async def test_the_requests_of_a_copy(registry: RegistryServer, internet: RegistryServer) -> None:
    """Cold: two a blob and four for the tag; what is there costs one, what is known to be there none; no HEAD before a blob."""
    async with fault_proxy(registry.url) as target, copies(target.url, internet.url) as these:
        base = os.urandom(1000)
        made = [await image(these.source, "org/app", f"{n}", [base, os.urandom(100)]) for n in range(3)]
        await these.copy("org/app:0", made[0].digest, referrers=False)
        asked = [each.method for each in target.passed]
        assert sorted(asked) == ["GET"] * 2 + ["POST"] * 3 + ["PUT"] * 4
        target.passed.clear()
        await these.copy("org/app:1", made[1].digest, referrers=False)  # The base is known.
        assert sorted(each.method for each in target.passed) == ["GET"] * 2 + ["POST"] * 2 + ["PUT"] * 3
        these.restart()
        target.passed.clear()
        await these.copy("org/app:2", made[2].digest, referrers=False)  # The base has to be asked for.
        assert sorted(each.method for each in target.passed) == ["GET"] * 2 + ["POST"] * 3 + ["PUT"] * 3


async def test_a_registry_that_lost_what_the_book_says(registry: RegistryServer, internet: RegistryServer) -> None:
    """After a garbage collection the registry refuses the manifest: everything is asked for again, and the image comes."""
    async with copies(registry.url, internet.url) as these:
        base = os.urandom(1000)
        one, two = [await image(these.source, "org/app", f"{n}", [base, os.urandom(100)]) for n in range(2)]
        await these.copy("org/app:0", one.digest)
        link = registry.home / "data/docker/registry/v2/repositories/org/app/_layers/sha256" / digest_of(base)[7:] / "link"
        link.unlink()
        registry.blob_file(digest_of(base)).unlink()
        assert await these.copy("org/app:1", two.digest) == two.digest
        async with these.registry.read_blob("org/app", digest_of(base)) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == base


# What nobody could use.


async def test_a_layer_with_other_bytes(registry: RegistryServer, internet: RegistryServer) -> None:
    """Bytes that changed on the way: an error that names image, blob and both registries; the next image comes, this one is not tagged."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        layer = os.urandom(3 * MIB)
        made = await image(these.source, "org/app", "1", [layer])
        other = await image(these.source, "org/app", "2", [os.urandom(100)])
        source.spoil("GET", digest_of(layer), Fault(flip=2 * MIB))
        with pytest.raises(CorruptError, match="other bytes than its digest says") as caught:
            await these.copy("org/app:1", made.digest)
        words = str(caught.value)
        assert all(word in words for word in ("docker.io/org/app:1", digest_of(layer)[:19], source.address, these.registry.address))
        assert not await these.registry.has_blob("org/app", digest_of(layer))
        await these.copy("org/app:2", other.digest)
        assert await these.registry.tags("org/app") == ["2"]


async def test_wrong_bytes_after_a_break_are_found_too(registry: RegistryServer, internet: RegistryServer) -> None:
    """What is put together from two answers is hashed as one."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        layer = os.urandom(3 * MIB)
        made = await image(these.source, "org/app", "1", [layer])
        source.spoil("GET", digest_of(layer), Fault(cut=MIB), Fault(flip=0))
        with pytest.raises(CorruptError, match="other bytes than its digest says"):
            await these.copy("org/app:1", made.digest)


@pytest.mark.parametrize("more", [-10, 10])
async def test_a_registry_that_lies_about_length(registry: RegistryServer, internet: RegistryServer, more: int) -> None:
    """The manifest says another size than the blob has: that is said, in bytes, and nothing waits for what never comes."""
    async with copies(registry.url, internet.url) as these:
        await upload(these.source, "org/app", b"{}", b"x" * 100)
        layer = {**entry(GZIP, b"x" * 100), "size": 100 + more}
        said = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry("application/json", b"{}"), "layers": [layer]}
        made = parse_manifest(json.dumps(said).encode())
        await these.source.put_manifest("org/app", "1", made)
        with pytest.raises(CorruptError, match=f"{100 + more} by its manifest"):
            await these.copy("org/app:1", made.digest)
        assert await these.registry.tags("org/app") == []


async def test_an_index_that_is_nested_too_deep(registry: RegistryServer, internet: RegistryServer) -> None:
    """An index in an index is taken, one more is not; before anything moves."""
    async with fault_proxy(registry.url) as target, copies(target.url, internet.url) as these:
        made = await image(these.source, "org/app", "0", [b"layer"])
        for depth in range(1, 4):
            made = await index(these.source, "org/app", str(depth), [child(made)])
            if depth == 2:
                assert await these.copy("org/app:2", made.digest) == made.digest
        target.passed.clear()
        with pytest.raises(CorruptError, match=r"docker.io/org/app:3 .*nested too deep"):
            await these.copy("org/app:3", made.digest)
        assert not target.passed


@pytest.mark.parametrize("what", ["children", "layers"])
async def test_too_many(registry: RegistryServer, what: str) -> None:
    """10,000 children or layers: refused before anything moves. A script plays the source: no real registry takes an index of what it lacks."""
    parts = [entry(GZIP, str(n).encode()) for n in range(10_000)]
    config = entry("application/json", b"{}")
    plain = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": parts}
    made = index_of(parts) if what == "children" else parse_manifest(json.dumps(plain).encode())
    async with (
        hostile(lambda _: reply(200, made.raw, Content_Type=made.media_type)) as source,
        fault_proxy(registry.url) as target,
        copies(target.url, source.url) as these,
    ):
        with pytest.raises(CorruptError, match=rf"org/app:1 .* 10000 (manifests|layers), at most {MOST}"):
            await these.copy("org/app:1", made.digest)
        assert (len(source.asked), target.passed) == (1, [])


@pytest.mark.parametrize("answer", ["itself", "a sha512", "schema 1"])
async def test_manifests_that_can_not_be(registry: RegistryServer, answer: str) -> None:
    """An index that leads back to itself, a manifest of another hash, an old schema: a clear error.

    A script plays the source, as only one that lies could.
    """
    one = index_of([{"mediaType": OCI_MANIFEST, "digest": "sha512:" + "0" * 128, "size": 10}])
    old = b'{"schemaVersion": 1, "name": "org/app", "tag": "1"}'
    parent = index_of([{**entry("", old), "mediaType": "application/vnd.docker.distribution.manifest.v1+json"}])
    itself = index_of([{"mediaType": OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 10}])

    def script(asked: object) -> bytes:
        path = getattr(asked, "path", "")
        by_digest = {digest_of(old): old, one.digest: one.raw, parent.digest: parent.raw}
        found = next((raw for digest, raw in by_digest.items() if digest in path), itself.raw)
        return reply(200, found, Content_Type="application/vnd.oci.image.index.v1+json" if found is not old else "application/json")

    asked_for, words = {
        "itself": (itself, "bytes with the digest"),
        "a sha512": (one, "manifests are known by sha256 only"),
        "schema 1": (parent, "media type"),
    }[answer]
    async with hostile(script) as source, copies(registry.url, source.url) as these:
        with pytest.raises(RemoteError, match=words):
            await these.copy("org/app:1", asked_for.digest)
        assert await these.registry.catalog() == []


async def test_a_platform_that_is_missing(registry: RegistryServer, internet: RegistryServer) -> None:
    """404 on one of an index's manifests is that image's error; no half of it is tagged, and the blobs of the others wait for the next try."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        made = [await image(these.source, "org/app", "", [os.urandom(100)]) for _ in range(2)]
        whole = await index(these.source, "org/app", "1", [child(made[0], "linux/amd64"), child(made[1], "linux/arm64")])
        source.spoil("GET", made[1].digest, Fault(answer=said(404, "MANIFEST_UNKNOWN")))
        with pytest.raises(NotFoundError, match=made[1].digest):
            await these.copy("org/app:1", whole.digest)
        assert await these.registry.tags("org/app") == []
        assert await these.copy("org/app:1", whole.digest) == whole.digest


async def test_a_blob_with_a_sha512(registry: RegistryServer, internet: RegistryServer) -> None:
    """Blobs of another hash go as far as the registries can: here all the way, or with the registry's own words."""
    import hashlib

    async with copies(registry.url, internet.url) as these:
        data = os.urandom(1000)
        digest = f"sha512:{hashlib.sha512(data).hexdigest()}"
        layer = {"mediaType": GZIP, "digest": digest, "size": len(data)}
        await upload(these.source, "org/app", b"{}")
        made = parse_manifest(
            json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry("application/json", b"{}"), "layers": [layer]}).encode()
        )
        async with hostile(lambda asked: reply(200, made.raw if "/manifests/" in asked.path else data, Content_Type=OCI_MANIFEST)) as source:
            these.source = type(these.source)(source.url)
            with pytest.raises((RefusedError, CorruptError, NotFoundError), match=r"docker.io/org/app:1|manifests/"):
                await these.copy("org/app:1", made.digest, referrers=False)
            await these.source.close()
        assert await these.registry.tags("org/app") == []


async def test_refused_in_the_middle(registry: RegistryServer, internet: RegistryServer) -> None:
    """401 after half of a blob, and no way to another token: an error of that image which says so."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        layer = os.urandom(MIB)
        made = await image(these.source, "org/app", "1", [layer])
        source.spoil("GET", digest_of(layer), Fault(cut=1000), Fault(answer=reply(401, "")))
        with pytest.raises(DeniedError, match=r"docker.io/org/app:1, blob .* 401"):
            await these.copy("org/app:1", made.digest)
        assert await these.registry.tags("org/app") == []


async def test_a_plan_that_wants_something_else(registry: RegistryServer, internet: RegistryServer) -> None:
    """What the tag would mean is not what the plan said: nothing moves."""
    async with fault_proxy(registry.url) as target, copies(target.url, internet.url) as these:
        made = await image(these.source, "org/app", "1", [b"layer"])
        with pytest.raises(MovedError, match="look again"):
            await these.copy("org/app:1", made.digest, wanted="sha256:" + "0" * 64)
        assert not target.passed
