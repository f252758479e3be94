"""Images that exist only on a host: the engine's own push beside save, recompress and upload. The figures of docs/adr/0014."""

from __future__ import annotations

import io
import random
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import Result, Row
from bench.state import WHARF
from tests.support.servers import EngineServer, RegistryServer

LAYERS_MB = (400, 200, 100)
CHANGE = 64 << 10
TURNS = 3
BASE, CHANGED = "bench/base:1", "bench/changed:1"
_AIM = "the engine's push is the simpler one, and is kept unless the other is 1.5 times faster"

Work = Callable[[EngineServer, RegistryServer, str], None]


def measure() -> list[Result]:
    """A large image of which the registry has nothing, and a small change of it when the registry has the rest."""
    with tempfile.TemporaryDirectory(prefix="wharf-bench-") as folder, _engine(Path(folder)) as engine:
        all_of_it = f"An image of {sum(LAYERS_MB)} MB in {len(LAYERS_MB)} layers, each time to an empty registry."
        change = f"A layer of {CHANGE >> 10} KiB on that image, of which the registry has the rest already."
        return [
            Result("Push from a host, all of it", all_of_it, _AIM, _turns(engine, Path(folder), BASE, "")),
            Result("Push from a host, a small change", change, _AIM, _turns(engine, Path(folder), CHANGED, BASE)),
        ]


@contextmanager
def _engine(home: Path) -> Iterator[EngineServer]:
    engine = EngineServer(home / "engine").start()
    try:
        for number, size in enumerate(LAYERS_MB):
            below = f"bench/part{number - 1}:1" if number else "scratch"
            _build(engine, f"bench/part{number}:1", below, _like_a_layer(size << 20, number))
        engine.docker("tag", f"bench/part{len(LAYERS_MB) - 1}:1", BASE)
        _build(engine, CHANGED, BASE, random.Random("change").randbytes(CHANGE))
        yield engine
    finally:
        engine.stop()


def _build(engine: EngineServer, tag: str, base: str, content: bytes) -> None:
    file = tag.replace("/", "-").replace(":", "-")
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, data in (("Dockerfile", f"FROM {base}\nCOPY {file} /\n".encode()), (file, content)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    engine.docker("build", "-q", "-t", tag, "-", stdin=context.getvalue())


def _like_a_layer(size: int, seed: int) -> bytes:
    """Bytes that pack to about 0.4 of their size, as real layers do."""
    chance = random.Random(seed)
    block = b"".join(chance.randbytes(4 << 10) + bytes([number % 251]) * (6 << 10) for number in range(256))
    return b"".join(number.to_bytes(8, "big") + block for number in range(size // len(block)))


def _turns(engine: EngineServer, home: Path, image: str, before: str) -> tuple[Row, ...]:
    contenders: dict[str, Work] = {"docker push": _push, "save, recompress, upload": _save}
    rows = {name: Row(name) for name in contenders}
    for turn in range(TURNS + 1):
        for name, work in contenders.items():
            registry = RegistryServer(home / f"{name.partition(',')[0]}-{image.partition('/')[2]}-{turn}").start()
            try:
                if before:
                    work(engine, registry, before)
                began = time.perf_counter()
                work(engine, registry, image)
                if turn:
                    rows[name].seconds.append(time.perf_counter() - began)
            finally:
                registry.stop()
                subprocess.run(["rm", "-rf", str(registry.home / "data")], check=True)
    return tuple(rows.values())


def _push(engine: EngineServer, registry: RegistryServer, image: str) -> None:
    name = f"{registry.address}/{image}"
    engine.docker("tag", image, name)
    engine.docker("push", "-q", name)
    engine.docker("rmi", name)


def _save(engine: EngineServer, registry: RegistryServer, image: str) -> None:
    command = [*WHARF, "import", "-", "--name", image, "--registry", registry.url]
    with subprocess.Popen(["docker", "-H", engine.url, "save", image], stdout=subprocess.PIPE) as saving:
        subprocess.run(command, stdin=saving.stdout, check=True, capture_output=True)
