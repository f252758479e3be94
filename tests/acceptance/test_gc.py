"""`wharf gc` as an operator runs it: a registry with its blob cache in memory, a gateway before it, and people who push and pull meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.acceptance.wharf import WHARF, Done, running, wharf
from tests.conftest import StartRegistry
from tests.support.collections import CACHED, Image, SlowCollector, image_of, push
from tests.support.scene import Scene, client, publish
from tests.support.servers import EngineServer, RegistryServer, build_image, free_port

KALI = "cyroid/kali"


@dataclass
class Quay:
    """A registry, and the gateway before it, a process of its own."""

    registry: RegistryServer
    port: int
    state: Path

    def options(self, *more: str) -> list[str]:
        """Of a `wharf gc` without a file."""
        about = ["--registry", self.registry.url, "--gateway", f"127.0.0.1:{self.port}", "--config", str(self.registry.config)]
        return ["gc", *about, *more]

    async def gc(self, *more: str) -> Done:
        """Run it to its end."""
        return await asyncio.to_thread(wharf, *self.options(*more), state=self.state)

    @contextmanager
    def gc_started(self, slow: SlowCollector) -> Iterator[subprocess.Popen[bytes]]:
        """Run it with a collector that waits when it has done all; killed at the end if it still runs."""
        environment = {**os.environ, "WHARF_STATE": str(self.state)}
        command = [*WHARF, *self.options("--collector", str(slow.script))]
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                yield process
            finally:
                slow.let_go()
                process.kill()
                process.wait()


@pytest.fixture
def quay(start_registry: StartRegistry, short_path: Path) -> Iterator[Quay]:
    """Served already."""
    registry, port = start_registry(CACHED), free_port()
    options = ["--listen", f"127.0.0.1:{port}", "--registry", registry.url, "--upstream", "docker.io=http://127.0.0.1:1"]
    environment = {**os.environ, "WHARF_STATE": str(short_path / "gateway.sqlite"), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([*WHARF, "gateway", *options], stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            assert "serving" in process.stderr.readline()
            yield Quay(registry, port, short_path / "state.sqlite")
        finally:
            process.terminate()
            process.wait(30)


async def deleted(registry: RegistryServer) -> Image:
    """An image that the registry had, and that it has no more once its garbage is collected."""
    await publish(registry, KALI, "1")
    image = await image_of(registry, KALI, "1")
    async with client(registry) as behind:
        for digest in image.blobs:
            assert await behind.has_blob(KALI, digest)
        await behind.delete_manifest(KALI, image.manifest.digest)
    return image


@asynccontextmanager
async def reading(quay: Quay) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody pulls all the time, and nothing ever fails. A client of the gateway, for others."""
    kept = await publish(quay.registry, "cyroid/kept", "1")
    stop, seen = asyncio.Event(), 0

    async def read(people: httpx.AsyncClient) -> None:
        nonlocal seen
        while not stop.is_set():
            manifest = await people.get("/v2/cyroid/kept/manifests/1", headers={"Accept": kept.media_type})
            assert (manifest.status_code, manifest.content) == (200, kept.raw)
            blob = await people.get(f"/v2/cyroid/kept/blobs/{kept.layers[0].digest}")
            assert (blob.status_code, len(blob.content)) == (200, kept.layers[0].size)
            seen += 1
            await asyncio.sleep(0.02)

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{quay.port}", timeout=30) as people, asyncio.TaskGroup() as group:
        group.create_task(read(people))
        yield people
        stop.set()
    assert seen


@asynccontextmanager
async def pushed(engine: EngineServer, name: str) -> AsyncIterator[asyncio.StreamReader]:
    """By `docker push`, whose words are given; it must have gone well at the end."""
    environment = {**os.environ, "DOCKER_HOST": engine.url}
    process = await asyncio.create_subprocess_exec("docker", "push", name, stdout=asyncio.subprocess.PIPE, env=environment)
    assert process.stdout is not None
    yield process.stdout
    assert await process.wait() == 0


async def test_without_an_outage(quay: Quay, engine: EngineServer) -> None:
    """Pulls go on, pushes are refused and succeed afterwards, a second collection is refused; the report says what was won and proven.

    An engine that pushes meanwhile tries again by itself.
    """
    image, slow, name = await deleted(quay.registry), SlowCollector(quay.registry), f"127.0.0.1:{quay.port}/cyroid/built:1"
    build_image(engine, name, {"data": os.urandom(4096)})
    dry = await quay.gc("--dry-run")
    assert dry.code == 0, dry.err
    assert "Would collect 3 blobs" in dry.out
    async with reading(quay) as people:
        with quay.gc_started(slow) as first:
            await slow.collected()
            assert await push(people, image) == 503
            second = await quay.gc()
            assert second.code == 1
            assert (
                f"another collection of {quay.registry.address} is under way: its garbage is being collected, by process {first.pid} since"
                in second.err
            )
            async with pushed(engine, name) as lines:
                async for line in lines:
                    if b"Retrying" in line:
                        slow.let_go()
            assert await asyncio.to_thread(first.wait, 60) == 0
        assert await push(people, image) == 201
    assert (await image_of(quay.registry, KALI, "1")).blobs == image.blobs
    done = await quay.gc("-o", "json")
    assert done.code == 0, done.err
    assert done.json["collected"] == {"blobs": 0, "bytes": 0, "manifests": []}
    assert (done.json["cache"], done.json["proof"]["images"], done.json["proof"]["broken"]) == ("Cleared", 3, [])
    assert done.json["after"]["onDisk"] == done.json["after"]["bytes"]
    assert {row["repository"] for row in done.json["after"]["repositories"]} == {"cyroid/kept", "cyroid/built", KALI}


async def test_killed_in_the_middle(quay: Quay) -> None:
    """Its collector goes on, and until that has ended nobody writes; then pushes are whole, though the registry's cache remembers what is gone."""
    image, slow = await deleted(quay.registry), SlowCollector(quay.registry)
    async with reading(quay) as people:
        with quay.gc_started(slow) as process:
            await slow.collected()
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert await push(people, image) == 503
            slow.let_go()
            async with asyncio.timeout(30):
                while (status := await push(people, image)) == 503:  # noqa: ASYNC110 - as a client would
                    await asyncio.sleep(0.05)
            assert status == 201
    assert (await image_of(quay.registry, KALI, "1")).blobs == image.blobs
    done = await quay.gc()
    assert done.code == 0, done.err
    assert "Proven: 2 images, all whole" in done.out


async def test_beside_run(scene: Scene, start_registry: StartRegistry) -> None:
    """What the controller has to push meanwhile fails for that image, with the reason, and is pushed when it is over; `history` tells of both."""
    scene.registry = start_registry(CACHED)
    scene.spec, scene.host = {"interval": "1h"}, {"adopt": ["cyroid/**"]}
    slow = SlowCollector(scene.registry)
    with running(scene.file, state=scene.state) as controller:
        seen = await asyncio.to_thread(controller.wait_for, "converged")
        command: list[str | Path] = ["gc", scene.file, "--config", scene.registry.config, "--collector", slow.script]
        collecting = asyncio.create_task(asyncio.to_thread(wharf, *command, state=scene.state))
        await slow.collected()
        image_id = scene.build(f"{KALI}:1")
        refused = await asyncio.to_thread(controller.wait_for, "garbage is being collected", after=seen)
        slow.let_go()
        done = await collecting
        assert done.code == 0, done.err
        assert "whoever pushes to the registry itself is not held off" in done.out
        await asyncio.to_thread(controller.wait_for, f"✓ ^ push {KALI}:1", after=refused)
        assert await asyncio.to_thread(controller.end) == 0
        assert "Traceback" not in "\n".join(controller.lines)
    assert scene.pulled_back(f"{KALI}:1") == image_id
    trail = wharf("history", "-f", scene.file, "-o", "json", state=scene.state).json
    assert [(row["actor"], row["action"], row["error"]) for row in trail] == [("run", "Push", None), ("gc", "Collect", None)], "it did not fail"


async def test_what_is_broken_is_told(quay: Quay) -> None:
    """Exit code 2, and which image; what an operator gets wrong is a usage error, before anything is collected."""
    await publish(quay.registry, KALI, "1")
    quay.registry.damage((await image_of(quay.registry, KALI, "1")).manifest.layers[0].digest)
    done = await quay.gc()
    assert done.code == 2
    assert f"✗ {KALI}:1  broken" in done.out
    elsewhere = wharf(*quay.options(), state=quay.state.parent / "elsewhere" / "state.sqlite")
    assert elsewhere.code == 1
    assert f"the gateway at 127.0.0.1:{quay.port} goes on taking writes" in elsewhere.err


async def test_usage(start_registry: StartRegistry, short_path: Path) -> None:
    """By repository and in all, and how much of the disk no tag names; a folder that is not the registry's own tells nothing of it."""
    registry = start_registry()
    await deleted(registry)
    await publish(registry, "cyroid/kept", "1")
    about: list[str | Path] = ["usage", "--registry", registry.url, "--config"]
    rows = wharf(*about, registry.config, "-o", "json", state=short_path / "state.sqlite").json
    assert rows["bytes"] == rows["repositories"][0]["bytes"] < rows["onDisk"]
    shown = wharf(*about, "config/registry.yml", state=short_path / "state.sqlite")
    assert shown.code == 0, shown.err
    assert "cyroid/kept" in shown.out
    assert "on the disk" not in shown.out
