"""A soak: people work on two hosts by chance, while controller, engines and registry are killed and come back; at the end nothing is missing."""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self

import pytest

from controller.domain.reference import HELD_PREFIX
from controller.store.sqlite import SqliteStore
from tests.acceptance.wharf import Done, Running, running, wharf
from tests.support import accounts, containerd_engine
from tests.support.people import People
from tests.support.scene import Scene
from tests.support.servers import EngineServer, RegistryServer, another_engine

log = logging.getLogger(__name__)

SECONDS = float(os.environ.get("WHARF_SOAK", "20"))
"""How long people work. The controller is killed in the first two fifths of it; then its memory is watched."""

PATIENCE = 180
GROWTH = 24 << 20
"""Bytes of memory that are no sign of a leak: what an allocator keeps."""


class Controller:
    """`wharf run`, through its lives."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._stack = ExitStack()
        self.lives = 0
        self.start()

    def start(self) -> None:
        """A new life."""
        self.life: Running = self._stack.enter_context(running(self._scene.folder / "desired-state.yaml", state=self._scene.state))
        self.lives += 1

    def end(self, number: signal.Signals) -> int:
        """The exit code. It never ends by itself, and never shows a traceback."""
        self._lives_still()
        code = self.life.end(number)
        assert not [line for line in self.life.lines if "Traceback" in line or "a defect in wharf" in line], "\n".join(self.life.lines[-60:])
        self._stack.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _lives_still(self) -> None:
        assert self.life.process.poll() is None, "\n".join(self.life.lines[-40:])

    @property
    def memory(self) -> int:
        """What it has in memory now, in bytes (proc(5), VmRSS)."""
        self._lives_still()
        lines = Path(f"/proc/{self.life.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))


@pytest.fixture
def engines(short_path: Path) -> Iterator[dict[str, EngineServer]]:
    """Two of its own, which may be killed: one of each image store where that can be had."""
    root = containerd_engine.found()
    newer = containerd_engine.ContainerdEngineServer(short_path / "two", root) if root else another_engine(short_path / "two")
    found = {"one": EngineServer(short_path / "one"), "two": newer}
    for each in found.values():
        each.start()
    yield found
    for each in found.values():
        each.stop()


def _wait_for_the_end(scene: Scene, people: People) -> Done:
    """Until nothing is left to do. Two hosts that mean different images by one name can't both be right: people say which one is."""
    deadline = time.monotonic() + PATIENCE
    while True:
        done = wharf("plan", scene.folder / "desired-state.yaml", "-o", "json", state=scene.state)
        if done.code == 0 or time.monotonic() > deadline:
            return done
        for name in {row["image"] for each in done.json for row in each["heldBack"] if row["reason"] == "Conflict"}:
            people.agree(name)
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 2 * PATIENCE)
def test_random_work_for_a_while(short_path: Path, registry: RegistryServer, internet: RegistryServer, engines: dict[str, EngineServer]) -> None:
    """All is in the registry, whole and under its name or held, and off the hosts; no tag of ours is left, and memory did not grow."""
    seed = int(os.environ.get("WHARF_SEED", random.randrange(1 << 32)))
    chance = random.Random(seed)
    mine = ["cyroid/**", f"{internet.address}/**"]
    more = {"gracePeriod": "0s", "adopt": mine, "absent": mine, "onConflict": "Push"}
    scene = Scene(short_path, registry, internet, engines["one"])
    scene.spec = {
        "hosts": [{"name": name, "engine": each.url, **more} for name, each in engines.items()],
        "upstreams": [{"domain": internet.address, "url": internet.url}],
        "interval": "10s",
        "limits": {"deletes": 1000},
    }
    _ = scene.file
    people = People(chance, engines, internet, short_path)
    people.move_in()
    with Controller(scene) as controller:
        memory = _work(chance, people, controller, registry)
        people.leave()
        done = _wait_for_the_end(scene, people)
        assert done.code == 0, "\n".join([f"seed {seed}: {done.out}{done.err}", *controller.life.lines[-60:]])
        memory.append(controller.memory)
        assert controller.end(signal.SIGTERM) == 0
    log.info("seed %d: %s; refused %s; %d lives; memory %s", seed, dict(people.done), dict(people.refused), controller.lives, _curve(memory))
    _account_for_all(scene, people, seed)
    assert memory[-1] < memory[0] + GROWTH, _curve(memory)


def _work(chance: random.Random, people: People, controller: Controller, registry: RegistryServer) -> list[int]:
    """People work, and things break; the controller's memory since it is no more killed."""
    faults: list[tuple[Callable[[], None], float]] = [
        (lambda: _killed_and_back(controller, people), 0.4),
        (lambda: _restarted(chance, people), 1.0),
        (lambda: _away(chance, registry, people), 1.0),
    ]
    began, memory = time.monotonic(), list[int]()
    while (passed := (time.monotonic() - began) / SECONDS) < 1:
        people.act()
        if chance.random() < 0.05:
            chance.choice([fault for fault, until in faults if passed < until])()
        if passed > 0.6:
            memory.append(controller.memory)
        time.sleep(chance.uniform(0, 0.2))
    return memory


def _killed_and_back(controller: Controller, people: People) -> None:
    people.tell("the controller is killed")
    controller.end(signal.SIGKILL)
    controller.start()


def _restarted(chance: random.Random, people: People) -> None:
    engine = chance.choice(list(people.hosts.values()))
    people.tell(f"{engine.home.name} is restarted")
    engine.stop(kill=chance.random() < 0.5)
    engine.start()


def _away(chance: random.Random, registry: RegistryServer, people: People) -> None:
    people.tell("the registry is away")
    registry.stop(kill=chance.random() < 0.5)
    for _ in range(chance.randrange(6)):
        people.act()
    registry.start()
    people.tell("the registry is back")


def _curve(memory: list[int]) -> str:
    """In MB, ten points of it."""
    return ", ".join(f"{memory[at * (len(memory) - 1) // 9] / 1e6:.1f}" for at in range(10))


def _trail(scene: Scene) -> list[str]:
    """All that the controller did, for whoever looks for an image that is missed."""
    with closing(SqliteStore(scene.state, read_only=True)) as store:
        return [str(entry) for entry in reversed(store.history(limit=100_000))]


def _account_for_all(scene: Scene, people: People, seed: int) -> None:
    registry = accounts.in_registry(scene.registry)
    on_hosts = {name: accounts.on_host(engine) for name, engine in people.hosts.items()}
    anywhere = set().union(*on_hosts.values())
    lost = people.made - people.taken - registry.keys() - anywhere
    told = people.diary
    diary = [line for at, line in enumerate(told) if any(word in each for word in lost for each in told[max(0, at - 4) : at + 5])]
    assert not lost, "\n".join([f"seed {seed}: lost {lost}", *diary, *_trail(scene)])
    tags = {tag for places in registry.values() for tag in places}
    given = {"1", "2", "3"} | people.made
    assert all(tag in given or tag.startswith(HELD_PREFIX) for tag in tags), f"seed {seed}: {tags - given}"
    names = {name for host in people.hosts.values() for _, names, _ in people.images(host) for name in names if "<none>" not in name}
    assert all(name.startswith("strangers/") for name in names), f"seed {seed}: {names}"
    store = SqliteStore(scene.state)
    assert not store.open_pushes(), f"seed {seed}"
    store.close()
    held = sum(tag.startswith(HELD_PREFIX) for places in registry.values() for tag in places)
    log.info("%d contents made, %d in the registry, %d on hosts, %d held tags", len(people.made), len(registry), len(anywhere), held)
