"""Stand-ins: what a kill leaves of them, and two who take names off at the same moment."""

from __future__ import annotations

import asyncio

from controller.domain.reference import parse
from controller.hosts import standin
from controller.hosts.docker_engine import DockerHost
from tests.support.servers import EngineServer, build_image


async def test_what_a_kill_left_is_seen_by_nobody_and_goes(either_engine: EngineServer) -> None:
    """A stand-in that still has the name is no image to a look, and is removed with the name; an image that got the name since is spared."""
    host = DockerHost("local", either_engine.url)
    try:
        with either_engine.client() as client:
            for stand_in, name in zip(standin.STAND_INS[:2], ("cyroid/kali:1", "cyroid/web:1"), strict=True):
                list(client.api.load_image(stand_in.tar))
                (image_id,) = {image["Id"] for image in client.api.images()} & stand_in.ids
                client.api.tag(image_id, *name.split(":"))
        web = build_image(either_engine, "cyroid/web:1", {"data": b"web"})
        assert [(image.id, image.tags) for image in (await host.look()).images] == [(web, (parse("cyroid/web:1"),))]
        await host.tidy()
        with either_engine.client() as client:
            assert {image["Id"] for image in client.api.images()} == {web}
    finally:
        await host.close()


async def test_two_controllers_take_names_off_at_once(either_engine: EngineServer) -> None:
    """Each with the same few stand-ins: all names go, no image does, and no stand-in stays."""
    hosts = [DockerHost("local", either_engine.url) for _ in range(2)]
    try:
        image_id = await asyncio.to_thread(build_image, either_engine, "cyroid/kali:1", {"data": b"kali"})
        names = [f"cyroid/kali:{number}" for number in range(2, 26)]
        for name in names:
            await hosts[0].tag(image_id, name)
        await asyncio.gather(*(hosts[number % 2].untag(name, image_id) for number, name in enumerate(names)))
        assert [(image.id, image.tags) for image in (await hosts[0].look()).images] == [(image_id, (parse("cyroid/kali:1"),))]
        for host in hosts:
            await host.tidy()
        with either_engine.client() as client:
            assert {image["Id"] for image in client.api.images()} == {image_id}
    finally:
        for host in hosts:
            await host.close()
