"""A certificate authority for engines on tcp: its certificate, a server's and a client's, as docker calls them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Authority:
    """Its files. `make` writes them into a folder."""

    ca: Path
    cert: Path
    key: Path
    server_cert: Path
    server_key: Path

    @classmethod
    def make(cls, folder: Path) -> Authority:
        """With openssl; the server is 127.0.0.1."""
        folder.mkdir(parents=True)
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        _openssl(folder, "req", "-x509", *key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=authority", "-days", "2")
        for name, says in (("server", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth"), ("client", "extendedKeyUsage=clientAuth")):
            (folder / f"{name}.ext").write_text(says)
            _openssl(folder, "req", *key, "-keyout", f"{name}-key.pem", "-out", f"{name}.csr", "-subj", f"/CN={name}")
            signed = ("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", f"{name}.ext", "-days", "2")
            _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
        return cls(*(folder / f"{name}.pem" for name in ("ca", "client", "client-key", "server", "server-key")))

    @property
    def tls(self) -> dict[str, str]:
        """What a host's `tls` says."""
        return {"caFile": str(self.ca), "certFile": str(self.cert), "keyFile": str(self.key)}

    def served(self, port: int) -> list[str]:
        """The options by which dockerd listens on tcp, too, and wants a certificate of this authority."""
        files = (f"--tlscacert={self.ca}", f"--tlscert={self.server_cert}", f"--tlskey={self.server_key}")
        return [f"--host=tcp://127.0.0.1:{port}", "--tlsverify", *files]


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
