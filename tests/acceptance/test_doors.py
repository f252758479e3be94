"""`wharf push` and `wharf pull`: one image by command, with an exit code for scripts."""

from __future__ import annotations

from tests.acceptance.wharf import Done, wharf
from tests.support.scene import Scene, publish, tags_of


def door(scene: Scene, *arguments: str) -> Done:
    """One command with the scene's file."""
    return wharf(*arguments, "-f", scene.file, state=scene.state)


async def test_push_brings_a_host_image_to_the_registry_and_leaves_it_there(scene: Scene) -> None:
    """No set lists it, no pattern adopts it: the command alone asks for it, under its local name."""
    image_id = scene.build("cyroid/kali:1")
    done = door(scene, "push", "cyroid/kali:1", "--host", "local")
    assert done.code == 0, done.err
    assert "✓ ^ push cyroid/kali:1 from local" in done.err
    assert done.out == f"cyroid/kali:1 {(await tags_of(scene.registry, 'cyroid/kali'))['1']}\n"
    assert scene.tags_on_host() == {"cyroid/kali:1"}
    assert scene.pulled_back("cyroid/kali:1") == image_id
    again = door(scene, "push", "cyroid/kali:1", "--host", "local")
    assert (again.code, again.out, "nothing to do" in again.err) == (0, done.out, True)


async def test_a_failed_push_fails_the_command(scene: Scene) -> None:
    """An image that is not there, a registry that means something else by the name, a registry that is gone: never 0."""
    missing = door(scene, "push", "cyroid/typo:1", "--host", "local")
    assert (missing.code, "NotFound" in missing.err) == (2, True)
    scene.build("cyroid/kali:1")
    await publish(scene.registry, "cyroid/kali", "1")
    conflict = door(scene, "push", "cyroid/kali:1", "--host", "local")
    assert (conflict.code, "Conflict" in conflict.err) == (2, True)
    scene.registry.stop()
    gone = door(scene, "push", "cyroid/kali:1", "--host", "local")
    assert (gone.code, "error: " in gone.err) == (3, True)


def test_a_host_that_the_file_does_not_have_is_a_usage_error(scene: Scene) -> None:
    """The file's hosts are named."""
    done = door(scene, "push", "cyroid/kali:1", "--host", "elsewhere")
    assert (done.code, "no such host; the file has local" in done.err) == (1, True)


async def test_pull_brings_upstreams_image_to_the_registry(scene: Scene) -> None:
    """Without a domain it is docker.io's; manifests byte for byte, all platforms."""
    published = await publish(scene.internet, "library/nginx", "1", platforms=["linux/amd64", "linux/arm64"])
    done = door(scene, "pull", "nginx:1")
    assert done.code == 0, done.err
    assert await tags_of(scene.registry, "docker.io/library/nginx") == {"1": published.digest}
    assert door(scene, "pull", "nginx:2").code == 2
    scene.spec = {"internet": "Listed", "upstreams": [{"domain": "docker.io", "url": scene.internet.url}]}
    assert door(scene, "pull", "docker.io/library/other:1").code == 1


async def test_pull_of_one_platform(scene: Scene) -> None:
    """The chosen platform's manifest, verbatim."""
    published = await publish(scene.internet, "library/nginx", "1", platforms=["linux/amd64", "linux/arm64"])
    done = door(scene, "pull", "nginx:1", "--platform", "linux/arm64")
    assert done.code == 0, done.err
    (arm,) = (child.digest for child in published.children if child.platform == "linux/arm64")
    assert await tags_of(scene.registry, "docker.io/library/nginx") == {"1": arm}


async def test_pull_to_a_host_goes_back(scene: Scene) -> None:
    """What was pushed and evicted returns to the host under its own name, and no tag of ours stays."""
    image_id = scene.build("cyroid/kali:1")
    scene.images = [{"name": "cyroid/kali:1"}]
    assert wharf("apply", scene.file, state=scene.state).code == 0
    assert scene.tags_on_host() == set()
    done = door(scene, "pull", "cyroid/kali:1", "--host", "local")
    assert done.code == 0, done.err
    assert scene.tags_on_host() == {"cyroid/kali:1"}
    assert scene.id_on_host("cyroid/kali:1") == image_id
    assert door(scene, "pull", "cyroid/none:1", "--host", "local").code == 2


async def test_a_push_asks_no_upstream_for_what_no_set_lists(scene: Scene) -> None:
    """`internet: Listed` holds for commands too: what was pulled once is pushed from the host, not copied from where it came."""
    upstreams = [{"domain": scene.internet.address, "url": scene.internet.url}]
    for rule, way in (("Listed", "^ push"), ("Allow", "+ copy")):
        await scene.pulled(f"library/nginx:{rule}")
        scene.spec = {"upstreams": upstreams, "internet": rule}
        done = door(scene, "push", f"{scene.internet.address}/library/nginx:{rule}", "--host", "local")
        assert (done.code, way in done.err) == (0, True), done.err
