"""`wharf explain`: why one image is where it is, at a glance and as data."""

from __future__ import annotations

import pytest
import yaml

from tests.acceptance.wharf import Done, wharf
from tests.support.scene import Scene, publish, tags_of


def ask(scene: Scene, image: str, *arguments: str) -> Done:
    """The command with the scene's file."""
    return wharf("explain", image, *arguments, "-f", scene.file, state=scene.state)


def part(done: Done, heading: str) -> str:
    """The lines under a heading."""
    return done.out.partition(f"\n{heading}\n")[2].partition("\n\n")[0]


@pytest.fixture
async def work(scene: Scene) -> Scene:
    """One image that a host has, one of upstream."""
    scene.build("cyroid/kali:1")
    await publish(scene.internet, "library/nginx", "1")
    scene.images = [{"name": "cyroid/kali:1"}, {"name": "docker.io/library/nginx:1"}]
    return scene


async def test_the_life_of_an_image(work: Scene) -> None:
    """Before, after, and changed again: where it is, what asks for it, how it came, what comes next and what holds that back."""
    before = ask(work, "cyroid/kali:1")
    assert (before.code, before.out.splitlines()[0]) == (2, "cyroid/kali:1  not as the files say yet")
    assert "the set ranges lists it; it comes from whatever host has it" in part(before, "What asks for it")
    assert [line.split()[:3] for line in part(before, "What comes next").splitlines()] == [["^", "push", "(local)"], ["-", "evict", "(local)"]]
    assert wharf("apply", work.file, state=work.state).code == 0
    after = ask(work, "cyroid/kali:1")
    digest = (await tags_of(work.registry, "cyroid/kali"))["1"]
    assert (after.code, after.out.splitlines()[0]) == (0, "cyroid/kali:1  as the files say")
    assert f"yes, {digest}" in part(after, "Where it is")
    assert "pushed from local, as the set ranges lists it" in part(after, "Where it came from")
    assert part(after, "What comes next").strip() == "nothing"
    assert "- evict" in part(after, "What was done last")
    work.build("cyroid/kali:1")
    with work.engine.client() as engine:
        engine.containers.create("cyroid/kali:1", "nothing", name="range-7")
    assert wharf("apply", work.file, state=work.state).code == 2
    again = ask(work, "cyroid/kali:1")
    assert "used by range-7" in part(again, "Where it is")
    assert "1 earlier of cyroid/kali held (wharf restore cyroid/kali:1)" in part(again, "Where it is")
    assert "! no evict (local)  held back, InUse" in part(again, "What comes next")


def test_what_holds_it_back_and_until_when(work: Scene) -> None:
    """A grace period has an end, and the data say it in UTC."""
    work.host = {"gracePeriod": "1h"}
    assert wharf("apply", work.file, state=work.state).code == 2
    (row,) = ask(work, "cyroid/kali:1", "-o", "json").json["heldBack"]
    assert (row["reason"], row["until"][-1]) == ("Waiting", "Z")
    assert ", until 2" in part(ask(work, "cyroid/kali:1"), "What comes next")


async def test_an_upstream_that_moved_on(work: Scene) -> None:
    """What the source has beside what the registry has; the image may be called as a host calls it."""
    assert wharf("apply", work.file, state=work.state).code == 0
    assert "as the registry" in part(ask(work, "nginx:1"), "What its source has")
    newer = await publish(work.internet, "library/nginx", "1")
    told = ask(work, "nginx:1")
    assert f"docker.io/library/nginx:1 has {newer.digest[:19]}" in part(told, "What its source has")
    assert "+ copy  Outdated" in part(told, "What comes next")
    assert "copied from docker.io/library/nginx:1, 2" in part(told, "Where it came from")


def test_the_last_error_and_the_next_try(work: Scene) -> None:
    """The other side's words, and when it is tried again."""
    work.host = {"registryAddress": "127.0.0.1:1"}
    assert wharf("apply", work.file, state=work.state).code == 2
    told = part(ask(work, "cyroid/kali:1"), "What went wrong last")
    assert "connection refused" in told
    assert "`wharf run` tries it again by 2" in told
    assert ask(work, "cyroid/kali:1", "-o", "json").json["lastError"] in told.replace("\n  ", " ")


def test_as_data(work: Scene) -> None:
    """JSON and YAML say the same, with each part of the text."""
    told = ask(work, "cyroid/kali:1", "-o", "json")
    assert told.code == 2
    row = told.json
    assert (row["registry"]["present"], row["hosts"][0]["names"], row["provenance"]) == (False, ["cyroid/kali:1"], None)
    assert [each["action"] for each in row["actions"]] == ["Push", "Evict"]
    assert row["status"]["needsPush"] is True
    assert yaml.safe_load(ask(work, "cyroid/kali:1", "-o", "yaml").out) == row
    assert not work.state.exists(), "explaining changes nothing"


async def test_what_an_adopt_pattern_brought(scene: Scene) -> None:
    """No set lists it: the pattern that names it stands there."""
    scene.build("tools/x:1")
    scene.host = {"adopt": ["tools/*"], "absent": []}
    assert wharf("apply", scene.file, state=scene.state).code == 0
    told = ask(scene, "tools/x:1")
    assert "`adopt` of local names it (tools/*)" in part(told, "What asks for it")
    assert "adopted from local" in part(told, "Where it came from")
    assert "as tools/x:1" in part(told, "Where it is")


def test_a_name_with_a_typing_error(work: Scene) -> None:
    """It is nowhere, and the likely name is said."""
    told = ask(work, "cyroid/kalli:1")
    assert told.out.startswith("cyroid/kalli:1  nowhere\n")
    assert "Did you mean cyroid/kali:1?" in told.out


def test_the_cap_on_deletions_counts_all_images(work: Scene) -> None:
    """One image is explained with the whole plan's cap: it would not be evicted, as the plan has more deletions than allowed."""
    work.build("cyroid/web:1")
    work.images = [{"name": "cyroid/kali:1"}, {"name": "cyroid/web:1"}]
    work.spec = {"limits": {"deletes": 1}}
    assert "! no evict (local)  held back, TooManyDeletes" in part(ask(work, "cyroid/kali:1"), "What comes next")


def test_who_does_not_answer_is_not_known(work: Scene) -> None:
    """A host that is down leaves its part open; without the registry the exit code is 3."""
    work.spec = {"hosts": [{"name": "local", "engine": work.engine.url}, {"name": "gone", "engine": "unix:///nowhere/docker.sock"}]}
    work.images = [{"name": "docker.io/library/nginx:1"}]
    assert wharf("apply", work.file, state=work.state).code == 2
    told = ask(work, "nginx:1")
    assert (told.code, told.out.splitlines()[0]) == (2, "docker.io/library/nginx:1  not known of gone")
    work.registry.stop()
    down = ask(work, "nginx:1")
    assert (down.code, work.registry.url in down.err, "registry  not known" in down.out) == (3, True, True)
