"""Copy: registry to registry, verbatim, and only over what the plan saw."""

from __future__ import annotations

import pytest

from controller.domain.actions import Reason
from controller.domain.errors import MovedError
from controller.domain.oci import Manifest
from controller.domain.reference import Target
from controller.engine.copy import replace_tag
from controller.registry.client import RegistryClient
from tests.conftest import StartRegistry
from tests.support.memory import MemoryRegistry
from tests.support.scene import Quiet, Scene, client, publish, tags_of

NGINX = "docker.io/library/nginx"


async def _bytes(registry: RegistryClient, repository: str, digest: str) -> list[bytes]:
    """Every manifest and every blob of an image, in the order of the manifests."""
    manifest = await registry.manifest(repository, digest)
    found = [manifest.raw]
    for child in manifest.children:
        found += await _bytes(registry, repository, child.digest)
    for blob in manifest.blobs:
        async with registry.read_blob(repository, blob.digest) as chunks:
            found.append(b"".join([chunk async for chunk in chunks]))
    return found


async def test_a_single_image_is_copied_verbatim(scene: Scene) -> None:
    """Manifest and blobs arrive byte by byte, under the domain as first part."""
    published = await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": f"{NGINX}:1"}]
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert await tags_of(scene.registry, NGINX) == {"1": published.digest}
    async with client(scene.registry) as here, client(scene.internet) as there:
        assert await _bytes(here, NGINX, "1") == await _bytes(there, "library/nginx", "1")


async def test_an_index_is_copied_with_all_its_platforms(scene: Scene) -> None:
    """Index, children and their blobs, verbatim; nothing but the tag is tagged."""
    published = await publish(scene.internet, "library/nginx", "1", platforms=["linux/amd64", "linux/arm64"])
    scene.images = [{"name": f"{NGINX}:1"}]
    await scene.apply()
    assert await tags_of(scene.registry, NGINX) == {"1": published.digest}
    async with client(scene.registry) as here, client(scene.internet) as there:
        assert len(published.children) == 2
        assert await _bytes(here, NGINX, "1") == await _bytes(there, "library/nginx", "1")


async def test_a_source_under_another_name(scene: Scene) -> None:
    """source.registry: from there, kept under the local name."""
    published = await publish(scene.internet, "org/base", "v7")
    scene.images = [{"name": "tools/base:stable", "source": {"registry": "docker.io/org/base:v7"}}]
    done = await scene.apply()
    assert done.after.converged
    assert await tags_of(scene.registry, "tools/base") == {"stable": published.digest}


async def test_by_digest(scene: Scene) -> None:
    """A name with a digest only gets that manifest, under the tag that holds it."""
    published = await publish(scene.internet, "library/nginx", "1")
    await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": f"{NGINX}@{published.digest}"}]
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert list((await tags_of(scene.registry, NGINX)).values()) == [published.digest]


async def test_a_tag_that_moved_upstream_is_copied_again_and_the_old_one_held(scene: Scene) -> None:
    """Outdated: the new content comes under the tag, the old stays under a held tag."""
    old = await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": f"{NGINX}:1"}]
    await scene.apply()
    new = await publish(scene.internet, "library/nginx", "1")
    done = await scene.apply(fresh=True)
    assert [outcome.action.reason for outcome in done.outcomes] == [Reason.OUTDATED]
    assert await tags_of(scene.registry, NGINX) == {"1": new.digest, f"wharf-held-{old.digest[7:19]}": old.digest}


async def test_a_tag_and_a_digest_that_disagree(scene: Scene) -> None:
    """The file says two things: an error of that image with both digests, and nothing is copied."""
    old = await publish(scene.internet, "library/nginx", "1")
    new = await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": f"{NGINX}:1@{old.digest}"}]
    done = await scene.apply()
    (held,) = done.after.plan.held_back
    assert held.reason is Reason.UNKNOWN
    assert "disagree" in held.message
    assert new.digest in held.message
    assert await tags_of(scene.registry, NGINX) == {}


async def test_what_upstream_does_not_have(scene: Scene) -> None:
    """NotFound is that image's, with its name; the others are copied."""
    await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": f"{NGINX}:1"}, {"name": f"{NGINX}:2"}]
    done = await scene.apply()
    (held,) = done.after.plan.held_back
    assert (held.reason, held.image) == (Reason.NOT_FOUND, f"{NGINX}:2")
    assert set(await tags_of(scene.registry, NGINX)) == {"1"}


async def test_what_upstream_removed_stays_in_the_registry(scene: Scene) -> None:
    """The registry is the store: an upstream that lost a tag takes nothing away here."""
    published = await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": f"{NGINX}:1"}]
    await scene.apply()
    async with client(scene.internet) as registry:
        await registry.delete_tag("library/nginx", "1")
    look = await scene.look()
    assert not look.plan.actions
    assert await tags_of(scene.registry, NGINX) == {"1": published.digest}


async def test_a_domain_that_is_not_listed_is_never_asked(scene: Scene) -> None:
    """Only domains under `upstreams` are contacted: held back as Denied, with the rule."""
    scene.images = [{"name": "quay.io/org/base:v7"}]
    (held,) = (await scene.look()).plan.held_back
    assert held.reason is Reason.DENIED
    assert "quay.io is not under spec.upstreams" in held.message


async def test_an_upstream_that_is_down_is_unknown(scene: Scene) -> None:
    """No answer is not absence: nothing is planned for its images, and what is held stays."""
    scene.images = [{"name": f"{NGINX}:1"}, {"name": "cyroid/kali:1"}]
    scene.build("cyroid/kali:1")
    scene.internet.stop()
    done = await scene.apply()
    assert [(held.image, held.reason) for held in done.after.plan.held_back] == [(f"{NGINX}:1", Reason.UNKNOWN)]
    assert set(await tags_of(scene.registry, "cyroid/kali")) == {"1"}


async def test_a_mirror_is_asked_first(scene: Scene, start_registry: StartRegistry) -> None:
    """What the mirror has comes from there, what it lacks from upstream."""
    mirror = start_registry()
    mirrored = await publish(mirror, "library/nginx", "1")
    published = await publish(scene.internet, "library/nginx", "2")
    scene.spec = {"upstreams": [{"domain": "docker.io", "url": scene.internet.url, "mirrors": [mirror.url]}]}
    scene.images = [{"name": f"{NGINX}:1"}, {"name": f"{NGINX}:2"}]
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert await tags_of(scene.registry, NGINX) == {"1": mirrored.digest, "2": published.digest}


async def test_a_tag_that_somebody_wrote_since_the_plan_is_not_overwritten(scene: Scene) -> None:
    """The registry's tag is not what the plan saw: the copy refuses, and their image stays."""
    await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": f"{NGINX}:1"}]
    look = await scene.look()
    theirs = await publish(scene.registry, NGINX, "1")
    async with scene.opened() as (reconciler, _):
        (outcome,) = await reconciler.apply(look, Quiet())
    assert "the plan saw nothing in the registry" in outcome.error
    assert await tags_of(scene.registry, NGINX) == {"1": theirs.digest}


async def test_a_signature_comes_along(scene: Scene) -> None:
    """Cosign's tag of an image is there after the pass; a broken one is said once, and is no reason to lack the image."""
    published = await publish(scene.internet, "library/nginx", "1")
    signed = f"sha256-{published.digest[7:]}.sig"
    signature = await publish(scene.internet, "library/nginx", signed)
    scene.images = [{"name": f"{NGINX}:1"}]
    await scene.apply()
    assert await tags_of(scene.registry, NGINX) == {"1": published.digest, signed: signature.digest}
    other = await publish(scene.internet, "library/other", "1")
    broken = await publish(scene.internet, "library/other", f"sha256-{other.digest[7:]}.sig")
    scene.internet.damage(broken.layers[0].digest)
    scene.images = [{"name": "docker.io/library/other:1"}]
    done = await scene.apply()
    assert "the image itself is in the registry as docker.io/library/other:1" in done.outcomes[0].error
    assert await tags_of(scene.registry, "docker.io/library/other") == {"1": other.digest}
    assert done.after.converged


async def test_a_damaged_blob_upstream_is_not_kept(scene: Scene) -> None:
    """Upstream sends other bytes than the digest says: that image's error, and nothing is tagged."""
    published = await publish(scene.internet, "library/nginx", "1")
    scene.internet.damage(published.layers[0].digest)
    scene.images = [{"name": f"{NGINX}:1"}]
    done = await scene.apply()
    (outcome,) = done.outcomes
    assert f"copying {NGINX}:1, blob {published.layers[0].digest[:19]}" in outcome.error
    assert f"from {scene.internet.address}: other bytes than its digest says" in outcome.error
    assert await tags_of(scene.registry, NGINX) == {}


async def test_a_tag_that_is_gone_since_the_plan_is_not_made_again() -> None:
    """Somebody deleted it: what was to be replaced is not there, so nobody may be meant."""
    registry = MemoryRegistry()
    manifest = registry.add("cyroid/kali", "new", b"new")
    with pytest.raises(MovedError, match="it is gone: look again"):
        await replace_tag(registry, Target("cyroid/kali", "1"), manifest, expected=f"sha256:{'0' * 64}")
    assert await registry.tags("cyroid/kali") == ["new"]


async def test_what_a_tag_means_is_read_back() -> None:
    """201 is no success: another one wrote it in that moment (law 5)."""
    registry, target = MemoryRegistry(), Target("cyroid/kali", "1")
    manifest, theirs = (registry.add("cyroid/kali", word, word.encode()) for word in ("new", "theirs"))
    put = registry.put_manifest

    async def late(repository: str, identifier: str, each: Manifest) -> None:
        await put(repository, identifier, each)
        await put(repository, target.tag, theirs)

    registry.put_manifest = late  # type: ignore[method-assign,assignment] # somebody else writes too
    with pytest.raises(MovedError, match="somebody else writes it too"):
        await replace_tag(registry, target, manifest, expected="")
