"""`wharf restore`: what a tag meant before, back again."""

from __future__ import annotations

import pytest
import yaml

from tests.acceptance.wharf import Done, wharf
from tests.support.scene import Scene, publish, tags_of

KALI = "cyroid/kali:1"


def restore(scene: Scene, image: str, *arguments: str) -> Done:
    """The command with the scene's file."""
    return wharf("restore", image, *arguments, "-f", scene.file, state=scene.state)


async def meaning(scene: Scene, image: str) -> str:
    """What the registry's tag means."""
    repository, _, tag = image.rpartition(":")
    return (await tags_of(scene.registry, repository))[tag]


async def replaced(scene: Scene) -> str:
    """The next build of the same name goes to the registry; the digest that the tag means then."""
    scene.build(KALI)
    done = wharf("apply", scene.file, state=scene.state)
    assert done.code == 0, done.err
    return await meaning(scene, KALI)


@pytest.fixture
def kali(scene: Scene) -> Scene:
    """One image, pushed from the host."""
    scene.images = [{"name": KALI}]
    return scene


async def test_what_was_overwritten_comes_back_and_what_it_was_is_held(kali: Scene) -> None:
    """With one candidate nothing has to be chosen; there and back again; each time the other one stays held, and the trail says who did it."""
    first, second = await replaced(kali), await replaced(kali)
    done = restore(kali, KALI)
    assert (done.code, done.out) == (0, f"{KALI} {first}\n"), done.err
    assert f"it meant {second}, which is held as wharf-held-{second[7:19]}" in done.err
    assert "note" not in done.err
    tags = await tags_of(kali.registry, "cyroid/kali")
    assert tags == {"1": first, f"wharf-held-{first[7:19]}": first, f"wharf-held-{second[7:19]}": second}
    newest = wharf("history", KALI, "-n", "1", "-o", "json", "-f", kali.file, state=kali.state).json[0]
    assert [newest[key] for key in ("action", "actor", "before", "after", "error")] == ["Restore", "restore", second, first, None]
    assert wharf("plan", kali.file, state=kali.state).code == 0
    assert restore(kali, KALI).out == f"{KALI} {second}\n"
    again = restore(kali, KALI, "--to", second)
    assert (again.code, "it meant that already" in again.err) == (0, True)


async def test_of_several_one_has_to_be_chosen(kali: Scene) -> None:
    """The list says since when, whose it was, what ended it and how large it is; the choice is by held tag or by digest."""
    first, second = await replaced(kali), await replaced(kali)
    third = await replaced(kali)
    asked = restore(kali, KALI)
    assert (asked.code, "choose one, with --held wharf-held-" in asked.err) == (2, True)
    assert [line.split()[0] for line in asked.out.splitlines()[1:]] == [f"wharf-held-{second[7:19]}", f"wharf-held-{first[7:19]}"]
    assert "Push by apply: Retagged" in asked.out
    assert await meaning(kali, KALI) == third
    rows = restore(kali, KALI, "--list", "-o", "json").json
    assert [row["digest"] for row in rows] == [second, first]
    assert (rows[0]["images"], rows[0]["actor"], rows[0]["action"], rows[0]["heldSince"][-1]) == ([KALI], "apply", "Push", "Z")
    assert rows[0]["bytes"] > 4096
    assert yaml.safe_load(restore(kali, KALI, "--list", "-o", "yaml").out) == rows
    assert restore(kali, KALI, "--held", first[7:19]).out == f"{KALI} {first}\n"
    assert restore(kali, KALI, "--held", f"wharf-held-{second[7:19]}").out == f"{KALI} {second}\n"
    assert restore(kali, KALI, "--to", third).out == f"{KALI} {third}\n"


async def test_another_tags_content_is_only_restored_by_name(kali: Scene) -> None:
    """What is known to have been another tag of the repository is listed, and never chosen by itself."""
    first, _ = await replaced(kali), await replaced(kali)
    asked = restore(kali, "cyroid/kali:2")
    assert (asked.code, KALI in asked.out) == (2, True)
    chosen = restore(kali, "cyroid/kali:2", "--held", first[7:19])
    assert (chosen.code, await meaning(kali, "cyroid/kali:2")) == (0, first), chosen.err


async def test_what_upstream_would_bring_over_it_again_is_said(scene: Scene) -> None:
    """The next pass copies upstream's over it again, unless the tag is declared immutable: the output says so."""
    scene.images = [{"name": "docker.io/library/nginx:1"}]
    first = await publish(scene.internet, "library/nginx", "1")
    assert wharf("apply", scene.file, state=scene.state).code == 0
    await publish(scene.internet, "library/nginx", "1")
    assert wharf("apply", "--refresh", scene.file, state=scene.state).code == 0
    done = restore(scene, "nginx:1")
    assert (done.code, await meaning(scene, "docker.io/library/nginx:1")) == (0, first.digest), done.err
    assert "the next pass brings something else over it again (Copy Outdated" in done.err
    assert "spec.immutableTags" in done.err
    scene.spec = {"immutableTags": ["nginx:1"]}
    assert "note" not in restore(scene, "nginx:1", "--to", first.digest).err
    assert wharf("plan", scene.file, state=scene.state).code == 0


async def test_what_a_host_has_is_a_conflict_and_is_said(kali: Scene) -> None:
    """The host still has the newer image: it is not pushed over what a person restored."""
    kali.host = {"absent": []}
    first, second = await replaced(kali), await replaced(kali)
    done = restore(kali, KALI)
    assert (done.code, "held back now: push, Conflict" in done.err) == (0, True), done.err
    assert wharf("apply", kali.file, state=kali.state).code == 2
    assert await meaning(kali, KALI) == first != second


async def test_what_can_not_be_restored_says_why(kali: Scene) -> None:
    """Nothing held, a digest that the repository does not have, a choice that is none, a retired image, no registry: words and an exit code."""
    first = await replaced(kali)
    nothing = restore(kali, KALI)
    assert (nothing.code, "nothing else is held in cyroid/kali" in nothing.err) == (2, True)
    assert restore(kali, KALI, "--list").code == 0
    unknown = restore(kali, KALI, "--to", f"sha256:{'0' * 64}")
    assert (unknown.code, f"{KALI} was not restored" in unknown.err) == (2, True)
    assert restore(kali, KALI, "--to", "1.2").code == 1
    assert restore(kali, KALI, "--held", "wharf-held-000000000000").code == 1
    assert restore(kali, KALI, "--to", first, "--held", "x").code == 1
    kali.images = [{"name": KALI, "ensure": "Absent"}]
    retired = restore(kali, KALI)
    assert (retired.code, "the set ranges says that it must be Absent" in retired.err) == (1, True)
    assert restore(kali, KALI, "--list").code == 0
    kali.images, kali.spec = [{"name": KALI}], {"mode": "Observe"}
    assert restore(kali, KALI, "--to", first).code == 2
    kali.spec = {}
    kali.registry.stop()
    assert restore(kali, KALI).code == 3
