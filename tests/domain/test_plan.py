"""The planner's truth table, row by row, and what it says of hosts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.domain.actions import Basis, Copy, Evict, Plan, Reason
from controller.domain.desired import ArchiveSource, BuildSource, Deferred
from controller.domain.observation import Held, Origin, Present, StoreKind
from controller.domain.plan import make_plan
from controller.domain.reference import Target, parse
from controller.domain.spec import Ensure, Internet, OnConflict
from tests.support.builders import NOW, desired, engine, host, image, on_host, seen, sha

ABSENT = Ensure.ABSENT
UP = "docker.io/library/nginx:1"
"""An upstream's image; LOCAL has no source; MIRRORED comes from elsewhere under a local name."""
LOCAL = "cyroid/kali:1"


def brief(plan: Plan) -> list[str]:
    """A plan as words: `Copy Missing`, `! Push Conflict`; evictions with the word of their basis."""
    actions = [f"{a.kind} {a.basis.name}" if isinstance(a, Evict) else f"{a.kind} {a.reason}" for a in plan.actions]
    return actions + [f"! {h.action} {h.reason}" for h in plan.held_back]


# Wanted, registry (R), upstream (U), host copies (H) -> the plan. R, U: a word is Present with that content, None Absent, "?" Unknown,
# "-" not asked. H: the words of the copies on hosts a, b, ...; a leading "+" is an adopted copy; "?" is a host that does not answer.
TABLE = [
    # name  wanted    R      U      H              plan
    (UP,    "both",   "x",   "-",   [],            ["! Delete Conflict"]),
    (LOCAL, "both",   "x",   "-",   ["x"],         ["! Delete Conflict", "! Evict Conflict"]),
    (LOCAL, "absent", "x",   "-",   [],            ["Delete Retired"]),
    (LOCAL, "absent", None,  "-",   [],            []),
    (LOCAL, "absent", "?",   "-",   [],            ["! Delete Unknown"]),
    (LOCAL, "absent", None,  "-",   ["x"],         ["! Evict RetiredOnHost"]),
    (LOCAL, "absent", "x",   "-",   ["+x"],        ["Delete Retired", "! Evict RetiredOnHost"]),
    (UP,    "here",   "?",   "x",   [],            ["! Copy Unknown"]),
    (UP,    "here",   None,  "x",   [],            ["Copy Missing"]),
    (UP,    "here",   None,  None,  [],            ["! Copy NotFound"]),
    (UP,    "here",   None,  None,  ["x"],         ["! Copy NotFound", "Evict NOWHERE"]),
    (UP,    "here",   None,  None,  ["+x"],        ["Push OnHostOnly", "Evict AFTER_PUSH"]),
    (UP,    "here",   None,  "?",   ["+x"],        ["! Copy Unknown", "Evict NOWHERE"]),
    (UP,    "here",   None,  "?",   [],            ["! Copy Unknown"]),
    (UP,    "here",   "x",   "x",   [],            []),
    (UP,    "here",   "x",   "x",   ["x"],         ["Evict TAG"]),
    (UP,    "here",   "x",   "y",   [],            ["Copy Outdated"]),
    (UP,    "here",   "x",   "y",   ["x"],         ["Copy Outdated", "Evict TAG"]),
    (UP,    "here",   "y",   "y",   ["x"],         ["Evict NOWHERE"]),
    (UP,    "here",   "x",   None,  [],            []),
    (UP,    "here",   "x",   "?",   [],            ["! Copy Unknown"]),
    (UP,    "here",   "x",   "-",   [],            []),
    (UP,    "here",   None,  "-",   [],            ["! Copy Unknown"]),
    (LOCAL, "here",   "?",   "-",   [],            ["! Push Unknown"]),
    (LOCAL, "here",   "?",   "-",   ["x"],         ["! Push Unknown", "Evict UNKNOWN"]),
    (LOCAL, "here",   None,  "-",   [],            ["! Push NotFound"]),
    (LOCAL, "here",   None,  "-",   ["?"],         ["! Evict Unknown", "! Push Unknown"]),
    (LOCAL, "here",   None,  "-",   ["x"],         ["Push OnHostOnly", "Evict AFTER_PUSH"]),
    (LOCAL, "here",   None,  "-",   ["x", "x"],    ["Push OnHostOnly", "Evict AFTER_PUSH", "Evict AFTER_PUSH"]),
    (LOCAL, "here",   None,  "-",   ["x", "y"],    ["! Push Conflict"]),
    (LOCAL, "here",   "x",   "-",   [],            []),
    (LOCAL, "here",   "x",   "-",   ["x"],         ["Evict TAG"]),
    (LOCAL, "here",   "x",   "-",   ["y"],         ["! Push Conflict"]),
    (LOCAL, "here",   "x",   "-",   ["x", "y"],    ["Evict TAG", "! Push Conflict"]),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: " ".join(map(str, row[:5])))
def test_truth_table(row: tuple[str, str, str | None, str | None, list[str], list[str]]) -> None:
    """Each row of the table in plan.py's docstring, and its variants."""
    name, wanted, registry, upstream, copies, expected = row
    ensures = {"here": [Ensure.PRESENT], "absent": [ABSENT], "both": [Ensure.PRESENT, ABSENT]}[wanted]
    images = [image(name, f"set{i}", ensure) for i, ensure in enumerate(ensures)]
    names = [chr(ord("a") + i) for i in range(len(copies))]
    hosts = [host(n, adopt=["**"] if copy.startswith("+") else []) for n, copy in zip(names, copies, strict=True)]
    states = {n: None if c == "?" else engine(on_host(c.lstrip("+"), name), engine_id=n) for n, c in zip(names, copies, strict=True)}
    upstreams = {} if upstream == "-" else {str(images[0].target): upstream}
    plan = make_plan(desired(images, hosts), seen({str(images[0].target): registry}, states, upstreams))
    assert sorted(brief(plan)) == sorted(expected)


def test_conflict_is_pushed_when_the_registry_still_has_what_this_host_last_pushed() -> None:
    """Design, "Conflict": a rebuilt image replaces what the same host pushed before."""
    world = seen({LOCAL: "old"}, {"local": engine(on_host("new", LOCAL))}, last_pushed={("local", LOCAL): "old"})
    plan = make_plan(desired([image(LOCAL)], [host()]), world)
    assert brief(plan) == ["Push Retagged", "Evict AFTER_PUSH"]
    assert plan.actions[0].replaces == sha("m:old")  # type: ignore[union-attr]


def test_conflict_of_another_hosts_push_is_not_pushed() -> None:
    """What this host last pushed is not what the registry has: somebody else's image must not be replaced."""
    world = seen({LOCAL: "theirs"}, {"local": engine(on_host("new", LOCAL))}, last_pushed={("local", LOCAL): "old"})
    assert brief(make_plan(desired([image(LOCAL)], [host()]), world)) == ["! Push Conflict"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (OnConflict.FAIL, ["! Push Conflict"]),
        (OnConflict.PUSH, ["Push Conflict", "Evict AFTER_PUSH"]),
        (OnConflict.KEEP, ["Evict NOWHERE", "! Push Kept"]),
    ],
)
def test_on_conflict(choice: OnConflict, expected: list[str]) -> None:
    """onConflict decides where the last push does not."""
    world = seen({LOCAL: "theirs"}, {"local": engine(on_host("mine", LOCAL))})
    assert brief(make_plan(desired([image(LOCAL)], [host(on_conflict=choice)]), world)) == expected


def test_same_content_under_another_tag_is_enough_for_an_eviction() -> None:
    """Any tag of the repository will do."""
    target = image(UP).target
    world = seen(
        {str(target): "new"}, {"local": engine(on_host("old", UP))}, {str(target): "new"}, elsewhere={(sha("old"), target.repository): "held"}
    )
    assert brief(make_plan(desired([image(UP)], [host()]), world)) == ["Evict ELSEWHERE"]


def test_a_pulled_image_is_recognised_by_its_repo_digest() -> None:
    """A copy in the plan brings the very manifest that the host pulled, so the eviction waits for it."""
    target = image(UP).target
    pulled = on_host("x", UP, digests=[f"docker.io/library/nginx@{sha('m:x')}"])
    world = seen({str(target): None}, {"local": engine(pulled)}, {str(target): "x"})
    plan = make_plan(desired([image(UP)], [host()]), world)
    assert brief(plan) == ["Copy Missing", "Evict AFTER_COPY"]


def test_adopted_images_are_pushed_though_no_set_lists_them() -> None:
    """adopt pushes; it evicts only what absent matches."""
    world = seen({"cyroid/new:1": None, "cyroid/old:1": "o"}, {"local": engine(on_host("n", "cyroid/new:1"), on_host("o", "cyroid/old:1"))})
    assert brief(make_plan(desired([], [host(adopt=["cyroid/**"])]), world)) == ["Push OnHostOnly"]
    both = make_plan(desired([], [host(adopt=["cyroid/**"], absent=["cyroid/old"])]), world)
    assert brief(both) == ["Push OnHostOnly", "Evict TAG"]


def test_what_keep_names_is_not_adopted() -> None:
    """keep comes before adopt: never touched."""
    world = seen({"cyroid/new:1": None}, {"local": engine(on_host("n", "cyroid/new:1"))})
    assert brief(make_plan(desired([], [host(adopt=["**"], keep=["cyroid/new"])]), world)) == []


def test_dangling_and_digest_only_images_are_never_acted_on() -> None:
    """Reported elsewhere, never acted on."""
    world = seen({}, {"local": engine(on_host("d"), on_host("e", digests=[f"docker.io/library/nginx@{sha('m:e')}"]))})
    assert make_plan(desired([], [host(adopt=["**"], absent=["**"])]), world) == Plan()


def test_a_tag_under_the_registrys_own_address_is_the_same_image() -> None:
    """Names: strip an address or alias of the registry."""
    world = seen({LOCAL: "x"}, {"local": engine(on_host("x", f"127.0.0.1:5000/{LOCAL}"))})
    plan = make_plan(desired([image(LOCAL)], [host()]), world)
    assert [(a.target, brief(plan)) for a in plan.actions] == [(Target("cyroid/kali", "1"), ["Evict TAG"])]


def test_present_on_a_host_is_not_absent_by_default() -> None:
    """The default of absent is every listed image less `present`; that guard is policy's, the missing pull is told here."""
    world = seen({LOCAL: "x"}, {"local": engine()})
    assert brief(make_plan(desired([image(LOCAL)], [host(present=[LOCAL])]), world)) == ["Pull Missing"]


@pytest.mark.parametrize(
    ("registry", "offered", "expected"),
    [
        (None, "x", ["Copy Missing", "Pull Missing"]),
        (None, None, ["! Copy NotFound", "! Pull NotFound"]),
        ("?", "x", ["! Copy Unknown", "! Pull Unknown"]),
    ],
)
def test_what_a_host_shall_have_comes_from_the_registry(registry: str | None, offered: str | None, expected: list[str]) -> None:
    """Pull follows what the same plan brings to the registry, and waits while that can't be."""
    target = str(image(UP).target)
    world = seen({target: registry}, {"local": engine()}, {target: offered})
    assert sorted(brief(make_plan(desired([image(UP)], [host(present=[UP])]), world))) == sorted(expected)


def test_internet_deny_says_so() -> None:
    """With internet Deny nothing is asked for, and the reason is told."""
    target = image(UP).target
    assert brief(make_plan(desired([image(UP)], internet=Internet.DENY), seen({str(target): None}))) == ["! Copy Denied"]


ARCHIVE, FOLDER = ArchiveSource("/srv/kali.tar"), BuildSource("/srv/kali", "local")
# The same table for archives and folders. What a folder offers is its hash, which the label of what was built says: held("x") was built of "m:x".
SOURCES = [
    # source  R      S      H       plan
    (ARCHIVE, None,  "x",   [],     ["Import Missing"]),
    (ARCHIVE, None,  "x",   ["mx"], ["Import Missing", "Evict AFTER_IMPORT"]),
    (ARCHIVE, None,  "x",   ["y"],  ["Import Missing", "Evict NOWHERE"]),
    (ARCHIVE, "x",   "x",   [],     []),
    (ARCHIVE, "x",   "y",   [],     ["Import Outdated"]),
    (ARCHIVE, "x",   None,  [],     []),
    (ARCHIVE, "x",   "?",   [],     ["! Import Unknown"]),
    (ARCHIVE, None,  None,  [],     ["! Import NotFound"]),
    (ARCHIVE, None,  None,  ["+x"], ["Push OnHostOnly", "Evict AFTER_PUSH"]),
    (ARCHIVE, "?",   "x",   [],     ["! Import Unknown"]),
    (FOLDER,  None,  "x",   [],     ["Build Missing"]),
    (FOLDER,  "x",   "x",   [],     []),
    (FOLDER,  "x",   "x",   ["x"],  ["Evict TAG"]),
    (FOLDER,  "x",   "y",   [],     ["Build Outdated"]),
    (FOLDER,  "x",   "y",   ["?"],  ["! Build Unknown", "! Evict Unknown"]),
    (FOLDER,  "x",   "x",   ["?"],  ["! Evict Unknown"]),
    (FOLDER,  None,  None,  [],     ["! Build NotFound"]),
    (FOLDER,  None,  "?",   [],     ["! Build Unknown"]),
]  # fmt: skip


@pytest.mark.parametrize("row", SOURCES, ids=lambda row: " ".join(map(str, (type(row[0]).__name__, *row[1:4]))))
def test_archives_and_folders(row: tuple[ArchiveSource | BuildSource, str | None, str | None, list[str], list[str]]) -> None:
    """What is imported is compared by its identity, what is built by its folder's hash."""
    source, registry, offered, copies, expected = row
    hosts = [host(adopt=["**"] if copies and copies[0].startswith("+") else [])]
    content = copies[0].lstrip("+").replace("mx", "m:x") if copies else ""
    state = None if content == "?" else engine(*[on_host(content, LOCAL)] if content else [])
    plan = make_plan(desired([image(LOCAL, source=source)], hosts), seen({LOCAL: registry}, {"local": state}, {LOCAL: offered}))
    assert sorted(brief(plan)) == sorted(expected)


def test_what_a_host_pulled_is_copied_from_where_it_came_from() -> None:
    """Law 4: while upstream still has it, its own bytes; else it is pushed."""
    pulled = on_host("x", LOCAL, digests=[f"docker.io/cyroid/kali@{sha('m:x')}"])
    origin = Origin(parse(f"docker.io/cyroid/kali@{sha('m:x')}"), 100)
    world: dict[str, Any] = {"registry": {LOCAL: None}, "hosts": {"local": engine(pulled)}}
    plan = make_plan(desired([image(LOCAL)], [host()]), seen(**world, origins={sha("x"): origin}))
    assert brief(plan) == ["Copy OnHostOnly", "Evict AFTER_COPY"]
    assert isinstance(plan.actions[0], Copy)
    assert (plan.actions[0].source, plan.actions[0].wanted) == (origin.source, sha("m:x"))
    assert brief(make_plan(desired([image(LOCAL)], [host()]), seen(**world))) == ["Push OnHostOnly", "Evict AFTER_PUSH"]


def test_chosen_platforms_are_what_is_compared() -> None:
    """The registry shall have what choosing makes of upstream's index, not the index."""
    entry = image(UP, platforms=("linux/amd64",))
    offered = Held(sha("m:one"), size=10, published=sha("m:index"))
    world = seen({str(entry.target): None})
    (copy,) = make_plan(desired([entry]), replace(world, offered={entry.target: Present(offered, NOW)})).actions
    assert isinstance(copy, Copy)
    assert (copy.digest, copy.wanted, copy.platforms) == (sha("m:index"), sha("m:one"), ("linux/amd64",))
    held_already = seen({str(entry.target): "one"})
    assert make_plan(desired([entry]), replace(held_already, offered={entry.target: Present(offered, NOW)})) == Plan()


def test_what_can_not_be_done_now_is_held_back() -> None:
    """A range that does not answer, say, is shown, not dropped."""
    deferred = (Deferred("", "*", "Pull", Reason.UNKNOWN, "local does not answer", "ranges"),)
    assert brief(make_plan(desired([], deferred=deferred), seen())) == ["! Pull Unknown"]


def test_sets_stay_separate() -> None:
    """One action that two sets want is in both sets' plans, and in none that does not list it."""
    images = [image(UP, "a"), image(UP, "b"), image(LOCAL, "c")]
    plan = make_plan(desired(images), seen({str(images[0].target): None, LOCAL: "x"}, offered={str(images[0].target): "x"}))
    assert {name: len(part.actions) for name, part in plan.by_set().items()} == {"a": 1, "b": 1}


def test_a_containerd_store_knows_images_by_manifest() -> None:
    """Identity depends on the store: there the Id is the manifest's digest."""
    known = on_host("m:x", LOCAL)
    world = seen({LOCAL: "x"}, {"local": engine(known, store=StoreKind.CONTAINERD)})
    plan = make_plan(desired([image(LOCAL)], [host()]), world)
    assert [a.basis for a in plan.actions if isinstance(a, Evict)] == [Basis.TAG]
