"""The models: defaults, frozen values, and what each form of text takes. What is refused, and where, is in tests/documents."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from controller.domain import texts
from controller.domain.spec import Ensure, HostSpec, ImageEntry, ImageSet, Mode, Upstream, Wharf, WharfSpec
from controller.domain.texts import Form, duration, seconds

FORMS = {
    name: TypeAdapter(form)
    for name, form in vars(texts).items()
    if getattr(form, "__metadata__", None) and any(isinstance(each, Form) for each in form.__metadata__)
}

TAKEN = [
    ("Address", ["172.30.0.16:5000", "ghcr.io", "localhost", "registry:80", "[::1]:5000"]),
    ("Url", ["http://a", "https://mirror.example", "https://[::1]:5000/"]),
    ("RegistryUrl", ["http://127.0.0.1:5000", "https://registry.example/", "http://localhost"]),
    (
        "Engine",
        [
            "env",
            "unix:///var/run/docker.sock",
            "tcp://10.0.0.1:2375",
            "ssh://root@host",
            "ssh://host:22",
            "ssh://me@host/run/user/1000/docker.sock",
            "https://host:2376",
        ],
    ),
    ("Name", ["a", "default", "a.b-c", "0"]),
    ("Platform", ["linux/amd64", "linux/arm/v7", "windows/amd64"]),
    ("VersionRange", [">=3.19", ">=1.2 <2", "~1.4", "^1", "v1.2.3-rc.1", ">= 1, <2"]),
    ("TagGlob", ["1.*", "*-alpine", "v?"]),
    ("FilePath", ["a", "../b c", "/d"]),
]

REFUSED = [
    ("Address", ["", "http://a.b", "registry", "a.b/c", "a.b:0", "a.b:99999", "a.b:x", "user@a.b", "-.b"]),
    ("Url", ["a.b", "ftp://a.b", "https://a.b/c", "https://u:p@a.b", "https://", "https://a.b?x"]),
    ("RegistryUrl", ["http://registry", "https://a.b/v2/", "127.0.0.1:5000"]),
    ("Engine", ["", "foo", "unix://", "unix://var/run", "tcp://", "tcp://u:p@h:1", "ssh://u:p@h", "ssh:///path", "npipe://x", "env "]),
    ("Name", ["", "A", "a_b", "-a", "a-", "a" * 254, "a\n"]),
    ("Platform", ["linux", "linux/", "Linux/amd64", "linux/amd64/v1/x"]),
    ("VersionRange", ["", "latest", ">=", "1.2.3.4", ">=1 || 2", ">=1  <2"]),
    ("TagGlob", ["", "a/b", "a b", "[a]"]),
    ("FilePath", [""]),
]


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, each in TAKEN for text in each])
def test_form_takes(form: str, text: str) -> None:
    """Each form's own texts; only the closing slash of a URL goes."""
    assert FORMS[form].validate_python(text) == (text.rstrip("/") if "Url" in form else text)


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, each in REFUSED for text in each])
def test_form_refuses(form: str, text: str) -> None:
    """What does not fit is refused."""
    with pytest.raises(ValidationError):
        FORMS[form].validate_python(text)


@pytest.mark.parametrize("form", FORMS)
def test_examples_of_the_page_fit(form: str) -> None:
    """docs/desired-state.md shows no example that is an error."""
    said = next(each for each in getattr(texts, form).__metadata__ if isinstance(each, Form))
    for example in said.examples:
        FORMS[form].validate_python(example)
    assert said.examples


@pytest.mark.parametrize(
    ("text", "meant"), [("30s", 30), ("10m", 600), ("1h30m", 5400), ("1d", 86400), ("1d2h3m4s", 93784), ("0s", 0), ("90m", 5400)]
)
def test_duration_is_seconds(text: str, meant: float) -> None:
    """Units are seconds."""
    assert seconds(text) == meant


@pytest.mark.parametrize("said", ["", "10", "m", "1m1h", "1.5h", "-1m", "1w", "1m ", " 1m", "1234567s", "\u0661m", 10, None, True, [], {}])
def test_duration_refuses(said: object) -> None:
    """A bare number says no unit, so it is none."""
    with pytest.raises(ValueError, match="expected a duration such as 30s, 10m or 1h30m"):
        seconds(said)


@given(st.integers(0, 10**10))
def test_durations_in_words_mean_the_same(number: int) -> None:
    """What the schema and the page show as a default can be written into a file."""
    assert seconds(duration(number)) == number


def test_defaults_are_the_designs() -> None:
    """What a short file leaves out."""
    spec = WharfSpec.model_validate({"registry": {"url": "http://127.0.0.1:5000"}})
    assert [each.domain for each in spec.upstreams] == ["docker.io", "ghcr.io", "quay.io"]
    assert (spec.mode, spec.prune, spec.limits.deletes, spec.refresh, spec.interval, spec.hosts) == (Mode.FULL, False, 10, 3600, 300, ())
    host = HostSpec.model_validate({"name": "a", "engine": "env"})
    assert (host.absent, host.keep, host.adopt, host.present, host.grace_period) == (None, (), (), (), 600)
    assert ImageEntry.model_validate({"name": "x"}).ensure is Ensure.PRESENT


@pytest.mark.parametrize("model", [Wharf, ImageSet])
def test_every_field_says_what_it_is(model: type[BaseModel]) -> None:
    """The page and the editors show the descriptions."""
    left: list[Any] = [model]
    while left:
        each = left.pop()
        if isinstance(each, type) and issubclass(each, BaseModel):
            assert each.__doc__
            assert [name for name, info in each.model_fields.items() if not info.description] == []
            left.extend(info.annotation for info in each.model_fields.values())
        else:
            left.extend(getattr(each, "__args__", ()))


def test_values_are_frozen_and_camel_case() -> None:
    """Documents are values; Python's field names are not the file's."""
    upstream = Upstream.model_validate({"domain": "docker.io", "usernameFile": "a", "passwordFile": "b"})
    with pytest.raises(ValidationError):
        upstream.domain = "x"
    with pytest.raises(ValidationError):
        Upstream.model_validate({"domain": "docker.io", "username_file": "a", "password_file": "b"})


def test_misfit_says_both_sides() -> None:
    """Used outside the loader, the error still reads."""
    with pytest.raises(ValidationError, match="found 'A', in which 'A' is no repository; expected lowercase parts"):
        TypeAdapter(Annotated[texts.ReferenceText, "plain"]).validate_python("A")
