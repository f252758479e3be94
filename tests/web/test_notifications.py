"""What is read out of the envelopes that registries post."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.web.notifications import Change, MalformedError, changes_in


def event(action: str, tag: str | None = "1", *, agent: str = "docker/20.10", repository: str = "cyroid/kali") -> dict[str, Any]:
    """One event, with the fields that Distribution 2.8 sends."""
    target = {"mediaType": "x", "size": 1, "digest": "sha256:0", "length": 1, "repository": repository, "url": "http://r/"} | (
        {"tag": tag} if tag else {}
    )
    request = {"id": "1", "addr": "127.0.0.1:1", "host": "r", "method": "PUT", "useragent": agent}
    return {"id": "1", "timestamp": "2020-01-01T00:00:00Z", "action": action, "target": target, "request": request, "actor": {}, "source": {}}


def body(*events: Any) -> bytes:
    """An envelope."""
    return json.dumps({"events": events}).encode()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (event("push"), [Change("cyroid/kali", "1")]),
        (event("delete", None), [Change("cyroid/kali")]),
        (event("delete"), [Change("cyroid/kali", "1")]),
        (event("pull"), []),
        (event("mount", None), []),
        (event("push", None), []),
        (event("push", agent="wharfinger"), []),
        (event("delete", None, agent="wharfinger"), []),
    ],
)
def test_only_what_others_write_and_delete_counts(said: dict[str, Any], expected: list[Change]) -> None:
    """A HEAD emits `pull` too; a blob and a manifest without a tag change no tag; a deleted digest may have had any tag of its repository."""
    assert list(changes_in(body(said))) == expected


def test_many_events_of_one_tag_are_one_change() -> None:
    """Registries collect events while nobody takes them."""
    assert changes_in(body(*[event("push")] * 50, event("push", "2"))) == (Change("cyroid/kali", "1"), Change("cyroid/kali", "2"))


@pytest.mark.parametrize(
    "said",
    [b"", b"\xff", b"[]", b'{"events": 3}', b'{"events": [3]}', b'{"events": [{}]}', b"[" * 100_000, body({"action": "push"}), body({"action": 1})],
)
def test_what_is_no_envelope_is_refused(said: bytes) -> None:
    """With words, and without falling over."""
    with pytest.raises(MalformedError):
        changes_in(said)


LEAVES = st.none() | st.booleans() | st.integers() | st.sampled_from(["push", "delete", "cyroid/kali", ""])
FIELDS = st.sampled_from(["action", "target", "request", "repository", "tag", "useragent"])
INNER = st.dictionaries(FIELDS, LEAVES, max_size=6)


@given(st.lists(LEAVES | st.dictionaries(FIELDS, LEAVES | INNER | st.lists(LEAVES, max_size=2), max_size=6), max_size=3))
def test_nothing_that_is_posted_breaks_the_reader(events: list[Any]) -> None:
    """Either changes or a refusal, whatever comes."""
    with suppress(MalformedError):
        assert all(isinstance(change, Change) for change in changes_in(body(*events)))
