"""Which names a migration means, and where in the registry they belong."""

from __future__ import annotations

import pytest

from controller.domain.actions import Basis, Evict
from controller.domain.desired import Desired, TagRule
from controller.domain.migration import Order, Seen, left, migrating, part_of
from controller.domain.observation import HostState, Observation
from controller.domain.plan import make_plan
from controller.domain.policy import guard
from controller.domain.reference import parse
from controller.domain.spec import Ensure, Internet
from controller.domain.tags import TagChoice
from tests.support.builders import ADDRESS, desired, engine, host, image, on_host, seen


def looked(asked: Desired, state: HostState, registry: dict[str, str | None] | None = None, offered: dict[str, str | None] | None = None) -> Seen:
    """A look for a migration: what is not said to be in the registry is absent."""
    places = {str(copy.target): None for copy in asked.copies([(asked.hosts[0], state)])}
    world: Observation = seen({**places, **(registry or {})}, {"local": state}, offered)
    return Seen(asked, world, guard(make_plan(asked, world), asked, world, allow_deletes=100))


def order(*patterns: str, **more: object) -> Order:
    """An order for the host `local`."""
    return Order("local", patterns, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "tag", "place"),
    [
        ("cyroid/**", "cyroid/kali:1", "cyroid/kali:1"),
        ("**", "nginx:1", "nginx:1"),
        ("docker.io/**", "nginx:1", "docker.io/library/nginx:1"),
        ("**", "ghcr.io/org/tool:1", "ghcr.io/org/tool:1"),
        ("cyroid/**", f"{ADDRESS}/cyroid/kali:1", "cyroid/kali:1"),
        ("docker.io/**", "redis:7", "redis:7"),
        ("**", "alpine:3", "docker.io/library/alpine:3"),
        ("docker.io/**", "cyroid/listed:1", "cyroid/listed:1"),
        ("**", "httpd:2", "docker.io/library/httpd:2"),
    ],
)
def test_where_a_name_belongs(pattern: str, tag: str, place: str) -> None:
    """The files' sets, rules and `adopt` first; then a pattern without a domain makes docker.io's names local, one with a domain keeps it."""
    here = host(adopt=["redis"])
    rule = TagRule("ranges", "docker.io/library/alpine", parse("alpine"), TagChoice("", 3, (), ()))
    files = desired([image("cyroid/listed:1"), image("docker.io/library/httpd:2")], [here], rules=(rule,))
    state = engine(on_host("one", tag))
    (copy,) = looked(migrating(files, here, order(pattern), state), state).copies
    assert str(copy.target) == place


def test_what_no_set_lists_may_not_come_from_upstream() -> None:
    """`internet: Listed`: that a person migrates it does not list it."""
    here = host()
    files = desired([image("docker.io/library/httpd:2")], [here], internet=Internet.LISTED)
    asked = migrating(files, here, order("docker.io/**"), engine(on_host("one", "nginx:1"), on_host("two", "httpd:2")))
    places = {target.repository: asked.may_come(target) for target in asked.by_target}
    assert places == {"docker.io/library/nginx": False, "docker.io/library/httpd": True}


def test_only_the_names_that_match_are_meant() -> None:
    """Another name of the same image stays, though the files adopt it; a `--keep` protects the whole image."""
    here = host(adopt=["**"], absent=["**"])
    state = engine(on_host("one", "cyroid/kali:1", "tools/kali:1"), on_host("two", "cyroid/kept:1", "tools/kept:1"), on_host("three", "x:1"))
    asked = migrating(desired(hosts=[here]), here, order("cyroid/**", keep=("tools/kept",)), state)
    found = part_of(looked(asked, state), order("cyroid/**"))
    assert [(action.kind, str(action.target)) for action in found.actions] == [("Push", "cyroid/kali:1"), ("Evict", "cyroid/kali:1")]
    assert [(row.reason, row.image) for row in found.held_back] == [("Kept", "cyroid/kept:1")]


def test_no_grace_period() -> None:
    """A person asks for it now, and sees the plan."""
    here = host(grace=3600.0)
    state = engine(on_host("one", "cyroid/kali:1", tagged_at=999_999.0))
    found = looked(migrating(desired(hosts=[here]), here, order("cyroid/**"), state), state)
    assert [action.basis for action in found.plan.actions if isinstance(action, Evict)] == [Basis.AFTER_PUSH]


def test_a_name_of_another_source_is_not_filled_from_a_host() -> None:
    """Law 10: neither pushed nor evicted, with words that say why; unless the file's `adopt` trusts the host."""
    state = engine(on_host("one", "nginx:1"))
    listed, name = [image("docker.io/library/nginx:1")], "docker.io/library/nginx:1"
    here = host()
    found = looked(migrating(desired(listed, [here]), here, order("**"), state), state, offered={name: "newer"})
    assert part_of(found, order("**")).actions == ()
    (stay,) = left(found, order("**"), {})
    assert (stay.reason, "ranges takes this name from elsewhere" in stay.message) == ("Unproven", True)
    trusted = host(adopt=["nginx"])
    for adopted in (here, trusted):
        gone = looked(migrating(desired(listed, [adopted]), adopted, order("**"), state), state, offered={name: None})
        assert [action.kind for action in part_of(gone, order("**")).actions] == (["Push", "Evict"] if adopted is trusted else [])


def test_what_is_retired_goes_nowhere() -> None:
    """The set says Absent: a copy on the host stays, blocked; the registry's tag is not deleted on the way."""
    state = engine(on_host("one", "cyroid/old:1"))
    here = host()
    asked = migrating(desired([image("cyroid/old:1", ensure=Ensure.ABSENT)], [here]), here, order("**"), state)
    found = looked(asked, state, {"cyroid/old:1": "one"})
    assert part_of(found, order("**")).actions == ()
    assert [stay.reason for stay in left(found, order("**"), {})] == ["RetiredOnHost"]


def test_without_evicting_only_what_is_not_in_the_registry_counts() -> None:
    """In use or not: nothing is to leave, so nothing that is in the registry stays behind."""
    state = engine(on_host("one", "cyroid/kali:1", used_by=("web",)), on_host("two", "cyroid/win:1"))
    here, asked = host(), order("cyroid/**", evict=False)
    found = looked(migrating(desired(hosts=[here]), here, asked, state), state, {"cyroid/kali:1": "one"})
    assert [(action.kind, str(action.target)) for action in part_of(found, asked).actions] == [("Push", "cyroid/win:1")]
    assert part_of(found, asked).held_back == ()
    assert [str(stay.copy.target) for stay in left(found, asked, {})] == ["cyroid/win:1"]
