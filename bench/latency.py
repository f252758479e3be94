"""From the end of what brings an image to a host, to the image proven in the registry and off the host."""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import Result, Row
from bench.state import WHARF, desired_state
from tests.support.servers import EngineServer, RegistryServer, build_image

TURNS = 15
PATIENCE = 60.0
"""Seconds after which an image that has not left is a failure."""

_WHAT = f"""\
A small image comes to a host, {TURNS} times each way; the time from the end of that command until its name is gone from the host. `wharf run` follows
the engine's events, pushes, reads everything back, hashes it, looks at the host again and evicts; its interval is an hour, so nothing is polled. The
shell loop is `docker tag`, `push` and twice `rmi` for the same image, and proves nothing."""
_AIM = "median under 0.5 s"

Bring = Callable[[str], str]
"""Bring the image that has this number to the host; its name there."""


def measure() -> list[Result]:
    """build, load, pull and tag; and a shell loop beside."""
    with tempfile.TemporaryDirectory(prefix="wharf-bench-") as folder:
        home = Path(folder)
        servers = RegistryServer(home / "here"), RegistryServer(home / "there"), EngineServer(home / "engine")
        registry, internet, engine = servers
        try:
            for server in servers:
                server.start()
            ways = _ways(home, internet, engine)
            with _controller(home, registry, internet, engine):
                rows = [_timed(f"wharf run, after {name}", engine, bring) for name, bring in ways.items()]
            rows.append(_loop(registry, engine, ways["docker build"]))
        finally:
            for server in reversed(servers):
                server.stop()
    return [Result("Latency", _WHAT, _AIM, tuple(rows))]


def _ways(home: Path, internet: RegistryServer, engine: EngineServer) -> dict[str, Bring]:
    """What brings an image, made ready before the time is taken."""
    public = f"{internet.address}/bench/public"
    for number in range(TURNS):
        for name in (f"{public}:{number}", f"strangers/loaded:{number}"):
            build_image(engine, name, {"data": os.urandom(10_000)})
        engine.docker("push", "-q", f"{public}:{number}")
        engine.docker("tag", f"strangers/loaded:{number}", f"bench/loaded:{number}")
        engine.docker("save", "-o", str(home / f"{number}.tar"), f"bench/loaded:{number}")
        engine.docker("rmi", f"{public}:{number}", f"bench/loaded:{number}")

    def built(number: str) -> str:
        build_image(engine, f"bench/built:{number}", {"data": os.urandom(10_000)})
        return f"bench/built:{number}"

    def loaded(number: str) -> str:
        engine.docker("load", "-i", str(home / f"{number}.tar"))
        return f"bench/loaded:{number}"

    def pulled(number: str) -> str:
        engine.docker("pull", "-q", f"{public}:{number}")
        return f"{public}:{number}"

    def tagged(number: str) -> str:
        engine.docker("tag", f"strangers/loaded:{number}", f"bench/tagged:{number}")
        return f"bench/tagged:{number}"

    return {"docker build": built, "docker load": loaded, "docker pull": pulled, "docker tag": tagged}


@contextmanager
def _controller(home: Path, registry: RegistryServer, internet: RegistryServer, engine: EngineServer) -> Iterator[None]:
    """`wharf run`, which has made its first look."""
    mine = ["bench/**", f"{internet.address}/**"]
    host = {"name": "local", "engine": engine.url, "gracePeriod": "0s", "adopt": mine, "absent": mine}
    upstreams = [{"domain": internet.address, "url": internet.url}]
    spec = {"registry": {"url": registry.url}, "upstreams": upstreams, "hosts": [host], "interval": "1h"}
    command = [*WHARF, "run", str(desired_state(home, spec)), "--state", str(home / "state.sqlite")]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None  # noqa: S101 - it was asked for above
            while "converged" not in process.stderr.readline():
                pass
            yield
        finally:
            process.terminate()
            process.communicate()


def _timed(name: str, engine: EngineServer, bring: Bring) -> Row:
    row = Row(name)
    with engine.client() as client:
        for number in range(TURNS):
            image = bring(str(number))
            began = time.perf_counter()
            while _named(client, image):
                if time.perf_counter() - began > PATIENCE:
                    raise RuntimeError(f"{image} is still on the host after {PATIENCE:g} s")
                time.sleep(0.002)
            row.seconds.append(time.perf_counter() - began)
    return row


def _named(client: object, image: str) -> bool:
    """Whether the engine has that name, by one small request."""
    api = client.api  # type: ignore[attr-defined] # the SDK's client
    return bool(api.images(name=image, quiet=True))


def _loop(registry: RegistryServer, engine: EngineServer, built: Bring) -> Row:
    row = Row("a shell loop: tag, push, rmi")
    environment = {**os.environ, "DOCKER_HOST": engine.url}
    for number in itertools.islice(itertools.count(1000), TURNS):
        image = built(str(number))
        there = f"{registry.address}/{image}"
        script = f"docker tag {image} {there} && docker push -q {there} && docker rmi {there} {image}"
        began = time.perf_counter()
        subprocess.run(["sh", "-c", script], check=True, env=environment, capture_output=True)
        row.seconds.append(time.perf_counter() - began)
    return row
