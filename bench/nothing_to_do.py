"""The steady state, which a controller is in nearly always: everything is there already, and that has to be found out."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop
import yaml

from bench.measure import Result, in_turns, own_processor_seconds, processor_seconds, run
from controller.domain.oci import OCI_MANIFEST, Descriptor, Manifest, digest_of, parse_manifest
from controller.domain.spec import API_VERSION
from controller.registry.client import RegistryClient
from controller.store.sqlite import SqliteStore
from controller.wiring import open_world, read
from tests.support.servers import RegistryServer

REPOSITORIES, TAGS, TURNS = 100, 10, 5
IMAGES = REPOSITORIES * TAGS


def measure() -> list[Result]:
    """1,000 images in 100 repositories, the same in both registries."""
    with tempfile.TemporaryDirectory(prefix="wharf-bench-") as folder:
        home = Path(folder)
        servers = [RegistryServer(home / "here").start(), RegistryServer(home / "there").start()]
        try:
            return [_compare(home, *servers)]
        finally:
            for server in servers:
                server.stop()


def _compare(home: Path, here: RegistryServer, there: RegistryServer) -> Result:
    uvloop.run(_fill(there, ""))
    uvloop.run(_fill(here, "docker.io/"))
    file, sync = _desired_state(home, here, there), _sync_file(home, there)
    state = home / "state.sqlite"
    command = [sys.executable, "-m", "controller.cli.main", "plan", str(file)]
    skopeo = ["skopeo", "sync", "--all", "--src", "yaml", "--dest", "docker", "--dest-tls-verify=false", str(sync), f"{here.address}/docker.io"]

    def in_process() -> dict[str, str]:
        before = own_processor_seconds(), _used(here, there)
        requests = uvloop.run(_look(file, state))
        ours, theirs = own_processor_seconds() - before[0], _used(here, there) - before[1]
        return {"requests": f"{requests} (aim {2 * IMAGES + REPOSITORIES})", "CPU s": f"{ours:.2f}", "CPU s of the registries": f"{theirs:.2f}"}

    def as_command() -> dict[str, str]:
        before = _used(here, there)
        run(command, {"WHARF_STATE": str(state)})
        return {"CPU s of the registries": f"{_used(here, there) - before:.2f}"}

    def peer() -> dict[str, str]:
        before = _used(here, there)
        run(skopeo)
        return {"CPU s of the registries": f"{_used(here, there) - before:.2f}"}

    what = f"`wharf plan` where nothing is to be done: {IMAGES:,} images in {REPOSITORIES} repositories, in the registry and upstream alike."
    aim = "under 1 s in process; at most one request an image and registry plus one a repository; 10 times faster than skopeo sync"
    contenders = {"wharf plan, in process": in_process, "wharf plan, whole command": as_command, "skopeo sync": peer}
    return Result("Nothing to do", what, aim, in_turns(contenders, TURNS))


async def _look(file: Path, state: Path) -> int:
    """What `wharf plan` does; the requests that it took."""
    setup = read([file])
    async with AsyncExitStack() as stack:
        store = SqliteStore(state)
        stack.callback(store.close)
        counted = _counting()
        reconciler = await stack.enter_async_context(open_world(setup, store, actor="bench"))
        look = await reconciler.look(setup.desired)
        if not look.converged:
            raise RuntimeError(f"there is something to do: {look.plan.actions[:1]} {look.plan.held_back[:1]}")
        return sum(client.requests for client in counted)


def _counting() -> list[RegistryClient]:
    """Every client that is made from now on, in a list."""
    made: list[RegistryClient] = []
    original = RegistryClient.__init__

    def noting(self: RegistryClient, *arguments: object, **more: object) -> None:
        original(self, *arguments, **more)  # type: ignore[arg-type] # passed on as they came
        made.append(self)
        RegistryClient.__init__ = original if len(made) > 1 else noting  # type: ignore[method-assign] # for as long as a world is opened

    RegistryClient.__init__ = noting  # type: ignore[method-assign] # as above
    return made


def _used(*servers: RegistryServer) -> float:
    return sum(processor_seconds(server.process.pid) for server in servers if server.process)


async def _fill(server: RegistryServer, prefix: str) -> None:
    client = RegistryClient(server.url)
    async with asyncio.TaskGroup() as group:
        for number in range(REPOSITORIES):
            group.create_task(_repository(client, f"{prefix}bench/image{number:03}", number))
    await client.close()


async def _repository(client: RegistryClient, repository: str, number: int) -> None:
    layer = b"layer %d" % number
    await client.write_blob(repository, _blob(layer), _once(layer))
    for tag in range(TAGS):
        config = json.dumps(
            {"architecture": "amd64", "os": "linux", "tag": tag, "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]}}
        ).encode()
        await client.write_blob(repository, _blob(config), _once(config))
        await client.put_manifest(repository, f"v{tag}", _manifest(config, layer))


def _manifest(config: bytes, layer: bytes) -> Manifest:
    def entry(kind: str, data: bytes) -> dict[str, object]:
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest_of(data), "size": len(data)}

    said = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry("config.v1+json", config), "layers": [entry("layer.v1.tar", layer)]}
    return parse_manifest(json.dumps(said).encode())


def _blob(data: bytes) -> Descriptor:
    return Descriptor("", digest_of(data), len(data))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _names() -> list[tuple[str, str]]:
    return [(f"bench/image{number:03}", f"v{tag}") for number in range(REPOSITORIES) for tag in range(TAGS)]


def _desired_state(home: Path, here: RegistryServer, there: RegistryServer) -> Path:
    spec = {"registry": {"url": here.url}, "upstreams": [{"domain": "docker.io", "url": there.url}]}
    wharf = {"apiVersion": API_VERSION, "kind": "Wharf", "metadata": {"name": "bench"}, "spec": spec}
    images = [{"name": f"docker.io/{repository}:{tag}"} for repository, tag in _names()]
    image_set = {"apiVersion": API_VERSION, "kind": "ImageSet", "metadata": {"name": "images"}, "spec": {"images": images}}
    path = home / "desired-state.yaml"
    path.write_text(yaml.safe_dump_all([wharf, image_set]))
    return path


def _sync_file(home: Path, there: RegistryServer) -> Path:
    images: dict[str, list[str]] = {}
    for repository, tag in _names():
        images.setdefault(repository, []).append(tag)
    path = home / "sync.yaml"
    path.write_text(yaml.safe_dump({there.address: {"tls-verify": False, "images": images}}))
    return path
