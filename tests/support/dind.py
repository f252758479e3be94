"""A real Docker-in-Docker container: an image of the machine's own dockerd and what it needs, made without any pull, and a range that runs it."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker.errors

from tests.support.servers import ClosingClient, EngineServer

IMAGE = "test/dind:1"
LABEL = "cyroid.range_id"
_BINARIES = ("dockerd", "containerd", "containerd-shim-runc-v2", "runc")
_COMMAND = [
    "/usr/bin/dockerd",
    "-H",
    "tcp://0.0.0.0:2375",
    "--tls=false",
    "--iptables=false",
    "--ip-forward=false",
    "--bridge=none",
    "--storage-driver=vfs",
]


def make_image(engine: EngineServer) -> None:
    """Import it, under IMAGE."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("tmp", "run", "var", "var/run", "etc", "proc", "sys", "dev"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for path, name in sorted(_files()):
            tar.add(path.resolve(), name)
    with engine.client() as client:
        client.api.import_image_from_data(out.getvalue(), repository=IMAGE.partition(":")[0], tag="1")


def _files() -> set[tuple[Path, str]]:
    found: set[tuple[Path, str]] = set()
    for name in _BINARIES:
        binary = shutil.which(name)
        assert binary is not None, name
        found.add((Path(binary), f"usr/bin/{name}"))
        said = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"(/\S+) \(0x", said):
            found.add((Path(library), library.lstrip("/")))
    return found


def gateway_of(engine: EngineServer) -> str:
    """This machine's address as its containers reach it."""
    with engine.client() as client:
        return str(client.api.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"])


class Dind:
    """A range that runs in a container of an engine."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self.address = ""

    @property
    def url(self) -> str:
        return f"tcp://{self.address}:2375"

    def client(self) -> Any:
        """A client of its engine."""
        return ClosingClient(base_url=self.url, timeout=60)

    def tags(self) -> set[str]:
        """Every tag there."""
        self.wait()
        with self.client() as client:
            return {tag for image in client.api.images() for tag in image["RepoTags"] or ()}

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self._container.reload()
            if self._container.status != "running":
                break
            networks = self._container.attrs["NetworkSettings"]["Networks"]
            self.address = next((each["IPAddress"] for each in networks.values() if each["IPAddress"]), "")
            if self.address:
                with suppress(docker.errors.DockerException, OSError), self.client() as client:
                    client.ping()
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the range did not start: {self._container.logs(tail=30).decode(errors='replace')}")


@contextmanager
def dind(engine: EngineServer, label: str, *options: str) -> Iterator[Dind]:
    """One that runs with this value of LABEL, and further options of its dockerd, without waiting for it."""
    with engine.client() as client:
        container = client.containers.run(
            IMAGE, [*_COMMAND, *options], detach=True, labels={LABEL: label}, cap_add=["SYS_ADMIN", "NET_ADMIN"], security_opt=["seccomp=unconfined"],
            volumes=["/var/lib/docker"], dns=["127.0.0.1"],
        )  # fmt: skip
        found = Dind(container)
        try:
            yield found
        finally:
            with suppress(docker.errors.NotFound):
                container.remove(force=True, v=True)
