"""What a host pulled from an upstream comes into the registry from there, under its own digest; from the host only when upstream has it no more."""

from __future__ import annotations

from controller.domain.actions import Copy, Push
from tests.conftest import StartRegistry
from tests.support.scene import Scene, client, tags_of

NAME = "library/nginx:1"


def adopting(scene: Scene) -> tuple[str, str]:
    """The upstream is known by its address, and what came from there is adopted; its name on a host, and its repository in the registry."""
    scene.spec = {"upstreams": [{"domain": scene.internet.address, "url": scene.internet.url}]}
    scene.host = {"adopt": [f"{scene.internet.address}/**"], "absent": [f"{scene.internet.address}/**"]}
    return f"{scene.internet.address}/{NAME}", f"{scene.internet.address.replace(':', '_')}/library/nginx"


async def test_a_pulled_image_is_copied_from_upstream(either_scene: Scene) -> None:
    """Law 4: the registry has upstream's own bytes, though a push from a classic engine would have packed its layers anew."""
    scene = either_scene
    _, repository = adopting(scene)
    published = await scene.pulled(NAME)
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert [type(action) for action in done.before.plan.actions][:1] == [Copy]
    assert await tags_of(scene.registry, repository) == {"1": published}
    assert scene.tags_on_host() == set()


async def test_a_pulled_image_that_upstream_has_no_more_is_pushed_from_the_host(scene: Scene) -> None:
    """The host's copy is the last one: it is pushed, proven, and only then leaves."""
    name, repository = adopting(scene)
    published = await scene.pulled(NAME)
    image_id = scene.id_on_host(name)
    async with client(scene.internet) as upstream:
        await upstream.delete_manifest("library/nginx", published)
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert [type(action) for action in done.before.plan.actions][:1] == [Push]
    assert scene.tags_on_host() == set()
    assert scene.pulled_back(f"{repository}:1") == image_id


async def test_a_silent_upstream_does_not_keep_an_image_from_the_registry(scene: Scene) -> None:
    """A push takes nothing away, so it does not wait for somebody who may never answer."""
    _, repository = adopting(scene)
    await scene.pulled(NAME)
    scene.internet.stop()
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert set(await tags_of(scene.registry, repository)) == {"1"}


async def test_names_of_what_was_built_here_are_told_to_nobody(either_scene: Scene, start_registry: StartRegistry) -> None:
    """A containerd store invents a digest under docker.io for what was built here: upstream is not asked for it."""
    upstream = start_registry({"log": {"accesslog": {"disabled": False}}})
    scene = either_scene
    scene.spec = {"upstreams": [{"domain": "docker.io", "url": upstream.url}]}
    scene.host = {"adopt": ["cyroid/**"]}
    scene.build("cyroid/secret:1")
    done = await scene.apply()
    assert [type(action) for action in done.before.plan.actions] == [Push]
    assert "/v2/cyroid" not in upstream.log.read_text()
    scene.images = [{"name": "docker.io/cyroid/other:1"}]
    await scene.look()
    assert "/v2/cyroid/other" in upstream.log.read_text(), "or the log would show nothing"


async def test_a_newer_image_of_what_was_pulled_is_no_conflict(scene: Scene) -> None:
    """The host had what the registry has: what it has under that name next is newer, and replaces it; the old one is held."""
    name, repository = adopting(scene)
    scene.host["absent"] = []
    old = await scene.pulled(NAME)
    assert (await scene.apply()).after.converged
    new = await scene.pulled(NAME)
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    tags = await tags_of(scene.registry, repository)
    assert (tags["1"], sorted(set(tags.values()))) == (new, sorted([old, new]))
    assert scene.tags_on_host() == {name}
