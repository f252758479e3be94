"""Bringing an image archive into an empty registry: by us, by skopeo, and as people do it, by `docker load` and `docker push`."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Result, Row, own_processor_seconds, processor_seconds
from bench.state import WHARF
from tests.support.servers import EngineServer, RegistryServer

LAYERS = (700, 400, 200, 100)
"""MB each, as they are in the archive: plain."""

TURNS = 2
NAME = "bench/big:1"

_LARGEST = 4 << 20
_FOLDERS = ("/usr/bin", "/usr/lib", "/usr/share")
_WHAT = f"""\
A `docker save` tar of {sum(LAYERS) / 1000:.1f} GB with {len(LAYERS)} plain layers ({", ".join(map(str, LAYERS))} MB) of files of this machine, into
an empty registry of its own for each turn. Whole processes. Memory is the peak of the process, with `docker` that of dockerd."""
_AIM = "3 times as fast as skopeo, 10 times as fast as load and push, under 200 MB"


@dataclass(frozen=True)
class _Contender:
    """`prepare` is not measured. `run` gives the peak memory in bytes; `used` tells the seconds of the processors so far."""

    name: str
    run: Callable[[RegistryServer], int]
    prepare: Callable[[], None] = lambda: None
    used: Callable[[], float] = lambda: own_processor_seconds(children=True)


def measure() -> list[Result]:
    """Each contender in turn, each turn with a new registry."""
    with tempfile.TemporaryDirectory(prefix="wharf-bench-") as folder, ExitStack() as stack:
        home = Path(folder)
        file = home / "big.tar"
        _make(file)
        engine = EngineServer(home / "engine").start()
        stack.callback(engine.stop)
        contenders = [
            _Contender("wharf import", lambda registry: _process(_wharf(registry, str(file)))),
            _Contender("the same from standard input", lambda registry: _piped(_wharf(registry, "-"), file)),
            _Contender("skopeo copy", lambda registry: _process(_skopeo(registry, file))),
            _Contender("docker load and push", lambda registry: _docker(engine, registry, file), engine.clear, lambda: _used(engine)),
        ]
        rows = {each.name: Row(each.name) for each in contenders}
        for turn in range(TURNS + 1):
            for each in contenders:
                row = rows[each.name]
                seconds, notes = _turn(each, home / f"registry{turn}{contenders.index(each)}")
                row.notes.update(notes)
                if turn:
                    row.seconds.append(seconds)
        return [Result("An archive into the registry", _WHAT, _AIM, tuple(rows.values()))]


def _turn(contender: _Contender, home: Path) -> tuple[float, Mapping[str, str]]:
    """One measured run, into a registry that is removed afterwards."""
    contender.prepare()
    registry = RegistryServer(home).start()
    try:
        began, used = time.perf_counter(), contender.used()
        memory = contender.run(registry)
        seconds, used = time.perf_counter() - began, contender.used() - used
        assert registry.process is not None  # noqa: S101 - it was started
        theirs = processor_seconds(registry.process.pid)
    finally:
        registry.stop()
    stored = sum(path.stat().st_size for path in home.rglob("data") if path.is_file())
    subprocess.run(["rm", "-rf", str(home)], check=True)
    return seconds, {
        "MB a second": f"{sum(LAYERS) / seconds:.0f}",
        "CPU s": f"{used:.1f}",
        "CPU s of the registry": f"{theirs:.1f}",
        "peak MB": f"{memory / 1e6:.0f}",
        "MB in the registry": f"{stored / 1e6:.0f}",
    }


def _used(engine: EngineServer) -> float:
    assert engine.process is not None  # noqa: S101 - it was started
    return processor_seconds(engine.process.pid)


def _wharf(registry: RegistryServer, file: str) -> list[str]:
    return [*WHARF, "import", "--registry", registry.url, file]


def _skopeo(registry: RegistryServer, file: Path) -> list[str]:
    return ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"docker-archive:{file}", f"docker://{registry.address}/{NAME}"]


def _process(command: list[str], stdin: int | None = None) -> int:
    """Run a command; its peak memory. Looked at while it runs: ru_maxrss also counts what this process had before the exec."""
    peak = 0
    with subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} ended with {process.returncode}")
    return peak


def _peak(pid: int) -> int:
    """The most memory that a process had so far, in bytes (proc(5), VmHWM); 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)


def _piped(command: list[str], file: Path) -> int:
    with subprocess.Popen(["cat", str(file)], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None  # noqa: S101 - asked for
        return _process(command, cat.stdout.fileno())


def _docker(engine: EngineServer, registry: RegistryServer, file: Path) -> int:
    """Load, tag, push; the engine's peak."""
    assert engine.process is not None  # noqa: S101 - it was started
    Path(f"/proc/{engine.process.pid}/clear_refs").write_text("5")  # proc(5): the peak is counted from here.
    engine.docker("load", "-q", "-i", str(file))
    engine.docker("tag", NAME, f"{registry.address}/{NAME}")
    engine.docker("push", "-q", f"{registry.address}/{NAME}")
    return _peak(engine.process.pid)


def _make(path: Path) -> None:
    """The archive, written without an engine: the same files in another order each time would be other layers, so chance has a seed."""
    files, chance = list(_files()), random.Random(5)
    layers = [path.with_name(f"layer{number}") for number in range(len(LAYERS))]
    for layer, megabytes in zip(layers, LAYERS, strict=True):
        _layer(layer, megabytes * 1_000_000, files, chance)
    digests = [_digest(layer) for layer in layers]
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{each}" for each in digests]}})
    name = f"{hashlib.sha256(config.encode()).hexdigest()}.json"
    paths = [f"{digest}/layer.tar" for digest in digests]
    manifest = json.dumps([{"Config": name, "RepoTags": [NAME], "Layers": paths}])
    with tarfile.open(path, "w") as tar:
        for layer, at in zip(layers, paths, strict=True):
            tar.add(layer, at)
            layer.unlink()
        _add(tar, name, config.encode())
        _add(tar, "manifest.json", manifest.encode())


def _files() -> Iterator[str]:
    for folder in _FOLDERS:
        for at, _, names in os.walk(folder):
            paths = (os.path.join(at, name) for name in names)  # noqa: PTH118 - tens of thousands of them
            yield from (path for path in paths if os.path.isfile(path) and not os.path.islink(path))  # noqa: PTH113, PTH114 - the same


def _layer(path: Path, size: int, files: list[str], chance: random.Random) -> None:
    written = 0
    with tarfile.open(path, "w") as tar:
        while written < size:
            with Path(chance.choice(files)).open("rb") as file:
                data = file.read(min(_LARGEST, size - written))
            if data:
                _add(tar, f"files/{written}", data)
                written += len(data)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
