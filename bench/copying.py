"""Copying from registry to registry: one large image, and many that share a base; each turn into a registry that is empty."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import uvloop
import yaml

from bench.images import fill_layered
from bench.measure import Result, Row
from bench.state import WHARF, copying_from, desired_state
from tests.support.servers import RegistryServer, free_port

LARGE = ["bench/large"]
LARGE_LAYERS, LARGE_LAYER = 4, 120 << 20
MANY = [f"team{number % 5}/app{number}" for number in range(50)]
TAGS = ["v0", "v1", "v2", "v3"]
BASE, OWN = 20 << 20, 512 << 10
TURNS = 3

_REQUEST = re.compile(r'"([A-Z]+) (\S+) HTTP/1\.[01]" (\d{3}) (\d+)')
_LOGGED: dict[str, object] = {"log": {"accesslog": {"disabled": False}}}
_BY = """\
`wharf apply` and skopeo are whole processes; memory is the most that the process had (ru_maxrss). Requests are those to both registries, and bytes
those that upstream sent, by the registries' access logs in a run of its own."""


@dataclass(frozen=True)
class _Contender:
    """A command that copies all from one port to another; both are made anew for each turn."""

    name: str
    command: Callable[[Path, int, int], list[str]]


def measure() -> list[Result]:
    """One image of 600 MB, and 200 images that share a base of 20 MB."""
    large = [_Contender("wharf apply", _wharf(LARGE, ["v0"])), _Contender("skopeo copy", _skopeo_copy)]
    many = [_Contender("wharf apply", _wharf(MANY, TAGS)), _Contender("skopeo sync", _skopeo_sync)]
    size = (LARGE_LAYER * (LARGE_LAYERS + 1)) >> 20
    return [
        _measured(
            "Copy of one large image",
            f"One image of {size} MiB in {LARGE_LAYERS + 1} layers into an empty registry. {_BY}",
            "not slower than `skopeo copy`; under 200 MB of memory",
            (LARGE, ["v0"], LARGE_LAYER, LARGE_LAYER, LARGE_LAYERS),
            large,
        ),
        _measured(
            "Copy of many images that share a base",
            f"{len(MANY) * len(TAGS)} images in {len(MANY)} repositories into an empty registry: a base of {BASE >> 20} MiB that all share, and a "
            f"layer of {OWN >> 10} KiB each. {_BY}",
            "2 times as fast as `skopeo sync`; what is shared is moved once; under 200 MB of memory",
            (MANY, TAGS, BASE, OWN, 1),
            many,
        ),
    ]


def _measured(name: str, what: str, aim: str, images: tuple[list[str], list[str], int, int, int], contenders: list[_Contender]) -> Result:
    rows = {each.name: Row(each.name) for each in contenders}
    with tempfile.TemporaryDirectory(prefix="wharf-bench-") as folder:
        home, port = Path(folder), free_port()
        upstream = RegistryServer(home / "there", port).start()
        try:
            _elsewhere(upstream.url, *images)
            for turn in range(TURNS + 1):
                for each in contenders:
                    seconds, notes = _turn(home / f"{each.name}-{turn}", port, each)
                    if turn:
                        rows[each.name].seconds.append(seconds)
                    rows[each.name].notes.update(notes)
        finally:
            upstream.stop()
        for each in contenders:
            rows[each.name].notes.update(_counted(home, port, each))
    return Result(name, what, aim, tuple(rows.values()))


def _elsewhere(*arguments: object) -> None:
    """Fill a registry in a process of its own: what this one ever had of memory would be counted for every command that it starts."""
    filling = get_context("spawn").Process(target=_fill, args=arguments)
    filling.start()
    filling.join()
    if filling.exitcode:
        raise RuntimeError(f"filling the registry ended with {filling.exitcode}")


def _fill(*arguments: object) -> None:
    uvloop.run(fill_layered(*arguments))  # type: ignore[arg-type] # passed on as they came


def _turn(home: Path, port: int, contender: _Contender) -> tuple[float, Mapping[str, str]]:
    target = RegistryServer(home, free_port()).start()
    try:
        command = contender.command(home, port, target.port)
        began = time.perf_counter()
        used = _run(command)
        seconds = time.perf_counter() - began
    finally:
        target.stop()
        subprocess.run(["rm", "-rf", str(home / "data")], check=True)  # It is large, and the next turn's page cache is not its to fill.
    return seconds, {"MB": f"{used.ru_maxrss / 1024:.0f}", "CPU s": f"{used.ru_utime + used.ru_stime:.2f}"}


def _run(command: list[str]) -> resource.struct_rusage:
    """Run a command to its end; what it used. RuntimeError with its last words when it fails."""
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        words.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command[:4])} ended with {process.returncode}: {words.read()[-1000:]}")
    return used


def _counted(home: Path, port: int, contender: _Contender) -> Mapping[str, str]:
    """Once more, with the registries' access logs on."""
    upstream, target = RegistryServer(home / "there", port, _LOGGED), RegistryServer(home / f"{contender.name}-counted", free_port(), _LOGGED)
    begins = upstream.log.stat().st_size
    try:
        _run(contender.command(target.home, upstream.start().port, target.start().port))
        sent = _REQUEST.findall(upstream.log.read_text(errors="replace")[begins:])
        taken = _REQUEST.findall(target.log.read_text(errors="replace"))
    finally:
        upstream.stop()
        target.stop()
        subprocess.run(["rm", "-rf", str(target.home / "data")], check=True)
    uploads = sum(method == "PUT" and "/blobs/uploads/" in path for method, path, _, _ in taken)
    fetched = sum(int(size) for method, path, _, size in sent if method == "GET" and "/blobs/" in path)
    return {"requests": f"{len(sent) + len(taken):,}", "blobs uploaded": f"{uploads:,}", "MiB fetched": f"{fetched >> 20:,}"}


def _wharf(repositories: list[str], tags: list[str]) -> Callable[[Path, int, int], list[str]]:
    def command(home: Path, source: int, target: int) -> list[str]:
        file = desired_state(home, *copying_from(f"http://127.0.0.1:{source}", f"http://127.0.0.1:{target}", repositories, tags))
        return [*WHARF, "apply", str(file), "--state", str(home / "state.sqlite")]

    return command


def _skopeo_copy(_: Path, source: int, target: int) -> list[str]:
    places = [f"docker://127.0.0.1:{source}/{LARGE[0]}:v0", f"docker://127.0.0.1:{target}/docker.io/{LARGE[0]}:v0"]
    return ["skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", *places]


def _skopeo_sync(home: Path, source: int, target: int) -> list[str]:
    path = home / "sync.yaml"
    path.write_text(yaml.safe_dump({f"127.0.0.1:{source}": {"tls-verify": False, "images": dict.fromkeys(MANY, TAGS)}}))
    return ["skopeo", "sync", "--all", "--src=yaml", "--dest=docker", "--dest-tls-verify=false", str(path), f"127.0.0.1:{target}/docker.io"]
