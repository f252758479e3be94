"""A migration that is stopped, by a person, by the system or by force, loses nothing and goes on when it is run again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from controller.store.sqlite import SqliteStore
from tests.acceptance.test_crash import FORKS, _command
from tests.acceptance.wharf import TIMEOUT, WHARF, wharf
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.scene import Scene, tags_of

KILLS = int(os.environ.get("WHARF_MIGRATE_KILLS", "6"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_stopped_half_way_it_says_what_is_done_and_goes_on(scene: Scene, number: signal.Signals) -> None:
    """One image hangs in the registry, the others are through: a signal ends it soon, with the report of what was done and a code of its own."""
    ids = {name: scene.build(name, 50_000) for name in (*(f"cyroid/kali:{n}" for n in range(6)), "cyroid/slow:1")}
    async with fault_proxy(scene.registry.url) as proxy:
        scene.spec, scene.host = {"registry": {"url": proxy.url}}, {"registryAddress": scene.registry.address}
        answer = asyncio.Event()
        proxy.always.append(("GET", "/cyroid/slow/manifests/", Fault(hold=answer)))
        arguments = ["migrate", "cyroid/**", "--yes", "-o", "json", "-f", str(scene.file)]
        environment = {**os.environ, "WHARF_STATE": str(scene.state), "PYTHONUNBUFFERED": "1"}
        process = await asyncio.create_subprocess_exec(
            *WHARF, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
        )
        assert process.stderr is not None
        async with asyncio.timeout(TIMEOUT):
            told: list[bytes] = []
            while sum(b"- evict" in line for line in told) < 6:
                told.append(await process.stderr.readline())
                assert told[-1], b"".join(told).decode()
            await proxy.until("GET", "/cyroid/slow/manifests/")
            process.send_signal(number)
            out, err = await process.communicate()
        assert process.returncode == 128 + number, err.decode()
        assert b"Traceback" not in err
        said = json.loads(out)
        assert (said["stopped"], said["total"]["evicted"]) == (True, 6)
        assert [row["image"] for row in said["actions"] if not row["done"]] == ["cyroid/slow:1", "cyroid/slow:1"]
        assert scene.tags_on_host() == {"cyroid/slow:1"}
        answer.set()
        with closing(SqliteStore(scene.state, read_only=True)) as store:
            assert not store.open_pushes()
        done = await asyncio.to_thread(wharf, *arguments, state=scene.state)
    assert (done.code, done.json["total"]["pushed"]) == (0, 1), done.err
    assert scene.tags_on_host() == set()
    assert {name: scene.pulled_back(name) for name in ids} == ids


async def test_a_registry_that_goes_away_half_way(scene: Scene) -> None:
    """What could not be looked at afterwards is not said to be done: exit code 3, and the host keeps what was not proven."""
    for n in range(3):
        scene.build(f"cyroid/kali:{n}")
    async with fault_proxy(scene.registry.url) as proxy:
        scene.spec, scene.host = {"registry": {"url": proxy.url}}, {"registryAddress": scene.registry.address}
        answer = asyncio.Event()
        proxy.always.append(("GET", "/cyroid/kali/manifests/", Fault(hold=answer)))
        arguments = ["migrate", "cyroid/**", "--yes", "-f", str(scene.file)]
        running = asyncio.create_task(asyncio.to_thread(wharf, *arguments, state=scene.state))
        async with asyncio.timeout(TIMEOUT):
            await proxy.until("GET", "/cyroid/kali/manifests/", 3)
            scene.registry.stop()
            answer.set()
            done = await running
    assert done.code == 3, done.out + done.err
    assert "All that matched" not in done.out
    assert len(scene.tags_on_host()) == 3


@pytest.mark.slow
async def test_killed_at_random_moments_it_goes_on(scene: Scene) -> None:
    """SIGKILL anywhere in its work, again and again: each image is on the host or whole in the registry, and the last run ends it."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    arguments = ["migrate", "cyroid/**", "--yes", "--allow-deletes", "1000", "--state", str(scene.state), "-f", str(scene.file)]
    ids: dict[str, str] = {}
    left: set[str] = set()
    whole = 0.0
    for round_ in range(KILLS + 1):
        for n in range(3):
            name = f"cyroid/r{round_}:{n}"
            ids[name] = scene.build(name, 500_000)
        scene.engine.docker("tag", f"cyroid/r{round_}:0", f"cyroid/also:{round_}")
        ids[f"cyroid/also:{round_}"] = ids[f"cyroid/r{round_}:0"]
        process = FORKS.Process(target=_command, args=(arguments, Path(scene.folder / "log")))
        began = time.monotonic()
        process.start()
        process.join(chance.uniform(0, whole * 1.1) if round_ else None)
        process.kill()
        process.join()
        process.close()
        whole = whole or time.monotonic() - began
        for name in ids.keys() - scene.tags_on_host() - left:
            assert scene.pulled_back(name) == ids[name], f"{name} was lost in round {round_}; seed {seed}"
            left.add(name)
    done = wharf(*arguments, state=scene.state)
    assert done.code == 0, f"{done.out}{done.err}; seed {seed}"
    assert scene.tags_on_host() == set(), f"seed {seed}"
    assert {name: scene.pulled_back(name) for name in ids} == ids
    for repository in {name.partition(":")[0] for name in ids}:
        assert all(not tag.startswith("wharf-held-") for tag in await tags_of(scene.registry, repository))
    with closing(SqliteStore(scene.state)) as store:
        assert not store.open_pushes()
