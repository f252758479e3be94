"""A real Docker Engine and a real Distribution registry, each with ports, sockets and data of its own below one folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

import docker
import docker.errors
import yaml

from tests.support import bridge


def free_port() -> int:
    """A loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One child process, its log file, and the id by which it is ended. `home` is made when missing."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "log"
        self.process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)

    def _spawn(self, command: list[str], environment: dict[str, str] | None = None) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True)
        (self.home / "pid").write_text(str(self.process.pid))

    def _wait(self, ready: Any, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                break
            if ready():
                return
            time.sleep(0.05)
        tail = self.log.read_text(errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"{type(self).__name__} in {self.home} did not start; its log ends with:\n{tail}")

    def stop(self, *, kill: bool = False) -> None:
        """End the process and wait for it; SIGKILL with `kill`, or when SIGTERM was not enough."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


class RegistryServer(Server):
    """CNCF Distribution (`docker-registry serve`). `extra` is merged into its configuration; `host` is the address of this machine to listen at."""

    def __init__(
        self, home: Path, port: int = 0, extra: dict[str, Any] | None = None, binary: str = "docker-registry", host: str = "127.0.0.1"
    ) -> None:
        super().__init__(home)
        self.port = port or free_port()
        self.host = host
        self.binary = binary
        self.config = home / "config.yml"
        self.config.write_text(
            yaml.safe_dump(
                _merge(
                    {
                        "version": 0.1,
                        "log": {"level": "warn", "accesslog": {"disabled": True}},
                        "storage": {"filesystem": {"rootdirectory": str(home / "data")}, "delete": {"enabled": True}},
                        "http": {"addr": f"{host}:{self.port}"},
                    },
                    extra or {},
                )
            )
        )

    def blob_file(self, digest: str) -> Path:
        """Where the registry keeps a blob's bytes."""
        algorithm, _, name = digest.partition(":")
        return self.home / "data/docker/registry/v2/blobs" / algorithm / name[:2] / name / "data"

    def damage(self, digest: str) -> None:
        """Flip a bit of a blob behind the registry's back: bit rot."""
        file = self.blob_file(digest)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)

    def collect(self, *options: str) -> None:
        """Run the garbage collector behind the registry's back, as nobody should while it runs."""
        subprocess.run([self.binary, "garbage-collect", *options, str(self.config)], check=True, capture_output=True)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def start(self) -> RegistryServer:
        self._spawn([self.binary, "serve", str(self.config)])
        self._wait(self._answers)
        return self

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/v2/", timeout=2):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False


class EngineServer(Server):
    """dockerd on a bridge of its own, reachable by a Unix socket; by default with the classic image store (overlay2).

    Unix socket paths are limited to 107 bytes, so `home` should be short. `path` goes before PATH; `features` and `settings` into its daemon.json,
    without which the machine's own would be read.
    """

    def __init__(
        self,
        home: Path,
        *,
        binary: str = "dockerd",
        path: str = "",
        features: dict[str, bool] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(home)
        self.binary = binary
        self.path = path
        self.extra: list[str] = []
        self.socket = home / "docker.sock"
        self.number = free_port()
        self.bridge = f"wharf{self.number}"
        (home / "bridge").write_text(self.bridge)
        said = {"features": {"containerd-snapshotter": False} if features is None else features, **(settings or {})}
        (home / "daemon.json").write_text(json.dumps(said))

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def command(self) -> list[str]:
        """The command line: everything below `home`, no firewall rules, no settings of the machine changed."""
        folders = {"data-root": "data", "exec-root": "exec", "pidfile": "dockerd.pid", "config-file": "daemon.json"}
        places = [f"--{option}={self.home / name}" for option, name in folders.items()]
        network = [f"--bridge={self._bridge()}", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
        return [self.binary, *places, f"--host={self.url}", *network, *self.extra]

    def _bridge(self) -> str:
        """Our own; where none can be made, none at all, if nobody's docker0 is lost by that."""
        if bridge.make(self.bridge, self.number):
            return self.bridge
        if bridge.there("docker0"):
            raise RuntimeError("no network bridge can be made here, and an engine without one would delete docker0, which is not ours")
        return "none"

    def start(self) -> EngineServer:
        for stale in ("dockerd.pid", "exec/containerd/containerd.pid"):  # After SIGKILL: where nobody reaps it, a dead containerd looks alive.
            (self.home / stale).unlink(missing_ok=True)
        environment = {**os.environ, "PATH": f"{self.path}:{os.environ['PATH']}"} if self.path else None
        self._spawn(self.command(), environment)
        self._wait(self._answers)
        return self

    def stop(self, *, kill: bool = False) -> None:
        """The process, then its bridge."""
        super().stop(kill=kill)
        bridge.remove(self.bridge)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(2)
            try:
                asking.connect(str(self.socket))
                asking.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
                return b" 200 " in asking.recv(64)
            except OSError:
                return False

    def client(self, timeout: int = 120) -> Any:
        """A docker SDK client; use it with `with contextlib.closing(...)` or close it."""
        return ClosingClient(base_url=self.url, timeout=timeout)

    def clear(self) -> None:
        """Remove every container and image of this engine, which is the test's own."""
        with self.client() as client:
            for container in client.containers.list(all=True):
                container.remove(force=True)
            while images := client.api.images(quiet=True):
                _remove_childless(client, images)

    def docker(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run the docker command line against this engine; its output, or CalledProcessError."""
        environment = {**os.environ, "DOCKER_HOST": self.url, "DOCKER_CONFIG": str(self.home / "config"), "DOCKER_BUILDKIT": "0"}
        done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, check=False, env=environment)
        if done.returncode:
            raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode().strip()


def _remove_childless(client: Any, images: list[str]) -> None:
    """One that others were built from is refused, by force too, until they are gone."""
    refused: list[docker.errors.APIError] = []
    for image_id in images:
        try:
            client.images.remove(image_id, force=True)
        except docker.errors.ImageNotFound:
            continue  # It went with another one.
        except docker.errors.APIError as error:
            refused.append(error)
    if len(refused) == len(images):
        raise refused[0]


def listed(engine: EngineServer) -> list[dict[str, Any]]:
    """All images. 28's containerd store answers 404 for the whole list while one of them goes."""
    with engine.client() as asked:
        for _ in range(100):
            with contextlib.suppress(docker.errors.NotFound):
                found: list[dict[str, Any]] = asked.api.images()
                return found
            time.sleep(0.05)
    raise RuntimeError("the engine never showed its images")


def another_engine(home: Path) -> EngineServer:
    """A second engine with the classic image store beside a first one. Those of 20.10 have one ID for the whole machine, unless they are told."""
    said = subprocess.run(["dockerd", "--version"], capture_output=True, text=True, check=False).stdout
    return EngineServer(home, settings={"deprecated-key-path": str(home / "key.json")} if " 20.10." in said else None)


class ClosingClient(docker.DockerClient):
    """One for a `with`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _merge(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in extra.items():
        merged[key] = _merge(merged[key], value) if isinstance(value, dict) and isinstance(merged.get(key), dict) else value
    return merged


def missing_parts() -> list[str]:
    """The binaries that are not on this machine; `make servers` installs them."""
    return [name for name in ("dockerd", "docker-registry") if shutil.which(name) is None]


def build_image(engine: EngineServer, tag: str, files: dict[str, bytes], labels: dict[str, str] | None = None) -> str:
    """Build a FROM-scratch image of some files on an engine with the legacy builder; its Id. Needs no network."""
    import io
    import tarfile

    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        lines = ["FROM scratch"] + [f"COPY {name} /{name}" for name in files] + [f"LABEL {k}={json.dumps(v)}" for k, v in (labels or {}).items()]
        for name, data in {"Dockerfile": "\n".join(lines).encode(), **files}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    context.seek(0)
    with engine.client() as client:
        image, _ = client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)
        return str(image.id)
