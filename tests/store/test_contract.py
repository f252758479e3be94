"""What every Store keeps (controller.domain.ports.stores.Store): each write is there for whoever opens the file next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.domain.observation import Held, Lookup, Present, Tombstone
from controller.domain.ports.stores import AuditEntry, JournalEntry, Store
from controller.domain.reference import Target
from controller.store.sqlite import SqliteStore
from tests.support.builders import sha
from tests.support.memory_store import MemoryStore

KALI = Target("cyroid/kali", "1")
HISTORIAN = Target("cyroid/ics-historian", "latest")
PUSH = JournalEntry("local", "engine-a", sha("kali"), "127.0.0.1:5000/cyroid/kali:1", existed=False)
DONE = AuditEntry(10.5, "run", "Push", str(KALI), "local", "OnHostOnly", "", sha("kali"), 1 << 40, 1.25, "")

Reopen = Callable[[], Store]


@pytest.fixture(params=["sqlite", "memory"])
def reopened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopen]:
    """Gives the store anew each time, from nothing but what the last one left on the disk; the twin in memory is always the same one."""
    last: list[SqliteStore] = []
    memory = MemoryStore()

    def again() -> Store:
        if request.param == "memory":
            return memory
        for store in last:
            store.close()
        last[:] = [SqliteStore(tmp_path / "default.sqlite")]
        return last[0]

    yield again
    for store in last:
        store.close()


def test_first_seen_keeps_the_oldest_time(reopened: Reopen) -> None:
    """A pair that was there before keeps its time over a restart; a new one gets now."""
    assert reopened().first_seen("local", [("a", "x:1")], 100.0) == {("a", "x:1"): 100.0}
    assert reopened().first_seen("local", [("a", "x:1"), ("b", "x:2")], 200.0) == {("a", "x:1"): 100.0, ("b", "x:2"): 200.0}
    assert reopened().first_seen("local", [("a", "x:1"), ("b", "x:2")], 300.0) == {("a", "x:1"): 100.0, ("b", "x:2"): 200.0}


def test_first_seen_forgets_what_went_away(reopened: Reopen) -> None:
    """A name that went away and came back, or that means another image now, begins its grace period anew."""
    reopened().first_seen("local", [("a", "x:1"), ("b", "x:2")], 100.0)
    reopened().first_seen("local", [("b", "x:1")], 200.0)
    assert reopened().first_seen("local", [("a", "x:1"), ("b", "x:1"), ("b", "x:2")], 300.0) == {
        ("a", "x:1"): 300.0,
        ("b", "x:1"): 200.0,
        ("b", "x:2"): 300.0,
    }


def test_first_seen_of_one_host_leaves_the_others(reopened: Reopen) -> None:
    """A listing speaks for its own host only, even an empty one."""
    reopened().first_seen("local", [("a", "x:1")], 100.0)
    assert reopened().first_seen("ranges", [("a", "x:1")], 200.0) == {("a", "x:1"): 200.0}
    assert reopened().first_seen("ranges", [], 300.0) == {}
    assert reopened().first_seen("local", [("a", "x:1")], 400.0) == {("a", "x:1"): 100.0}


def test_first_seen_is_never_later_than_now(reopened: Reopen) -> None:
    """A clock that was set back by a year does not put off the end of a grace period by a year: it begins again."""
    reopened().first_seen("local", [("a", "x:1")], 1000.0)
    assert reopened().first_seen("local", [("a", "x:1")], 10.0) == {("a", "x:1"): 10.0}
    assert reopened().first_seen("local", [("a", "x:1")], 50.0) == {("a", "x:1"): 10.0}


def test_first_seen_takes_any_number_of_pairs(reopened: Reopen) -> None:
    """10,000 pairs, one of them twice, half of them gone at the next look: every one has its time."""
    pairs = [(sha(str(number)), f"docker.io/cyroid/image-{number}:1") for number in range(10_000)]
    assert reopened().first_seen("local", [*pairs, pairs[0]], 100.0) == dict.fromkeys(pairs, 100.0)
    assert reopened().first_seen("local", pairs[::2], 200.0) == dict.fromkeys(pairs[::2], 100.0)
    assert reopened().first_seen("local", pairs, 300.0) == {pair: 300.0 if at % 2 else 100.0 for at, pair in enumerate(pairs)}


def test_an_open_push_stays_until_it_is_closed(reopened: Reopen) -> None:
    """The journal is what a start after a crash removes tags by; an entry goes only when it is closed."""
    reopened().open_push(PUSH)
    assert list(reopened().open_pushes()) == [PUSH]
    reopened().close_push(PUSH)
    assert not reopened().open_pushes()


def test_an_open_push_keeps_saying_what_was_there_first(reopened: Reopen) -> None:
    """Journalled twice, the second time our own tag is there already: it stays ours."""
    reopened().open_push(PUSH)
    reopened().open_push(replace(PUSH, existed=True))
    assert list(reopened().open_pushes()) == [PUSH]


def test_a_tag_is_journalled_before_its_image_has_an_id(reopened: Reopen) -> None:
    """A build journals its tag first; when the Id is known that is a further entry, and only the first one is closed."""
    early = replace(PUSH, image_id="")
    reopened().open_push(early)
    assert list(reopened().open_pushes()) == [early]
    reopened().open_push(PUSH)
    reopened().close_push(early)
    assert list(reopened().open_pushes()) == [PUSH]


def test_open_pushes_of_one_engine(reopened: Reopen) -> None:
    """Each engine is asked for its own entries; closing one leaves the other engine's entry for the same tag."""
    other = replace(PUSH, host="ranges", engine_id="engine-b", existed=True)
    store = reopened()
    store.open_push(PUSH)
    store.open_push(other)
    assert list(reopened().open_pushes("engine-a")) == [PUSH]
    assert list(reopened().open_pushes("engine-b")) == [other]
    assert not reopened().open_pushes("engine-c")
    reopened().close_push(PUSH)
    assert list(reopened().open_pushes()) == [other]


def test_last_pushed_is_the_last(reopened: Reopen) -> None:
    """By engine and target, the newest digest: the conflict rule asks for it."""
    reopened().set_last_pushed("engine-a", KALI, sha("old"))
    reopened().set_last_pushed("engine-a", KALI, sha("new"))
    reopened().set_last_pushed("engine-a", HISTORIAN, sha("h"))
    reopened().set_last_pushed("engine-b", KALI, sha("b"))
    assert reopened().last_pushed("engine-a") == {KALI: sha("new"), HISTORIAN: sha("h")}
    assert reopened().last_pushed("engine-c") == {}


def test_an_engine_is_known_until_it_is_forgotten(reopened: Reopen) -> None:
    """The name keeps its engine over restarts, so that a replaced engine is noticed."""
    assert reopened().engine_of("local") is None
    reopened().set_engine("local", "engine-a")
    assert reopened().engine_of("local") == "engine-a"
    reopened().forget_engine("local")
    assert reopened().engine_of("local") is None


def test_the_last_error_stays_until_cleared(reopened: Reopen) -> None:
    """One error an image, the newest; "" clears it, and clearing what has none is nothing."""
    reopened().set_error(KALI, "refused", 1.0)
    reopened().set_error(KALI, "timed out", 2.0)
    reopened().set_error(HISTORIAN, "not found", 2.0)
    assert reopened().errors() == {KALI: "timed out", HISTORIAN: "not found"}
    reopened().set_error(KALI, "", 3.0)
    reopened().set_error(KALI, "", 3.0)
    assert reopened().errors() == {HISTORIAN: "not found"}


def test_the_audit_trail_keeps_every_field(reopened: Reopen) -> None:
    """Law 8: all that was recorded comes back as it was, and the same thing done twice is there twice."""
    reopened().record(DONE)
    reopened().record(DONE)
    assert list(reopened().history()) == [DONE, DONE]


def test_history_is_of_one_image_newest_first_and_limited(reopened: Reopen) -> None:
    """By image or of all, the newest entries first, no more than asked for; the order is of recording, whatever the clock said."""
    store = reopened()
    entries = [replace(DONE, at=at, image=image) for at, image in ((3.0, "a:1"), (1.0, "b:1"), (2.0, "a:1"))]
    for entry in entries:
        store.record(entry)
    assert list(reopened().history()) == entries[::-1]
    assert list(reopened().history("a:1")) == [entries[2], entries[0]]
    assert list(reopened().history("a:1", limit=1)) == [entries[2]]
    assert list(reopened().history(limit=2)) == [entries[2], entries[1]]
    assert not reopened().history("c:1")


def test_what_upstreams_answered(reopened: Reopen) -> None:
    """Kept over a restart, by source and platforms; what is older than asked for goes."""
    nginx, some = Lookup("docker.io/library/nginx:1"), Lookup("docker.io/library/nginx:1", ("linux/amd64", "linux/arm64/v8"))
    old = Present(Held(sha("old"), "application/x"), 100.0)
    new = Present(Held(sha("new"), "application/y", published=sha("index"), filtered=True), 200.5)
    reopened().keep_lookups({nginx: old, some: new}, 0.0)
    assert reopened().lookups() == {nginx: old, some: new}
    reopened().keep_lookups({nginx: replace(old, seen=300.0)}, 200.5)
    assert reopened().lookups() == {nginx: replace(old, seen=300.0), some: new}
    reopened().keep_lookups({}, 250.0)
    assert set(reopened().lookups()) == {nginx}


def test_changes_are_the_newest_of_each_image(reopened: Reopen) -> None:
    """What a tag means was last changed by this: failures, evictions and pulls change no tag; of one repository all changes are told."""
    entries = [
        replace(DONE, at=1.0),
        replace(DONE, at=2.0, action="Copy", image=str(HISTORIAN)),
        replace(DONE, at=3.0, action="Delete", before=sha("kali"), after=""),
        replace(DONE, at=4.0, error="refused"),
        replace(DONE, at=5.0, action="Evict"),
        replace(DONE, at=6.0, image="cyroid/kali2:1"),
    ]
    for entry in entries:
        reopened().record(entry)
    assert list(reopened().changes()) == [entries[5], entries[2], entries[1]]
    assert list(reopened().changes("cyroid/kali")) == [entries[2], entries[0]]
    assert not reopened().changes("cyroid")


def test_a_held_tag_counts_from_when_it_was_held_last(reopened: Reopen) -> None:
    """Held again, its time begins anew; let go, it is forgotten."""
    place = KALI.held(sha("old"))
    reopened().hold(place, 1.0)
    reopened().hold(HISTORIAN.held(sha("h")), 2.0)
    reopened().hold(place, 3.0)
    assert reopened().held_since() == {place: 3.0, HISTORIAN.held(sha("h")): 2.0}
    reopened().let_go(place)
    reopened().let_go(place)
    assert reopened().held_since() == {HISTORIAN.held(sha("h")): 2.0}
    assert reopened().last_sweep() is None
    reopened().set_last_sweep(4.0)
    reopened().set_last_sweep(5.0)
    assert reopened().last_sweep() == 5.0


def test_what_was_deleted_is_known_by_name_and_content(reopened: Reopen) -> None:
    """Two contents that were deleted under one name are two; only that one which is asked for again is forgotten."""
    first, second = (Tombstone(sha(word), frozenset({sha(word), sha(f"config of {word}")}), 1.0) for word in ("a", "b"))
    for stone in (first, second, replace(second, at=2.0)):
        reopened().bury(KALI, stone)
    assert {digest: stone for stones in reopened().tombstones().values() for stone in stones for digest in [stone.digest]} == {
        first.digest: first,
        second.digest: replace(second, at=2.0),
    }
    reopened().exhume(KALI, second.digest)
    reopened().exhume(HISTORIAN, second.digest)
    assert reopened().tombstones() == {KALI: [first]}
    reopened().exhume(KALI, first.digest)
    assert reopened().tombstones() == {}


def test_a_condition_keeps_its_time_while_its_status_stays(reopened: Reopen) -> None:
    """Another status begins now, each condition for itself; an image that is no more there begins anew; a clock set back is never overtaken."""
    ready, waiting = {"Ready": "True", "InRegistry": "True"}, {"Ready": "False", "InRegistry": "True"}
    key, other = ("ranges", "cyroid/kali:1"), ("labs", "cyroid/kali:1")
    assert reopened().transitions({key: ready, other: ready}, 10.0)[key] == {"Ready": 10.0, "InRegistry": 10.0}
    assert reopened().transitions({key: waiting, other: ready}, 20.0) == {
        key: {"Ready": 20.0, "InRegistry": 10.0},
        other: {"Ready": 10.0, "InRegistry": 10.0},
    }
    assert reopened().transitions({key: waiting}, 30.0) == {key: {"Ready": 20.0, "InRegistry": 10.0}}
    assert reopened().transitions({other: ready}, 40.0) == {other: {"Ready": 40.0, "InRegistry": 40.0}}
    assert reopened().transitions({other: waiting}, 40.0) == {other: {"Ready": 40.0, "InRegistry": 40.0}}
    assert reopened().transitions({other: waiting}, 43.0) == {other: {"Ready": 40.0, "InRegistry": 40.0}}
    assert reopened().transitions({other: ready}, 44.0) == {other: {"Ready": 44.0, "InRegistry": 40.0}}
    assert reopened().transitions({key: ready, other: waiting}, 45.0, keep=False) == {other: {"Ready": 45.0, "InRegistry": 40.0}}
    assert reopened().transitions({other: ready}, 35.0) == {other: {"Ready": 35.0, "InRegistry": 35.0}}
