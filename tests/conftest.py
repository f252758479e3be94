"""Real servers for every test that asks: engines for the session, registries for each test, all with data of their own in temporary folders."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import containerd_engine
from tests.support.scene import Scene
from tests.support.servers import EngineServer, RegistryServer, missing_parts

StartRegistry = Callable[..., RegistryServer]


def _need_parts() -> None:
    """Without the servers' binaries a test of the real parts fails rather than passing unseen."""
    missing = missing_parts()
    if missing:
        pytest.fail(f"not on this machine: {', '.join(missing)}; `make test` installs them", pytrace=False)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A temporary folder with a short path: Unix sockets' are limited to 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="wharf-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def small_disk(short_path: Path) -> Iterator[Path]:
    """A file system of its own, of 4 MB."""
    folder = short_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def start_registry(short_path: Path) -> Iterator[StartRegistry]:
    """Start further registries; `extra` is merged into their configuration."""
    _need_parts()
    started: list[RegistryServer] = []

    def start(extra: dict[str, Any] | None = None) -> RegistryServer:
        server = RegistryServer(short_path / f"registry{len(started)}", extra=extra).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def registry(start_registry: StartRegistry) -> RegistryServer:
    """The registry that shall hold every image: empty, deletes on."""
    return start_registry()


@pytest.fixture
def internet(start_registry: StartRegistry) -> RegistryServer:
    """A second registry, which plays an upstream."""
    return start_registry()


@contextmanager
def _started(make: Callable[[Path], EngineServer]) -> Iterator[EngineServer]:
    """An engine for as long as this process tests."""
    home = Path(tempfile.mkdtemp(prefix="wharf-"))
    server = make(home / "engine").start()
    yield server
    server.stop()
    shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _emptied(engine: EngineServer) -> Iterator[EngineServer]:
    """The engine, without images and containers before and after."""
    engine.clear()
    yield engine
    engine.clear()


@pytest.fixture(scope="session")
def session_engine() -> Iterator[EngineServer]:
    """One dockerd with the classic image store, for all tests of this process."""
    _need_parts()
    with _started(EngineServer) as server:
        yield server


@pytest.fixture(scope="session")
def session_containerd_engine() -> Iterator[EngineServer]:
    """One dockerd with the containerd image store, where it can be had."""
    root = containerd_engine.found()
    if root is None:
        pytest.skip("no engine with the containerd store here: `python -m tests.support.containerd_engine` says why")
    with _started(lambda home: containerd_engine.ContainerdEngineServer(home, root)) as server:
        yield server


@pytest.fixture
def engine(session_engine: EngineServer) -> Iterator[EngineServer]:
    """The classic engine, empty."""
    with _emptied(session_engine) as found:
        yield found


@pytest.fixture
def newer_engine(session_containerd_engine: EngineServer) -> Iterator[EngineServer]:
    """The newer engine, empty."""
    with _emptied(session_containerd_engine) as found:
        yield found


@pytest.fixture(params=["classic", "containerd"])
def either_engine(request: pytest.FixtureRequest) -> EngineServer:
    """Each of the two engines in turn: what holds on one store must hold on the other."""
    found: EngineServer = request.getfixturevalue("engine" if request.param == "classic" else "newer_engine")
    return found


@pytest.fixture
def scene(short_path: Path, registry: RegistryServer, internet: RegistryServer, engine: EngineServer) -> Scene:
    """A registry, an upstream that docker.io stands for, a classic engine, and a file."""
    return Scene(short_path, registry, internet, engine)


@pytest.fixture
def either_scene(short_path: Path, registry: RegistryServer, internet: RegistryServer, either_engine: EngineServer) -> Scene:
    """The same on each of the two engines."""
    return Scene(short_path, registry, internet, either_engine)
