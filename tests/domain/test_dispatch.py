"""Which repository a request means, and where it may be pulled through from."""

from __future__ import annotations

import pytest

from controller.domain.desired import Desired
from controller.domain.dispatch import Dispatch, ForbiddenError, Place
from controller.domain.reference import Reference
from tests.support.builders import desired, host, image

NGINX = Place("docker.io/library/nginx", Reference("docker.io", "library/nginx"))
GUESSED = Place("docker.io/library/nginx", Reference("docker.io", "library/nginx"), guessed=True)
APP = Place("quay.io/org/app", Reference("quay.io", "org/app"))


def asked(*names: str, adopt: list[str] | None = None, **more: object) -> Dispatch:
    """A desired state that lists these names, with two upstreams."""
    wanted: Desired = desired([image(name) for name in names], [host("one", adopt=adopt or [])], **more)
    return Dispatch(wanted)


@pytest.mark.parametrize(
    ("repository", "ns", "places"),
    [
        ("docker.io/library/nginx", "", (NGINX,)),
        ("docker.io/nginx", "", (NGINX,)),
        ("library/nginx", "docker.io", (NGINX,)),
        ("library/nginx", "registry-1.docker.io", (NGINX,)),
        ("library/nginx", "", (Place("library/nginx"), Place("nginx"), GUESSED)),
        ("nginx", "", (Place("nginx"), GUESSED)),
        ("org/app", "quay.io", (APP,)),
        ("quay.io/org/app", "", (APP,)),
        ("example.com/org/app", "", (Place("example.com/org/app"),)),
        ("localhost/app", "", (Place("localhost/app"),)),
        ("org/app", "127.0.0.1:5000", (Place("org/app"),)),
        ("cyroid/kali", "", (Place("cyroid/kali"),)),
        ("cyroid/kali", "docker.io", (Place("cyroid/kali"),)),
        ("cyroid/other", "", (Place("cyroid/other"),)),
        ("team/app/api", "", (Place("team/app/api"),)),
        ("cyroid/kali", "quay.io", (Place("quay.io/cyroid/kali", Reference("quay.io", "cyroid/kali")),)),
    ],
)
def test_what_a_name_means(repository: str, ns: str, places: tuple[Place, ...]) -> None:
    """The table at the top of domain/dispatch.py."""
    assert asked("cyroid/kali:1", adopt=["team/**:v*"]).places(repository, ns) == places


def test_a_namespace_that_is_not_listed_is_nobodys() -> None:
    """A listed name without a namespace reserves itself alone; what is pulled through reserves nothing."""
    found = asked("tools:1", "docker.io/library/nginx:1")
    assert found.places("tools") == (Place("tools"),)
    assert found.places("library/tools", "docker.io") == (Place("library/tools"), Place("tools"))
    assert found.places("library/nginx")[-1] == GUESSED


def test_what_no_upstream_is() -> None:
    """A domain that the file does not name is never asked, and the refusal says which rule that is."""
    with pytest.raises(ForbiddenError, match=r"evil\.example is not under spec\.upstreams"):
        asked().places("org/app", "evil.example")


def test_pushes_go_to_own_names_only() -> None:
    """Under an upstream's domain there is only what it published."""
    assert asked().pushed_to("cyroid/kali") == "cyroid/kali"
    with pytest.raises(ForbiddenError, match=r"the upstream docker\.io"):
        asked().pushed_to("docker.io/library/nginx")
