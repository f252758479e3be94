"""Signatures and the like come along, whichever way a registry tells of them.

The registries are real ones, which lack the referrers API. Where one with the API is needed, a proxy before the real one answers for it, as none
can be had here.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from controller.domain.errors import RefusedError
from controller.domain.oci import OCI_INDEX, Manifest, digest_of
from controller.domain.platforms import choose
from controller.registry.client import RegistryClient
from tests.engine.copies import Copies, child, copies, image, index
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.hostile import MARK, page, reply, said
from tests.support.servers import RegistryServer

SBOM = "application/spdx+json"


def scheme(manifest: Manifest, ending: str = "") -> str:
    """The tag that speaks of a manifest."""
    return manifest.digest.replace(":", "-") + ending


async def about(these: Copies, subject: Manifest, **more: Any) -> Manifest:
    """A referrer, by its digest."""
    what = {"mediaType": subject.media_type, "digest": subject.digest, "size": len(subject.raw)}
    return await image(these.source, "org/app", "", [os.urandom(100)], subject=what, artifactType=SBOM, **more)


async def listed_under_tag(client: RegistryClient, subject: Manifest, *referrers: Manifest) -> Manifest:
    """What a client leaves in a registry without the API."""
    return await index(client, "org/app", scheme(subject), [child(each) for each in referrers])


def with_api(proxy: FaultProxy, **referrers: list[Manifest]) -> None:
    """Let this registry have the API: by the subject's hex, what refers to it."""
    for subject, manifests in {**referrers, "/referrers/": []}.items():
        body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child(each) for each in manifests]})
        path = f"/referrers/sha256:{subject}" if manifests else subject
        proxy.always.append(("GET", path, Fault(answer=reply(200, body, Content_Type=OCI_INDEX))))


async def test_from_tags_to_tags(registry: RegistryServer, internet: RegistryServer) -> None:
    """Neither has the API: the index under sha256-<hex> and cosign's tags arrive, whole; found out by one listing, and one question each."""
    async with fault_proxy(internet.url) as source, fault_proxy(registry.url) as target, copies(target.url, source.url) as these:
        made = [await image(these.source, "org/app", str(n), [os.urandom(100)]) for n in range(3)]
        sbom = await about(these, made[0], annotations={"org.example.kind": "sbom"})
        await listed_under_tag(these.source, made[0], sbom)
        signature = await image(these.source, "org/app", scheme(made[0], ".sig"), [b"signature"])
        source.passed.clear()
        for n in range(3):
            await these.copy(f"org/app:{n}", made[n].digest)
        assert (await these.registry.manifest("org/app", scheme(made[0], ".sig"))).raw == signature.raw
        assert (await these.registry.manifest("org/app", sbom.digest)).raw == sbom.raw
        (entry,) = (await these.registry.manifest("org/app", scheme(made[0]))).children
        assert (entry.digest, entry.artifact_type, entry.annotation("org.example.kind")) == (sbom.digest, SBOM, "sbom")
        assert set(await these.registry.tags("org/app")) == {"0", "1", "2", scheme(made[0]), scheme(made[0], ".sig")}
        assert (len(source.of("GET", "/referrers/")), len(source.of("GET", "/tags/list"))) == (1, 1)
        assert len(target.of("GET", "/referrers/")) == 1


async def test_of_an_indexs_children_too(registry: RegistryServer, internet: RegistryServer) -> None:
    """A platform that is signed by itself keeps its signature; of chosen platforms only theirs come."""
    async with copies(registry.url, internet.url) as these:
        made = {each: await image(these.source, "org/app", "", [os.urandom(100)], platform=each) for each in ("linux/amd64", "linux/arm64")}
        whole = await index(these.source, "org/app", "1", [child(manifest, platform) for platform, manifest in made.items()])
        for each in (whole, *made.values()):
            await image(these.source, "org/app", scheme(each, ".sig"), [os.urandom(10)])
        one = choose(whole, ["linux/arm64"]).digest
        await these.copy("org/app:1", whole.digest, to="org/one:1", wanted=one, platforms=("linux/arm64",))
        assert set(await these.registry.tags("org/one")) == {"1", scheme(made["linux/arm64"], ".sig")}
        await these.copy("org/app:1", whole.digest)
        assert set(await these.registry.tags("org/app")) == {"1", *(scheme(each, ".sig") for each in (whole, *made.values()))}


async def test_what_is_there_stays(registry: RegistryServer, internet: RegistryServer) -> None:
    """Our own SBOM of the same image stays listed beside upstream's, and what the tag meant before is held (law 1)."""
    async with copies(registry.url, internet.url) as these:
        made = await image(these.source, "org/app", "1", [os.urandom(100)])
        await these.copy("org/app:1", made.digest)
        theirs, ours = await about(these, made), await about(these, made)
        await listed_under_tag(these.source, made, ours)
        these.restart()
        await these.copy("org/app:1", made.digest, replaces=made.digest)
        before = await these.registry.manifest("org/app", scheme(made))
        await listed_under_tag(these.source, made, theirs)
        these.restart()
        await these.copy("org/app:1", made.digest, replaces=made.digest)
        after = await these.registry.manifest("org/app", scheme(made))
        assert [each.digest for each in after.children] == [ours.digest, theirs.digest]
        assert (await these.registry.manifest("org/app", f"wharf-held-{before.digest[7:19]}")) == before
        these.restart()
        await these.copy("org/app:1", made.digest, replaces=made.digest)
        assert (await these.registry.manifest("org/app", scheme(made))) == after


@pytest.mark.parametrize("target_has_it", [True, False])
async def test_from_a_registry_with_the_api(registry: RegistryServer, internet: RegistryServer, target_has_it: bool) -> None:  # noqa: FBT001 # a parameter
    """Asked by the API; a target with the API gets the manifest alone, which says what it is about, one without also the tag."""
    async with fault_proxy(internet.url) as source, fault_proxy(registry.url) as target, copies(target.url, source.url) as these:
        made = await image(these.source, "org/app", "1", [os.urandom(100)])
        sbom = await about(these, made)
        with_api(source, **{made.digest[7:]: [sbom]})
        if target_has_it:
            with_api(target)
        await these.copy("org/app:1", made.digest)
        assert (await these.registry.manifest("org/app", sbom.digest)).raw == sbom.raw
        assert set(await these.registry.tags("org/app")) == ({"1"} if target_has_it else {"1", scheme(made)})


async def test_referrers_of_referrers(registry: RegistryServer, internet: RegistryServer) -> None:
    """The signature of an SBOM comes along; at some depth it ends."""
    async with copies(registry.url, internet.url) as these:
        made = await image(these.source, "org/app", "1", [os.urandom(100)])
        chain = [made]
        for _ in range(5):
            chain.append(await about(these, chain[-1]))
            await listed_under_tag(these.source, chain[-2], chain[-1])
        await these.copy("org/app:1", made.digest)
        assert set(await these.registry.tags("org/app")) == {"1", *(scheme(each) for each in chain[:3])}


async def test_a_broken_signature_does_not_keep_the_image_out(registry: RegistryServer, internet: RegistryServer) -> None:
    """It is an error of that image, which says what is missing; image and SBOM are there, and so is the next image."""
    async with copies(registry.url, internet.url) as these:
        made, other = [await image(these.source, "org/app", str(n), [os.urandom(100)]) for n in range(2)]
        sbom, broken = await about(these, made), await about(these, made)
        await listed_under_tag(these.source, made, broken, sbom)
        internet.damage(broken.layers[0].digest)
        words = r"what refers to docker.io/org/app:0: 1 failed: .*other bytes .*in the registry as org/app:0"
        with pytest.raises(RefusedError, match=words) as caught:
            await these.copy("org/app:0", made.digest)
        assert broken.layers[0].digest[:19] in str(caught.value)
        await these.copy("org/app:1", other.digest)
        assert set(await these.registry.tags("org/app")) == {"0", "1", scheme(made)}
        (entry,) = (await these.registry.manifest("org/app", scheme(made))).children
        assert entry.digest == sbom.digest


async def test_without_a_listing_they_are_asked_for_by_name(registry: RegistryServer, internet: RegistryServer) -> None:
    """A registry that lists no tags still gives what is asked for."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        made = await image(these.source, "org/app", "1", [os.urandom(100)])
        await image(these.source, "org/app", scheme(made, ".att"), [b"attestation"])
        source.always = [("GET", "/tags/list", Fault(answer=said(403, "DENIED")))]
        await these.copy("org/app:1", made.digest)
        assert set(await these.registry.tags("org/app")) == {"1", scheme(made, ".att")}


async def test_what_is_listed_must_refer_to_it(registry: RegistryServer, internet: RegistryServer) -> None:
    """A manifest that is about something else, or about nothing, is not taken for a signature of this image."""
    async with copies(registry.url, internet.url) as these:
        made, other = [await image(these.source, "org/app", str(n), [os.urandom(100)]) for n in range(2)]
        await listed_under_tag(these.source, made, await about(these, other), other)
        with pytest.raises(RefusedError, match=r"2 failed: .* does not refer to"):
            await these.copy("org/app:0", made.digest)
        assert await these.registry.tags("org/app") == ["0"]


async def test_too_many_referrers(registry: RegistryServer, internet: RegistryServer) -> None:
    """A list of thousands keeps nobody busy: some are asked for, the rest is said, and the image comes."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        made = await image(these.source, "org/app", "1", [os.urandom(100)])
        listed = [{"mediaType": OCI_INDEX, "digest": digest_of(str(n).encode()), "size": 1} for n in range(5000)]
        body = json.dumps({"mediaType": OCI_INDEX, "manifests": listed})
        source.always = [("GET", "/referrers/", Fault(answer=reply(200, body, Content_Type=OCI_INDEX)))]
        with pytest.raises(RefusedError, match=r"201 failed: 5000 manifests refer to .*at most 200 are taken"):
            await these.copy("org/app:1", made.digest)
        assert len(source.of("GET", "/manifests/")) < 210
        assert await these.registry.tags("org/app") == ["1"]


async def test_they_can_be_left_out(registry: RegistryServer, internet: RegistryServer) -> None:
    """`referrers: false` in the file: nobody asks for them."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        made = await image(these.source, "org/app", "1", [os.urandom(100)])
        await image(these.source, "org/app", scheme(made, ".sig"), [b"signature"])
        await these.copy("org/app:1", made.digest, referrers=False)
        assert await these.registry.tags("org/app") == ["1"]
        assert not source.of("GET", "/tags/list")
        assert not source.of("GET", "/referrers/")


async def test_a_registry_that_fails_at_referrers(registry: RegistryServer, internet: RegistryServer) -> None:
    """An error of the API is said; the image comes."""
    async with fault_proxy(internet.url) as source, copies(registry.url, source.url) as these:
        made = await image(these.source, "org/app", "1", [os.urandom(100)])
        source.always = [("GET", "/referrers/", Fault(answer=said(500, "UNKNOWN")))]
        with pytest.raises(RefusedError, match=r"looking for what refers to .* 500"):
            await these.copy("org/app:1", made.digest)
        assert await these.registry.tags("org/app") == ["1"]


@pytest.mark.parametrize("answer", [said(404, "NOT_FOUND"), reply(404, "404 page not found"), page()], ids=["404", "a stranger's 404", "a page"])
async def test_a_registry_without_the_api_is_asked_once(registry: RegistryServer, answer: bytes) -> None:
    """Whatever its no looks like."""
    async with fault_proxy(registry.url) as proxy, copies(registry.url, proxy.url) as these:
        proxy.always = [("GET", "/referrers/", Fault(answer=answer))]
        for word in (b"one", b"two"):
            assert await these.source.referrers("org/app", digest_of(word)) is None
        assert len(proxy.passed) == 1


async def test_a_list_of_referrers_has_pages(registry: RegistryServer) -> None:
    """All pages are one index; one that sends us elsewhere, or never ends, is an error."""
    async with fault_proxy(registry.url) as proxy, copies(registry.url, proxy.url) as these:
        subject = digest_of(b"subject")

        def answer(word: bytes, **headers: str) -> Fault:
            listed = [{"mediaType": "application/json", "digest": digest_of(word), "size": 1}]
            return Fault(answer=reply(200, json.dumps({"manifests": listed}), Content_Type=OCI_INDEX, **{**_marks(), **headers}))

        further = f'</v2/org/app/referrers/{subject}?page=2>; rel="next"'
        proxy.spoil("GET", "/referrers/", answer(b"one", Link=further), answer(b"two"))
        found = await these.source.referrers("org/app", subject)
        assert found is not None
        assert [each.digest for each in found.children] == [digest_of(b"one"), digest_of(b"two")]
        proxy.spoil("GET", "/referrers/", answer(b"one", Link='<http://elsewhere.example/>; rel="next"'))
        with pytest.raises(RefusedError, match="at another address"):
            await these.source.referrers("org/app", subject)
        proxy.always = [("GET", "/referrers/", answer(b"one", Link=further))]
        with pytest.raises(RefusedError, match="pages of referrers"):
            await these.source.referrers("org/app", subject)


def _marks() -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in MARK.items()}
