"""An engine behind ssh: its socket is forwarded to one on this machine, by one `ssh` process for all requests."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from controller.domain.errors import UnreachableError

SOCKET = "/var/run/docker.sock"
"""Where the engine listens there, unless the URL says another path."""

_PATIENCE = 30.0
_STEP = 0.02
_OPTIONS = ("BatchMode=yes", "ConnectTimeout=10", "ExitOnForwardFailure=yes", "ServerAliveInterval=15", "ServerAliveCountMax=2")


class Tunnel:
    """Opened when it is first asked for, and again when it broke. Who there is and how he is proven, ssh's own configuration says."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._ssh: subprocess.Popen[bytes] | None = None

    def open(self, tried: str) -> str:
        """The URL of the socket on this machine, in a thread; UnreachableError with ssh's own words."""
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="wharf-"))
            here = self._folder / "docker.sock"
            if self._ssh is None or self._ssh.poll() is not None:
                self._start(here, tried)
            return f"unix://{here}"

    def close(self) -> None:
        """End it."""
        with self._lock:
            self._end()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _start(self, here: Path, tried: str) -> None:
        self._end()
        here.unlink(missing_ok=True)
        said = here.with_name("ssh.log")
        with said.open("wb") as log:
            try:
                # What it runs there ends with its input, so the tunnel ends with this process, however that ends.
                self._ssh = subprocess.Popen(  # noqa: S603 - no shell is between, and the URL's form was checked
                    self._command(here), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
                )
            except OSError as error:
                raise UnreachableError(tried, f"ssh: {error.strerror}", hint="install an ssh client on this machine") from None
        deadline = time.monotonic() + _PATIENCE
        while not _accepts(here):
            if self._ssh.poll() is not None or time.monotonic() > deadline:
                self._end()
                words = " ".join(said.read_text(errors="replace").split())[-200:] or "no answer"
                raise UnreachableError(tried, words, hint=f"{self._url}: does `ssh` get there without asking anything?")
            time.sleep(_STEP)

    def _command(self, here: Path) -> list[str]:
        there = urlsplit(self._url)
        options = [part for option in _OPTIONS for part in ("-o", option)]
        user = ["-l", there.username] if there.username else []
        port = ["-p", str(there.port)] if there.port else []
        path = there.path if there.path.strip("/") else SOCKET
        return ["ssh", "-T", *options, "-L", f"{here}:{path}", *user, *port, "--", there.hostname or "", "cat"]

    def _end(self) -> None:
        if self._ssh is None:
            return
        self._ssh.terminate()
        if self._ssh.stdin is not None:
            self._ssh.stdin.close()
        self._ssh.wait()
        self._ssh = None


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(str(path))
        except OSError:
            return False
    return True
