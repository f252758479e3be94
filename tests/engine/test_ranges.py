"""Ranges on real parts: a second dockerd is the range, a second registry its upstream. What it is given, and what becomes of what it has (law 10)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.domain.actions import HeldBack
from controller.domain.desired import DesiredHost
from controller.domain.ports.stores import LOAD, PULL_THROUGH, RANGE_PULL
from controller.domain.reference import Target, held_tag
from controller.domain.verdict import Verdict
from controller.engine.pace import Pace
from controller.engine.reconcile import Look
from controller.engine.salvage import Salvage
from controller.engine.verify import Verifier
from controller.hosts.docker_engine import DockerHost, Tls
from tests.engine.worlds import Worlds
from tests.support.builders import desired, host, image
from tests.support.scene import Scene, release, tags_of
from tests.support.servers import EngineServer, another_engine, build_image

KALI = "cyroid/kali:1"


@pytest.fixture(scope="module")
def second_engine() -> Iterator[EngineServer]:
    """One for all tests of this file."""
    home = Path(tempfile.mkdtemp(prefix="wharf-"))
    server = another_engine(home / "range").start()
    yield server
    server.stop()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def lab(second_engine: EngineServer) -> EngineServer:
    """The range's engine, empty."""
    second_engine.clear()
    return second_engine


@pytest.fixture(params=["classic", "containerd"])
def either_lab(request: pytest.FixtureRequest) -> EngineServer:
    """The range's engine, with each of the two image stores."""
    found: EngineServer = request.getfixturevalue("lab" if request.param == "classic" else "newer_engine")
    return found


def with_range(scene: Scene, lab: EngineServer, **says: Any) -> Scene:
    """The scene's host, and a range `lab` of which the file says this; the internet is an upstream by its own address."""
    scene.spec = {
        "upstreams": [{"domain": scene.internet.address, "url": scene.internet.url}],
        "hosts": [
            {"name": "local", "engine": scene.engine.url, "gracePeriod": "0s"},
            {"name": "lab", "engine": lab.url, "range": True, **says},
        ],
    }
    return scene


def fetch(lab: EngineServer, scene: Scene, name: str) -> str:
    """Pull in the range, past the registry; the full name there."""
    full = f"{scene.internet.address}/{name}"
    lab.docker("pull", "-q", full)
    return full


def names(lab: EngineServer) -> set[str]:
    """Every tag there."""
    return {tag for tag in lab.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split() if not tag.endswith(":<none>")}


def kept_as(scene: Scene, name: str) -> str:
    """Where the registry keeps what is upstream's."""
    return f"{scene.internet.address.replace(':', '_')}/{name}"


async def pulls(scene: Scene, *actions: str) -> list[tuple[str, str, str, bool]]:
    """The record of these, the oldest first: action, image, host, and whether it failed."""
    async with scene.opened() as (_, store):
        return [(each.action, each.image, each.host, bool(each.error)) for each in reversed(store.history(actions=actions))]


def held(look: Look, host: str) -> list[HeldBack]:
    """What is held back of this host."""
    return [row for row in look.plan.held_back if row.host == host]


async def test_present_is_pulled(scene: Scene, lab: EngineServer) -> None:
    """As on any host: by the registry's own name, which does not stay."""
    with_range(scene, lab, present=[KALI], registryAddress=scene.registry.address)
    scene.images = [{"name": KALI}]
    scene.build(KALI)
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert names(lab) == {KALI}
    assert await pulls(scene, "Pull", LOAD) == [("Pull", KALI, "lab", False)]


async def test_who_can_not_reach_the_registry_is_given_a_stream(scene: Scene, either_lab: EngineServer) -> None:
    """Loaded under the name that is wanted, read back; the record has both, and the status says why."""
    address = "127.0.0.1:9"
    with_range(scene, either_lab, present=[KALI], registryAddress=address)
    scene.images = [{"name": KALI}]
    scene.build(KALI, size=3_000_000)
    done = await scene.apply()
    assert done.after.converged, done.after.plan
    assert names(either_lab) == {KALI}
    assert await pulls(scene, "Pull", LOAD) == [("Pull", KALI, "lab", True), (LOAD, KALI, "lab", False)]
    (status,) = (image for each in done.after.sets for image in each.images if image.name == KALI)
    assert "lab was given it by a stream" in status.notes[0]
    assert address in status.notes[0]
    assert not (await scene.apply()).outcomes


async def test_a_host_is_given_no_stream(scene: Scene, lab: EngineServer) -> None:
    """One that can't pull is to be mended; only ranges are built so that they can't."""
    with_range(scene, lab)
    del scene.spec["hosts"][1]["range"]
    scene.spec["hosts"][1] |= {"present": [KALI], "registryAddress": "127.0.0.1:9", "absent": []}
    scene.images = [{"name": KALI}]
    scene.build(KALI)
    done = await scene.apply()
    assert not done.after.converged
    assert await pulls(scene, "Pull", LOAD) == [("Pull", KALI, "lab", True)]


async def test_what_a_range_fetched_comes_from_upstream_under_its_own_digest(scene: Scene, lab: EngineServer) -> None:
    """With the tag, as upstream's means it now; once; and it is recorded as from the internet."""
    with_range(scene, lab)
    published = await release(scene.internet, "library/nginx", "1")
    fetch(lab, scene, "library/nginx:1")
    place = kept_as(scene, "library/nginx")
    done = await scene.apply()
    assert [(outcome.action.kind, outcome.error) for outcome in done.outcomes] == [("Copy", "")]
    assert done.after.converged
    assert await tags_of(scene.registry, place) == {"1": published.digest}
    assert await pulls(scene, PULL_THROUGH, RANGE_PULL) == [(PULL_THROUGH, f"{place}:1", "lab", False)]
    assert not (await scene.apply()).outcomes
    assert len(await pulls(scene, PULL_THROUGH, RANGE_PULL)) == 1, "what was brought is no news"


async def test_a_tag_is_not_made_to_mean_an_old_image(scene: Scene, lab: EngineServer) -> None:
    """A range can keep an old image and show it to us: it is held by its digest, and the tag stays what upstream says that it is."""
    with_range(scene, lab)
    old = await release(scene.internet, "library/nginx", "1")
    fetch(lab, scene, "library/nginx:1")
    new = await release(scene.internet, "library/nginx", "1")
    place = kept_as(scene, "library/nginx")
    assert (await scene.apply()).after.converged
    assert await tags_of(scene.registry, place) == {held_tag(old.digest): old.digest}
    assert new.digest not in (await tags_of(scene.registry, place)).values()
    assert not (await scene.apply()).outcomes


async def test_what_the_registry_has_is_only_recorded(scene: Scene, lab: EngineServer) -> None:
    """Pulled from the registry itself, or the same content: source registry, and nothing is asked upstream."""
    with_range(scene, lab)
    published = await release(scene.internet, "library/nginx", "1")
    scene.images = [{"name": f"{scene.internet.address}/library/nginx:1"}]
    await scene.apply()
    fetch(lab, scene, "library/nginx:1")
    scene.internet.stop()
    done = await scene.apply()
    assert not done.outcomes
    assert await pulls(scene, PULL_THROUGH, RANGE_PULL) == [(RANGE_PULL, f"{kept_as(scene, 'library/nginx')}:1", "lab", False)]
    assert await tags_of(scene.registry, kept_as(scene, "library/nginx")) == {"1": published.digest}


async def test_what_no_upstream_confirms_goes_under_the_range(scene: Scene, lab: EngineServer) -> None:
    """It is saved out of the range, straight into the registry; the shared name stays free of it, and the host's engine never has it."""
    with_range(scene, lab)
    await release(scene.internet, "library/nginx", "1")
    full = fetch(lab, scene, "library/nginx:1")
    image_id = lab.docker("inspect", "--format", "{{.Id}}", full)
    scene.spec["upstreams"] = []
    done = await scene.apply()
    assert [(outcome.action.kind, outcome.error) for outcome in done.outcomes] == [("Import", "")]
    assert done.after.converged
    assert await tags_of(scene.registry, kept_as(scene, "library/nginx")) == {}
    own = f"ranges/lab/{kept_as(scene, 'library/nginx')}:1"
    assert await pulls(scene, PULL_THROUGH) == [(PULL_THROUGH, own, "lab", False)]
    assert scene.tags_on_host() == set()
    assert scene.pulled_back(own) == image_id


async def test_a_range_gets_no_shared_name_by_saying_so(scene: Scene, either_lab: EngineServer) -> None:
    """Law 10: a listed image without a source, one that the host adopts, and what `adopt` of the range names; built there under those names."""
    lab = either_lab
    with_range(scene, lab, adopt=["cyroid/**"])
    scene.spec["hosts"][0]["adopt"] = ["cyroid/**"]
    scene.images = [{"name": KALI}]
    evil = build_image(lab, KALI, {"data": b"evil"})
    build_image(lab, "cyroid/web:1", {"data": b"evil too"})
    build_image(lab, "strangers/thing:1", {"data": b"nobody's"})
    done = await scene.apply()
    assert await tags_of(scene.registry, "cyroid/kali") == {}
    assert await tags_of(scene.registry, "cyroid/web") == {}
    assert set(await tags_of(scene.registry, "ranges/lab/cyroid/kali")) == {"1"}
    assert set(await tags_of(scene.registry, "ranges/lab/cyroid/web")) == {"1"}
    assert await tags_of(scene.registry, "ranges/lab/strangers/thing") == {}
    assert [row.reason for row in done.after.plan.held_back] == ["NotFound"], "nobody that may says what KALI is"
    lab.docker("rmi", KALI)
    lab.docker("pull", "-q", f"{scene.registry.address}/ranges/lab/{KALI}")
    assert lab.docker("inspect", "--format", "{{.Id}}", f"{scene.registry.address}/ranges/lab/{KALI}") == evil
    own = scene.build(KALI)
    await scene.apply()
    assert scene.pulled_back(KALI) == own


async def test_a_tag_that_a_range_invents_is_not_made(scene: Scene, lab: EngineServer) -> None:
    """A range's own content under a name of upstream's, which upstream does not know: its name is not taken."""
    with_range(scene, lab)
    published = await release(scene.internet, "library/nginx", "1")
    full = f"{scene.internet.address}/library/nginx:2"
    build_image(lab, full, {"data": os.urandom(100)})
    assert not (await scene.apply()).outcomes, "it was pulled from nowhere"
    fetch(lab, scene, "library/nginx:1")
    lab.docker("tag", f"{scene.internet.address}/library/nginx:1", full)
    assert (await scene.apply()).after.converged
    tags = await tags_of(scene.registry, kept_as(scene, "library/nginx"))
    assert tags["1"] == published.digest
    assert "2" not in tags, "it is the range's invention"


async def test_an_upstream_that_is_silent_is_waited_for(scene: Scene, lab: EngineServer) -> None:
    """Unknown is not unconfirmed: it is not saved as a stranger's; when upstream is back, it comes from there."""
    with_range(scene, lab)
    published = await release(scene.internet, "library/nginx", "1")
    fetch(lab, scene, "library/nginx:1")
    scene.internet.stop()
    done = await scene.apply()
    assert not done.outcomes
    assert [row.reason for row in held(done.after, "lab")] == ["Unknown"]
    scene.internet.start()
    assert (await scene.apply()).after.converged
    assert await tags_of(scene.registry, kept_as(scene, "library/nginx")) == {"1": published.digest}


async def test_what_was_retired_does_not_come_back(scene: Scene, lab: EngineServer) -> None:
    """A set says Absent: a range that has it brings nothing, and holds nothing up either."""
    with_range(scene, lab)
    await release(scene.internet, "library/nginx", "1")
    full = fetch(lab, scene, "library/nginx:1")
    scene.images = [{"name": full, "ensure": "Absent"}]
    done = await scene.apply()
    assert not done.outcomes
    assert [row.reason for row in done.after.plan.held_back] == ["Kept"]
    assert done.after.converged


async def test_nothing_leaves_a_range_unless_it_says_so(scene: Scene, lab: EngineServer) -> None:
    """A listed image stays there; with `absent`, it leaves after the proof."""
    with_range(scene, lab)
    await release(scene.internet, "library/nginx", "1")
    full = fetch(lab, scene, "library/nginx:1")
    scene.images = [{"name": full}]
    assert (await scene.apply()).after.converged
    assert lab.docker("images", "-q", full)
    scene.spec["hosts"][1] |= {"absent": ["**"], "gracePeriod": "0s"}
    assert (await scene.apply()).after.converged
    assert not lab.docker("images", "-q", full)


async def test_a_range_is_told_no_password(scene: Scene, lab: EngineServer) -> None:
    """Law 7: its people see what its engine is sent. The host's engine has the registry's."""
    with_range(scene, lab)
    for name in ("user", "password"):
        (scene.folder / name).write_text(name)
    scene.spec["registry"] = {"url": scene.registry.url, "usernameFile": "user", "passwordFile": "password"}
    scene.spec["hosts"].append({"name": "ranges", "discover": {"on": "local", "label": "x"}, "tls": {"caFile": "ca.pem"}})
    async with scene.opened() as (reconciler, _):
        found = reconciler.world.open_range(DesiredHost("ranges/42", "tcp://10.0.0.2:2376", "127.0.0.1:5000"))
        assert isinstance(found, DockerHost)
        assert found._tls == Tls(scene.folder / "ca.pem")
        reconciler.world.hosts["ranges/42"] = found
        logins = {name: await host._credentials() for name, host in reconciler.engines.items() if isinstance(host, DockerHost)}
    assert logins["lab"] is logins["ranges/42"] is None
    assert logins["local"] is not None


async def test_a_range_that_is_the_host_is_refused(scene: Scene) -> None:
    """Its engine is the host's own: nothing is done with it as a range, and the host is looked after as ever."""
    local = {"name": "local", "engine": scene.engine.url, "gracePeriod": "0s", "adopt": ["cyroid/**"]}
    other = {"name": "lab", "engine": scene.engine.url.replace("docker.sock", "./docker.sock"), "range": True, "adopt": ["**"]}
    scene.spec = {"upstreams": [], "hosts": [local, other]}
    scene.build(KALI)
    done = await scene.apply()
    assert [(outcome.action.kind, str(outcome.action.target)) for outcome in done.outcomes] == [("Push", KALI)]
    (row,) = held(done.after, "lab")
    assert row.reason == "Unknown"
    assert "refused as a range" in row.message


async def test_a_range_repairs_no_shared_name() -> None:
    """What its engine pushes may be anything: only a host that is none is a place to bring from (law 10)."""
    world, meant = Worlds(), Target("cyroid/kali", "1")
    for name in world.hosts:
        world.build(name, str(meant), "kali")
    asked = desired([image(str(meant))], [host("one", absent=[]), host("two", absent=[], range="two")])
    salvage = Salvage(world.world, asked, Verifier(world.registry, Pace()))
    assert list(await salvage.places(Verdict(meant, (), "", 0), ())) == ["one"]
