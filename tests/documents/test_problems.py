# ruff: noqa: E501 - a message stands on one line, as people see it
"""Values that do not fit: file, line, column, field, what was found and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents.texts import image_set, said, wharf

SHA = "sha256:" + "0" * 64

WHARFS = [
    ("mode: full", "6:9: spec.mode: found 'full'; expected 'Observe', 'Push' or 'Full'"),
    ("prune: yes", "6:10: spec.prune: found 'yes'; expected true or false"),
    ("hosts: env", "6:10: spec.hosts: found 'env'; expected a list"),
    ("hosts:", "6:9: spec.hosts: found nothing; expected a list"),
    ("hosts: [env]", "6:11: spec.hosts[0]: found 'env'; expected a mapping"),
    ("limits: {deletes: 1.5}", "6:21: spec.limits.deletes: found 1.5; expected a whole number"),
    ("limits: {deletes: -1}", "6:21: spec.limits.deletes: found -1; expected at least 0"),
    ("interval: 300", "6:13: spec.interval: found 300; expected a duration such as 30s, 10m or 1h30m"),
    ("interval: ''", "6:13: spec.interval: found ''; expected a duration such as 30s, 10m or 1h30m"),
    ("interval: 10m1h", "6:13: spec.interval: found '10m1h'; expected a duration such as 30s, 10m or 1h30m"),
    ("interval: 0s", "6:13: spec.interval: found '0s'; expected more than 0"),
    (
        "immutableTags: ['a b']",
        "6:19: spec.immutableTags[0]: found 'a b'; expected a name in which '*', '**' and '?' may stand, such as cyroid/**:v*",
    ),
    ("hosts: [{name: a, engine: foo}]", "6:29: spec.hosts[0].engine: found 'foo'; expected unix:///path, tcp://host:port, ssh://user@host, or env"),
    ("hosts: [{name: a}]", "6:11: spec.hosts[0]: found neither engine nor discover; expected exactly one of them"),
    (
        "hosts: [{name: a, engine: env, discover: {on: b, label: c}}]",
        "6:44: spec.hosts[0].discover: found both engine and discover; expected exactly one of them",
    ),
    ("hosts: [{engine: env}]", "6:11: spec.hosts[0].name: found nothing; expected the field 'name'"),
    (
        "hosts: [{name: A_, engine: env}]",
        "6:18: spec.hosts[0].name: found 'A_'; expected a name of lowercase letters, digits, '-' and '.', which begins and ends with a letter or a digit",
    ),
    (
        "hosts: [{name: a, engine: env, registryAddress: http://a:1}]",
        "6:51: spec.hosts[0].registryAddress: found 'http://a:1'; expected host or host:port, without a scheme",
    ),
    (
        "hosts: [{name: a, engine: env, registryAddress: 'a:70000'}]",
        "6:51: spec.hosts[0].registryAddress: found 'a:70000'; expected host or host:port, without a scheme",
    ),
    (
        "upstreams: [{domain: mirror}]",
        "6:24: spec.upstreams[0].domain: found 'mirror'; expected an address that image names can begin with: with a dot or a port, such as mirror:5000, or localhost",
    ),
    (
        "upstreams: [{domain: docker.io, passwordFile: x}]",
        "6:49: spec.upstreams[0].passwordFile: found passwordFile without usernameFile; expected both or none",
    ),
    (
        "upstreams: [{domain: docker.io, url: 'https://x/path'}]",
        "6:40: spec.upstreams[0].url: found 'https://x/path'; expected http://host:port or https://host:port, without a path and without credentials",
    ),
    (
        "hosts: [{name: a, engine: 'unix:///x', tls: {}}]",
        "6:47: spec.hosts[0].tls: found tls for unix:///x; expected it beside an engine on tcp:// or https://, or discover",
    ),
    (
        "hosts: [{name: a, engine: 'tcp://x:1', tls: {keyFile: x}}]",
        "6:57: spec.hosts[0].tls.keyFile: found keyFile without certFile; expected both or none",
    ),
    ("web: {listen: '9090'}", "6:17: spec.web.listen: found '9090'; expected host:port to listen on, such as 127.0.0.1:9090, or [::1]:9090"),
    ("notify: [{on: [Failure]}]", "6:12: spec.notify[0].urlFile: found nothing; expected the field 'urlFile'"),
    (
        "notify: [{urlFile: x, on: [No]}]",
        "6:30: spec.notify[0].on[0]: found 'No'; expected 'Failure', 'NeedsPerson', 'Unreachable' or 'FromInternet'",
    ),
    (
        "gracePeriod: 10m",
        "6:3: spec.gracePeriod: found the unknown field 'gracePeriod'; expected one of registry, upstreams, internet, refresh, immutableTags, hosts, mode, prune, keepHeld, limits, interval, web, notify, gateway",
    ),
    (
        "hosts: [{name: a, engine: env, grace_period: 10m}]",
        "6:34: spec.hosts[0].grace_period: found the unknown field 'grace_period'; expected one of name, engine, tls, discover, range, registryAddress, adopt, absent, keep, present, gracePeriod, onConflict; did you mean 'gracePeriod'?",
    ),
]

ENTRIES = [
    ("{name: 1.20}", "6:14: spec.images[0].name: found 1.20; expected a text; put it in quotes if it is one"),
    ("x", "6:7: spec.images[0]: found 'x'; expected a mapping"),
    ("{name: x, ensure: absent}", "6:25: spec.images[0].ensure: found 'absent'; expected 'Present' or 'Absent'"),
    ("{ensure: Absent}", "6:7: spec.images[0]: found neither name nor catalog; expected exactly one of them"),
    ("{name: x, catalog: y}", "6:26: spec.images[0].catalog: found both name and catalog; expected exactly one of them"),
    ("{name: x, on: y}", "6:21: spec.images[0].on: found `on` beside a name; expected it beside catalog only; a build's host stands in source.build.on"),
    ("{catalog: y, platforms: [linux/amd64]}", "6:31: spec.images[0].platforms: found platforms of a catalog; expected it beside a name only"),
    ("{catalog: y, ensure: Absent}", "6:28: spec.images[0].ensure: found ensure: Absent of a catalog; expected Absent beside a name only"),
    ("{name: x, source: {}}", "6:25: spec.images[0].source: found no source; expected exactly one of build, archive and registry"),
    (
        "{name: x, source: {archive: {path: a}, registry: ghcr.io/x}}",
        "6:56: spec.images[0].source.registry: found archive and registry; expected exactly one of build, archive and registry",
    ),
    (
        "{name: x, source: {registry: y}}",
        "6:36: spec.images[0].source.registry: found 'y', which has no domain; expected a name with a domain, such as docker.io/library/nginx",
    ),
    ("{name: x, source: {build: {context: '', on: a}}}", "6:43: spec.images[0].source.build.context: found ''; expected a text that is not empty"),
    (
        "{name: x, source: {build: {context: a, on: a, args: {V: 1}}}}",
        "6:63: spec.images[0].source.build.args.V: found 1; expected a text; put it in quotes if it is one",
    ),
    ("{name: x, ensure: Absent, source: {archive: {path: a}}}", "6:41: spec.images[0].source: found a source; expected an image that is Absent to have none"),
    (
        "{name: ghcr.io/x, source: {archive: {path: a}}}",
        "6:14: spec.images[0].name: found 'ghcr.io/x', which is pulled through from its domain; expected a local name, one without a domain, for an image with a source",
    ),
    ("{name: x, tags: {newest: 3}}", "6:14: spec.images[0].name: found the local name 'x'; expected a name with a domain, such as docker.io/library/alpine, for `tags`"),
    ("{name: 'ghcr.io/x:1', tags: {newest: 3}}", "6:14: spec.images[0].name: found 'ghcr.io/x:1'; expected a repository only; `tags` chooses the tags"),
    ("{name: ghcr.io/x, tags: {}}", "6:31: spec.images[0].tags: found no choice of tags; expected at least one of semver, newest, glob and exclude"),
    ("{name: ghcr.io/x, tags: {newest: 0}}", "6:40: spec.images[0].tags.newest: found 0; expected at least 1"),
    (
        "{name: ghcr.io/x, tags: {semver: newest}}",
        "6:40: spec.images[0].tags.semver: found 'newest'; expected a range of versions, such as '>=3.19' or '>=1.2 <2'",
    ),
    ("{name: ghcr.io/x, tags: {glob: ['a/b']}}", "6:39: spec.images[0].tags.glob[0]: found 'a/b'; expected a tag in which '*' and '?' may stand"),
    ("{name: x, platforms: [linux]}", "6:29: spec.images[0].platforms[0]: found 'linux'; expected os/architecture, such as linux/amd64 or linux/arm/v7"),
    ("{name: 'cyroid/Kali'}", "6:14: spec.images[0].name: found 'cyroid/Kali', in which 'cyroid/Kali' is no repository; expected lowercase parts separated by '/'"),
    (f"{{name: 'x@{SHA}'}}", f"6:14: spec.images[0].name: found 'x@{SHA}'; expected a local name without a digest; source.registry takes one"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), WHARFS)
def test_field_of_a_wharf(tmp_path: Path, line: str, expected: str) -> None:
    """One problem, at the field's value, or at its key when it is unknown."""
    assert said(tmp_path, wharf(line)) == [f"d.yaml:{expected}"]


@pytest.mark.parametrize(("entry", "expected"), ENTRIES)
def test_field_of_an_image(tmp_path: Path, entry: str, expected: str) -> None:
    """The same for the entries of a set; what fields say together is placed at the field to mend."""
    assert said(tmp_path, image_set(entry)) == [f"d.yaml:{expected}"]


def test_registry_address_must_begin_image_names(tmp_path: Path) -> None:
    """A push to `registry/x` goes to docker.io/registry/x: an engine takes no name without a dot or a port for a registry."""
    text = wharf("").replace("http://127.0.0.1:5000", "http://registry")
    assert said(tmp_path, text) == [
        "d.yaml:5:19: spec.registry.url: found 'http://registry'; expected http:// and an address that image names can begin with: with a dot or a port, such as registry:5000, or localhost"
    ]


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Not only the first: of every document, sorted by line."""
    text = wharf("mode: X\nhosts: [{name: a, engine: b}]") + "---\n" + image_set("{name: A}", "{nam: a}") + "---\nkind: Pod\n"
    assert [line.partition(" found ")[0] for line in said(tmp_path, text)] == [
        "d.yaml:6:9: spec.mode:",
        "d.yaml:7:29: spec.hosts[0].engine:",
        "d.yaml:14:14: spec.images[0].name:",
        "d.yaml:15:8: spec.images[1].nam:",
        "d.yaml:17:1:",
        "d.yaml:17:7: kind:",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "upstreams: [{domain: docker.io, url: 'https://user:hunter2@mirror.example/x'}]",
        "upstreams: [{domain: docker.io, url: 'https://user:hun/ter2@hunter2@mirror.example'}]",
        "upstreams: [{domain: 'user:hunter2@mirror.example'}]",
        "upstreams: [{domain: docker.io, mirrors: ['user:hunter2@mirror.example:443']}]",
        "hosts: [{name: a, engine: 'tcp://user:hunter2@host:1'}]",
        "hosts: [{name: a, engine: env, present: ['https://user:hunter2@ghcr.io/x']}]",
        "hosts: [{name: a, engine: env, keep: ['user:hunter2@ghcr.io/x']}]",
        "registryPassword: hunter2",
        "upstreams: [{domain: docker.io, password: hunter2, passwordFile: x, usernameFile: y}]",
    ],
)
def test_no_secret_is_told(tmp_path: Path, line: str) -> None:
    """Law 7: people write passwords where they don't belong; the error must not carry them into a log."""
    found = said(tmp_path, wharf(line))
    assert found
    assert "hunter2" not in "\n".join(found)


def test_value_of_a_secret_argument_is_not_told(tmp_path: Path) -> None:
    """A build argument that is named like a secret is one."""
    found = said(tmp_path, image_set("{name: x, source: {build: {context: a, on: a, args: {DB_PASSWORD: 4711}}}}"))
    assert found == [
        "d.yaml:6:73: spec.images[0].source.build.args.DB_PASSWORD: found a value that is not shown; expected a text; put it in quotes if it is one"
    ]


def test_long_values_are_cut(tmp_path: Path) -> None:
    """A line stays a line."""
    found = said(tmp_path, wharf(f"mode: {'x' * 5000}\n{'y' * 900}: 1"))
    assert len(found) == 2
    assert f"found '{'x' * 57}...'; expected" in found[0]
    assert max(map(len, found)) < 400
