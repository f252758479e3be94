"""Which containers are ranges, and what they are called: the label's value may be written by somebody hostile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.domain.desired import RangeGroup
from controller.domain.ranges import Container, Found, found_in, is_found, is_own, is_range_id, own_place
from controller.domain.reference import Reference, Target, parse, parse_local
from tests.support.builders import ADDRESS, host, sha

GROUP = RangeGroup(host("ranges", absent=[], range="ranges"), "local", "cyroid.range_id", 2375)


def container(label: str, name: str = "", *addresses: tuple[str, str]) -> Container:
    """A running one, at 10.0.0.2 unless it is somewhere else."""
    return Container(f"id of {name or label}", name or f"range-{label}", label, addresses or (("ranges", "10.0.0.2"),))


def rows(found: Found) -> list[tuple[str, str]]:
    """What is no host, and why in a word."""
    return [(row.host, row.reason) for row in found.others]


@pytest.mark.parametrize("text", ["42", "lab-7", "a.b_c", "0b7f1c9e-5a0e-4a43-9a0c-2b1f4f3ad001", "a" * 63])
def test_what_is_an_id(text: str) -> None:
    """What can be a part of a repository's name, whatever else stands around it."""
    assert is_range_id(text)
    parse_local(f"ranges/{text}/x:1")


@pytest.mark.parametrize(
    "text", ["", ".", "..", "../../etc", "a/b", "a//b", "A", "a..b", "-a", "a-", "a b", "a\n", "42:1", "a@b", "%2e%2e", "ä", "٤٢", "a" * 64]
)
def test_what_is_none(text: str) -> None:
    """It is refused, said so, and named as it is without harm to who reads it."""
    assert not is_range_id(text)
    found = found_in(GROUP, [container(text, "evil")], ())
    assert found.hosts == ()
    assert rows(found) == [("ranges", "Refused")]
    assert found.others[0].message.isascii()
    assert "\n" not in found.others[0].message


def test_each_container_is_a_host_like_its_group() -> None:
    """By the address of its first network, at the group's port."""
    group = replace(GROUP, like=replace(GROUP.like, present=frozenset({parse("cyroid/kali:1")})))
    (one, two) = found_in(group, [container("42"), container("7", "b", ("b", "10.0.0.3"), ("a", "fd00::3"))], ()).hosts
    assert (one.name, one.engine, one.range) == ("ranges/42", "tcp://10.0.0.2:2375", "42")
    assert (two.name, two.engine, two.range) == ("ranges/7", "tcp://[fd00::3]:2375", "7")
    assert one.present == group.like.present
    assert is_found(one.name)


def test_a_network_may_be_named() -> None:
    """Then no other address is taken for it."""
    group = replace(GROUP, network="b", port=2376)
    found = found_in(group, [container("42", "x", ("a", "10.0.0.1"), ("b", "10.0.0.2")), container("7", "y", ("a", "10.0.0.1"))], ())
    assert [each.engine for each in found.hosts] == ["tcp://10.0.0.2:2376"]
    assert rows(found) == [("ranges/7", "Unknown")]


def test_who_has_no_address_is_not_known() -> None:
    """It shares its host's network, say. Nobody else is disturbed."""
    found = found_in(GROUP, [Container("1", "x", "42"), container("7")], ())
    assert [each.name for each in found.hosts] == ["ranges/7"]
    assert rows(found) == [("ranges/42", "Unknown")]


def test_an_id_that_two_have_is_nobodys() -> None:
    """Else one could write over what the other vouches for; the same if it is another group's, or a static range's."""
    found = found_in(GROUP, [container("42", "a"), container("42", "b"), container("7"), container("8")], {"8"})
    assert [each.name for each in found.hosts] == ["ranges/7"]
    assert rows(found) == [("ranges/42", "Refused"), ("ranges/42", "Refused"), ("ranges/8", "Refused")]


def test_a_label_with_a_value_finds_containers_by_their_names() -> None:
    """All of them have the same value, so that is no id."""
    found = found_in(replace(GROUP, label="role=range"), [container("range", "one"), container("range", "two")], ())
    assert [each.name for each in found.hosts] == ["ranges/one", "ranges/two"]


@pytest.mark.parametrize(
    ("tag", "place"),
    [
        (parse("cyroid/kali:1"), "ranges/42/cyroid/kali:1"),
        (parse("nginx:1"), "ranges/42/nginx:1"),
        (parse("ghcr.io/org/app:1"), "ranges/42/ghcr.io/org/app:1"),
        (parse("evil:8443/x:1"), "ranges/42/evil_8443/x:1"),
        (parse(f"{ADDRESS}/cyroid/kali:1"), "ranges/42/cyroid/kali:1"),
        (Reference("docker.io", "library/nginx", "", sha("x")), f"ranges/42/nginx:wharf-held-{sha('x')[7:19]}"),
    ],
)
def test_what_only_a_range_vouches_for_is_its_own(tag: Reference, place: str) -> None:
    """Whatever it is called there, it is below the range's folder."""
    found = own_place("42", tag, {ADDRESS})
    assert str(found) == place
    assert is_own(found.repository)
    assert not is_own(Target("rangesx/a", "1").repository)
