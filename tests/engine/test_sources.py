"""Images that a file brings from archives, Dockerfile folders, catalogs, chosen platforms and chosen tags: whole passes on real parts."""

from __future__ import annotations

from pathlib import Path

from controller.domain.actions import Build, Import, Pull, Reason
from tests.support.scene import Scene, publish, tags_of


def dockerfile(scene: Scene, folder: str, content: str, more: str = "") -> Path:
    """A folder whose image has one file of that content."""
    path = scene.folder / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "Dockerfile").write_text(f"FROM scratch\nCOPY data /data\n{more}")
    (path / "data").write_text(content)
    return path


def archived(scene: Scene, file: str, name: str) -> str:
    """An archive that the engine saved, of an image that is on no host any more; its Id."""
    image_id = scene.build(name)
    scene.engine.docker("save", "-o", str(scene.folder / file), name)
    scene.engine.docker("rmi", name)
    return image_id


async def test_an_archive_that_a_file_names_comes_into_the_registry(either_scene: Scene) -> None:
    """Import, and the second plan is empty; another image in the same file replaces it, and what the tag meant is held."""
    scene = either_scene
    image_id = archived(scene, "win10.tar", "cyroid/win10:22h2")
    scene.images = [{"name": "cyroid/win10:22h2", "source": {"archive": {"path": "win10.tar"}}}]
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert [type(action) for action in done.before.plan.actions] == [Import]
    assert scene.tags_on_host() == set()
    old = (await tags_of(scene.registry, "cyroid/win10"))["22h2"]
    assert scene.pulled_back("cyroid/win10:22h2") == image_id
    newer = archived(scene, "win10.tar", "cyroid/win10:22h2")
    again = await scene.apply()
    assert again.after.converged, again.after.plan
    assert [action.reason for action in again.before.plan.actions] == [Reason.OUTDATED]
    assert scene.pulled_back("cyroid/win10:22h2") == newer
    assert old in (await tags_of(scene.registry, "cyroid/win10")).values()


async def test_a_host_copy_of_what_is_imported_leaves_after_it(scene: Scene) -> None:
    """The plan that imports an image also evicts the host's copy of it, after the proof."""
    scene.build("cyroid/win10:1")
    scene.engine.docker("save", "-o", str(scene.folder / "win10.tar"), "cyroid/win10:1")
    scene.images = [{"name": "cyroid/win10:1", "source": {"archive": {"path": "win10.tar"}}}]
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert [action.kind for action in done.before.plan.actions] == ["Import", "Evict"]
    assert scene.tags_on_host() == set()


async def test_a_broken_archive_stops_no_other_image(scene: Scene) -> None:
    """It is held back with the words of what is wrong with it; nothing is tagged."""
    (scene.folder / "broken.tar").write_bytes(b"no archive at all")
    archived(scene, "good.tar", "cyroid/good:1")
    scene.images = [{"name": f"cyroid/{name}:1", "source": {"archive": {"path": f"{name}.tar"}}} for name in ("broken", "good", "missing")]
    done = await scene.apply()
    assert [(held.image, held.reason) for held in done.after.plan.held_back] == [
        ("cyroid/broken:1", Reason.UNKNOWN),
        ("cyroid/missing:1", Reason.NOT_FOUND),
    ]
    assert await tags_of(scene.registry, "cyroid/broken") == {}
    assert set(await tags_of(scene.registry, "cyroid/good")) == {"1"}


async def test_a_folder_is_built_once_and_again_when_it_changes(either_scene: Scene) -> None:
    """Built on the host, pushed, proven, and off the host; skipped while the folder's hash is what the image's label says."""
    scene = either_scene
    folder = dockerfile(scene, "catalog/kali", "one")
    scene.images = [{"name": "cyroid/kali:latest", "source": {"build": {"context": "catalog/kali", "on": "local"}}}]
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert [type(action) for action in done.before.plan.actions] == [Build]
    assert scene.tags_on_host() == set()
    first = (await tags_of(scene.registry, "cyroid/kali"))["latest"]
    assert (await scene.apply()).before.converged
    (folder / "data").write_text("two")
    again = await scene.apply()
    assert again.after.converged, again.after.plan
    tags = await tags_of(scene.registry, "cyroid/kali")
    assert tags["latest"] != first
    assert first in tags.values(), "what the tag meant is held"


async def test_a_build_that_fails_says_what_the_step_said(scene: Scene) -> None:
    """The error of that image, with the failing step; the others are built."""
    dockerfile(scene, "bad", "x", "COPY nowhere /nowhere\n")
    dockerfile(scene, "good", "x")
    scene.images = [{"name": f"cyroid/{name}:1", "source": {"build": {"context": name, "on": "local"}}} for name in ("bad", "good")]
    done = await scene.apply()
    (failed,) = [outcome for outcome in done.outcomes if outcome.error]
    assert "cyroid/bad:1" in failed.error
    assert "nowhere" in failed.error
    assert set(await tags_of(scene.registry, "cyroid/good")) == {"1"}
    assert scene.tags_on_host() == set()


async def test_a_catalog_is_built_folder_by_folder(scene: Scene) -> None:
    """Names come from image.yaml, else from the folder."""
    (dockerfile(scene, "catalog/historian", "h") / "image.yaml").write_text(
        'name: Historian\ntag: "cyroid/ics-historian:latest"\narch: [x86_64, arm64]\n'
    )
    dockerfile(scene, "catalog/router", "r")
    (scene.folder / "catalog/notes").mkdir()
    scene.images = [{"catalog": "catalog"}]
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert set(await tags_of(scene.registry, "cyroid/ics-historian")) == {"latest"}
    assert set(await tags_of(scene.registry, "router")) == {"latest"}


async def test_a_host_gets_what_present_names(either_scene: Scene) -> None:
    """Pull, under the plain name; and it stays there, though a set lists it."""
    scene = either_scene
    scene.build("cyroid/kali:1")
    scene.images = [{"name": "cyroid/kali:1"}]
    assert (await scene.apply()).after.converged
    scene.host = {"present": ["cyroid/kali:1"]}
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert [type(action) for action in done.before.plan.actions] == [Pull]
    assert scene.tags_on_host() == {"cyroid/kali:1"}
    assert (await scene.apply()).before.converged


async def test_what_is_built_and_present_comes_in_one_pass(scene: Scene) -> None:
    """The pull follows the build of the same plan."""
    dockerfile(scene, "kali", "k")
    scene.images = [{"name": "cyroid/kali:1", "source": {"build": {"context": "kali", "on": "local"}}}]
    scene.host = {"present": ["cyroid/kali:1"]}
    done = await scene.apply()
    assert done.after.converged, (done.after.plan, done.outcomes)
    assert scene.tags_on_host() == {"cyroid/kali:1"}


async def test_chosen_platforms_converge(scene: Scene) -> None:
    """One is that manifest; several are a new index, and the status says so; what has not changed is not copied again."""
    index = await publish(scene.internet, "library/nginx", "1", platforms=["linux/amd64", "linux/arm64", "linux/s390x"])
    scene.images = [
        {"name": "docker.io/library/nginx:1", "platforms": ["linux/amd64", "linux/arm64"]},
        {"name": "tools/nginx:arm", "source": {"registry": "docker.io/library/nginx:1"}, "platforms": ["linux/arm64"]},
        {"name": "tools/nginx:none", "source": {"registry": "docker.io/library/nginx:1"}, "platforms": ["linux/riscv64"]},
    ]
    done = await scene.apply()
    assert [(held.image, held.reason) for held in done.after.plan.held_back] == [("tools/nginx:none", Reason.UNKNOWN)]
    assert "linux/s390x" in done.after.plan.held_back[0].message
    assert not done.after.plan.actions
    filtered = (await tags_of(scene.registry, "docker.io/library/nginx"))["1"]
    assert filtered not in {index.digest, *(child.digest for child in index.children)}
    assert (await tags_of(scene.registry, "tools/nginx"))["arm"] == index.children[1].digest
    images = {image.name: image for each in done.after.sets for image in each.images}
    changed = {name: next(c for c in image.conditions if c.type == "DigestChanged").reason for name, image in images.items()}
    assert changed["docker.io/library/nginx:1"] == "PlatformsFiltered"
    assert changed["tools/nginx:arm"] == "AsPublished"
    assert images["docker.io/library/nginx:1"].upstream_digest == index.digest


async def test_chosen_tags_converge(scene: Scene) -> None:
    """Many tags of one repository by one rule; tags that nobody chose stay upstream."""
    for tag in ("3.18.1", "3.19.0", "3.20.1", "latest"):
        await publish(scene.internet, "library/alpine", tag)
    scene.images = [{"name": "docker.io/library/alpine", "tags": {"semver": ">=3.19"}}]
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert set(await tags_of(scene.registry, "docker.io/library/alpine")) == {"3.19.0", "3.20.1"}
