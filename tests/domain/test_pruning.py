"""Pruning and tombstones: what is deleted because no set lists it, what holds that back, and what does not come back by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.domain.actions import Plan, Reason
from controller.domain.desired import Deferred, Desired, DesiredHost, TagRule
from controller.domain.observation import Brought, HostState, Tombstone
from controller.domain.plan import make_plan
from controller.domain.policy import guard
from controller.domain.ports.stores import AuditEntry
from controller.domain.pruning import brought
from controller.domain.reference import Target, parse
from controller.domain.spec import Ensure, Mode, OnConflict
from controller.domain.tags import TagChoice
from tests.domain.test_plan import brief
from tests.support.builders import NOW, desired, engine, host, image, on_host, seen, sha

LISTED, OLD = "cyroid/web:1", "cyroid/kali:1"
OURS = {Target("cyroid/kali", "1"): Brought(sha("m:x"), NOW - 100, "push by `wharf run`")}
SILENT = Deferred("ranges", "docker.io/library/alpine", "Copy", Reason.UNKNOWN, "could not be listed")


def wanted(*hosts: DesiredHost, **more: Any) -> Desired:
    """A file that lists one image, has listed another one, and asks to prune."""
    return desired([image(LISTED)], hosts, prune=True, **more)


def planned(want: Desired, registry: str | None = "x", hosts: dict[str, HostState | None] | None = None, **more: Any) -> Plan:
    """The plan when the registry has the image that is listed no more."""
    return make_plan(want, seen({LISTED: "web", OLD: registry}, hosts, brought=more.pop("brought", OURS), **more))


def test_what_we_brought_and_nothing_names_any_more_is_deleted() -> None:
    """By its tag and its digest, with words where it came from."""
    plan = planned(wanted(host()), hosts={"local": engine()})
    assert brief(plan) == ["Delete Unlisted"]
    assert plan.actions[0].message.endswith("it came by push by `wharf run`")
    assert (plan.actions[0].sets, plan.deletions) == ((), 1)


@pytest.mark.parametrize(
    ("want", "registry", "found"),
    [
        (replace(wanted(), prune=False), "x", {}),
        (wanted(), "other", {}),
        (wanted(), None, {}),
        (wanted(), "x", {"brought": {}}),
        (wanted(host(adopt=["cyroid/**"])), "x", {"hosts": {"local": engine()}}),
        (wanted(host(adopt=["127.0.0.1:5000/cyroid/*"])), "x", {"hosts": {"local": engine()}}),
        (wanted(host(present=[OLD])), "x", {"hosts": {"local": engine(on_host("x", OLD))}}),
        (desired([image(LISTED), image(OLD)], prune=True), "x", {}),
    ],
    ids=["not asked for", "somebody else's content", "gone", "not ours", "adopted", "adopted by the registry's address", "present", "listed"],
)
def test_what_is_never_pruned(want: Desired, registry: str | None, found: dict[str, Any]) -> None:
    """Nothing that we did not bring, that is another image by now, or that something still names."""
    assert brief(planned(want, registry, **found)) == []


@pytest.mark.parametrize("name", ["docker.io/library/nginx", "quay.io/org/base", "host.example_8443/team/app"])
def test_what_was_adopted_from_a_domain_is_covered_by_its_name_there(name: str) -> None:
    """The pattern is over names as hosts have them: the repository's first part was a domain, with a port perhaps."""
    ours = {Target(name, "1"): Brought(sha("m:x"), NOW, "")}
    patterns = {"docker.io/library/nginx": "nginx", "quay.io/org/base": "quay.io/**", "host.example_8443/team/app": "host.example:8443/team/*"}
    world = seen({LISTED: "web", f"{name}:1": "x"}, {"local": engine()}, brought=ours)
    assert brief(make_plan(wanted(host(adopt=[patterns[name]])), world)) == []
    assert brief(make_plan(wanted(host(adopt=["other/**"])), world)) == ["Delete Unlisted"]


def test_a_tag_that_upstream_lists_no_more_is_kept_while_its_rule_would_choose_it() -> None:
    """Of the newest two, the third one goes; one that upstream took away, and that would be among them, stays."""
    rule = TagRule("ranges", "docker.io/library/alpine", parse("alpine"), TagChoice(semver=">=3", newest=2))
    names = {tag: f"docker.io/library/alpine:{tag}" for tag in ("3.18", "3.19", "3.20", "3.21")}
    want = desired([image(names["3.19"]), image(names["3.21"])], prune=True, rules=(rule,))
    ours = {Target(*names[tag].rsplit(":", 1)): Brought(sha("m:x"), NOW, "") for tag in ("3.18", "3.20")}
    plan = make_plan(want, seen(dict.fromkeys(names.values(), "x"), brought=ours))
    assert [(action.kind, str(action.target)) for action in plan.actions if action.kind == "Delete"] == [("Delete", names["3.18"])]


@pytest.mark.parametrize(
    ("want", "world", "words"),
    [
        (desired([], prune=True), {}, "an empty file prunes nothing"),
        (replace(wanted(), sets=("labs", "ranges")), {}, "the set labs lists no image"),
        (wanted(host()), {"hosts": {"local": None}}, "local: no answer"),
        (wanted(host()), {"hosts": {}}, "local: it was not looked at"),
        (wanted(), {"registry": {LISTED: "?", OLD: "x"}}, "cyroid/web:1: no answer"),
        (wanted(), {"offered": {LISTED: "?"}}, "cyroid/web:1: no answer"),
        (wanted(deferred=(SILENT,)), {}, "alpine: could not be listed"),
        (wanted(), {"registry": {LISTED: "web", OLD: "?"}}, "no answer"),
    ],
    ids=["empty file", "empty set", "host", "host not looked at", "registry", "upstream", "rule", "itself"],
)
def test_whatever_is_not_known_prunes_nothing(want: Desired, world: dict[str, Any], words: str) -> None:
    """Law 2: a file or a set that lists nothing, a host, a place in the registry, an upstream or a listing that did not answer."""
    plan = make_plan(want, seen(world.pop("registry", {LISTED: "web", OLD: "x"}), brought=OURS, **world))
    (row,) = (row for row in plan.held_back if row.image == OLD)
    assert (row.action, row.reason, words in row.message) == ("Delete", Reason.UNKNOWN, True)
    assert not plan.deletions


def test_a_copy_leaves_its_host_first() -> None:
    """Its eviction rests on what would be deleted: so that waits; a copy that is kept never leaves, so nothing waits for it."""
    name = "docker.io/library/nginx:1"
    ours = {Target("docker.io/library/nginx", "1"): Brought(sha("m:x"), NOW, "")}
    world = seen({LISTED: "web", name: "x"}, {"local": engine(on_host("x", name))}, brought=ours)
    for more, expected in (
        ({"absent": ["nginx"]}, ["Evict TAG", "! Delete Waiting"]),
        ({"absent": ["nginx"], "keep": ["nginx"]}, ["Evict TAG", "Delete Unlisted"]),
        ({"absent": []}, ["Delete Unlisted"]),
    ):
        assert brief(make_plan(wanted(host(**more)), world)) == expected


def test_what_a_range_adopts_is_pruned_all_the_same() -> None:
    """A range vouches for no shared name (law 10), so it holds none in the registry either."""
    want = wanted(host("lab", absent=[], range="lab", adopt=["cyroid/**"]))
    assert brief(planned(want, hosts={"lab": engine()})) == ["Delete Unlisted"]


def test_modes_and_the_cap_hold_for_it() -> None:
    """Push deletes nothing; more than `limits.deletes`, and none is done until it is allowed."""
    world = seen({LISTED: "web", OLD: "x"}, brought=OURS)
    for more, reason in (({"mode": Mode.PUSH}, Reason.MODE), ({"mode": Mode.OBSERVE}, Reason.MODE), ({"deletes": 0}, Reason.TOO_MANY_DELETES)):
        want = wanted(**more)
        plan = guard(make_plan(want, world), want, world)
        assert (plan.actions, [row.reason for row in plan.held_back]) == ((), [reason])
    want = wanted(deletes=0)
    assert guard(make_plan(want, world), want, world, allow_deletes=1).deletions == 1


def test_what_we_brought_is_what_the_files_asked_for() -> None:
    """By the newest change of each image: what a person brought by a command, restored, or what was deleted since, is none of it."""
    entry = AuditEntry(5.0, "run", "Copy", "docker.io/library/nginx:1", "", "Missing", "", sha("n"), 1, 1.0, "")
    changes = [
        entry,
        replace(entry, image="a:1", actor="apply", action="Push"),
        replace(entry, image="b:1", actor="push", action="Push"),
        replace(entry, image="c:1", actor="import", action="Import"),
        replace(entry, image="d:1", actor="restore", action="Restore"),
        replace(entry, image="e:1", action="Delete"),
        replace(entry, image="docker.io/library/alpine:1", actor="gateway", action="PullThrough"),
        replace(entry, image="ranges/42/cyroid/kali:1", actor="run", action="Import"),
    ]
    found = brought(changes)
    assert [str(target) for target in found] == ["docker.io/library/nginx:1", "a:1"]
    assert found[Target("a", "1")] == Brought(sha("n"), 5.0, "push by `wharf apply`")


# Tombstones.

STONES = {Target("cyroid/kali", "1"): [Tombstone(sha("m:x"), frozenset({sha("x")}), NOW - 100)]}


def buried(on: DesiredHost, word: str = "x", registry: str | None = None, **more: Any) -> list[str]:
    """The plan for a host's copy under a name that was deleted."""
    want = desired(more.pop("images", [image(LISTED)]), [on], **more)
    return brief(make_plan(want, seen({LISTED: "web", OLD: registry}, {"local": engine(on_host(word, OLD))}, tombstones=STONES)))


def test_what_was_deleted_does_not_come_back_by_itself() -> None:
    """Neither by `adopt`, nor does the copy leave the host, as the registry has it only until the restore window ends."""
    assert buried(host(adopt=["cyroid/**"])) == ["! Push Deleted"]
    assert buried(host(adopt=["cyroid/**"], absent=["cyroid/**"])) == ["! Evict Deleted"]
    assert buried(host(adopt=["cyroid/**"], keep=["cyroid/**"])) == []
    assert buried(host(adopt=["cyroid/**"], on_conflict=OnConflict.PUSH), registry="new") == ["! Push Deleted"]


def test_what_else_may_come_under_that_name() -> None:
    """Another content is adopted as usual; listed again, the same comes back; one that was restored is there; after keepHeld nobody remembers."""
    assert buried(host(adopt=["cyroid/**"]), "new") == ["Push OnHostOnly"]
    assert buried(host(absent=[]), images=[image(LISTED), image(OLD)]) == ["Push OnHostOnly"]
    assert buried(host(adopt=["cyroid/**"], absent=["cyroid/**"]), registry="x") == ["Evict TAG"]
    assert buried(host(adopt=["cyroid/**"]), keep_held=100.0) == ["Push OnHostOnly"]
    assert buried(host(absent=[]), images=[image(LISTED), image(OLD, ensure=Ensure.ABSENT)]) == []


def test_the_words_say_what_to_do() -> None:
    """When it was deleted, and the three ways on."""
    world = seen({OLD: None}, {"local": engine(on_host("x", OLD))}, tombstones=STONES)
    (row,) = make_plan(desired([], [host(adopt=["cyroid/**"])]), world).held_back
    assert row.message == "the same image was deleted 1m40s ago: `wharf restore cyroid/kali:1`, list it in a set, or remove it from the host"


def test_a_held_tag_on_a_host_is_nobodys_image() -> None:
    """Somebody pulled it to look at it: it is not adopted; where `absent` names it, it leaves as any other copy."""
    name = "127.0.0.1:5000/cyroid/kali:wharf-held-0123456789ab"
    world = seen({"cyroid/kali:wharf-held-0123456789ab": "x"}, {"local": engine(on_host("x", name))})
    assert brief(make_plan(desired([], [host(adopt=["cyroid/**"], absent=[])]), world)) == []
    assert brief(make_plan(desired([], [host(adopt=["cyroid/**"], absent=["cyroid/**"])]), world)) == ["Evict TAG"]
