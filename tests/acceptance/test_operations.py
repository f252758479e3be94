"""`wharf run` as its operator watches it: health, metrics, and what the registry tells of itself."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request

from tests.acceptance.wharf import running, wharf
from tests.conftest import StartRegistry
from tests.support.receiver import receiving
from tests.support.scene import Scene, publish, tags_of
from tests.support.servers import free_port

KALI = "cyroid/kali:1"
TOKEN = "not-a-real-token"


def ask(port: int, path: str) -> tuple[int, str]:
    """The status and the body of an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def metrics(port: int) -> dict[str, float]:
    """Every sample, by its name and labels."""
    lines = (line for line in ask(port, "/metrics")[1].splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_what_a_controller_tells_of_itself(scene: Scene) -> None:
    """Ready once a full look went well, not ready while the registry is silent; the figures are those of what was done; no label names an image."""
    port = free_port()
    scene.spec = {"interval": "5s", "web": {"listen": f"127.0.0.1:{port}"}}
    scene.host = {"adopt": ["cyroid/**"], "absent": ["cyroid/**"]}
    scene.build(KALI)
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for(f"✓ - evict {KALI}")
        seen = controller.wait_for(" converged: ", after=seen)
        assert ask(port, "/healthz") == (200, "ok\n")
        assert ask(port, "/readyz") == (200, "ok\n")
        found = metrics(port)
        assert found['wharf_actions_total{action="Push",result="done"}'] == 1
        assert found['wharf_actions_total{action="Evict",result="done"}'] == 1
        assert found['wharf_bytes_total{action="Push"}'] > 0
        assert found["wharf_lag_seconds_count"] >= 1
        assert found["wharf_registry_up"] == 1
        assert found['wharf_hosts_up{host="local"}'] == 1
        assert found["wharf_last_look_timestamp_seconds"] > 1e9
        assert not any("kali" in name for name in found)
        scene.registry.stop()
        controller.wait_for("unreachable", after=seen)
        status, words = ask(port, "/readyz")
        assert status == 503
        assert words.startswith("the registry does not answer: ")
        assert len(words.splitlines()) == 1
        assert metrics(port)["wharf_registry_up"] == 0
        assert ask(port, "/healthz") == (200, "ok\n")
        assert controller.end() == 0


def test_no_port_is_opened_unasked(scene: Scene) -> None:
    """Without `web` nothing listens; with it the file may add it, move it, and take it away while the controller runs."""
    first, second = free_port(), free_port()
    with running(scene.file, state=scene.state) as controller:
        seen = controller.wait_for(" converged: ")
        assert "listening" not in "".join(controller.lines)
        scene.spec = {"web": {"listen": f"127.0.0.1:{first}"}}
        _ = scene.file
        seen = controller.wait_for(f"listening on http://127.0.0.1:{first}", after=seen)
        scene.spec = {"web": {"listen": f"127.0.0.1:{second}"}}
        _ = scene.file
        seen = controller.wait_for(f"listening on http://127.0.0.1:{second}", after=seen)
        assert ask(second, "/healthz")[0] == 200
        with socket.socket() as old:
            assert old.connect_ex(("127.0.0.1", first)) != 0
        assert controller.end() == 0


def test_a_port_that_is_taken(scene: Scene) -> None:
    """The controller does not start, and says which address it was."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        scene.spec = {"web": {"listen": address}}
        done = wharf("run", scene.file, state=scene.state)
    assert done.code == 1
    assert re.search(rf"web.listen {address}: .*in use", done.err)


async def test_what_the_registry_tells_is_repaired_at_once(scene: Scene, start_registry: StartRegistry) -> None:
    """Somebody deletes a tag, and overwrites another, behind the controller's back: it is as the file says again, an hour before the next look."""
    port = free_port()
    scene.registry = start_registry(
        {
            "notifications": {
                "endpoints": [
                    {
                        "name": "wharfinger",
                        "url": f"http://127.0.0.1:{port}/notifications",
                        "headers": {"Authorization": [f"Bearer {TOKEN}"]},
                        "timeout": "5s",
                        "threshold": 3,
                        "backoff": "1s",
                    }
                ]
            }
        }
    )
    (scene.folder / "token").write_text(TOKEN)
    scene.spec = {"hosts": [], "interval": "1h", "web": {"listen": f"127.0.0.1:{port}", "notifications": {"tokenFile": "token"}}}
    repository, digests = "docker.io/library/nginx", {}
    for tag in ("1", "2"):
        digests[tag] = (await publish(scene.internet, "library/nginx", tag)).digest
    scene.images = [{"name": f"{repository}:{tag}"} for tag in ("1", "2")]
    with running(scene.file, state=scene.state) as controller:
        seen = max(controller.wait_for(f"✓ + copy {repository}:{tag}") for tag in ("1", "2"))
        assert await tags_of(scene.registry, repository) == digests
        _delete(scene, repository, digests["1"])
        seen = controller.wait_for(f"✓ + copy {repository}:1", after=seen)
        _overwrite(scene, f"{repository}:2")
        controller.wait_for(f"✓ + copy {repository}:2", after=seen)
        assert controller.end() == 0
        assert TOKEN not in "".join(controller.lines)
    tags = await tags_of(scene.registry, repository)
    assert {tag: tags.pop(tag) for tag in digests} == digests
    assert [tag.startswith("wharf-held-") for tag in tags] == [True], "what was overwritten is held"


def _delete(scene: Scene, repository: str, digest: str) -> None:
    request = urllib.request.Request(f"{scene.registry.url}/v2/{repository}/manifests/{digest}", method="DELETE")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 202


def _overwrite(scene: Scene, name: str) -> None:
    """By an engine, as anybody could."""
    full = f"{scene.registry.address}/{name}"
    scene.build(full)
    scene.engine.docker("push", "-q", full)
    scene.engine.docker("rmi", full)


def test_people_are_told(scene: Scene) -> None:
    """What fails again and again is one message to the web hook; the URL and its secrets are in no line, not even with -v."""
    scene.spec, scene.images = {"interval": "1s", "notify": [{"urlFile": "urls", "on": ["NeedsPerson"]}]}, [{"name": KALI}]
    scene.host = {"onConflict": "Fail"}
    _overwrite(scene, KALI)
    scene.build(KALI)
    with receiving() as receiver, running(scene.file, state=scene.state, flags=["-v"]) as controller:
        (scene.folder / "urls").write_text(receiver.url)
        with receiver.more:
            assert receiver.more.wait_for(lambda: receiver.got, 120), "\n".join(controller.lines)
        assert receiver.got[0]["title"] == "Wharf default: 1 wrong"
        assert receiver.got[0]["message"].startswith(f"NeedsPerson: {KALI}: Conflict: ")
        assert controller.end() == 0
        assert len(receiver.got) == 1
        assert not [line for line in controller.lines if "s3cret" in line or "json://" in line]
