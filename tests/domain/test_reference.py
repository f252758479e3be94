"""The grammar of references, names and patterns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.errors import InvalidReferenceError
from controller.domain.reference import (
    Pattern,
    Reference,
    Target,
    domain_as_component,
    held_tag,
    is_digest,
    parse,
    parse_local,
    pattern_expression,
    split_domain,
)

HEX = "0123456789abcdef"
DIGEST = "sha256:" + HEX * 4

component = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
repositories = st.lists(component, min_size=1, max_size=4).map("/".join)
domains = st.sampled_from(
    ["docker.io", "ghcr.io", "localhost", "localhost:5000", "host:8443", "172.30.0.16:5000", "[::1]:5000", "Host", "index.docker.io"]
)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digests = st.text(HEX, min_size=64, max_size=64).map("sha256:".__add__)


@st.composite
def names(draw: st.DrawFn) -> str:
    """A name as people may write it."""
    name = draw(repositories)
    if split_domain(name)[0] or draw(st.booleans()):
        name = f"{draw(domains)}/{name}"
    if draw(st.booleans()):
        name += f":{draw(tags)}"
    if draw(st.booleans()):
        name += f"@{draw(digests)}"
    return name


@pytest.mark.parametrize(
    ("text", "domain", "repository", "tag", "digest"),
    [
        ("nginx", "docker.io", "library/nginx", "latest", ""),
        ("nginx:1.27", "docker.io", "library/nginx", "1.27", ""),
        ("cyroid/kali", "docker.io", "cyroid/kali", "latest", ""),
        ("docker.io/nginx", "docker.io", "library/nginx", "latest", ""),
        ("docker.io/a/b/c:1", "docker.io", "a/b/c", "1", ""),
        ("index.docker.io/nginx", "docker.io", "library/nginx", "latest", ""),
        ("registry-1.docker.io/library/nginx", "docker.io", "library/nginx", "latest", ""),
        ("localhost/x", "localhost", "x", "latest", ""),
        ("localhost:5000", "docker.io", "library/localhost", "5000", ""),
        ("localhost:5000/x", "localhost:5000", "x", "latest", ""),
        ("host:8443/x", "host:8443", "x", "latest", ""),
        ("Host/x", "Host", "x", "latest", ""),
        ("host/x", "docker.io", "host/x", "latest", ""),
        ("[::1]:5000/x:1", "[::1]:5000", "x", "1", ""),
        ("[2001:db8::1]/x", "[2001:db8::1]", "x", "latest", ""),
        (f"x@{DIGEST}", "docker.io", "library/x", "", DIGEST),
        (f"x:1@{DIGEST}", "docker.io", "library/x", "1", DIGEST),
        (f"ghcr.io/x@sha512:{'0' * 128}", "ghcr.io", "x", "", f"sha512:{'0' * 128}"),
        ("x:" + "t" * 128, "docker.io", "library/x", "t" * 128, ""),
        ("x:_A.-", "docker.io", "library/x", "_A.-", ""),
        ("a--b/c__d/e.f", "docker.io", "a--b/c__d/e.f", "latest", ""),
        (f"{HEX * 4}:1", "docker.io", f"library/{HEX * 4}", "1", ""),
    ],
)
def test_parse(text: str, domain: str, repository: str, tag: str, digest: str) -> None:
    """The canonical meaning, as Docker's own library reads it."""
    assert parse(text) == Reference(domain, repository, tag, digest)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "empty"),
        (" x", "white space"),
        ("x\n", "white space"),
        (HEX * 4, "which is an image Id"),
        ("x:" + "t" * 129, "is no tag"),
        ("x:", "'' is no tag"),
        ("x:.a", "'.a' is no tag"),
        ("x:1:2", "'1:2' is no tag"),
        ("x@", "'' is no digest"),
        ("x@sha256:abc", "'sha256:abc' is no digest"),
        (f"x@{DIGEST.upper()}", "is no digest"),
        (f"x@{DIGEST}@{DIGEST}", "is no digest"),
        ("x@md5:" + "0" * 32, "is no digest"),
        ("Nginx", "'Nginx' is no repository"),
        ("cyroid/Kali", "'cyroid/Kali' is no repository"),
        ("a//b", "'a//b' is no repository"),
        ("/a", "'/a' is no repository"),
        ("a/", "'a/' is no repository"),
        ("a___b", "is no repository"),
        ("-a/b", "is no repository"),
        ("https://ghcr.io/x", "'https:' is no registry domain"),
        ("-.io/x", "'-.io' is no registry domain"),
        ("ghcr.io/", "'' is no repository"),
        ("host:port/x", "'host:port' is no registry domain"),
        ("a/" * 130 + "b", "aaa"[:0]),
    ],
)
def test_parse_refuses(text: str, found: str) -> None:
    """What is no reference, and which part of it is wrong."""
    with pytest.raises(InvalidReferenceError) as caught:
        parse(text)
    assert found in caught.value.found
    assert caught.value.expected
    assert len(str(caught.value)) < 300


def test_digest_wins_over_tag() -> None:
    """With a tag and a digest, a registry is asked for the digest."""
    assert parse(f"x:1@{DIGEST}").identifier == DIGEST
    assert parse("x:1").identifier == "1"
    assert parse("x").identifier == "latest"


@given(names())
def test_round_trips(text: str) -> None:
    """What is written canonically, or the way people write it, means the same again."""
    reference = parse(text)
    assert parse(str(reference)) == reference
    assert parse(reference.familiar) == reference


@given(st.text(max_size=80) | st.text("aA0.:/@[]_-", max_size=30))
def test_parse_and_patterns_raise_nothing_else(text: str) -> None:
    """Any text is a reference or an InvalidReferenceError, and the same for patterns."""
    for grammar in (parse, parse_local, Pattern):
        try:
            made = grammar(text)
        except InvalidReferenceError:
            continue
        if isinstance(made, Reference):
            assert parse(str(made)) == made
            assert parse(made.familiar) == made


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("docker.io/library/nginx:1", "nginx:1"),
        ("docker.io/cyroid/kali", "cyroid/kali:latest"),
        ("docker.io/library/a/b", "library/a/b:latest"),
        ("docker.io/localhost/x", "docker.io/localhost/x:latest"),
        ("docker.io/a.b/x", "docker.io/a.b/x:latest"),
        ("ghcr.io/x", "ghcr.io/x:latest"),
    ],
)
def test_familiar(text: str, familiar: str) -> None:
    """docker.io and library/ go, unless the rest would then begin with a domain."""
    assert parse(text).familiar == familiar


@pytest.mark.parametrize(
    ("domain", "part"),
    [
        ("docker.io", "docker.io"),
        ("host:8443", "host_8443"),
        ("Host:80", "host_80"),
        ("[::1]:5000", "x_x_1_5000"),
        ("[1::]:5", "1_x_x_5"),
        ("[2001:db8::1]", "2001_db8_x_1"),
    ],
)
def test_domain_as_part_of_a_repository(domain: str, part: str) -> None:
    """A registry refuses ports and uppercase letters in a repository, so what is made must parse as one."""
    assert domain_as_component(domain) == part
    assert parse(f"{domain}/a/x").registry_repository == f"{part}/a/x"
    assert parse(f"docker.io/{part}/x").repository == f"{part}/x"


def test_local_names() -> None:
    """A name without a domain is its own repository in the registry."""
    assert parse_local("cyroid/kali") == Target("cyroid/kali", "latest")
    assert parse_local("nginx:1") == Target("nginx", "1")
    for text in ("ghcr.io/x", "localhost/x", f"x@{DIGEST}", "Nginx"):
        with pytest.raises(InvalidReferenceError):
            parse_local(text)


def test_held_tag() -> None:
    """wharf-held-<12 hex> (law 1)."""
    assert held_tag(DIGEST) == "wharf-held-0123456789ab"
    assert str(Target("a", "1").held(DIGEST)) == "a:wharf-held-0123456789ab"


@pytest.mark.parametrize(
    ("text", "is_one"), [(DIGEST, True), (DIGEST[:-1], False), (DIGEST.upper(), False), ("latest", False), (f"{DIGEST}\n", False)]
)
def test_is_digest(text: str, is_one: bool) -> None:  # noqa: FBT001 - a table's column
    """sha256 with 64 hex digits, sha512 with 128."""
    assert is_digest(text) is is_one


@pytest.mark.parametrize(
    ("text", "split"),
    [("a/b", ("", "a/b")), ("a.b/c/d", ("a.b", "c/d")), ("A/b", ("A", "b")), ("localhost/x", ("localhost", "x")), ("a.b", ("", "a.b"))],
)
def test_split_domain(text: str, split: tuple[str, str]) -> None:
    """A first part is a domain only with a dot, a colon, an uppercase letter, or when it is localhost."""
    assert split_domain(text) == split


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("cyroid/**", ["cyroid/kali", "cyroid/a/b:1", f"cyroid/a@{DIGEST}"], ["cyroid2/x", "ghcr.io/cyroid/kali", "cyroid"]),
        ("cyroid/*", ["cyroid/kali:1"], ["cyroid/a/b"]),
        ("cyroid/*:v*", ["cyroid/kali:v1"], ["cyroid/kali:1", "cyroid/kali:1v"]),
        ("docker:*-dind", ["docker:27-dind", "docker.io/library/docker:27-dind"], ["docker:27", "my/docker:27-dind"]),
        ("registry", ["registry:2", "registry"], ["registry2", "my/registry"]),
        ("docker.io/registry", ["registry:2"], ["my/registry"]),
        ("index.docker.io/registry", ["registry:2"], ["my/registry"]),
        ("docker.io/**", ["registry:2", "a/b:1"], ["ghcr.io/x"]),
        ("**", ["registry:2", "a/b/c", "ghcr.io/x", "[::1]:5000/x"], []),
        ("**/kali", ["cyroid/kali:1", "ghcr.io/a/kali"], ["cyroid/kali2", "kali2"]),
        ("**:v*", ["a:v1", "ghcr.io/a/b:v2"], ["a:1"]),
        ("*:v*", ["a:v1"], ["b/a:v1", "ghcr.io/a:v1"]),
        ("*/kali", ["cyroid/kali", "kali"], ["a/b/kali", "ghcr.io/a/kali"]),
        ("*.io/x", ["ghcr.io/x"], ["a.b/x", "ghcr.io/y/x"]),
        ("host:8443/**", ["host:8443/a/b"], ["host:8444/a"]),
        ("[::1]:5000/*", ["[::1]:5000/x"], ["[::1]:5000/x/y"]),
        ("a?:1", ["ab:1"], ["a:1", "abc:1"]),
        ("a.b/c+d".replace("+", "."), ["a.b/c.d"], ["a.b/cxd", "axb/c.d"]),
    ],
)
def test_pattern(pattern: str, yes: list[str], no: list[str]) -> None:
    """Globs over canonical names: no tag means every tag, `*` stops at `/`, `**` crosses."""
    made = Pattern(pattern)
    assert [text for text in yes if not made.matches(parse(text))] == []
    assert [text for text in no if made.matches(parse(text))] == []


@pytest.mark.parametrize(
    "text", ["", "/", "a/", "/a", "a//b", "a:", ":a", "a b", "a@sha256:0", "a:b:c", "[ab]*", "x/[ab]", "a\n", "a|b", "a:[0-9]", "(a)"]
)
def test_pattern_refuses(text: str) -> None:
    """A pattern that could match nothing is an error: a `keep` that keeps nothing would be a trap."""
    with pytest.raises(InvalidReferenceError) as caught:
        Pattern(text)
    assert "may stand" in caught.value.expected


@given(repositories, repositories, tags)
def test_star_never_crosses_a_slash(prefix: str, rest: str, tag: str) -> None:
    """`a/*` is one level, whatever the names are."""
    reference = Reference("docker.io", f"p/{prefix}/{rest}", tag)
    assert Pattern(f"p/{prefix}/*").matches(reference) is ("/" not in rest)
    assert Pattern(f"p/{prefix}/**").matches(reference)


@given(names())
def test_a_name_is_a_pattern_for_itself(text: str) -> None:
    """Whoever writes a plain name means that name: with its tag, or with every tag."""
    reference = parse(text)
    written = text.partition("@")[0]
    assert Pattern(written).matches(Reference(reference.domain, reference.repository, reference.tag))
    assert re.fullmatch(pattern_expression("**"), f"{reference.domain}/{reference.repository}:{reference.tag}")


def test_patterns_are_values() -> None:
    """Equal texts are equal patterns."""
    assert Pattern("a") == Pattern("a")
    assert len({Pattern("a"), Pattern("a"), Pattern("b")}) == 2
    assert Pattern("a") != "a"
    assert repr(Pattern("a/**")) == "Pattern('a/**')"
