"""Pulling through the gateway, beside Distribution as a proxy of the same upstream: cold, cold by many at once, and warm."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.images import fill_layered
from bench.measure import Result, Row
from bench.state import WHARF
from controller.domain.oci import MANIFEST_TYPES
from tests.support.servers import RegistryServer, Server, free_port

SMALL, LARGE = "library/small", "library/large"
LAYER, LAYERS = 250 << 20, 3
"""A large image has these and a base of the same size: 1 GiB less 24 MiB."""

TURNS = 3
CLIENTS = 8

_SENT = re.compile(r'"GET \S+/blobs/\S+ HTTP/1\.[01]" 20\d (\d+)')
_LOGGED = {"log": {"accesslog": {"disabled": False}}}
_ACCEPT = f"Accept: {', '.join(MANIFEST_TYPES)}"
_PEER = "Distribution as a proxy"
_OURS = "wharf gateway"


@dataclass(frozen=True)
class _Front:
    """Something to pull from: its address, the name that it has for upstream's repositories, and the process."""

    address: str
    prefix: str
    server: Server

    def url(self, repository: str, rest: str) -> str:
        return f"http://{self.address}/v2/{self.prefix}{repository}/{rest}"


class _GatewayServer(Server):
    """`wharf gateway` as a process, before a registry of its own."""

    def __init__(self, home: Path, upstream: RegistryServer, *options: str) -> None:
        super().__init__(home)
        self.port = free_port()
        self.behind = RegistryServer(home / "behind")
        self._arguments = ["--upstream", f"docker.io={upstream.url}", "--state", str(home / "state.sqlite"), *options]

    def start(self) -> _GatewayServer:
        self.behind.start()
        command = [*WHARF, "gateway", "--listen", f"127.0.0.1:{self.port}", "--registry", self.behind.url]
        self._spawn([*command, *self._arguments])
        self._wait(lambda: subprocess.run(["curl", "-fs", f"http://127.0.0.1:{self.port}/v2/"], capture_output=True, check=False).returncode == 0)
        return self

    def stop(self, *, kill: bool = False) -> None:
        super().stop(kill=kill)
        self.behind.stop()


def measure() -> list[Result]:
    """An upstream with an image of 10 MB and one of 1 GB; each cold turn with a new front."""
    with tempfile.TemporaryDirectory(prefix="wharf-bench-") as folder:
        home = Path(folder)
        upstream = RegistryServer(home / "upstream", extra=_LOGGED).start()
        try:
            uvloop.run(fill_layered(upstream.url, [SMALL], ["v0"], 5 << 20, 5 << 20))
            uvloop.run(fill_layered(upstream.url, [LARGE], ["v0"], LAYER, LAYER, LAYERS))
            return [_first_byte(home, upstream), _cold(home, upstream, 1), _cold(home, upstream, CLIENTS), *_warm(home, upstream)]
        finally:
            upstream.stop()


def _first_byte(home: Path, upstream: RegistryServer) -> Result:
    rows = []
    for kind in (_OURS, _PEER):
        for repository, words in ((LARGE, "1 GB"), (SMALL, "10 MB")):
            row = Row(f"{kind}, {words}")
            for _ in range(TURNS):
                with _front(kind, home, upstream) as front:
                    row.seconds.append(_timed(lambda front=front, repository=repository: _manifest(front, repository)))  # type: ignore[misc] # of this turn
            rows.append(row)
    return Result("Gateway: the first manifest of an image", "Nothing of it is there yet.", "the same, however large the image is", tuple(rows))


def _cold(home: Path, upstream: RegistryServer, clients: int) -> Result:
    rows = []
    for kind in (_OURS, _PEER):
        row = Row(kind)
        for _ in range(TURNS):
            with _front(kind, home, upstream) as front:
                begins = upstream.log.stat().st_size
                row.seconds.append(_timed(lambda front=front: _pulled(front, LARGE, clients)))  # type: ignore[misc] # of this turn
                time.sleep(1)  # The log's last lines.
                sent = sum(map(int, _SENT.findall(upstream.log.read_text(errors="replace")[begins:])))
                row.notes = {"MiB sent by upstream": f"{sent >> 20:,}", "peak MB": f"{_peak(front.server):.0f}"}
        rows.append(row)
    who = "one client" if clients == 1 else f"{clients} clients at once"
    aim = "not slower" if clients == 1 else "upstream sends each byte once"
    return Result(
        f"Gateway: a cold pull by {who}", "An image of 1 GB in 4 layers of which nothing is there yet.", f"{aim}; under 200 MB", tuple(rows)
    )


def _warm(home: Path, upstream: RegistryServer) -> list[Result]:
    """What is there already: beside the registry that is behind the gateway."""
    with _front(_OURS, home, upstream) as front, _front(_OURS, home, upstream, "--redirect") as sending_on:
        fronts = {_OURS: front, "by redirect": sending_on}
        for each in fronts.values():
            _pulled(each, LARGE, 1)
            _until_kept(each)
        behind = front.server.behind if isinstance(front.server, _GatewayServer) else upstream
        fronts["the registry behind it"] = _Front(behind.address, "docker.io/", behind)
        manifests = _in_turns(fronts, lambda each: _manifest(each, LARGE, times=200))
        blobs = _in_turns(fronts, lambda each: _pulled(each, LARGE, 1))
    what = "What the registry has already, asked of the gateway and of the registry behind it."
    return [
        Result(
            "Gateway: warm manifests", f"{what} 200 requests, one after the other on one connection.", "within 2 times of the registry", manifests
        ),
        Result("Gateway: a warm pull", f"{what} 1 GB in 4 layers.", "half the registry's speed or better; by redirect its own", blobs),
    ]


def _in_turns(fronts: Mapping[str, _Front], work: Callable[[_Front], None]) -> tuple[Row, ...]:
    rows = {name: Row(name) for name in fronts}
    for turn in range(TURNS + 1):
        for name, front in fronts.items():
            seconds = _timed(lambda front=front: work(front))  # type: ignore[misc] # of this turn
            if turn:
                rows[name].seconds.append(seconds)
    rows[_OURS].notes["peak MB"] = f"{_peak(fronts[_OURS].server):.0f}"
    return tuple(rows.values())


@contextmanager
def _front(kind: str, home: Path, upstream: RegistryServer, *options: str) -> Iterator[_Front]:
    with tempfile.TemporaryDirectory(dir=home) as folder:
        server: _GatewayServer | RegistryServer
        if kind == _OURS:
            server = _GatewayServer(Path(folder), upstream, *options)
            front = _Front(f"127.0.0.1:{server.port}", "docker.io/", server)
        else:
            server = RegistryServer(Path(folder), extra={"proxy": {"remoteurl": upstream.url}})
            front = _Front(server.address, "", server)
        server.start()
        try:
            yield front
        finally:
            server.stop()


def _manifest(front: _Front, repository: str, times: int = 1) -> None:
    url = front.url(repository, "manifests/v0")
    _curl("-H", _ACCEPT, *[part for _ in range(times) for part in ("-o", "/dev/null", url)])


def _pulled(front: _Front, repository: str, clients: int) -> None:
    """The manifest, then all blobs at once, by so many clients at once; thrown away."""
    raw = _curl("-H", _ACCEPT, front.url(repository, "manifests/v0"))
    said = json.loads(raw)
    urls = [front.url(repository, f"blobs/{blob['digest']}") for blob in (said["config"], *said["layers"])]
    outputs = [part for url in urls for part in ("-o", "/dev/null", url)]
    pulling = [subprocess.Popen(["curl", "-fsSL", "--no-progress-meter", "-Z", *outputs], stdout=subprocess.DEVNULL) for _ in range(clients)]
    codes = [each.wait() for each in pulling]
    if any(codes):
        raise RuntimeError(f"a pull from {front.address} failed")


def _until_kept(front: _Front) -> None:
    """All of the image is in the registry behind the gateway."""
    assert isinstance(front.server, _GatewayServer)  # noqa: S101 - only it is asked
    url = f"{front.server.behind.url}/v2/docker.io/{LARGE}/manifests/v0"
    while subprocess.run(["curl", "-fs", "-o", "/dev/null", "-H", _ACCEPT, url], check=False).returncode:
        time.sleep(0.2)


def _curl(*arguments: str) -> str:
    return subprocess.run(["curl", "-fsS", *arguments], check=True, capture_output=True, text=True).stdout


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _peak(server: Server) -> float:
    """MB that the process had at most (proc(5), status: VmHWM)."""
    assert server.process is not None  # noqa: S101 - it was started
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024
