"""The files in config/ are used, not only shown: each is started here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.servers import Server, free_port

CONFIG = Path(__file__).parents[2] / "config"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = b"{}"


class ConfiguredRegistry(Server):
    """docker-registry with config/registry.yml; only its place on this machine is another, by the environment."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.environment = {"REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(home / "data")}

    def start(self) -> ConfiguredRegistry:
        self._spawn(["docker-registry", "serve", str(CONFIG / "registry.yml")], {**os.environ, **self.environment})
        self._wait(self._answers)
        return self

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/v2/") == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: bytes | None = None, media_type: str = "application/octet-stream") -> int:
        """One request; the status of its answer."""
        request = urllib.request.Request(self.url + path, body, {"Content-Type": media_type, "Accept": MANIFEST}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                self.location = str(answer.headers.get("Location"))
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code

    def upload(self, repository: str, blob: bytes) -> dict[str, object]:
        """A blob, by POST and PUT; its descriptor."""
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        assert self.ask("POST", f"/v2/{repository}/blobs/uploads/", b"") == 202
        assert self.ask("PUT", f"{self.location.removeprefix(self.url)}&digest={digest}", blob) == 201
        return {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(blob)}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ConfiguredRegistry]:
    """A registry of one test."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not here: make servers")
    server = ConfiguredRegistry(tmp_path).start()
    yield server
    server.stop()


def test_the_registry_takes_pushes_and_deletes(registry: ConfiguredRegistry) -> None:
    """What is pushed can be read, and deleted by digest: with deletes off the answer would be 405, with `proxy:` the push would be refused."""
    config = registry.upload("cyroid/kali", EMPTY)
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}).encode()
    assert registry.ask("PUT", "/v2/cyroid/kali/manifests/1", manifest, MANIFEST) == 201
    assert registry.ask("GET", "/v2/cyroid/kali/manifests/1") == 200
    assert registry.ask("DELETE", f"/v2/cyroid/kali/manifests/sha256:{hashlib.sha256(manifest).hexdigest()}") == 202
    assert registry.ask("GET", "/v2/cyroid/kali/manifests/1") == 404


def test_the_registry_believes_its_disk_alone(registry: ConfiguredRegistry) -> None:
    """No cache of descriptors: a blob that is gone from the disk, as after a garbage collection, is gone from the answers."""
    digest = str(registry.upload("cyroid/kali", b"a layer")["digest"])
    assert registry.ask("HEAD", f"/v2/cyroid/kali/blobs/{digest}") == 200
    hexadecimal = digest.removeprefix("sha256:")
    (registry.home / "data/docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data").unlink()
    assert registry.ask("HEAD", f"/v2/cyroid/kali/blobs/{digest}") == 404


def test_the_registry_is_not_open_to_the_network() -> None:
    """As shipped it listens on loopback only, because it asks nobody for a password."""
    assert yaml.safe_load((CONFIG / "registry.yml").read_text())["http"]["addr"] == "127.0.0.1:5000"
