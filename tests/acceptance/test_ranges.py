"""Docker-in-Docker containers that are found by their label, as an operator sees them: what they are given, what they fetched, that they go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.wharf import running, wharf
from tests.support.dind import LABEL, dind, gateway_of, make_image
from tests.support.scene import Scene, release, tags_of
from tests.support.servers import EngineServer, RegistryServer

KALI = "cyroid/kali:1"
NGINX = "docker.io/library/nginx:1"


@dataclass
class Lab:
    """A host with an image for ranges, and a registry and an upstream that its containers can reach."""

    scene: Scene
    reached: str

    @property
    def mirrored(self) -> list[str]:
        """What a range's dockerd is told that may pull from this registry, and has docker.io's names from upstream: past the gateway."""
        return [f"--insecure-registry={self.reached}/32", f"--registry-mirror={self.scene.internet.url}"]


@pytest.fixture
def lab(short_path: Path, engine: EngineServer) -> Iterator[Lab]:
    """Both registries, at the address that the containers know."""
    make_image(engine)
    reached = gateway_of(engine)
    registry, internet = (RegistryServer(short_path / name, host=reached).start() for name in ("registry", "internet"))
    scene = Scene(short_path, registry, internet, engine)
    ranges = {"name": "ranges", "discover": {"on": "local", "label": LABEL}, "registryAddress": registry.address, "present": [KALI]}
    scene.spec = {"interval": "1h", "hosts": [{"name": "local", "engine": engine.url}, ranges]}
    scene.images = [{"name": KALI}]
    yield Lab(scene, reached)
    registry.stop()
    internet.stop()


async def test_ranges_come_and_go(lab: Lab) -> None:
    """Each is a host from its start to its end; one pulls, one that may not gets a stream; what one fetched past the gateway is kept."""
    scene = lab.scene
    await release(scene.registry, "cyroid/kali", "1")
    published = await release(scene.internet, "library/nginx", "1")
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for("converged")
        with dind(scene.engine, "42", *lab.mirrored) as first:
            seen = controller.wait_for("ranges/42 is a host now", after=seen)
            seen = controller.wait_for(f"✓ v pull {KALI}", after=seen)
            with dind(scene.engine, "lab-7") as second, dind(scene.engine, "../../etc"):
                controller.wait_for("(by a stream, as it could not pull it", after=seen)
                for each in (first, second):
                    assert KALI in each.tags()
                with first.client() as client:
                    client.images.pull("nginx", tag="1")
                controller.wait_for(f"✓ + copy {NGINX}", after=seen)
                controller.wait_for("Refused: the container")
                status = wharf("status", scene.file, "-o", "json", state=scene.state).json
                (kali,) = (image for each in status for image in each["images"] if image["name"] == KALI)
                assert kali["onHosts"] == ["ranges/42", "ranges/lab-7"]
                assert [note.split(" was given")[0] for note in kali["notes"]] == ["ranges/lab-7"]
            seen = controller.wait_for("ranges/lab-7 is no host any more", after=seen)
            (row,) = wharf("pulls", "-f", scene.file, "-o", "json", state=scene.state).json
            assert (row["image"], row["client"], row["source"], row["cachedToRegistry"]) == (NGINX, "ranges/42", "internet", True)
            assert not row["throughGateway"]
        seen = controller.wait_for("ranges/42 is no host any more", after=seen)
        controller.wait_for("INFO converged", after=seen)
        assert controller.end() == 0
    assert await tags_of(scene.registry, "docker.io/library/nginx") == {"1": published.digest}
