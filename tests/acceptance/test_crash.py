"""A pass or a running controller, killed at random moments of push, proof and evict: no image is lost, no tag left, and the next apply converges."""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from controller.cli.main import main
from controller.domain.oci import digest_of
from controller.store.sqlite import SqliteStore
from tests.acceptance.wharf import wharf
from tests.support.scene import Scene, client, tags_of
from tests.support.servers import RegistryServer

KILLS = int(os.environ.get("WHARF_KILLS", "20"))
UNDISTURBED = 20
"""After so many kills one is left to end, to know how long the work takes by now."""

PATIENCE = 60

# Python's imports are done once, in a server that forks: so that the moments fall into the command's own work.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["controller.cli.main", "controller.cli.commands.apply", "controller.cli.commands.run", __name__])


def _command(arguments: list[str], log: Path) -> None:
    """The command, in a process of its own."""
    for number, file in ((0, os.devnull), (1, log), (2, log)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    sys.argv = ["wharf", *arguments]
    main()


def _at_work(scene: Scene, command: str, seconds: float | None) -> float:
    """The command, killed after so many seconds, or left to its work's end; the seconds that it worked."""
    arguments = [command, "--state", str(scene.state), str(scene.folder / "desired-state.yaml")]
    process = FORKS.Process(target=_command, args=(arguments, scene.folder / "log"))
    began = time.monotonic()
    process.start()
    if seconds is None:
        while process.is_alive() and scene.tags_on_host() and time.monotonic() < began + PATIENCE:
            time.sleep(0.02)
    process.join(seconds or 0)
    process.kill()
    process.join()
    process.close()
    return time.monotonic() - began


async def _in_registry(server: RegistryServer, repository: str) -> set[str]:
    """The Ids (config digests) of all images under a tag of the repository whose every byte is there."""
    found: set[str] = set()
    async with client(server) as registry:
        for tag in await registry.tags(repository):
            manifest = await registry.manifest(repository, tag)
            assert manifest.config is not None
            for blob in manifest.blobs:
                async with registry.read_blob(repository, blob.digest) as chunks:
                    assert digest_of(b"".join([chunk async for chunk in chunks])) == blob.digest, f"{repository}:{tag} is not whole"
            found.add(manifest.config.digest)
    return found


def _on_host(scene: Scene) -> set[str]:
    with scene.engine.client() as engine:
        return set(engine.api.images(quiet=True))


@pytest.mark.slow
@pytest.mark.timeout(300 + 10 * KILLS)
@pytest.mark.parametrize("command", ["apply", "run"])
async def test_killed_at_random_moments(scene: Scene, command: str) -> None:
    """Each round builds one new name, rebuilds another, and kills the command somewhere in its work."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    scene.images = [{"name": "cyroid/same:1"}]
    scene.spec, scene.host = {"limits": {"deletes": 1000}}, {"adopt": ["cyroid/**"], "absent": ["cyroid/**"]}
    file, state = scene.file, scene.state
    built: dict[str, str] = {}
    arrived: set[str] = set()
    whole = 0.0
    for number in range(KILLS + KILLS // UNDISTURBED + 1):
        for name in ("cyroid/same:1", f"cyroid/new{number}:1"):
            built[scene.build(name, size=1_000_000)] = name.partition(":")[0]
        undisturbed = number % (UNDISTURBED + 1) == 0
        took = _at_work(scene, command, None if undisturbed else chance.uniform(0, whole * 1.1))
        whole = took if undisturbed else whole
        gone = built.keys() - _on_host(scene) - arrived
        for repository in {built[image] for image in gone}:
            arrived |= await _in_registry(scene.registry, repository)
        assert not gone - arrived, f"lost {gone - arrived} in round {number}; seed {seed}"
    done = wharf("apply", file, state=state)
    assert done.code == 0, done.out + done.err
    assert scene.tags_on_host() == set(), f"seed {seed}"
    left = _on_host(scene)  # A build that lost its name to the next one before it was pushed.
    for repository in set(built.values()):
        there = await _in_registry(scene.registry, repository) | left
        assert there >= {image for image, home in built.items() if home == repository}, f"seed {seed}"
        assert all(tag == "1" or tag.startswith("wharf-held-") for tag in await tags_of(scene.registry, repository))
    with closing(SqliteStore(state)) as store:
        assert not store.open_pushes()
