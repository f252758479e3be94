"""Copies of chosen platforms, from one real registry to another."""

from __future__ import annotations

import os

import pytest

from controller.domain.errors import RefusedError
from controller.domain.oci import Manifest
from controller.domain.platforms import ATTESTATION_OF
from controller.engine.manifests import Manifests
from controller.engine.platforms import chosen, wanted
from tests.engine.copies import Copies, child, copies, image, index
from tests.support.fault_proxy import fault_proxy
from tests.support.servers import RegistryServer

PLATFORMS = ("linux/amd64", "linux/arm64/v8", "linux/s390x")


async def _published(these: Copies) -> tuple[Manifest, dict[str, Manifest]]:
    made = {each: await image(these.source, "org/app", "", [os.urandom(100)], platform=each) for each in PLATFORMS}
    about = {ATTESTATION_OF: made["linux/amd64"].digest}
    attestation = await image(these.source, "org/app", "", [b"in-toto"], platform="unknown/unknown")
    entries = [child(manifest, platform) for platform, manifest in made.items()]
    whole = await index(these.source, "org/app", "1", [*entries, child(attestation, "unknown/unknown", annotations=about)])
    return whole, {**made, "attestation": attestation}


async def _wanted(these: Copies, digest: str, *platforms: str) -> str:
    return (await wanted(Manifests(), these.source, "org/app", digest, platforms)).digest


async def test_one_platform(registry: RegistryServer, internet: RegistryServer) -> None:
    """The tag means that child, verbatim; nothing of the others is fetched, and what is wanted is told without reading the child."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        whole, made = await _published(these)
        source.passed.clear()
        one = await _wanted(these, whole.digest, "linux/arm64")
        assert [each.path for each in source.passed] == [f"/v2/org/app/manifests/{whole.digest}"]
        assert await these.copy("org/app:1", whole.digest, wanted=one, platforms=("linux/arm64",)) == one
        assert (await these.registry.manifest("org/app", "1")).raw == made["linux/arm64/v8"].raw
        for other in ("linux/amd64", "linux/s390x", "attestation"):
            assert not source.of("GET", made[other].digest)


async def test_several_platforms(registry: RegistryServer, internet: RegistryServer) -> None:
    """A new index of these children and their attestations; the same one on every copy, so that the second finds nothing to do."""
    platforms = ("linux/amd64", "linux/s390x")
    async with copies(registry.url, internet.url) as these:
        whole, made = await _published(these)
        several = await _wanted(these, whole.digest, *platforms)
        assert await these.copy("org/app:1", whole.digest, wanted=several, platforms=platforms) == several != whole.digest
        found = await these.registry.manifest("org/app", "1")
        assert [each.digest for each in found.children] == [made[each].digest for each in (*platforms, "attestation")]
        these.restart()
        assert await these.copy("org/app:1", whole.digest, wanted=several, platforms=platforms, replaces=several) == several
        assert await these.registry.tags("org/app") == ["1"]


async def test_all_platforms(registry: RegistryServer, internet: RegistryServer) -> None:
    """The index itself."""
    async with copies(registry.url, internet.url) as these:
        whole, _ = await _published(these)
        assert await _wanted(these, whole.digest, *PLATFORMS) == whole.digest
        await these.copy("org/app:1", whole.digest, platforms=PLATFORMS)
        assert (await these.registry.manifest("org/app", "1")).raw == whole.raw


async def test_a_platform_that_is_not_there(registry: RegistryServer, internet: RegistryServer) -> None:
    """The error lists which ones are, and nothing moves."""
    async with fault_proxy(registry.url) as target, copies(target.url, internet.url) as these:
        whole, _ = await _published(these)
        with pytest.raises(RefusedError, match=r"choosing linux/riscv64: there is only linux/amd64, linux/arm64/v8, linux/s390x"):
            await these.copy("org/app:1", whole.digest, platforms=("linux/amd64", "linux/riscv64"))
        assert not target.passed


async def test_a_single_image(registry: RegistryServer, internet: RegistryServer) -> None:
    """Its config says of which platform it is: the right one is copied, another is an error; the config is read once."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        made = await image(these.source, "org/app", "1", [b"layer"], platform="linux/arm64/v8")
        assert made.config
        manifests = Manifests()
        for _ in range(2):
            assert (await chosen(manifests, these.source, "org/app", made.digest, ["linux/arm64"])) == made
        assert len(source.of("GET", made.config.digest)) == 1
        with pytest.raises(RefusedError, match=r"choosing linux/amd64: there is only linux/arm64/v8"):
            await these.copy("org/app:1", made.digest, platforms=("linux/amd64",))
        await these.copy("org/app:1", made.digest, platforms=("linux/arm64",))
        assert await these.registry.tags("org/app") == ["1"]
