"""Several hosts of one controller: by a Unix socket, by tcp with TLS; one that is down or not to be trusted disturbs nobody."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.wharf import running, wharf
from tests.support.authority import Authority
from tests.support.folders import folder
from tests.support.scene import Scene, tags_of
from tests.support.servers import EngineServer, build_image, free_port

HERE, FAR = "cyroid/here:1", "cyroid/far:1"


class Far:
    """An engine that is reached by tcp with TLS."""

    def __init__(self, home: Path) -> None:
        self.authority = Authority.make(home / "authority")
        self.port = free_port()
        self.engine = EngineServer(home / "far")
        self.engine.extra = self.authority.served(self.port)
        if "version 20." in subprocess.run(["dockerd", "--version"], capture_output=True, text=True, check=True).stdout:
            # Its ID is that of a key, which all engines of one machine share otherwise; newer ones have an ID each.
            said = json.loads((home / "far/daemon.json").read_text())
            (home / "far/daemon.json").write_text(json.dumps({**said, "deprecated-key-path": str(home / "far/key.json")}))

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def build(self, tag: str) -> None:
        build_image(self.engine, tag, {"data": tag.encode()})

    def tags(self) -> set[str]:
        return {line for line in self.engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines() if line != "<none>:<none>"}


@pytest.fixture
def far(short_path: Path) -> Iterator[Far]:
    """One of a test's own."""
    found = Far(short_path)
    found.engine.start()
    yield found
    found.engine.stop()


def two_hosts(scene: Scene, far: Far, tls: dict[str, Any] | None) -> None:
    """Both adopt what is cyroid's, and may not keep it."""
    wanted = {"gracePeriod": "0s", "adopt": ["cyroid/**"], "absent": ["cyroid/**"]}
    scene.spec["hosts"] = [
        {"name": "here", "engine": scene.engine.url, **wanted},
        {"name": "far", "engine": far.url, **({"tls": tls} if tls is not None else {}), **wanted},
    ]


async def test_a_host_by_tls(scene: Scene, far: Far) -> None:
    """Its images go to the registry and leave as any other's, told by its events; it builds; while it is down the others go on, and it catches up."""
    two_hosts(scene, far, far.authority.tls)
    folder(scene.folder / "web", {"Dockerfile": "FROM scratch\nCOPY data /\n", "data": "1"})
    scene.spec["interval"], scene.images = "1h", [{"name": "lab/web:1", "source": {"build": {"context": "web", "on": "far"}}}]
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for("lab/web:1 converged")
        far.build(FAR)
        seen = controller.wait_for(f"✓ - evict {FAR} from far", after=seen)
        far.engine.stop()
        seen = controller.wait_for("far tells of no changes", after=seen)
        scene.build(HERE)
        seen = controller.wait_for(f"✓ - evict {HERE} from here", after=seen)
        far.engine.start()
        far.build("cyroid/far:2")
        controller.wait_for("✓ - evict cyroid/far:2 from far", after=seen)
        assert controller.end() == 0
    assert set(await tags_of(scene.registry, "cyroid/far")) == {"1", "2"}
    assert set(await tags_of(scene.registry, "lab/web")) == {"1"}
    assert far.tags() == set()


async def test_a_host_that_is_not_to_be_trusted(scene: Scene, far: Far) -> None:
    """It is Unknown, with what to do; nothing is done with it; the other host's image goes to the registry and leaves all the same."""
    stranger = Authority.make(scene.folder / "stranger")
    right = far.authority.tls
    scene.build(HERE)
    far.build(FAR)
    for tls, words in (
        ({"caFile": str(far.authority.ca)}, "tls.certFile and tls.keyFile"),
        (None, "say `tls` of this host"),
        ({**right, "keyFile": "none.pem"}, f"{scene.folder}/none.pem: No such file"),
        ({**right, "caFile": str(stranger.ca)}, "certificate verify failed"),
    ):
        two_hosts(scene, far, tls)
        done = wharf("plan", scene.file, "-o", "json", state=scene.state)
        assert done.code == 2
        assert words in done.out
    assert wharf("apply", scene.file, state=scene.state).code == 2
    assert scene.tags_on_host() == set()
    assert set(await tags_of(scene.registry, "cyroid/here")) == {"1"}
    assert far.tags() == {FAR}
    two_hosts(scene, far, right)
    assert wharf("apply", scene.file, state=scene.state).code == 0
    assert far.tags() == set()
