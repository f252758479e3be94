"""`wharf verify --repair`: what a real registry lost is brought again from where it still is, under the same digest, and nothing is deleted."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from controller.domain.oci import DOCKER_LIST, Manifest, parse_manifest
from controller.domain.ports.stores import AuditEntry
from controller.store.sqlite import SqliteStore
from tests.acceptance.test_verify import CACHED, verify
from tests.acceptance.wharf import wharf
from tests.conftest import StartRegistry
from tests.support import archives
from tests.support.scene import Scene, client, publish, tags_of
from tests.support.servers import RegistryServer

PLATFORMS = ["linux/amd64", "linux/arm64"]


@pytest.fixture(params=["cached", "uncached"])
def registry(request: pytest.FixtureRequest, start_registry: StartRegistry) -> RegistryServer:
    """With and without the blob cache that remembers what is gone."""
    return start_registry(CACHED if request.param == "cached" else None)


def audit(scene: Scene) -> list[AuditEntry]:
    """What was recorded of repairs, the newest first."""
    with closing(SqliteStore(scene.state, read_only=True)) as store:
        return [entry for entry in store.history() if entry.action == "Repair"]


async def _copied(scene: Scene, *, platforms: list[str] | None = None) -> Manifest:
    """An image that was copied from upstream; what the registry has of it now, and has looked at."""
    published = await publish(scene.internet, "library/nginx", "1", platforms=platforms or [])
    scene.images = [{"name": "docker.io/library/nginx:1"}]
    assert wharf("apply", scene.file, state=scene.state).code == 0
    assert verify(scene).code == 0
    return published


async def _children(server: RegistryServer, index: Manifest, repository: str) -> list[Manifest]:
    async with client(server) as registry:
        return [await registry.manifest(repository, child.digest) for child in index.children]


async def test_everything_that_was_lost_comes_from_upstream_again(scene: Scene) -> None:
    """The index, a child, its config, a layer: all files gone, all brought by digest, though upstream's tag has moved on."""
    index = await _copied(scene, platforms=PLATFORMS)
    one, other = await _children(scene.registry, index, "docker.io/library/nginx")
    assert one.config is not None
    for digest in (one.digest, one.config.digest, other.layers[0].digest):
        scene.registry.blob_file(digest).unlink()
    await publish(scene.internet, "library/nginx", "1")
    done = verify(scene, "--repair")
    assert done.code == 0, done.out + done.err
    assert "whole again" in done.out
    assert f"from {scene.internet.address}" in done.out or "repaired: all" in done.out
    assert await tags_of(scene.registry, "docker.io/library/nginx") == {"1": index.digest}
    assert verify(scene).code == 0
    (entry,) = audit(scene)
    assert (entry.image, entry.before, entry.after, entry.error) == ("docker.io/library/nginx:1", index.digest, index.digest, "")
    assert entry.bytes >= other.layers[0].size + len(one.raw)


async def test_a_collection_that_took_the_children_is_repaired(scene: Scene) -> None:
    """`garbage-collect -m` took the manifests of both platforms, and with them config and layers."""
    index = await _copied(scene, platforms=PLATFORMS)
    scene.registry.collect("-m")
    assert verify(scene).code == 2
    done = verify(scene, "--repair")
    assert done.code == 0, done.out + done.err
    assert await tags_of(scene.registry, "docker.io/library/nginx") == {"1": index.digest}


async def test_a_tag_whose_manifest_is_lost_means_it_again(scene: Scene) -> None:
    """The registry can't tell any more what the tag meant; upstream's tag means it still, and no tag is written."""
    manifest = await _copied(scene)
    scene.registry.blob_file(manifest.digest).unlink()
    done = verify(scene, "--repair")
    assert done.code == 0, done.out + done.err
    assert await tags_of(scene.registry, "docker.io/library/nginx") == {"1": manifest.digest}


async def test_a_damaged_file_is_never_replaced_until_it_was_moved_away(scene: Scene) -> None:
    """Distribution takes the upload, answers 201 and keeps the file that it has: verify says so, and which file to move."""
    manifest = await _copied(scene)
    layer = manifest.layers[0]
    scene.registry.damage(layer.digest)
    done = verify(scene, "--repair")
    assert done.code == 2, done.out
    file = scene.registry.blob_file(layer.digest)
    assert "not repaired: if the registry has docker/registry/v2/blobs/sha256/" in done.out
    assert file.exists(), "nothing is ever deleted"
    (entry,) = audit(scene)
    assert entry.error
    file.rename(scene.folder / "aside")
    done = verify(scene, "--repair")
    assert done.code == 0, done.out + done.err
    assert verify(scene).code == 0


async def test_an_archive_gives_back_what_has_the_same_digest(scene: Scene) -> None:
    """An OCI layout verbatim, its manifest too; a docker save's plain layers packed again, to the same bytes."""
    manifest, blobs = archives.oci_image([archives.layer("oci")])
    archives.in_folder(scene.folder / "layout", archives.layout({"cyroid/oci:1": manifest}, blobs))
    saved = archives.written(scene.folder / "saved.tar", archives.tar_of(archives.saved({"cyroid/saved:1": [archives.layer("saved", 100_000)]})))
    scene.images = [
        {"name": "cyroid/oci:1", "source": {"archive": {"path": str(scene.folder / "layout")}}},
        {"name": "cyroid/saved:1", "source": {"archive": {"path": saved}}},
    ]
    assert wharf("apply", scene.file, state=scene.state).code == 0
    assert verify(scene).code == 0
    before = {name: await tags_of(scene.registry, f"cyroid/{name}") for name in ("oci", "saved")}
    async with client(scene.registry) as registry:
        other = await registry.manifest("cyroid/saved", "1")
    assert other.config is not None
    for digest in (manifest.digest, manifest.layers[0].digest, other.config.digest, other.layers[0].digest):
        scene.registry.blob_file(digest).unlink()
    done = verify(scene, "--repair")
    assert done.code == 0, done.out + done.err
    assert {name: await tags_of(scene.registry, f"cyroid/{name}") for name in ("oci", "saved")} == before


async def test_an_archive_that_has_something_else_by_now_repairs_nothing(scene: Scene) -> None:
    """Same digest only: what the archive has today is another image."""
    path = scene.folder / "saved.tar"
    scene.images = [{"name": "cyroid/saved:1", "source": {"archive": {"path": str(path)}}}]
    archives.written(path, archives.tar_of(archives.saved({"cyroid/saved:1": [archives.layer("one")]})))
    assert wharf("apply", scene.file, state=scene.state).code == 0
    async with client(scene.registry) as registry:
        manifest = await registry.manifest("cyroid/saved", "1")
    scene.registry.blob_file(manifest.layers[0].digest).unlink()
    archives.written(path, archives.tar_of(archives.saved({"cyroid/saved:1": [archives.layer("two")]})))
    done = verify(scene, "--repair")
    assert done.code == 2, done.out
    assert (await tags_of(scene.registry, "cyroid/saved"))["1"] == manifest.digest


async def test_a_host_gives_back_what_it_still_has(either_scene: Scene) -> None:
    """No source, but a host still has the image: it is pushed again, and no name of ours stays there."""
    scene = either_scene
    image_id = scene.build("cyroid/kali:1", size=100_000)
    scene.images, scene.host = [{"name": "cyroid/kali:1"}], {"absent": []}
    assert wharf("apply", scene.file, state=scene.state).code == 0
    async with client(scene.registry) as registry:
        manifest = await registry.manifest("cyroid/kali", "1")
    scene.registry.blob_file(manifest.layers[0].digest).unlink()
    done = verify(scene, "--repair")
    if done.code:  # Its blob cache tells the engine that it has the layer, so that it is not sent: verify says what to do.
        assert "restart the registry" in done.out
        scene.registry.stop()
        scene.registry.start()
        done = verify(scene, "--repair")
    assert done.code == 0, done.out + done.err
    assert scene.tags_on_host() == {"cyroid/kali:1"}
    assert verify(scene).code == 0
    assert scene.pulled_back("cyroid/kali:1") == image_id


async def test_another_image_of_the_same_name_on_a_host_is_not_pushed(scene: Scene) -> None:
    """What the host calls so now is not what is broken: the tag keeps its meaning."""
    scene.build("cyroid/kali:1")
    scene.images, scene.host = [{"name": "cyroid/kali:1"}], {"absent": []}
    assert wharf("apply", scene.file, state=scene.state).code == 0
    async with client(scene.registry) as registry:
        manifest = await registry.manifest("cyroid/kali", "1")
    scene.registry.blob_file(manifest.layers[0].digest).unlink()
    scene.build("cyroid/kali:1")
    done = verify(scene, "--repair")
    assert done.code == 2
    assert "is another image" in done.out
    assert (await tags_of(scene.registry, "cyroid/kali"))["1"] == manifest.digest


async def test_an_index_is_never_replaced_by_the_one_platform_that_a_host_has(scene: Scene) -> None:
    """A part of another platform is lost: what a host has would take its place, so nothing is pushed."""
    listed = []
    for platform in ("amd64", "arm64"):
        scene.build("cyroid/kali:1")
        scene.images, scene.host = [{"name": "cyroid/kali:1"}], {"absent": [], "onConflict": "Push"}
        assert wharf("apply", scene.file, state=scene.state).code == 0
        async with client(scene.registry) as registry:
            one = await registry.manifest("cyroid/kali", "1")
        listed.append(
            {"mediaType": one.media_type, "digest": one.digest, "size": len(one.raw), "platform": {"os": "linux", "architecture": platform}}
        )
    index = parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": listed}).encode())
    async with client(scene.registry) as registry:
        await registry.put_manifest("cyroid/kali", "1", index)
        other = await registry.manifest("cyroid/kali", index.children[0].digest)
    assert verify(scene).code == 0
    scene.registry.blob_file(other.layers[0].digest).unlink()
    done = verify(scene, "--repair")
    assert done.code == 2, done.out
    assert "is another image" in done.out
    assert (await tags_of(scene.registry, "cyroid/kali"))["1"] == index.digest


async def test_a_tag_that_tells_nothing_is_not_filled_by_guess(scene: Scene) -> None:
    """What it meant can't be read, so whether the host's image is the same can't be told: the tag is left alone, and it says what to do."""
    image_id = scene.build("cyroid/kali:1")
    scene.images, scene.host = [{"name": "cyroid/kali:1"}], {"absent": []}
    assert wharf("apply", scene.file, state=scene.state).code == 0
    meant = (await tags_of(scene.registry, "cyroid/kali"))["1"]
    scene.registry.blob_file(meant).rename(scene.folder / "aside")
    scene.build("cyroid/kali:1")
    done = verify(scene, "--repair")
    assert (done.code, "wharf push cyroid/kali:1 --host local" in done.out) == (2, True), done.out
    (scene.folder / "aside").rename(scene.registry.blob_file(meant))
    assert (await tags_of(scene.registry, "cyroid/kali"))["1"] == meant
    assert scene.pulled_back("cyroid/kali:1") == image_id


async def test_a_mode_that_only_observes_writes_nothing(scene: Scene) -> None:
    """spec.mode Observe holds back a repair as it holds back everything else."""
    manifest = await _copied(scene)
    scene.registry.blob_file(manifest.layers[0].digest).unlink()
    scene.spec = {"mode": "Observe"}
    done = verify(scene, "--repair")
    assert (done.code, "spec.mode is Observe" in done.err) == (1, True)
    assert not scene.registry.blob_file(manifest.layers[0].digest).exists()


async def test_what_nothing_has_is_said_to_be_lost(scene: Scene) -> None:
    """No upstream, no archive, no host: broken it stays, in words."""
    manifest = await publish(scene.registry, "cyroid/kali", "1")
    scene.registry.blob_file(manifest.layers[0].digest).unlink()
    scene.images = [{"name": "cyroid/kali:1"}, {"name": "cyroid/never:1"}]
    done = verify(scene, "--repair")
    assert done.code == 2
    assert "nothing that the files name has it" in done.out
    assert "`wharf apply` brings it" in done.out
    assert await tags_of(scene.registry, "cyroid/kali") == {"1": manifest.digest}
