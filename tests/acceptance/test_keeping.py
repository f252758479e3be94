"""Prune, the restore window and its end, on a real registry: what is deleted can be had again for keepHeld, and no longer."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.acceptance.wharf import Done, running, wharf
from tests.support.scene import Scene, publish, tags_of

KALI, WEB = "cyroid/kali:1", "cyroid/web:1"


def do(scene: Scene, *arguments: str) -> Done:
    """A command with the scene's file."""
    return wharf(*arguments, "-f", scene.file, state=scene.state)


def apply(scene: Scene, *arguments: str) -> Done:
    """A pass."""
    return wharf("apply", *arguments, scene.file, state=scene.state)


def rows(done: Done) -> list[dict[str, Any]]:
    """All that a plan in JSON would do or holds back."""
    return [row for each in done.json for row in (*each["actions"], *each["heldBack"])]


async def kali(scene: Scene) -> dict[str, str]:
    """The tags of the image's repository."""
    return await tags_of(scene.registry, "cyroid/kali")


@pytest.fixture
def pushed(scene: Scene) -> Scene:
    """Two images, pushed because a set lists them; then the set lists one of them no more, and the file asks to prune."""
    for name in (KALI, WEB):
        scene.build(name)
    scene.images = [{"name": KALI}, {"name": WEB}]
    assert apply(scene).code == 0
    scene.images, scene.spec = [{"name": WEB}], {"prune": True}
    return scene


async def test_what_no_set_lists_any_more_is_pruned_and_can_be_restored(pushed: Scene) -> None:
    """The plan shows it, the pass does it, nothing lists the held tag, `wharf restore` brings it back, and then it stays."""
    digest = (await kali(pushed))["1"]
    (row,) = rows(wharf("plan", pushed.file, "-o", "json", state=pushed.state))
    assert (row["action"], row["image"], row["reason"]) == ("Delete", KALI, "Unlisted")
    done = apply(pushed)
    assert (done.code, "✓ x delete cyroid/kali:1" in done.out) == (0, True), done.err
    assert await kali(pushed) == {f"wharf-held-{digest[7:19]}": digest}
    for command in ("plan", "status"):
        assert "wharf-held" not in wharf(command, pushed.file, "-o", "json", state=pushed.state).out
    explained = do(pushed, "explain", KALI).out
    assert f"no; 1 earlier of cyroid/kali held (wharf restore {KALI})" in explained
    assert "Delete by apply: Unlisted" in do(pushed, "restore", KALI, "--list").out
    restored = do(pushed, "restore", KALI)
    assert (restored.code, restored.out, "it meant nothing" in restored.err) == (0, f"{KALI} {digest}\n", True)
    assert apply(pushed).code == 0
    assert (await kali(pushed))["1"] == digest
    pushed.pulled_back(KALI)


async def test_a_retired_image_comes_back_only_when_it_is_asked_for(scene: Scene) -> None:
    """Deleted because the file said so; the same image on a host is not adopted again by itself; a newer one of that name is."""
    image_id = scene.build(KALI)
    scene.host = {"adopt": ["cyroid/**"], "absent": []}
    assert apply(scene).code == 0
    digest = (await kali(scene))["1"]
    scene.images = [{"name": KALI, "ensure": "Absent"}]
    apply(scene)
    assert await kali(scene) == {f"wharf-held-{digest[7:19]}": digest}
    scene.images = []
    assert apply(scene).code == 2
    (row,) = rows(wharf("plan", scene.file, "-o", "json", state=scene.state))
    assert (row["action"], row["host"], row["reason"]) == ("Push", "local", "Deleted")
    assert "wharf restore cyroid/kali:1" in row["message"]
    assert scene.id_on_host(KALI) == image_id
    scene.build(KALI)
    assert apply(scene).code == 0
    assert (await kali(scene))["1"] != digest
    scene.engine.docker("rmi", KALI)
    assert do(scene, "restore", KALI).code == 0
    assert (await kali(scene))["1"] == digest


async def test_the_restore_window_ends(pushed: Scene) -> None:
    """After keepHeld the held tag goes, on this registry, and nothing else; what is held for less long stays."""
    assert apply(pushed).code == 0
    assert len(await kali(pushed)) == 1
    pushed.spec = {"prune": True, "keepHeld": "1h"}
    assert apply(pushed).code == 0
    assert len(await kali(pushed)) == 1
    pushed.spec = {"prune": True, "keepHeld": "1s"}
    deadline = time.monotonic() + 60
    while await kali(pushed) and time.monotonic() < deadline:
        assert apply(pushed).code == 0
    assert await kali(pushed) == {}
    assert "1" in await tags_of(pushed.registry, "cyroid/web")
    trail = do(pushed, "history", "-o", "json").json
    assert [(entry["reason"], entry["error"]) for entry in trail if entry["action"] == "Expire"] == [("Expired", None)]


async def test_what_is_not_ours_or_not_known_is_not_pruned(pushed: Scene) -> None:
    """A file that lists nothing, a host that is down, more than the limit, a broken file: nothing goes; somebody else's image never does."""
    theirs = await publish(pushed.registry, "cyroid/theirs", "1")
    before = await kali(pushed)
    images = pushed.images
    hosts = [{"name": "local", "engine": pushed.engine.url}, {"name": "gone", "engine": "unix:///nowhere/docker.sock"}]
    changes: list[tuple[list[dict[str, Any]], dict[str, Any], str]] = [
        ([], {}, "Unknown"),
        (images, {"hosts": hosts}, "Unknown"),
        (images, {"limits": {"deletes": 0}}, "TooManyDeletes"),
        (images, {"mode": "Push"}, "Mode"),
    ]
    for listed, change, reason in changes:
        pushed.images, pushed.spec = listed, {"prune": True, **change}
        assert apply(pushed).code == 2
        held = [row for row in rows(wharf("plan", pushed.file, "-o", "json", state=pushed.state)) if row["image"] == KALI]
        assert [(row["action"], row["reason"]) for row in held] == [("Delete", reason)]
        assert await kali(pushed) == before
    pushed.images, pushed.spec = images, {"prune": True}
    file = pushed.file
    file.write_text(file.read_text() + "\n  nonsense: [")
    assert wharf("apply", file, state=pushed.state).code == 1
    assert await kali(pushed) == before
    assert apply(pushed).code == 0
    assert "1" not in await kali(pushed)
    assert (await tags_of(pushed.registry, "cyroid/theirs")) == {"1": theirs.digest}


async def test_a_running_controller_prunes(pushed: Scene) -> None:
    """`wharf run` does the same, by its queue."""
    with running(pushed.file, state=pushed.state) as controller:
        controller.wait_for("delete cyroid/kali:1")
        assert controller.end() == 0
    assert "1" not in await kali(pushed)
