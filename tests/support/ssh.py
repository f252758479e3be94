"""A real sshd on loopback, and an `ssh` that goes there without asking anything and without this machine's own keys."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
from pathlib import Path

from tests.support.servers import Server, free_port

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")


class SshServer(Server):
    """`bin` has the `ssh` to put into PATH."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.port = free_port()
        self.bin = home / "bin"
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)], check=True)
        (home / "known").write_text(f"[127.0.0.1]:{self.port} {(home / 'host.pub').read_text()}")
        lines = ("ListenAddress 127.0.0.1", f"Port {self.port}", f"HostKey {home}/host", f"AuthorizedKeysFile {home}/user.pub")
        (home / "sshd_config").write_text("\n".join([*lines, "StrictModes no", "UsePAM no", "PidFile none", ""]))
        self.bin.mkdir()
        ssh = f"{shutil.which('ssh')} -F /dev/null -i {home}/user -o IdentitiesOnly=yes -o UserKnownHostsFile={home}/known"
        (self.bin / "ssh").write_text(f'#!/bin/sh\nexec {ssh} "$@"\n')
        (self.bin / "ssh").chmod(0o755)

    @property
    def url(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def start(self) -> SshServer:
        assert SSHD is not None
        Path("/run/sshd").mkdir(exist_ok=True)
        self._spawn([SSHD, "-D", "-e", "-f", str(self.home / "sshd_config")])
        self._wait(self._answers)
        return self

    def _answers(self) -> bool:
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", self.port)) == 0
