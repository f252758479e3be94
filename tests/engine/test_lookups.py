"""How often upstreams are asked: at most every `refresh` for what the registry has, over restarts too (design, spec.refresh)."""

from __future__ import annotations

from controller.domain.actions import Kind
from controller.registry.client import RegistryClient
from controller.wiring.setup import read
from tests.support.scene import Quiet, Scene, client, publish, tags_of

NGINX = "docker.io/library/nginx"


async def test_within_refresh_a_restarted_controller_asks_nothing_again(scene: Scene) -> None:
    """What was copied is as it was looked up, even while upstream is away; only when asked to, it looks again."""
    published = await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": f"{NGINX}:1"}]
    assert (await scene.apply()).after.converged
    scene.internet.stop()
    assert (await scene.apply()).after.converged
    assert not (await scene.apply(fresh=True)).after.converged
    scene.internet.start()
    moved = await publish(scene.internet, "library/nginx", "1")
    assert (await scene.apply()).outcomes == ()
    assert (await tags_of(scene.registry, NGINX))["1"] == published.digest
    await scene.apply(fresh=True)
    assert (await tags_of(scene.registry, NGINX))["1"] == moved.digest


async def test_after_refresh_it_is_looked_up_again(scene: Scene) -> None:
    """An answer that is older than `refresh` counts no more."""
    await publish(scene.internet, "library/nginx", "1")
    scene.images, scene.spec = [{"name": f"{NGINX}:1"}], {"refresh": "0s"}
    await scene.apply()
    moved = await publish(scene.internet, "library/nginx", "1")
    await scene.apply()
    assert (await tags_of(scene.registry, NGINX))["1"] == moved.digest


async def test_what_the_registry_lost_is_looked_up_before_it_is_copied(scene: Scene) -> None:
    """Nothing is moved by an old answer: upstream's tag of now is copied, at once."""
    await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": f"{NGINX}:1"}]
    await scene.apply()
    moved = await publish(scene.internet, "library/nginx", "1")
    async with client(scene.registry) as registry:
        await registry.delete_tag(NGINX, "1")
    done = await scene.apply()
    assert [(outcome.action.kind, outcome.error) for outcome in done.outcomes] == [(Kind.COPY, "")]
    assert (await tags_of(scene.registry, NGINX))["1"] == moved.digest


async def test_what_a_copy_read_back_is_not_asked_for_again_by_the_look_after_it(scene: Scene) -> None:
    """The look that ends a pass pings the registry and asks no more; the next one asks for the tag again."""
    await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": f"{NGINX}:1"}]
    desired = read([scene.file]).desired
    async with scene.opened() as (reconciler, _):
        registry = reconciler.world.registry
        assert isinstance(registry, RegistryClient)
        await reconciler.apply(await reconciler.look(desired), Quiet())
        counts = []
        for _turn in range(2):
            before = registry.requests
            assert (await reconciler.look(desired)).converged
            counts.append(registry.requests - before)
    assert counts == [1, 2]
