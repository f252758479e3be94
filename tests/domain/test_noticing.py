"""What becomes of the images that ranges have: which question is asked for whom, and what is planned by the answers (law 10)."""

from __future__ import annotations

from typing import Any

import pytest

from controller.domain.actions import Copy, Save
from controller.domain.desired import Desired, DesiredHost, Patterns
from controller.domain.observation import (
    Absent,
    Confirmed,
    Fact,
    Held,
    HostImage,
    HostState,
    Observation,
    Present,
    Shown,
    StoreKind,
    Tombstone,
    Unconfirmed,
    Unknown,
    Whereabouts,
)
from controller.domain.plan import make_plan
from controller.domain.reference import Target, parse
from controller.domain.spec import Ensure, Internet
from controller.domain.strays import Stray, strays
from tests.support.builders import NOW, desired, engine, host, image, on_host, sha

D = sha("d")
NGINX = on_host("nginx", "nginx:1", digests=[f"nginx@{D}"])
PLACE = Target("docker.io/library/nginx", "1")


def lab(**more: Any) -> DesiredHost:
    """A range."""
    return host("lab", absent=[], range="lab", **more)


def found(asked: Desired, *images: HostImage, store: StoreKind = StoreKind.CLASSIC) -> list[Stray]:
    """The strays of a range that holds these."""
    return list(strays(asked, {"lab": Present(engine(*images, store=store), NOW)}))


def planned(asked: Desired, where: Whereabouts, held: HostImage = NGINX, store: StoreKind = StoreKind.CLASSIC, **more: Any) -> Any:
    """What is planned for one stray that is there; with `only` what a worker would see, too."""
    hosts = {"lab": Present(engine(held, store=store), NOW), "local": Present(engine(engine_id="other"), NOW)}
    (stray,) = strays(asked, hosts)
    seen = Observation(NOW, hosts=hosts, strays={stray.key: where}, **more)
    plan = make_plan(asked, seen)
    alone = make_plan(asked, seen, only=stray.own)
    assert alone.actions == plan.actions
    return plan.actions[0] if plan.actions else plan.held_back[0] if plan.held_back else None


def test_what_was_pulled_is_asked_for_by_its_digest() -> None:
    """Under the name that it was pulled by, and no other that somebody gave it."""
    (stray,) = found(desired(hosts=[lab()]), on_host("nginx", "nginx:1", "my/thing:1", digests=[f"nginx@{D}"]))
    assert stray.asked == (parse(f"nginx@{D}"),)
    assert stray.target == PLACE
    assert stray.own == Target("ranges/lab/nginx", "1")
    assert Target("nginx", "1") in stray.local, "a mirror may have known it by that"


def test_what_is_pulled_by_its_digest_alone_is_looked_after_too() -> None:
    """It has no name; it would be held by its digest, as the gateway does it."""
    (stray,) = found(desired(hosts=[lab()]), on_host("nginx", digests=[f"nginx@{D}"]))
    assert stray.target == PLACE.held(D)
    assert planned(
        desired(hosts=[lab()]), Confirmed(parse(f"nginx@{D}"), 1, tagged=False), on_host("nginx", digests=[f"nginx@{D}"])
    ).target == PLACE.held(D)


@pytest.mark.parametrize(
    "asked",
    [
        desired(hosts=[lab()], internet=Internet.DENY),
        desired(hosts=[lab()], internet=Internet.LISTED),
        desired(hosts=[lab()], upstreams=frozenset()),
        desired(hosts=[lab()], private=frozenset({"docker.io"})),
        desired([image("nginx:2")], hosts=[lab()]),
        desired(hosts=[lab(), host(adopt=["nginx"])]),
    ],
    ids=["Deny", "Listed", "no upstream", "private", "a set's repository", "adopted by a host"],
)
def test_who_may_not_be_asked_is_not(asked: Desired) -> None:
    """The rules of the file hold, and local names are told to nobody; what was pulled is kept as the range's own word."""
    (stray,) = found(asked, NGINX)
    assert stray.asked == ()
    action = planned(asked, Unconfirmed())
    assert isinstance(action, Save)
    assert action.target == stray.own == Target("ranges/lab/nginx", "1")


def test_what_was_built_there_is_left_alone() -> None:
    """Unless `adopt` of the range names it; a containerd store invents digests for it, which prove nothing."""
    built = on_host("x", "cyroid/x:1")
    assert found(desired(hosts=[lab()]), built) == []
    (adopted,) = found(desired(hosts=[lab(adopt=["cyroid/**"])]), built)
    assert adopted.saved
    (invented,) = found(desired(hosts=[lab()]), on_host("x", "cyroid/x:1", digests=[f"cyroid/x@{D}"]), store=StoreKind.CONTAINERD)
    assert not invented.saved
    assert planned(desired(hosts=[lab()]), Unconfirmed(), on_host("x", "cyroid/x:1", digests=[f"cyroid/x@{D}"]), StoreKind.CONTAINERD) is None


def test_what_we_brought_or_shall_leave_alone_is_no_stray() -> None:
    """By any of its names; nor is a name that holds something."""
    for asked in (desired(hosts=[lab(present=["nginx:1"])]), desired(hosts=[lab(keep=["nginx"])])):
        assert found(asked, NGINX) == []
    assert found(desired(hosts=[lab(adopt=["**"])]), on_host("x", "nginx:wharf-held-0123456789ab")) == []
    assert found(desired(hosts=[host("lab", adopt=["**"])]), NGINX) == [], "no range"


def test_the_tag_is_set_where_upstream_means_it_now() -> None:
    """What the registry had under it is replaced, and so held first."""
    action = planned(desired(hosts=[lab()]), Confirmed(parse(f"nginx@{D}"), 7, tagged=True, there=sha("old")))
    assert isinstance(action, Copy)
    assert (action.target, action.wanted, action.replaces, action.host, action.reason) == (PLACE, D, sha("old"), "lab", "Fetched")


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        (desired(hosts=[lab()]), Confirmed(parse(f"nginx@{D}"), 7, tagged=False, there="")),
        (desired([image("docker.io/library/nginx:1")], hosts=[lab()]), Confirmed(parse(f"nginx@{D}"), 7, tagged=True)),
        (desired(hosts=[lab()], immutable=Patterns(["nginx"])), Confirmed(parse(f"nginx@{D}"), 7, tagged=True, there=sha("old"))),
    ],
    ids=["upstream moved it", "a set lists it", "immutableTags names it"],
)
def test_else_the_digest_is_held(asked: Desired, where: Confirmed) -> None:
    """A range can't make our tag mean something."""
    hosts = {"lab": Present(engine(NGINX), NOW)}
    (stray,) = strays(asked, hosts)
    actions = make_plan(asked, Observation(NOW, hosts=hosts, strays={stray.key: where}), only=stray.own).actions
    assert [(action.target, action.replaces) for action in actions if isinstance(action, Copy)] == [(PLACE.held(D), "")]


def test_a_tag_that_may_not_move_is_set_where_there_is_none() -> None:
    """immutableTags says that it is not looked up again once it is held, and it is not held."""
    asked = desired(hosts=[lab()], immutable=Patterns(["nginx"]))
    assert planned(asked, Confirmed(parse(f"nginx@{D}"), 7, tagged=True)).target == PLACE


def test_what_is_shown_or_not_known() -> None:
    """The one needs nothing, the other waits."""
    assert planned(desired(hosts=[lab()]), Shown(PLACE, D)) is None
    row = planned(desired(hosts=[lab()]), Unknown("no answer", NOW))
    assert (row.reason, row.host, row.message) == ("Unknown", "lab", "no answer")


def test_what_was_retired_or_deleted_does_not_come_back() -> None:
    """Neither under the shared name nor under the range's; and the range holds nothing up by having it."""
    absent = desired([image("docker.io/library/nginx:1", ensure=Ensure.ABSENT)], hosts=[lab()])
    hosts = {"lab": Present(engine(NGINX), NOW)}
    (stray,) = strays(absent, hosts)
    (row,) = make_plan(absent, Observation(NOW, hosts=hosts, strays={stray.key: Unconfirmed()}), only=stray.own).held_back
    assert (row.reason, "ranges says Absent" in row.message) == ("Kept", True)
    for where in (PLACE, stray.own):
        stone = {where: [Tombstone(D, frozenset({NGINX.id}), NOW - 60)]}
        row = planned(desired(hosts=[lab()]), Confirmed(parse(f"nginx@{D}"), 7, tagged=True), tombstones=stone)
        assert (row.reason, "deleted 1m ago" in row.message) == ("Kept", True)


def test_a_range_gives_no_shared_name() -> None:
    """What a set lists without a source, and what a host adopts, comes from hosts; a range that can't be asked keeps nobody waiting."""
    asked = desired([image("cyroid/kali:1")], hosts=[lab(), host(adopt=["cyroid/**"])])
    kali = on_host("evil", "cyroid/kali:1", "cyroid/web:1")
    hosts = {"lab": Present(engine(kali), NOW), "local": Present(engine(engine_id="other"), NOW)}
    nothing: dict[Target, Fact[Held]] = {Target("cyroid/kali", "1"): Absent(NOW), Target("cyroid/web", "1"): Absent(NOW)}
    assert make_plan(asked, Observation(NOW, hosts=hosts, registry=nothing)).actions == ()
    silent: dict[str, Fact[HostState]] = {"lab": Unknown("no answer", NOW), "local": hosts["local"]}
    plan = make_plan(asked, Observation(NOW, hosts=silent, registry=nothing))
    assert {(row.image, row.reason) for row in plan.held_back} == {("*", "Unknown"), ("cyroid/kali:1", "NotFound")}
