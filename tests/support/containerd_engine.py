"""A newer Docker Engine with the containerd image store, from Debian unstable's packages, unpacked into a folder and never installed.

`python -m tests.support.containerd_engine` fetches it into the checkout's .wharf/; tests that need it are skipped, with the reason, where it can't
be had. Its runc needs a newer libc than Debian 12's, so images can be moved but no container starts.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.servers import EngineServer, Server

CACHE = Path(__file__).parents[2] / ".wharf" / "containerd-engine"
PACKAGES = ("docker.io", "containerd", "runc")
SUITE = "sid"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class UnavailableError(Exception):
    """This machine can't have it; the text says why."""


def ensure(cache: Path = CACHE) -> Path:
    """The folder with the unpacked packages; fetched when it is not there. Raises UnavailableError."""
    root = cache / "root"
    if not (root / "usr/sbin/dockerd").exists():
        _fetch(cache, root)
    return root


def found(cache: Path = CACHE) -> Path | None:
    """The folder if it was fetched before."""
    root = cache / "root"
    return root if (root / "usr/sbin/dockerd").exists() else None


def _fetch(cache: Path, root: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None or not KEYRING.exists():
        raise UnavailableError("not a Debian: no apt-get, dpkg or archive keyring")
    shutil.rmtree(cache, ignore_errors=True)
    (cache / "state/lists/partial").mkdir(parents=True)
    (cache / "archives/partial").mkdir(parents=True)
    sources = cache / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {_mirror()} {SUITE} main\n")
    options = [f"Dir::Etc::SourceList={sources}", "Dir::Etc::SourceParts=-", f"Dir::State::Lists={cache / 'state/lists'}", f"Dir::Cache={cache}"]
    apt = ["apt-get", "-q", *(f"-o{option}" for option in options)]
    _run([*apt, "update"], cache)
    _run([*apt, "download", *PACKAGES], cache)
    part = cache / "part"
    for package in sorted(cache.glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(part)], cache)
        package.unlink()
    shutil.rmtree(cache / "state")
    part.rename(root)


def _mirror() -> str:
    """The mirror that this machine uses for its own packages."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    mirrors = [line for line in done.stdout.split() if line.rstrip("/").endswith("/debian")]
    if not mirrors:
        raise UnavailableError("apt knows no Debian mirror here; apt-get update first")
    return mirrors[0]


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        raise UnavailableError(f"{' '.join(command[:1])} failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")


class _Containerd(Server):
    """The containerd that the engine keeps its images in."""

    def __init__(self, home: Path, root: Path) -> None:
        super().__init__(home)
        self.socket = home / "containerd.sock"
        self.binary = root / "usr/bin/containerd"
        self.config = home / "config.toml"
        self.config.write_text(
            f'version = 2\nroot = "{home / "root"}"\nstate = "{home / "state"}"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\n  address = "{self.socket}"\n'
        )

    def start(self) -> _Containerd:
        self._spawn([str(self.binary), "--config", str(self.config)])
        self._wait(self._answers)
        return self

    def _answers(self) -> bool:
        """A socket that is there may be a killed one's."""
        with socket.socket(socket.AF_UNIX) as asking:
            return asking.connect_ex(str(self.socket)) == 0


class ContainerdEngineServer(EngineServer):
    """dockerd with the containerd image store, beside a containerd of its own."""

    def __init__(self, home: Path, root: Path) -> None:
        path = f"{root / 'usr/bin'}:{root / 'usr/sbin'}"
        super().__init__(home, binary=str(root / "usr/sbin/dockerd"), path=path, features={"containerd-snapshotter": True})
        self.containerd = _Containerd(home / "containerd", root)
        self.extra = [*self.extra, "--containerd", str(self.containerd.socket)]

    def start(self) -> ContainerdEngineServer:
        """containerd first."""
        self.containerd.start()
        super().start()
        return self

    def stop(self, *, kill: bool = False) -> None:
        """The engine first."""
        super().stop(kill=kill)
        self.containerd.stop(kill=kill)


if __name__ == "__main__":
    try:
        ensure()
    except UnavailableError as error:
        sys.exit(f"no engine with the containerd store: {error}")
