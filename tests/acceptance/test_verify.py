"""`wharf verify`: every byte is read on a real registry, and what was damaged behind its back is found and said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from controller.domain.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, digest_of, parse_manifest
from tests.acceptance.wharf import Done, wharf
from tests.conftest import StartRegistry
from tests.support.memory import config_of, image_manifest
from tests.support.scene import Scene, client, publish, tags_of
from tests.support.servers import RegistryServer

CACHED = {"storage": {"cache": {"blobdescriptor": "inmemory"}}}


@pytest.fixture
def registry(start_registry: StartRegistry) -> RegistryServer:
    """With the blob cache that Distribution's own example turns on: the one that remembers what is gone."""
    return start_registry(CACHED)


def verify(scene: Scene, *arguments: str) -> Done:
    """The command with the scene's file."""
    return wharf("verify", *arguments, "-f", scene.file, state=scene.state)


def found(done: Done) -> dict[str, list[tuple[str, str]]]:
    """By image, what is broken and how."""
    return {row["image"]: [(each["digest"], each["found"]) for each in row["broken"]] for row in done.json["images"]}


async def _shared(server: RegistryServer, *names: str, layer: bytes = b"shared" * 1000) -> Manifest:
    """One image under several names, of which only the manifest's repository differs."""
    config = config_of([layer])
    manifest = image_manifest(config, [layer], OCI_MANIFEST)
    async with client(server) as registry:
        for name in names:
            repository, _, tag = name.partition(":")
            for data in (layer, config):
                await registry.write_blob(repository, Descriptor("", digest_of(data), len(data)), _chunks(data))
            await registry.put_manifest(repository, tag, manifest)
    return manifest


async def _chunks(data: bytes) -> Any:
    yield data


async def test_whole_images_are_read_once_and_said_to_be_whole(scene: Scene) -> None:
    """An index with two platforms, and one image in two repositories: each blob is read once, however many share it."""
    index = await publish(scene.registry, "cyroid/kali", "1", platforms=["linux/amd64", "linux/arm64"])
    await _shared(scene.registry, "cyroid/a:1", "cyroid/b:1", "cyroid/b:2")
    scene.images = [{"name": name} for name in ("cyroid/kali:1", "cyroid/a:1", "cyroid/b:1", "cyroid/b:2")]
    done = verify(scene, "-o", "json")
    assert done.code == 0, done.err
    assert found(done) == {"cyroid/a:1": [], "cyroid/b:1": [], "cyroid/b:2": [], "cyroid/kali:1": []}
    assert done.json["images"][3]["digest"] == index.digest
    assert done.json["total"]["blobs"] == 2 * len(index.children) + 2
    assert "4 images, all whole" in verify(scene).out
    assert "1 image, all whole" in verify(scene, "cyroid/ka*").out


async def test_bit_rot_a_cut_file_and_a_lost_one_are_told_apart(scene: Scene) -> None:
    """Each of them has its size and what was found; one broken image does not hide the whole one."""
    images = {name: await publish(scene.registry, f"cyroid/{name}", "1") for name in ("good", "rot", "cut", "lost", "config")}
    scene.images = [{"name": f"cyroid/{name}:1"} for name in images]
    rot, cut, lost = (images[name].layers[0] for name in ("rot", "cut", "lost"))
    config = images["config"].config
    assert config is not None
    async with client(scene.registry) as registry:
        assert await registry.has_blob("cyroid/lost", lost.digest)
    scene.registry.damage(rot.digest)
    file = scene.registry.blob_file(cut.digest)
    file.write_bytes(file.read_bytes()[:100])
    scene.registry.blob_file(lost.digest).unlink()
    scene.registry.damage(config.digest)
    async with client(scene.registry) as registry:
        assert await registry.has_blob("cyroid/lost", lost.digest), "the registry's cache still says that it has it"
    done = verify(scene, "-o", "json")
    assert done.code == 2
    assert found(done) == {
        "cyroid/config:1": [(config.digest, "OtherBytes")],
        "cyroid/cut:1": [(cut.digest, "CutShort")],
        "cyroid/good:1": [],
        "cyroid/lost:1": [(lost.digest, "CutShort")],
        "cyroid/rot:1": [(rot.digest, "OtherBytes")],
    }
    told = verify(scene).out
    assert f"layer {cut.digest} (8.2 kB): CutShort: 100 of 8192 bytes came" in told
    assert f"layer {lost.digest} (8.2 kB): CutShort: 0 of 8192 bytes came" in told
    assert "✓ cyroid/good:1  whole" in told
    assert "5 images, 4 broken" in told


async def test_without_the_cache_a_lost_blob_is_missing(scene: Scene, start_registry: StartRegistry) -> None:
    """The registry says 404, and so does verify; a tag that was never there is Absent, a manifest that is gone is Missing."""
    scene.registry = start_registry()
    lost = await publish(scene.registry, "cyroid/lost", "1")
    root = await publish(scene.registry, "cyroid/root", "1")
    scene.registry.blob_file(lost.layers[0].digest).unlink()
    scene.registry.blob_file(root.digest).unlink()
    scene.images = [{"name": f"cyroid/{name}:1"} for name in ("lost", "never", "root")]
    done = verify(scene, "-o", "json")
    assert done.code == 2
    assert found(done) == {
        "cyroid/lost:1": [(lost.layers[0].digest, "Missing")],
        "cyroid/never:1": [(None, "Absent")],
        "cyroid/root:1": [(None, "Missing")],
    }


async def test_a_damaged_manifest_is_found(scene: Scene) -> None:
    """A manifest whose bytes were changed, and one whose file was emptied."""
    rot = await publish(scene.registry, "cyroid/rot", "1")
    index = await publish(scene.registry, "cyroid/empty", "1", platforms=["linux/amd64", "linux/arm64"])
    scene.registry.damage(rot.digest)
    scene.registry.blob_file(index.children[0].digest).write_bytes(b"")
    scene.images = [{"name": "cyroid/rot:1"}, {"name": "cyroid/empty:1"}]
    done = verify(scene, "-o", "json")
    assert done.code == 2
    ((digest, kind),) = found(done)["cyroid/rot:1"]
    assert kind in {"OtherBytes", "Unreadable"}
    assert digest == rot.digest
    assert [digest for digest, _ in found(done)["cyroid/empty:1"]] == [index.children[0].digest]


async def test_a_child_that_a_careless_collection_took_is_found(scene: Scene) -> None:
    """`garbage-collect -m` on 2.8 deletes the children of a tagged index: the index still answers 200."""
    index = await publish(scene.registry, "cyroid/kali", "1", platforms=["linux/amd64", "linux/arm64"])
    scene.registry.collect("-m")
    async with client(scene.registry) as registry:
        assert (await registry.resolve("cyroid/kali", "1")).digest == index.digest
    scene.images = [{"name": "cyroid/kali:1"}]
    done = verify(scene, "-o", "json")
    assert done.code == 2
    assert {digest for digest, _ in found(done)["cyroid/kali:1"]} == {child.digest for child in index.children}


async def test_what_refers_to_an_image_is_read_too(scene: Scene) -> None:
    """A signature under `sha256-<hex>` whose layer has rotted makes the image broken."""
    image = await publish(scene.registry, "cyroid/kali", "1")
    signature = await publish(scene.registry, "cyroid/kali", "aside")
    listed = {"mediaType": signature.media_type, "digest": signature.digest, "size": len(signature.raw)}
    index = parse_manifest(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]}).encode())
    async with client(scene.registry) as registry:
        await registry.put_manifest("cyroid/kali", image.digest.replace(":", "-"), index)
    scene.images = [{"name": "cyroid/kali:1"}]
    assert verify(scene).code == 0
    scene.registry.damage(signature.layers[0].digest)
    done = verify(scene, "-o", "json")
    assert (done.code, found(done)) == (2, {"cyroid/kali:1": [(signature.layers[0].digest, "OtherBytes")]})


async def test_a_blob_that_another_repository_has_is_missing_here(scene: Scene, start_registry: StartRegistry) -> None:
    """The bytes are read once; that this repository links to them is asked for by HEAD."""
    scene.registry = start_registry()
    manifest = await _shared(scene.registry, "cyroid/a:1", "cyroid/b:1")
    layer = manifest.layers[0].digest
    link = scene.registry.home / "data/docker/registry/v2/repositories/cyroid/b/_layers/sha256" / layer[7:] / "link"
    link.unlink()
    scene.images = [{"name": "cyroid/a:1"}, {"name": "cyroid/b:1"}]
    done = verify(scene, "-o", "json")
    assert found(done) == {"cyroid/a:1": [], "cyroid/b:1": [(layer, "Missing")]}


async def test_a_sick_repository_hides_no_other(scene: Scene, start_registry: StartRegistry) -> None:
    """Tags that can't be listed, a link that can't be asked for: that image is Unreadable, and the others are read all the same."""
    scene.registry = start_registry()
    manifest = await _shared(scene.registry, "cyroid/a:1", "cyroid/b:1")
    await publish(scene.registry, "cyroid/sick", "1")
    repositories = scene.registry.home / "data/docker/registry/v2/repositories/cyroid"
    _in_place_of(repositories / "sick/_manifests/tags")
    _in_place_of(repositories / "b/_layers/sha256" / manifest.layers[0].digest[7:])
    scene.images = [{"name": f"cyroid/{name}:1"} for name in ("a", "b", "sick")]
    done = verify(scene, "-o", "json")
    assert done.code == 2, done.err
    kinds = {image: {kind for _, kind in broken} for image, broken in found(done).items()}
    assert kinds == {"cyroid/a:1": set(), "cyroid/b:1": {"Unreadable"}, "cyroid/sick:1": {"Unreadable"}}
    everything = found(verify(scene, "--all", "-o", "json"))
    assert sorted(everything) == ["cyroid/a:1", "cyroid/b:1", "cyroid/sick:1", "cyroid/sick:latest"]


def _in_place_of(folder: Path) -> None:
    """A file where the registry has a folder: it answers 500 for what is below."""
    shutil.rmtree(folder)
    folder.write_text("")


async def test_a_manifest_that_lies_about_a_blob_breaks_no_other_image(scene: Scene) -> None:
    """Who says that another image's layer has one byte has a broken image of his own, and no more (law 10)."""
    image = await _shared(scene.registry, "cyroid/a:1", "cyroid/z:1", layer=b"large" * 1_000_000)
    lie = json.loads(image.raw)
    lie["layers"][0]["size"] = 1
    async with client(scene.registry) as registry:
        await registry.put_manifest("cyroid/a", "1", parse_manifest(json.dumps(lie).encode()))
    scene.images = [{"name": "cyroid/a:1"}, {"name": "cyroid/z:1"}]
    assert found(verify(scene, "-o", "json")) == {"cyroid/a:1": [(image.layers[0].digest, "OtherBytes")], "cyroid/z:1": []}


async def test_a_rule_is_verified_while_upstream_is_gone(scene: Scene) -> None:
    """What the rule chooses of the tags that the registry has; upstream is not needed to read what is here."""
    for tag in ("1.0", "1.1", "2.0"):
        await publish(scene.internet, "library/alpine", tag)
    scene.images = [{"name": "docker.io/library/alpine", "tags": {"semver": "<2"}}]
    assert wharf("apply", scene.file, state=scene.state).code == 0
    names: dict[str, list[tuple[str, str]]] = {"docker.io/library/alpine:1.0": [], "docker.io/library/alpine:1.1": []}
    assert found(verify(scene, "-o", "json")) == names
    scene.internet.stop()
    done = verify(scene, "-o", "json")
    assert (done.code, found(done)) == (0, names)


async def test_all_reads_what_no_set_names(scene: Scene) -> None:
    """What hosts brought by `adopt` or a migration is in no set: --all reads every tag, by pattern too."""
    manifest = await publish(scene.registry, "cyroid/kali", "1")
    await publish(scene.registry, "tools/other", "1")
    nothing = verify(scene)
    assert ("0 images" in nothing.out, "--all reads" in nothing.err) == (True, True)
    assert found(verify(scene, "--all", "-o", "json")) == {"cyroid/kali:1": [], "tools/other:1": []}
    scene.registry.damage(manifest.layers[0].digest)
    done = verify(scene, "--all", "cyroid/**", "-o", "json")
    assert (done.code, found(done)) == (2, {"cyroid/kali:1": [(manifest.layers[0].digest, "OtherBytes")]})


async def test_exit_codes_of_what_can_not_be_verified(scene: Scene) -> None:
    """An image that no set lists is the operator's mistake, 1; a registry that is gone 3, and nothing is called broken."""
    await publish(scene.registry, "cyroid/kali", "1")
    scene.images = [{"name": "cyroid/kali:1"}]
    unknown = verify(scene, "cyroid/typo:1")
    assert (unknown.code, "no set lists" in unknown.err) == (1, True)
    scene.registry.stop()
    gone = verify(scene)
    assert (gone.code, gone.out) == (3, "")
    assert "error: " in gone.err


async def test_verify_changes_nothing(scene: Scene) -> None:
    """Not in the registry, and no state file is made: it may run beside a controller."""
    manifest = await publish(scene.registry, "cyroid/kali", "1")
    scene.registry.damage(manifest.layers[0].digest)
    scene.images = [{"name": "cyroid/kali:1"}]
    files = {file: file.stat().st_mtime_ns for file in scene.registry.home.joinpath("data").rglob("*")}
    assert verify(scene, "--rate", "500").code == 2
    assert files == {file: file.stat().st_mtime_ns for file in scene.registry.home.joinpath("data").rglob("*")}
    assert await tags_of(scene.registry, "cyroid/kali") == {"1": manifest.digest}
