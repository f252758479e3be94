"""`wharf run` follows what images are made of: Dockerfile folders, catalogs and archives, long before the interval."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.acceptance.test_operations import metrics
from tests.acceptance.wharf import running
from tests.support.folders import folder
from tests.support.scene import Scene, tags_of
from tests.support.servers import free_port

HOUR = {"interval": "1h"}


def saved(scene: Scene, path: Path) -> None:
    """An archive with an image of its own, in its place."""
    scene.build("thing:1")
    scene.engine.docker("save", "-o", str(path.with_suffix(".new")), "thing:1")
    path.with_suffix(".new").replace(path)
    scene.engine.docker("rmi", "thing:1")


async def test_what_images_are_made_of_is_followed(scene: Scene) -> None:
    """A changed folder is built, a new archive imported, a new folder of a catalog becomes an image, a folder that comes late is built then."""
    scene.spec = HOUR
    web = folder(scene.folder / "web", {"Dockerfile": "FROM scratch\nCOPY data /\n", "data": "1"})
    folder(scene.folder / "catalog/one", {"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    archive = scene.folder / "archives/thing.tar"
    archive.parent.mkdir()
    saved(scene, archive)
    scene.images = [
        {"name": "lab/web:1", "source": {"build": {"context": "web", "on": "local"}}},
        {"name": "lab/late:1", "source": {"build": {"context": "late/context", "on": "local"}}},
        {"name": "lab/thing:1", "source": {"archive": {"path": "archives/thing.tar"}}},
        {"catalog": "catalog"},
    ]
    with running(scene.file, state=scene.state) as controller:
        seen = max(controller.wait_for(f"{words} converged") for words in ("lab/web:1", "lab/thing:1", "one:latest"))
        assert not any("Traceback" in line for line in controller.lines)
        before = await tags_of(scene.registry, "lab/thing")
        (web / "data").write_text("2")
        seen = controller.wait_for("lab/web:1 converged", after=seen)
        saved(scene, archive)
        seen = controller.wait_for("lab/thing:1 converged", after=seen)
        after = await tags_of(scene.registry, "lab/thing")
        assert after["1"] != before["1"]
        folder(scene.folder / "catalog/two", {"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
        seen = controller.wait_for("two:latest converged", after=seen)
        folder(scene.folder / "late/context", {"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
        seen = controller.wait_for("lab/late:1 converged", after=seen)
        shutil.rmtree(web)
        folder(web, {"Dockerfile": "FROM scratch\nCOPY data /\n", "data": "3"})
        controller.wait_for("lab/web:1 converged", after=seen)
        assert controller.end() == 0


def test_what_docker_would_not_send_makes_no_work(scene: Scene) -> None:
    """A log that .dockerignore names, and an editor's files, change all the time: the image is not looked at; what counts is acted on."""
    port = free_port()
    scene.spec = {**HOUR, "web": {"listen": f"127.0.0.1:{port}"}}
    web = folder(scene.folder / "web", {"Dockerfile": "FROM scratch\nCOPY data /\n", "data": "1", ".dockerignore": "*.log\n"})
    scene.images = [{"name": "lab/web:1", "source": {"build": {"context": "web", "on": "local"}}}]
    with running(scene.file, state=scene.state, flags=["-v"]) as controller:
        seen = controller.wait_for("lab/web:1 converged")
        for number in range(100):
            (web / "server.log").write_text(str(number))
            (web / ".data.swp").write_text(str(number))
            (web / ".data.swp").unlink()
        (scene.folder / "stranger.txt").write_text("beside the file, and none of our business")
        (web / "data").write_text("2")
        controller.wait_for("lab/web:1 converged", after=seen)
        assert sum(line.endswith(f"changed: {web}") for line in controller.lines) == 1
        assert metrics(port)['wharf_looks_total{result="done"}'] == 1
        assert controller.end() == 0
