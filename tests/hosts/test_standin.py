"""Stand-ins: what a kill leaves of them, and two who take names off at the same moment."""

from __future__ import annotations

import asyncio

import pytest

from controller.domain.errors import NotFoundError
from controller.domain.reference import parse
from controller.hosts import standin
from controller.hosts.docker_engine import DockerHost
from tests.support.servers import EngineServer, build_image


def left_on_a_stand_in(engine: EngineServer, *names: str, number: int = 0) -> None:
    """What is there when taking these names off broke off."""
    with engine.client() as client:
        list(client.api.load_image(standin.STAND_INS[number].tar))
        (image_id,) = {image["Id"] for image in client.api.images()} & standin.STAND_INS[number].ids
        for name in names:
            client.api.tag(image_id, *name.split(":"))


async def test_what_a_kill_left_is_seen_by_nobody_and_goes(either_engine: EngineServer) -> None:
    """A stand-in that still has the name is no image to a look, and is removed with the name; an image that got the name since is spared."""
    host = DockerHost("local", either_engine.url)
    try:
        left_on_a_stand_in(either_engine, "cyroid/kali:1")
        left_on_a_stand_in(either_engine, "cyroid/web:1", number=1)
        web = build_image(either_engine, "cyroid/web:1", {"data": b"web"})
        assert [(image.id, image.tags) for image in (await host.look()).images] == [(web, (parse("cyroid/web:1"),))]
        await host.tidy()
        with either_engine.client() as client:
            assert {image["Id"] for image in client.api.images()} == {web}
    finally:
        await host.close()


async def test_what_broke_off_in_the_middle(either_engine: EngineServer) -> None:
    """A name that is left on a stand-in means nothing, so a push under it is not refused; several names on one go, and a name that moved on stays."""
    host = DockerHost("local", either_engine.url)
    try:
        left_on_a_stand_in(either_engine, "cyroid/kali:1", "cyroid/kali:2", "cyroid/web:1")
        with pytest.raises(NotFoundError, match="on its way off"):
            await host.inspect("cyroid/kali:1")
        web = build_image(either_engine, "cyroid/web:1", {"data": b"web"})
        await host.tag(web, "cyroid/kali:2")
        await host.look()
        await host.tidy()
        with either_engine.client() as client:
            assert {image["Id"]: sorted(image["RepoTags"]) for image in client.api.images()} == {web: ["cyroid/kali:2", "cyroid/web:1"]}
    finally:
        await host.close()


async def test_several_names_are_left(either_engine: EngineServer) -> None:
    """Of a stand-in that broke off more than once: all of them go."""
    host = DockerHost("local", either_engine.url)
    try:
        left_on_a_stand_in(either_engine, "cyroid/kali:1", "cyroid/kali:2", "cyroid/kali:3")
        await host.tidy()
        with either_engine.client() as client:
            assert client.api.images() == []
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
