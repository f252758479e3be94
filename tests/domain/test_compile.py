"""Documents -> Desired: what documents say against each other, each with its place; and the names of the registry and of hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.documents.loader import load
from controller.domain.compile import compile_desired
from controller.domain.desired import Desired
from controller.domain.problems import DocumentsError
from controller.domain.reference import Target, parse
from tests.documents.texts import image_set, wharf

TWO_HOSTS = "hosts: [{name: a, engine: 'unix:///a'}, {name: b, engine: 'unix:///b', registryAddress: '172.30.0.16:5000'}]"


def _compiled(tmp_path: Path, *documents: str) -> Desired:
    file = tmp_path / "f.yaml"
    file.write_text("---\n".join(documents))
    found = load([file])
    return compile_desired(found.wharfs, found.sets)


CONTRADICTIONS = {
    "a second Wharf": ((wharf(), wharf()), "a second Wharf"),
    "no Wharf": ((image_set("{name: 'a:1'}"),), "no document of kind Wharf"),
    "a set of another Wharf": ((wharf(), image_set("{name: 'a:1'}").replace("spec:", "spec:\n  wharf: other")), "'other'"),
    "two hosts of one name": ((wharf("hosts: [{name: a, engine: 'unix:///a'}, {name: a, engine: 'unix:///b'}]"),), "host 'a' a second time"),
    "one engine twice": ((wharf("hosts: [{name: a, engine: env}, {name: b, engine: env}]"),), "engine 'env' a second time"),
    "one upstream twice": ((wharf("upstreams: [{domain: docker.io}, {domain: index.docker.io}]"),), "upstream 'docker.io' a second time"),
    "present and absent on a host": (
        (wharf("hosts: [{name: a, engine: env, present: ['cyroid/kali:1'], absent: ['cyroid/*']}]"),),
        "'cyroid/kali:1', which `absent` names too ('cyroid/*')",
    ),
    "a build on a host that is not there": (
        (wharf(), image_set("{name: 'a:1', source: {build: {context: a, on: nowhere}}}")),
        "'nowhere'; expected a host of the Wharf",
    ),
    "ranges of a host that is a range": (
        (wharf("hosts: [{name: a, engine: env, range: true}, {name: b, discover: {on: a, label: x}}]"),),
        "'a'; expected a host with an engine of its own that is no range: there is none",
    ),
    "a build on a range": (
        (wharf("hosts: [{name: a, engine: env, range: true}]"), image_set("{name: 'a:1', source: {build: {context: a, on: a}}}")),
        "'a'; expected a host with an engine of its own that is no range",
    ),
    "a range whose name is no id": ((wharf("hosts: [{name: a..b, engine: env, range: true}]"),), "'a..b'; expected as the name of a range"),
    "one image from two sources": (
        (wharf(), image_set("{name: 'a:1', source: {registry: 'quay.io/a/b:1'}}", "{name: 'a:1', source: {registry: 'quay.io/c/d:1'}}")),
        "'a:1' with another source than at",
    ),
    "two entries for one host name": (
        (wharf(), image_set("{name: 'nginx:1'}", "{name: 'docker.io/library/nginx:1'}")),
        "one entry for one host name",
    ),
    "the registry's own address in a name": ((wharf(), image_set("{name: '127.0.0.1:5000/a:1'}")), "without the registry's own address"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions(tmp_path: Path, case: str) -> None:
    """Each is an error with the place of the second one, which names the first."""
    documents, told = CONTRADICTIONS[case]
    with pytest.raises(DocumentsError) as error:
        _compiled(tmp_path, *documents)
    (problem,) = error.value.problems
    assert told in str(problem)
    assert problem.place.line >= 1


NAMES = {
    "cyroid/kali:1": Target("cyroid/kali", "1"),
    "docker.io/library/nginx:1.27": Target("docker.io/library/nginx", "1.27"),
    "nginx:1.26": Target("docker.io/library/nginx", "1.26"),
    "127.0.0.1:5000/cyroid/kali:1": Target("cyroid/kali", "1"),
    "172.30.0.16:5000/tools/x:2": Target("tools/x", "2"),
    "ghcr.io/org/tool:3": Target("ghcr.io/org/tool", "3"),
    "Host:8443/org/tool:3": Target("host_8443/org/tool", "3"),
}


@pytest.mark.parametrize("name", NAMES)
def test_where_a_host_name_lies_in_the_registry(tmp_path: Path, name: str) -> None:
    """An address of the registry is stripped; else a listed local name; else the domain stays as first part."""
    desired = _compiled(tmp_path, wharf(TWO_HOSTS), image_set("{name: 'cyroid/kali:1'}", "{name: 'docker.io/library/nginx:1.27'}"))
    assert desired.locate(parse(name), adopted=False) == NAMES[name]


def test_what_is_adopted_is_local(tmp_path: Path) -> None:
    """A docker.io name that `adopt` matches is a local one; any other keeps its domain."""
    desired = _compiled(tmp_path, wharf(TWO_HOSTS))
    assert desired.locate(parse("cyroid/new:1"), adopted=True) == Target("cyroid/new", "1")
    assert desired.locate(parse("cyroid/new:1"), adopted=False) == Target("docker.io/cyroid/new", "1")
    assert desired.locate(parse("quay.io/a/b:1"), adopted=True) == Target("quay.io/a/b", "1")


def test_the_same_entry_in_two_sets_is_one_image(tmp_path: Path) -> None:
    """Sets stay separate, the place in the registry is one."""
    desired = _compiled(tmp_path, wharf(), image_set("{name: 'a:1'}"), image_set("{name: 'a:1'}").replace("name: default", "name: other"))
    assert len(desired.sets) == 2
    assert desired.sets_of(Target("a", "1")) == desired.sets


def test_ranges(tmp_path: Path) -> None:
    """Nothing must leave one unless it says so, and `port` follows `tls`; a static one has its name for its id."""
    found = _compiled(
        tmp_path,
        wharf(
            "hosts: [{name: a, engine: env}, {name: b, engine: 'tcp://b:2375', range: true}, {name: c, discover: {on: a, label: x}, tls: {},"
            " registryAddress: '172.30.0.16:5000', present: ['cyroid/kali:1']}]"
        ),
    )
    assert [(host.name, host.range, host.evicts) for host in found.hosts] == [("a", "", True), ("b", "b", False)]
    (group,) = found.groups
    assert (group.name, group.on, group.label, group.port, group.network) == ("c", "a", "x", 2376, "")
    assert (group.like.present, group.like.evicts) == (frozenset({parse("cyroid/kali:1")}), False)
    assert "172.30.0.16:5000" in found.addresses
