"""The gateway as an operator starts it: alone, and beside `wharf run`."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from tests.acceptance.wharf import WHARF, running, wharf
from tests.support.scene import Scene, publish, release, tags_of
from tests.support.servers import EngineServer, free_port

ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json"}


def ask(port: int, path: str) -> int:
    """The status of a GET."""
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/v2/{path}", headers=ACCEPT), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def metrics(port: int) -> list[str]:
    """What Prometheus would be told."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return str(answer.read().decode()).splitlines()


async def test_beside_run(scene: Scene) -> None:
    """What a client pulls through it is kept, and `wharf pulls` and `explain` tell it; what is reserved is local; a taken port is told."""
    port, other, web = free_port(), free_port(), free_port()
    scene.spec = {"interval": "1h", "gateway": {"listen": f"127.0.0.1:{port}"}, "web": {"listen": f"127.0.0.1:{web}"}}
    scene.images = [{"name": "cyroid/kali:1"}]
    published = await publish(scene.internet, "library/nginx", "1")
    await publish(scene.internet, "cyroid/kali", "1")
    with running(scene.file, state=scene.state) as controller:
        controller.wait_for(f"serving 127.0.0.1:{port}")
        assert ask(port, "library/nginx/manifests/1") == 200
        controller.wait_for("it is in the registry now")
        assert ask(port, "cyroid/kali/manifests/1") == 404
        pulls = wharf("pulls", "-f", scene.file, "-o", "json", state=scene.state).json
        assert [(row["image"], row["digest"], row["client"], row["cachedToRegistry"]) for row in pulls] == [
            ("docker.io/library/nginx:1", published.digest, "127.0.0.1", True)
        ]
        told = wharf("status", scene.file, state=scene.state)
        assert "1 image that no set lists was pulled from the internet, last docker.io/library/nginx:1 by 127.0.0.1 at" in told.out, told.err
        series = metrics(web)
        assert 'wharf_pulls_from_internet_total{result="done"} 1.0' in series
        assert f"wharf_pulled_from_internet_bytes_total {float(pulls[0]['bytes'])}" in series
        assert "PulledThrough" in wharf("explain", "docker.io/library/nginx:1", "-f", scene.file, "-o", "json", state=scene.state).out
        scene.spec["gateway"] = {"listen": f"127.0.0.1:{scene.registry.port}"}
        seen = len(controller.lines)
        _ = scene.file
        seen = controller.wait_for("gateway.listen", after=seen)
        scene.spec["gateway"] = {"listen": f"127.0.0.1:{other}"}
        _ = scene.file
        controller.wait_for(f"serving 127.0.0.1:{other}", after=seen)
        assert ask(other, "docker.io/library/nginx/manifests/1") == 200
        assert controller.end() == 0
    assert await tags_of(scene.registry, "docker.io/library/nginx") == {"1": published.digest}


async def test_a_range_is_given_its_images_through_it(scene: Scene, newer_engine: EngineServer) -> None:
    """By the gateway's address and under the names that the file says; what it pulls from there itself is no news, as the gateway kept it."""
    port = free_port()
    scene.images = [{"name": "cyroid/kali:1"}, {"name": "docker.io/library/nginx:1"}]
    names = [image["name"] for image in scene.images]
    lab = {"name": "lab-7", "engine": newer_engine.url, "range": True, "registryAddress": f"127.0.0.1:{port}", "present": names}
    scene.spec = {"interval": "1h", "gateway": {"listen": f"127.0.0.1:{port}"}, "hosts": [lab]}
    await release(scene.registry, "cyroid/kali", "1")
    for name in ("nginx", "alpine"):
        await release(scene.internet, f"library/{name}", "1")
    with running(scene.file, state=scene.state) as controller:
        for name in names:
            controller.wait_for(f"✓ v pull {name}")
        await asyncio.to_thread(newer_engine.docker, "pull", "-q", f"127.0.0.1:{port}/docker.io/library/alpine:1")
        controller.wait_for("pulled docker.io/library/alpine:1 from the internet")
        listed = await asyncio.to_thread(newer_engine.docker, "images", "--digests", "--format", "{{.Repository}}:{{.Tag}}")
        assert {"cyroid/kali:1", "nginx:1"} <= set(listed.split())
        (row,) = wharf("pulls", "-f", scene.file, "-o", "json", state=scene.state).json
        assert (row["image"], row["throughGateway"]) == ("docker.io/library/alpine:1", True)
        assert controller.end() == 0


def test_alone(scene: Scene) -> None:
    """It needs no file and no engine, and ends when it is told to; an address that is taken is a usage error."""
    port = free_port()
    asyncio.run(publish(scene.internet, "library/nginx", "1"))
    options = ["--listen", f"127.0.0.1:{port}", "--registry", scene.registry.url, "--upstream", f"docker.io={scene.internet.url}"]
    environment = {**os.environ, "WHARF_STATE": f"{scene.folder}/", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([*WHARF, "gateway", *options], stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        assert "serving" in process.stderr.readline()
        assert ask(port, "library/nginx/manifests/1") == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    taken = wharf("gateway", "--listen", scene.registry.address, "--registry", scene.registry.url, state=scene.folder / "other.sqlite")
    assert taken.code == 1
    assert "gateway.listen" in taken.err
    far = wharf("gateway", "--listen", "0.0.0.0:5000", "--registry", scene.registry.url, state=Path(scene.folder / "other.sqlite"))
    assert far.code == 1
    assert "htpasswd" in far.err
