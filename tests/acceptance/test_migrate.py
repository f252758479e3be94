"""`wharf migrate`: an existing host's images go to the registry by pattern, and off the host; what stays is said with its reason."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.acceptance.wharf import WHARF, Done, wharf
from tests.support.scene import Scene, client, publish, tags_of
from tests.support.servers import EngineServer


def migrate(scene: Scene, *arguments: str, yes: bool = True) -> Done:
    """The command with the scene's file, without a question."""
    return wharf("migrate", *arguments, *(["--yes"] if yes else []), "-f", scene.file, state=scene.state)


def derived(engine: EngineServer, tag: str, base: str, *, size: int = 50_000) -> str:
    """An image with one layer more than `base`; its Id."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, data in {"Dockerfile": f"FROM {base}\nCOPY more /more".encode(), "more": os.urandom(size)}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    context.seek(0)
    with engine.client() as docker:
        image, _ = docker.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)
        return str(image.id)


def layers_size(engine: EngineServer) -> int:
    """What the engine itself says that all its layers take."""
    with engine.client() as docker:
        return int(docker.api.df()["LayersSize"])


def snapshot(scene: Scene) -> tuple[set[str], list[str]]:
    """The host's tags, and every file of the registry."""
    return scene.tags_on_host(), sorted(str(path) for path in scene.registry.home.joinpath("data").rglob("*"))


async def test_a_host_with_a_dozen_images(scene: Scene) -> None:
    """Shared layers, two names of one image, one in use, one kept, one that fails, one without a name, one that is not meant."""
    base = scene.build("cyroid/base:1", 400_000)
    ids = {f"cyroid/on{n}:1": derived(scene.engine, f"cyroid/on{n}:1", "cyroid/base:1") for n in range(5)}
    ids |= {name: scene.build(name, 30_000) for name in ("cyroid/used:1", "cyroid/kept:1", "cyroid/broken:1", "cyroid/two:1", "tools/other:1")}
    scene.engine.docker("tag", "cyroid/two:1", "cyroid/too:2")
    scene.build("cyroid/nameless:1")
    scene.engine.docker("tag", scene.build("cyroid/nameless:1"), "cyroid/named:1")
    with scene.engine.client() as docker:
        docker.containers.create("cyroid/used:1", "nothing", name="web")
    scene.host, scene.spec = {"keep": ["cyroid/kept:1"], "gracePeriod": "1h"}, {"limits": {"deletes": 3}}
    pushed = wharf("migrate", "cyroid/broken", "--no-evict", "--yes", "-f", scene.file, state=scene.folder / "other.sqlite")
    assert pushed.code == 0, pushed.err
    async with client(scene.registry) as registry:
        broken = await registry.manifest("cyroid/broken", "1")
    lost = scene.registry.blob_file(broken.layers[0].digest)
    lost.rename(scene.folder / "aside")

    before = snapshot(scene)
    shown = migrate(scene, "cyroid/**", "--dry-run", yes=False)
    assert shown.code == 2, shown.err
    assert "Space to be won on local: " in shown.out
    assert "--yes needs --allow-deletes 11 beside it" in shown.out, shown.out
    assert "1 image without a name" in shown.out
    assert snapshot(scene) == before
    assert not scene.state.exists()

    capped = migrate(scene, "cyroid/on*", "-o", "json")
    assert (capped.code, {stay["reason"] for stay in capped.json["stays"]}) == (2, {"TooManyDeletes"})
    assert (capped.json["total"]["pushed"], capped.json["total"]["evicted"]) == (5, 0), "they are brought, and none leaves"

    taken = layers_size(scene.engine)
    done = migrate(scene, "cyroid/**", "--allow-deletes", "11", "-o", "json")
    assert done.code == 2, done.err
    reasons = {stay["name"]: stay["reason"] for stay in done.json["stays"]}
    assert reasons == {"cyroid/used:1": "InUse", "cyroid/kept:1": "Kept", "cyroid/broken:1": "Failed"}
    total = done.json["total"]
    assert (total["pushed"], total["alreadyThere"], total["evicted"], total["names"]) == (6, 6, 10, 13)
    assert total["freed"] == taken - layers_size(scene.engine), "what is said to be freed is what the engine gained"
    assert scene.tags_on_host() == {"cyroid/used:1", "cyroid/kept:1", "cyroid/broken:1", "tools/other:1"}
    assert scene.pulled_back("cyroid/base:1") == base
    assert scene.pulled_back("cyroid/too:2") == ids["cyroid/two:1"]
    assert scene.pulled_back("cyroid/used:1") == ids["cyroid/used:1"]
    assert await tags_of(scene.registry, "cyroid/kept") == {}
    assert await tags_of(scene.registry, "tools/other") == {}

    (scene.folder / "aside").rename(lost)
    with scene.engine.client() as docker:
        docker.containers.get("web").remove()
    rest = migrate(scene, "cyroid/**")
    assert rest.code == 0, rest.out + rest.err
    assert "0 pushed, 0 copied, 2 already there; 2 evicted" in rest.out
    assert scene.tags_on_host() == {"cyroid/kept:1", "tools/other:1"}
    again = migrate(scene, "cyroid/on*", "cyroid/used", "cyroid/broken")
    assert (again.code, "Nothing to do: no image on local matches" in again.out) == (0, True)


async def test_who_has_no_file_needs_none(either_scene: Scene) -> None:
    """--from-host and --registry are enough; a hand-written loop's tags under the registry's address go too."""
    scene = either_scene
    ids = {name: scene.build(name) for name in ("cyroid/kali:1", "cyroid/win:22h2", "tools/other:1")}
    scene.engine.docker("tag", "cyroid/kali:1", f"{scene.registry.address}/cyroid/kali:1")
    command = ["migrate", "**", "--keep", "tools/*", f"--from-host={scene.engine.url}", "--registry", scene.registry.url]
    done = wharf(*command, "--yes", state=scene.state)
    assert done.code == 0, done.out + done.err
    assert "2 pushed" in done.out
    assert "Kept" in done.out
    assert scene.tags_on_host() == {"tools/other:1"}
    for name in ("cyroid/kali:1", "cyroid/win:22h2"):
        assert scene.pulled_back(name) == ids[name]
    assert wharf(*command, "--yes", "-o", "json", state=scene.state).json["total"]["names"] == 1


async def test_what_was_pulled_is_copied_from_where_it_came(scene: Scene) -> None:
    """It keeps upstream's own digest, and a pattern with a domain keeps the domain."""
    name = f"{scene.internet.address}/library/nginx:1"
    scene.spec = {"upstreams": [{"domain": scene.internet.address, "url": scene.internet.url}]}
    published = await scene.pulled("library/nginx:1")
    scene.build("docker.io/library/own:1")
    done = migrate(scene, f"{scene.internet.address}/**", "docker.io/**", "-o", "json")
    assert done.code == 0, done.out + done.err
    assert (done.json["total"]["copied"], done.json["total"]["pushed"]) == (1, 1)
    assert await tags_of(scene.registry, name.replace(":", "_", 1).removesuffix(":1")) == {"1": published}
    assert set(await tags_of(scene.registry, "docker.io/library/own")) == {"1"}
    assert scene.tags_on_host() == set()


async def test_the_files_word_comes_first(scene: Scene) -> None:
    """Where a set says that a name comes from elsewhere, the host's other image of that name is not pushed, and stays; `present` stays too."""
    await publish(scene.internet, "library/nginx", "1")
    for name in ("nginx:1", "alpine:3", "cyroid/win:1", "cyroid/needed:1"):
        scene.build(name)
    scene.images = [
        {"name": "docker.io/library/nginx:1"},
        {"name": "docker.io/library/alpine", "tags": {"glob": ["3"]}},
        {"name": "cyroid/win:1", "ensure": "Absent"},
    ]
    scene.host = {"present": ["cyroid/needed:1"]}
    done = migrate(scene, "**", "-o", "json")
    assert done.code == 2, done.err
    assert {stay["name"]: stay["reason"] for stay in done.json["stays"]} == {
        "nginx:1": "Unproven",
        "cyroid/win:1": "RetiredOnHost",
        "cyroid/needed:1": "Kept",
    }
    assert "takes this name from elsewhere" in done.out
    assert set(await tags_of(scene.registry, "docker.io/library/alpine")) == {"3"}, "a rule names its repository"
    for repository in ("docker.io/library/nginx", "cyroid/win", "nginx", "alpine"):
        assert await tags_of(scene.registry, repository) == {}, repository


async def test_a_conflict_is_for_a_person_to_settle(scene: Scene) -> None:
    """The registry's tag means something else: nothing is overwritten and nothing leaves, until the file says Push; then the old is held."""
    image_id = scene.build("cyroid/kali:1")
    other = await publish(scene.registry, "cyroid/kali", "1")
    done = migrate(scene, "cyroid/**", "-o", "json")
    assert (done.code, [stay["reason"] for stay in done.json["stays"]]) == (2, ["Conflict"])
    assert await tags_of(scene.registry, "cyroid/kali") == {"1": other.digest}
    scene.host = {"onConflict": "Push"}
    assert migrate(scene, "cyroid/**").code == 0
    assert other.digest in (await tags_of(scene.registry, "cyroid/kali")).values()
    assert scene.pulled_back("cyroid/kali:1") == image_id


def test_without_evicting(scene: Scene) -> None:
    """--no-evict brings all to the registry and leaves the host as it is; then there is nothing to do."""
    image_id = scene.build("cyroid/kali:1")
    done = migrate(scene, "cyroid/**", "--no-evict")
    assert (done.code, scene.tags_on_host()) == (0, {"cyroid/kali:1"}), done.out
    assert scene.pulled_back("cyroid/kali:1") == image_id
    again = migrate(scene, "cyroid/**", "--no-evict")
    assert (again.code, "Nothing to do: all 1 that match are in the registry" in again.out) == (0, True)


def test_a_mode_that_evicts_nothing_is_kept(scene: Scene) -> None:
    """spec.mode Push, as `wharf init` drafts it: images are brought, the evictions are held back and said."""
    scene.build("cyroid/kali:1")
    scene.spec = {"mode": "Push"}
    done = migrate(scene, "cyroid/**", "-o", "json")
    assert (done.code, [stay["reason"] for stay in done.json["stays"]], done.json["total"]["pushed"]) == (2, ["Mode"], 1)


@pytest.mark.parametrize("answer", ["y", "n"])
def test_the_plan_is_shown_and_a_person_is_asked(scene: Scene, answer: str) -> None:
    """Yes to the plan that is shown allows as many evictions as it names; anything else does nothing."""
    for n in range(3):
        scene.build(f"cyroid/kali:{n}")
    scene.spec = {"limits": {"deletes": 1}}
    ours, theirs = pty.openpty()
    environment = {**os.environ, "WHARF_STATE": str(scene.state), "PYTHONPATH": str(Path.cwd())}
    command = [*WHARF, "migrate", "cyroid/**", "-f", str(scene.file)]
    try:
        with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
            os.write(ours, f"{answer}\n".encode())
            out, err = process.communicate(timeout=120)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "take 3 names off local?" in err
    assert "Plan: 3 to push" in out
    assert process.returncode == (0 if answer == "y" else 2), out + err
    assert len(scene.tags_on_host()) == (0 if answer == "y" else 3)


def test_exit_codes_of_what_can_not_be_done(scene: Scene) -> None:
    """A wrong word is 1 and changes nothing; a registry or an engine that does not answer is 3."""
    scene.build("cyroid/kali:1")
    unasked = migrate(scene, "cyroid/**", yes=False)
    assert (unasked.code, "there is no terminal to ask" in unasked.err) == (1, True)
    for words in (["a b"], ["cyroid/**", "--host", "elsewhere"], ["cyroid/**", "--registry", scene.registry.url], ["cyroid/**", "--from-host"]):
        assert migrate(scene, *words).code == 1, words
    bad = wharf("migrate", "--yes", "--from-host", "cyroid/**", "--registry", scene.registry.url, state=scene.state)
    assert bad.code == 1, bad.err
    scene.registry.stop()
    gone = migrate(scene, "cyroid/**")
    assert (gone.code, scene.registry.url in gone.err) == (3, True)
    scene.host = {"engine": "unix:///nowhere/docker.sock"}
    assert migrate(scene, "cyroid/**", "--dry-run", yes=False).code == 3
    assert scene.tags_on_host() == {"cyroid/kali:1"}


async def test_a_name_that_was_rebuilt_meanwhile_stays(scene: Scene) -> None:
    """What the registry has under a wharf-held tag of another pull counts: the copy leaves only for content that was proven."""
    image_id = scene.build("cyroid/kali:1")
    assert migrate(scene, "cyroid/**", "--no-evict").code == 0
    async with client(scene.registry) as registry:
        manifest = await registry.manifest("cyroid/kali", "1")
    scene.registry.blob_file(manifest.layers[0].digest).unlink()
    done = migrate(scene, "cyroid/**", "-o", "json")
    assert (done.code, [stay["reason"] for stay in done.json["stays"]]) == (2, ["Failed"])
    assert scene.id_on_host("cyroid/kali:1") == image_id
