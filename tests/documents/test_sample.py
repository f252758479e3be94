"""The sample of the format: read, understood, and the same on every surface."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from controller.documents import reference
from controller.documents.schema import json_schema
from controller.documents.yaml_nodes import read_documents
from controller.domain.compile import compile_desired
from controller.domain.spec import Ensure, Internet, Mode, OnConflict
from tests.documents.texts import SAMPLE, image_set, loaded, said, wharf

VALIDATOR = Draft202012Validator(json_schema())

REFUSED = [
    "apiVersion: wharfinger.dev/v1alpha1\nkind: Warf\nmetadata: {name: x}\nspec: {}\n",
    "apiVersion: v1\nkind: ImageSet\nmetadata: {name: x}\nspec: {}\n",
    wharf("modes: Full"),
    wharf("mode: full"),
    wharf("interval: 5"),
    wharf("interval: five minutes"),
    wharf("hosts: [{name: a}]"),
    wharf("hosts: [{name: a, engine: foo}]"),
    wharf("hosts: [{name: a, engine: env, discover: {on: a, label: x}}]"),
    wharf("hosts: [{name: A, engine: env}]"),
    wharf("limits: {deletes: -1}"),
    wharf("upstreams: [{domain: docker.io, usernameFile: x}]"),
    wharf("upstreams: [{domain: docker.io, url: 'https://user:word@mirror.example'}]"),
    image_set("{name: x, extra: y}"),
    image_set("{name: x, catalog: y}"),
    image_set("{name: x, source: {}}"),
    image_set("{name: x, platforms: [linux]}"),
    image_set("{name: docker.io/x, tags: {semver: latest}}"),
    image_set("{name: docker.io/x, tags: {newest: 0}}"),
    image_set("{ensure: Absent}"),
]


def test_sample_says_what_its_comments_say(tmp_path: Path) -> None:
    """Every field of the format is read under its name in the file."""
    documents = loaded(tmp_path, SAMPLE)
    spec = documents.wharfs[0].value.spec
    local, ranges = spec.hosts
    assert (spec.registry.url, spec.registry.aliases) == ("http://127.0.0.1:5000", ("172.30.0.16:5000",))
    assert [(each.domain, each.mirrors) for each in spec.upstreams] == [("docker.io", ("https://mirror.example",)), ("quay.io", ())]
    assert (spec.internet, spec.mode, spec.prune, spec.limits.deletes) == (Internet.ALLOW, Mode.FULL, False, 10)
    assert (spec.refresh, spec.interval, local.grace_period) == (3600, 300, 600)
    assert (local.engine, local.adopt, local.keep, local.on_conflict) == (
        "unix:///var/run/docker.sock",
        ("cyroid/**",),
        ("registry", "docker:*-dind"),
        OnConflict.FAIL,
    )
    assert ranges.discover is not None
    assert (ranges.discover.on, ranges.discover.label, ranges.absent) == ("local", "cyroid.range_id", None)
    images = documents.sets[0].value.spec.images
    assert [image.name or image.catalog for image in images] == [
        "cyroid/kali:latest",
        "catalog/images",
        "cyroid/win10:22h2",
        "docker.io/library/nginx:1.27",
        "docker.io/library/alpine",
        "tools/base:stable",
        "cyroid/built-by-hand:1",
        "cyroid/retired:1",
    ]
    assert images[7].ensure is Ensure.ABSENT
    assert documents.files == (tmp_path / "d.yaml",)


def test_sample_contradicts_itself_nowhere(tmp_path: Path) -> None:
    """What the page shows as an example is a state that can be desired."""
    documents = loaded(tmp_path, SAMPLE)
    assert compile_desired(documents.wharfs, documents.sets).sets == ("ranges",)


def test_schema_takes_the_sample() -> None:
    """An editor marks nothing in the sample."""
    Draft202012Validator.check_schema(json_schema())
    documents, _ = read_documents(SAMPLE, "sample.yaml")
    assert [error.message for document in documents for error in VALIDATOR.iter_errors(document.value)] == []


@pytest.mark.parametrize("text", REFUSED)
def test_schema_and_loader_refuse_alike(tmp_path: Path, text: str) -> None:
    """What one document says wrong, the editor shows before the command does."""
    documents, problems = read_documents(text, "d.yaml")
    assert problems == []
    assert not VALIDATOR.is_valid(documents[0].value)
    assert said(tmp_path, text)


def test_schema_shows_defaults_as_the_file_writes_them() -> None:
    """Editors insert defaults, so 600.0 would be an error there: it is 10m."""
    wharf_spec, host = (json_schema()["$defs"][name]["properties"] for name in ("WharfSpec", "HostSpec"))
    assert [host[name]["default"] for name in ("gracePeriod", "onConflict", "keep")] == ["10m", "Fail", []]
    assert [wharf_spec[name]["default"] for name in ("interval", "mode", "limits")] == ["5m", "Full", {}]
    assert wharf_spec["upstreams"]["default"] == [{"domain": "docker.io"}, {"domain": "ghcr.io"}, {"domain": "quay.io"}]


def test_reference_page_is_made_from_the_models() -> None:
    """docs/desired-state.md says what the code does. After a change: python -m controller.documents.reference > docs/desired-state.md."""
    page = Path(__file__).parents[2] / "docs" / "desired-state.md"
    assert page.read_text(encoding="utf-8") == reference.markdown()
