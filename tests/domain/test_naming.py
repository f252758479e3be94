"""The place in the registry that a person means by a name."""

from __future__ import annotations

import pytest

from controller.domain.errors import InvalidReferenceError
from controller.domain.naming import target_named
from controller.domain.reference import Target, held_tag, parse
from tests.support.builders import ADDRESS, desired, image, sha

NGINX = Target("docker.io/library/nginx", "1")
LISTED = desired([image("cyroid/kali:1"), image("docker.io/library/nginx:1"), image("tools/base:stable", source="quay.io/org/base:v7")])


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("cyroid/kali:1", Target("cyroid/kali", "1")),
        ("docker.io/library/nginx:1", NGINX),
        ("nginx:1", NGINX),
        (f"{ADDRESS}/cyroid/kali:1", Target("cyroid/kali", "1")),
        ("cyroid/other", Target("cyroid/other", "latest")),
        ("nginx:2", Target("nginx", "2")),
        ("quay.io/org/base:v8", Target("quay.io/org/base", "v8")),
        ("reg.example:8443/x:1", Target("reg.example_8443/x", "1")),
        ("reg.example_8443/x:1", Target("reg.example_8443/x", "1")),
        (f"quay.io/org/base@{sha('x')}", Target("quay.io/org/base", held_tag(sha("x")))),
    ],
)
def test_a_name_as_people_have_it(name: str, target: Target) -> None:
    """As a set writes it, as the registry has it, as a host calls it; what nobody lists is read as a set would."""
    assert target_named(LISTED, name) == target


@pytest.mark.parametrize("text", ["", "Kali!", "a b", "reg_x.y/UPPER:1"])
def test_what_is_no_name(text: str) -> None:
    """A usage error, whatever was typed."""
    with pytest.raises(InvalidReferenceError):
        target_named(LISTED, text)


@pytest.mark.parametrize(
    ("within", "name"),
    [("cyroid/kali", "cyroid/kali"), ("docker.io/library/nginx", "nginx"), ("reg.example_8443/a/x", "reg.example:8443/a/x"), ("a.b_c/x", "")],
)
def test_what_a_tag_under_the_registrys_address_stands_for(within: str, name: str) -> None:
    """Whatever a host has pulled from the registry, patterns are held against what it stands for; if that is no name, against the tag alone."""
    tag = parse(f"{ADDRESS}/{within}:1")
    assert LISTED.names_of(tag) == ((tag, parse(f"{name}:1")) if name else (tag,))
