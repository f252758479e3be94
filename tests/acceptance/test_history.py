"""`wharf history`: the audit trail for people and for programs."""

from __future__ import annotations

from datetime import UTC, datetime

import yaml

from tests.acceptance.wharf import Done, running, wharf
from tests.support.scene import Scene, publish, tags_of


def ask(scene: Scene, *arguments: str) -> Done:
    """The command with the scene's file."""
    return wharf("history", *arguments, "-f", scene.file, state=scene.state)


async def test_what_was_done_newest_first(scene: Scene) -> None:
    """Each action with its time, size, cause and what came of it; of one image, by the set's name or the registry's."""
    scene.build("cyroid/kali:1")
    await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": "cyroid/kali:1"}, {"name": "docker.io/library/nginx:1"}]
    assert wharf("apply", scene.file, state=scene.state).code == 0
    told = ask(scene, "cyroid/kali:1", "-o", "json").json
    digest = (await tags_of(scene.registry, "cyroid/kali"))["1"]
    assert [(row["action"], row["reason"], row["host"], row["actor"]) for row in told] == [
        ("Evict", "Lingers", "local", "apply"),
        ("Push", "OnHostOnly", "local", "apply"),
    ]
    assert all(row["after"] == digest and row["error"] is None for row in told)
    at = datetime.fromisoformat(told[0]["at"])
    assert (at.tzinfo, at.year >= 2025) == (UTC, True)
    assert [row["image"] for row in ask(scene, "nginx:1", "-o", "json").json] == ["docker.io/library/nginx:1"]
    assert ask(scene, "docker.io/library/nginx:1").out == ask(scene, "nginx:1").out
    assert len(ask(scene, "-n", "2", "-o", "json").json) == 2
    everything = ask(scene)
    assert (everything.code, len(everything.out.splitlines())) == (0, 4), everything.out
    assert "✗" not in everything.out
    assert yaml.safe_load(ask(scene, "-o", "yaml").out) == ask(scene, "-o", "json").json


def test_an_error_stands_on_its_row(scene: Scene) -> None:
    """What failed is told with the other side's words."""
    scene.build("cyroid/kali:1")
    scene.images, scene.host = [{"name": "cyroid/kali:1"}], {"registryAddress": "127.0.0.1:1"}
    assert wharf("apply", scene.file, state=scene.state).code == 2
    told = ask(scene, "cyroid/kali:1")
    assert told.code == 0
    assert "✗ push" in told.out
    assert "refused" in told.out
    assert "refused" in ask(scene, "-o", "json").json[0]["error"]


def test_nothing_was_done_yet(scene: Scene) -> None:
    """No state file is made by asking, and what is no name is a usage error."""
    done = ask(scene, "cyroid/kali:1")
    assert (done.code, done.out, "nothing was done yet with cyroid/kali:1" in done.err) == (0, "", True)
    assert ask(scene, "-o", "json").json == []
    assert not scene.state.exists()
    assert ask(scene, "No Name").code == 1


def test_while_a_controller_runs(scene: Scene) -> None:
    """The lock is not asked for, and nothing waits."""
    scene.build("cyroid/kali:1")
    scene.images = [{"name": "cyroid/kali:1"}]
    with running(scene.file, state=scene.state) as controller:
        controller.wait_for("✓ - evict cyroid/kali:1")
        told = ask(scene, "-o", "json").json
        assert {row["actor"] for row in told} == {"run"}
        assert {row["action"] for row in told if row["error"] is None} == {"Push", "Evict"}
        assert controller.end() == 0
