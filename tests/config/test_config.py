"""The files in config/ are used, not only shown: the registry is started here, the desired state is read and planned."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from controller.domain.actions import Evict, Plan, Reason
from controller.domain.desired import Desired, Patterns
from controller.domain.plan import make_plan
from controller.domain.policy import guard
from controller.domain.spec import Mode
from controller.wiring.setup import read
from tests.support.builders import engine, on_host, seen
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


def test_the_desired_state_fits_the_registry() -> None:
    """It asks for nothing that is not there yet, and its registry is the one of registry.yml, for the host too."""
    setup = read([CONFIG / "desired-state.yaml"])
    address = yaml.safe_load((CONFIG / "registry.yml").read_text())["http"]["addr"]
    assert setup.desired.images
    assert not setup.desired.deferred
    assert setup.wharf.registry.url == f"http://{address}"
    assert [host.registry_address for host in setup.desired.hosts] == [address]


def test_the_desired_state_is_harmless_as_shipped() -> None:
    """Its mode takes nothing off a host, whatever is there: only Full would, and says so by the reason."""
    plan = planned(read([CONFIG / "desired-state.yaml"]).desired)
    assert plan.actions == ()
    assert {(held.image, held.reason) for held in plan.held_back} == {
        ("docker.io/library/alpine:3.20", Reason.MODE),
        ("docker.io/library/registry:2", Reason.KEPT),
    }


def test_the_desired_state_keeps_what_the_host_needs() -> None:
    """With mode Full too, the registry's own image and the engines inside containers stay, under any tag, even if all of them must go."""
    desired = read([CONFIG / "desired-state.yaml"]).desired
    (host,) = desired.hosts
    everything = replace(host, absent=Patterns(["**"]))
    plan = planned(replace(desired, mode=Mode.FULL, hosts=(everything,)))
    assert [(type(action), action.target.repository) for action in plan.actions] == [(Evict, "docker.io/library/alpine")]
    assert {held.image: held.reason for held in plan.held_back} == dict.fromkeys(
        ["docker.io/library/docker:27-dind", "docker.io/library/registry:2", "docker.io/library/registry:3"], Reason.KEPT
    )


def planned(desired: Desired) -> Plan:
    """The guarded plan where the host has held every image since long ago, and the registry and upstream have the same."""
    names = ["alpine:3.20", "registry:2", "registry:3", "docker:27-dind"]
    images = [on_host(name, name) for name in names]
    places = {f"docker.io/library/{name}": name for name in names}
    since = {("local", image.id, str(tag)): 0.0 for image in images for tag in image.tags}
    world = seen(registry=places, offered=places, hosts={"local": engine(*images)}, first_seen=since)
    return guard(make_plan(desired, world), desired, world)
