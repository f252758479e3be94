"""Clients that are closed at the end, a certificate for loopback, and no settings of the machine that the tests run on."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.registry import transport
from controller.registry.client import RegistryClient

MakeClient = Callable[..., RegistryClient]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker-config"))


class Waits(list[float]):
    """Stands where a client sleeps: keeps the seconds, and waits for none."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def waits() -> Waits:
    """The seconds that this test's clients would have waited between tries."""
    return Waits()


@pytest.fixture
async def client(waits: Waits) -> AsyncIterator[MakeClient]:
    """Make clients of a registry; between tries they wait for nothing."""
    made: list[RegistryClient] = []

    def make(url: str, **more: Any) -> RegistryClient:
        made.append(RegistryClient(url, sleep=waits, jitter=lambda: 0.5, **more))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients made from now on give up a stalled read or write after a fifth of a second."""
    monkeypatch.setattr(transport, "TIMEOUT", httpx.Timeout(connect=5, read=0.2, write=0.2, pool=None))


@dataclass(frozen=True)
class Certificate:
    """A certificate that is its own authority, for 127.0.0.1 and localhost, and its key."""

    certificate: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        """For a server that shows it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Made anew for each run, so that none ends one day."""
    folder = tmp_path_factory.mktemp("tls")
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    kind = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=wharf test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    files = ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run(["openssl", "req", "-x509", *kind, *files], check=True, capture_output=True)
    return made
