"""What a controller costs while nothing happens: requests and processor time an hour, for 10,000 images that are where they should be."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop
import yaml

from bench.images import fill
from bench.measure import Result, Row, own_processor_seconds, processor_seconds, run
from bench.nothing_to_do import logged_requests
from bench.state import WHARF, copying_from, desired_state
from tests.support.servers import RegistryServer

REPOSITORIES = [f"bench/image{number:03}" for number in range(100)]
TAGS = [f"v{number}" for number in range(100)]
IMAGES = len(REPOSITORIES) * len(TAGS)
INTERVAL, REFRESH = 5, 30
"""Seconds, in the window that is measured; the defaults are 60 and 120 times as long."""

LOOKS = 14
AN_HOUR = 12
"""Looks an hour, at the default interval of five minutes; one of them, at the default `refresh` of an hour, asks for everything again."""

SYNCED = 5
"""Repositories that the peer syncs; what it takes is scaled to all of them."""

_LOGGED: dict[str, object] = {"log": {"accesslog": {"disabled": False}}}
_WHAT = f"""\
{IMAGES:,} images in {len(REPOSITORIES)} repositories of the same {len(TAGS)} each, in the registry as upstream; seconds are those of the process on
the processors, an hour. `wharf run` was watched for {LOOKS} looks with `interval` {INTERVAL} s and `refresh` {REFRESH} s, from one "converged" to the
next. An hour is then, at the default `interval` of 5 minutes and `refresh` of 1 hour, one look that asks everything again and {AN_HOUR - 1} of the
others, by their medians; the start is not counted. `skopeo sync` was run once, for {SYNCED * len(TAGS)} of the images, and is scaled to all of them
and to {AN_HOUR} passes an hour. Requests are those to both registries, by their access logs."""
_AIM = "next to no requests but for one an image and registry each `refresh`"

Servers = tuple[RegistryServer, RegistryServer]


@dataclass(frozen=True)
class _Used:
    """So far, or of one look: requests, and seconds on the processors."""

    requests: float
    seconds: float
    registries: float

    def __sub__(self, other: _Used) -> _Used:
        return _Used(self.requests - other.requests, self.seconds - other.seconds, self.registries - other.registries)

    def times(self, count: float) -> _Used:
        """So many of them."""
        return _Used(self.requests * count, self.seconds * count, self.registries * count)


def measure() -> list[Result]:
    """A controller at rest, and a loop of `skopeo sync`."""
    with tempfile.TemporaryDirectory(prefix="wharf-bench-") as folder, ExitStack() as stack:
        home = Path(folder)
        here, there = RegistryServer(home / "here", extra=_LOGGED), RegistryServer(home / "there", extra=_LOGGED)
        stack.callback(there.stop)
        there.start()
        uvloop.run(fill(there.url, REPOSITORIES[:1], TAGS))
        _copied(here, there)
        stack.callback(here.stop)
        here.start()
        ours, looks = _controller(home, (here, there))
        theirs = _peer(home, (here, there))
    rows = _row("wharf run", ours), _row("skopeo sync, every 5 minutes", theirs)
    rows[0].notes.update(looks)
    return [Result("A quiet hour", _WHAT, _AIM, rows)]


def _row(name: str, used: _Used) -> Row:
    notes = {"requests": f"{used.requests:,.0f}", "CPU s of the registries": f"{used.registries:,.1f}"}
    return Row(name, [used.seconds], notes)


def _copied(here: RegistryServer, there: RegistryServer) -> None:
    """The one repository of upstream, many times there and, under docker.io, here: by links, as to upload 10,000 images twice takes many minutes."""
    data = "data/docker/registry/v2"
    repositories, ours = there.home / data / "repositories", here.home / data / "repositories"
    for repository in REPOSITORIES[1:]:
        (repositories / repository).symlink_to(repositories / REPOSITORIES[0])
    ours.mkdir(parents=True)
    (ours / "docker.io").symlink_to(repositories)
    (here.home / data / "blobs").symlink_to(there.home / data / "blobs")


def _controller(home: Path, servers: Servers) -> tuple[_Used, dict[str, str]]:
    """An hour of it, and what a look of each kind takes."""
    here, there = servers
    file = desired_state(home, *copying_from(there.url, here.url, REPOSITORIES, TAGS, interval=f"{INTERVAL}s", refresh=f"{REFRESH}s"))
    command = [*WHARF, "run", str(file), "--state", str(home / "state.sqlite")]
    seen: list[_Used] = []
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None  # noqa: S101 - it was asked for above
            while len(seen) <= LOOKS:
                line = process.stderr.readline()
                if not line or "not converged" in line:
                    raise RuntimeError(f"`wharf run` is not at rest: {line}")
                if " converged: " in line:
                    seen.append(_used(servers, processor_seconds(process.pid)))
        finally:
            process.terminate()
            process.communicate()
    looks = [after - before for before, after in itertools.pairwise(seen)]
    whole = _median([look for look in looks if look.requests >= IMAGES])
    other = _median([look for look in looks if look.requests < IMAGES])
    notes = {
        "requests of a look": f"{other.requests:,.0f}, once in `refresh` {whole.requests:,.0f}",
        "CPU s of a look": f"{other.seconds:.2f}, once in `refresh` {whole.seconds:.2f}",
    }
    rest = other.times(AN_HOUR - 1)
    return _Used(whole.requests + rest.requests, whole.seconds + rest.seconds, whole.registries + rest.registries), notes


def _median(looks: Sequence[_Used]) -> _Used:
    requests, seconds, registries = ([getattr(look, name) for look in looks] for name in ("requests", "seconds", "registries"))
    return _Used(statistics.median(requests), statistics.median(seconds), statistics.median(registries))


def _peer(home: Path, servers: Servers) -> _Used:
    path, (here, there) = home / "sync.yaml", servers
    path.write_text(yaml.safe_dump({there.address: {"tls-verify": False, "images": dict.fromkeys(REPOSITORIES[:SYNCED], TAGS)}}))
    before = _used(servers, own_processor_seconds(children=True))
    run(["skopeo", "sync", "--all", "--src=yaml", "--dest=docker", "--dest-tls-verify=false", str(path), f"{here.address}/docker.io"])
    return (_used(servers, own_processor_seconds(children=True)) - before).times(len(REPOSITORIES) / SYNCED * AN_HOUR)


def _used(servers: Servers, seconds: float) -> _Used:
    registries = sum(processor_seconds(server.process.pid) for server in servers if server.process)
    return _Used(logged_requests(servers), seconds, registries)
